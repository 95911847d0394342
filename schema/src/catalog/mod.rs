//! The catalogue of a database: its tables with their columns, constraints and indexes. Values only; no database is
//! used here.
//!
//! The expected catalogue is computed from the SQL files at build time. Only the category of each table and the
//! critical tables are stated in Rust.

mod acceptance;
pub mod attribute;
mod category;
mod correction;
mod counter;
mod drift;
mod rust_source;

use std::borrow::Cow;
use std::fmt;

pub use acceptance::{ACCEPTED_RULE, AcceptedDifference};
pub use category::{CATEGORIES, CRITICAL, Category, core_tables, is_cts_database};
pub use correction::Correction;
pub use counter::{CounterFault, CounterState};
pub use drift::{Alteration, Aspect, Drift, Object};
pub use rust_source::catalog_expression;

/// Text that is either part of the binary or was read from a database.
pub type Text = Cow<'static, str>;
/// A list that is either part of the binary or was read from a database.
pub type List<T> = Cow<'static, [T]>;

/// The tables of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The tables of CTS, or all tables where none is expected.
    pub tables: List<Table>,
    /// The names of tables of other programs.
    pub other_tables: List<Text>,
}

/// A table with its columns, constraints and indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: Text,
    /// Its columns, in the order of their definition.
    pub columns: List<Column>,
    /// The columns of each UNIQUE constraint.
    pub unique: List<List<Text>>,
    /// Its foreign keys.
    pub foreign_keys: List<ForeignKey>,
    /// The conditions of its CHECK constraints.
    pub checks: List<Text>,
    /// What it has beside these, as SQL text, such as `WITHOUT ROWID` or `UNLOGGED`; empty for an ordinary table.
    pub attributes: List<Text>,
    /// Its indexes, without those of constraints.
    pub indexes: List<Index>,
    /// The statement that created it, as SQLite stores it; empty on PostgreSQL, which stores none.
    pub definition: Text,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Text,
    /// Its declared type in upper case; empty where it has none.
    pub data_type: Text,
    /// Whether it is declared NOT NULL.
    pub not_null: bool,
    /// The SQL text of its default.
    pub default: Option<Text>,
    /// Its position in the primary key, from 1; 0 outside it.
    pub primary_key_position: u32,
    /// What it has beside these, as SQL text, such as `COLLATE NOCASE`; empty for an ordinary column.
    pub attributes: List<Text>,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: Text,
    /// Its columns, in order, with ` DESC` behind a descending one, and ` COLLATE …` before that where it is not the
    /// collation of an ordinary column.
    pub columns: List<Text>,
    /// Whether it is a unique index.
    pub unique: bool,
    /// The SQL text of the condition of a partial index.
    pub predicate: Option<Text>,
    /// What it has beside these, as SQL text, such as `NULLS NOT DISTINCT`; empty for an ordinary index.
    pub attributes: List<Text>,
    /// The statement that created it, as SQLite stores it; empty on PostgreSQL, which stores none.
    pub definition: Text,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The referencing column.
    pub column: Text,
    /// The referenced table.
    pub table: Text,
    /// The referenced column.
    pub references: Text,
    /// The action on deletion of the referenced row: `CASCADE`, `NO ACTION` and so on.
    pub on_delete: Text,
    /// What it has beside these, as SQL text, such as `ON UPDATE CASCADE`; empty for an ordinary foreign key.
    pub attributes: List<Text>,
}

impl Catalog {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Whether the database has no table.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.other_tables.is_empty()
    }
}

impl Table {
    /// A table of this name, without columns.
    pub fn named(name: impl Into<Text>) -> Table {
        Table {
            name: name.into(),
            columns: List::default(),
            unique: List::default(),
            foreign_keys: List::default(),
            checks: List::default(),
            attributes: List::default(),
            indexes: List::default(),
            definition: Text::default(),
        }
    }

    /// The index of that name.
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// The column of a SQLite table that is another name of its rowid, so that a new row gets the next id
    /// (sqlite.org/lang_createtable.html, 5, "ROWIDs and the INTEGER PRIMARY KEY").
    pub fn rowid_alias(&self) -> Option<&Column> {
        let mut keys = self.columns.iter().filter(|column| column.primary_key_position > 0);
        let key = keys.next().filter(|_| keys.next().is_none())?;
        let has_rowid = !self.attributes.contains(&Text::from("WITHOUT ROWID"));
        let is_descending = key.attributes.contains(&Text::from("DESC"));
        (key.data_type == "INTEGER" && has_rowid && !is_descending).then_some(key)
    }

    /// The UNIQUE, CHECK and FOREIGN KEY constraints of this table that `other` does not have, as SQL text. A unique
    /// index of `other` counts as a UNIQUE constraint, and a foreign key of the same column to the same table as the
    /// same.
    pub fn constraints_not_in(&self, other: &Table) -> Vec<String> {
        let is_unique = |columns: &List<Text>| {
            let indexes = other.indexes.iter().filter(|index| index.unique);
            other.unique.contains(columns) || indexes.into_iter().any(|i| i.columns == *columns)
        };
        let unique = self.unique.iter().filter(|columns| !is_unique(columns));
        let unique = unique.map(|columns| format!("UNIQUE ({})", columns.join(", ")));
        let checks = self.checks.iter().filter(|check| !other.checks.contains(check));
        let checks = checks.map(|check| format!("CHECK {check}"));
        let keys = self.foreign_keys.iter().filter(|key| {
            !other.foreign_keys.iter().any(|o| o.column == key.column && o.table == key.table)
        });
        unique.chain(checks).chain(keys.map(ToString::to_string)).collect()
    }
}

/// Whether a column of an index or of a UNIQUE constraint is this one; words such as ` DESC` may follow its name.
pub fn is_key_column(key: &str, column: &str) -> bool {
    key.strip_prefix(column).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

impl Column {
    /// Whether every INSERT must give it a value: it is NOT NULL, has no default, is not generated, and is not part of
    /// the primary key.
    pub fn requires_value(&self) -> bool {
        self.not_null
            && self.default.is_none()
            && !self.is_generated()
            && self.primary_key_position == 0
    }

    /// Whether it is a generated column of SQLite.
    pub fn is_generated(&self) -> bool {
        self.attributes.iter().any(|clause| clause.starts_with("GENERATED"))
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.data_type.is_empty() { "no type" } else { &self.data_type })?;
        if self.not_null {
            f.write_str(" NOT NULL")?;
        }
        if let Some(default) = &self.default {
            write!(f, " DEFAULT {default}")?;
        }
        match self.primary_key_position {
            0 => {}
            1 => f.write_str(" PRIMARY KEY")?,
            position => write!(f, " PRIMARY KEY (part {position})")?,
        }
        write_attributes(f, &self.attributes)
    }
}

impl fmt::Display for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ForeignKey { column, table, references, on_delete, attributes } = self;
        write!(f, "FOREIGN KEY ({column}) REFERENCES {table}({references}) ON DELETE {on_delete}")?;
        write_attributes(f, attributes)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unique = if self.unique { "UNIQUE " } else { "" };
        write!(f, "{unique}({})", self.columns.join(", "))?;
        if let Some(predicate) = &self.predicate {
            write!(f, " WHERE {predicate}")?;
        }
        write_attributes(f, &self.attributes)
    }
}

fn write_attributes(f: &mut fmt::Formatter<'_>, attributes: &[Text]) -> fmt::Result {
    attributes.iter().try_for_each(|attribute| write!(f, " {attribute}"))
}
