//! What tables, columns and indexes there are or should be, and the difference of two
//! such catalogues, which is drift. Values only; no database is known here.
//!
//! The expected catalogue is computed from the SQL files by `build.rs`, which compiles
//! this file too. All that Rust adds is the category of each table.

use std::borrow::Cow;
use std::fmt;

use crate::sql::definition::contains_name;

/// Text that is either part of the binary or was read from a database.
pub type Text = Cow<'static, str>;
/// A list that is either part of the binary or was read from a database.
pub type List<T> = Cow<'static, [T]>;

/// The tables of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The tables that were read in full.
    pub tables: List<Table>,
    /// Names of tables that belong to other programs.
    pub other_tables: List<Text>,
}

/// A table with all that hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: Text,
    /// Its columns, in order.
    pub columns: List<Column>,
    /// The column lists of its UNIQUE constraints.
    pub unique: List<List<Text>>,
    /// Its foreign keys.
    pub foreign_keys: List<ForeignKey>,
    /// The conditions of its CHECK constraints.
    pub checks: List<Text>,
    /// Its indexes, without those that constraints bring along.
    pub indexes: List<Index>,
    /// The statement that made it, as the database keeps it.
    pub definition: Text,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Text,
    /// Its declared type, in upper case.
    pub data_type: Text,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Its default, as SQL.
    pub default: Option<Text>,
    /// Its position in the primary key, from 1; 0 outside it.
    pub primary_key_position: u32,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: Text,
    /// Its columns, in order, with ` DESC` behind a descending one.
    pub columns: List<Text>,
    /// Whether it refuses equal entries.
    pub unique: bool,
    /// The condition of a partial index, as SQL.
    pub predicate: Option<Text>,
    /// The statement that made it, as the database keeps it.
    pub definition: Text,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// The column that refers.
    pub column: Text,
    /// The table it refers to.
    pub table: Text,
    /// The column it refers to.
    pub references: Text,
    /// What deleting the parent does: `CASCADE`, `NO ACTION`, …
    pub on_delete: Text,
}

/// Something a catalogue can lack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A table.
    Table(String),
    /// A column: table, column.
    Column(String, String),
    /// An index: table, index.
    Index(String, String),
}

impl Object {
    /// The table that it is, or belongs to.
    pub fn table(&self) -> &str {
        let (Object::Table(table) | Object::Column(table, _) | Object::Index(table, _)) = self;
        table
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Table(table) => write!(f, "table {table}"),
            Object::Column(table, column) => write!(f, "column {table}.{column}"),
            Object::Index(table, index) => write!(f, "index {index} on {table}"),
        }
    }
}

/// Something that is there, but not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    /// What differs.
    pub object: Object,
    /// How it should be.
    pub expected: String,
    /// How it is.
    pub found: String,
}

impl fmt::Display for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.object, self.expected, self.found)
    }
}

/// The difference between what should be and what is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Expected and not there. The columns and indexes of a missing table are not listed.
    pub missing: Vec<Object>,
    /// There, and different.
    pub altered: Vec<Alteration>,
    /// There, in a table of ours, and not expected. Never a fault.
    pub extra: Vec<Object>,
}

impl Drift {
    /// Whether anything that is expected is missing or different.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.altered.is_empty()
    }
}

impl Catalog {
    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name.eq_ignore_ascii_case(name))
    }

    /// Whether there is no table at all, of ours or of others.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.other_tables.is_empty()
    }

    /// What `actual` lacks, has otherwise, or has beside what `self` expects. Tables of
    /// other programs are no difference.
    pub fn difference(&self, actual: &Catalog) -> Drift {
        let mut drift = Drift::default();
        for expected in self.tables.iter() {
            match actual.table(&expected.name) {
                None => drift.missing.push(Object::Table(expected.name.to_string())),
                Some(found) if found == expected => {}
                Some(found) => expected.difference(found, &mut drift),
            }
        }
        drift
    }
}

impl Table {
    /// The index of that name.
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name.eq_ignore_ascii_case(name))
    }

    fn difference(&self, found: &Table, drift: &mut Drift) {
        self.compare_columns(found, drift);
        self.compare_constraints(found, drift);
        self.compare_indexes(found, drift);
    }

    fn compare_columns(&self, found: &Table, drift: &mut Drift) {
        let object =
            |column: &Column| Object::Column(self.name.to_string(), column.name.to_string());
        for column in self.columns.iter() {
            match found.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                None => drift.missing.push(object(column)),
                Some(other) if other.same_as(column) => {}
                Some(other) => drift.altered.push(Alteration {
                    object: object(column),
                    expected: column.to_string(),
                    found: other.to_string(),
                }),
            }
        }
        let ours = |name: &str| self.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        for column in found.columns.iter().filter(|c| !ours(&c.name)) {
            if column.requires_value() {
                drift.altered.push(Alteration {
                    object: object(column),
                    expected: "a column that may be left out".into(),
                    found: column.to_string(),
                });
            }
            drift.extra.push(object(column));
        }
    }

    /// The constraints that this table has and another has not, unique indexes counted among
    /// them. Foreign keys to the same table are the same, however they end.
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

    fn compare_constraints(&self, found: &Table, drift: &mut Drift) {
        // What concerns columns that somebody has added is theirs.
        let is_added = |name: &str| {
            let is_it = |table: &Table| {
                table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name))
            };
            is_it(found) && !is_it(self)
        };
        let added: Vec<&str> = found
            .columns
            .iter()
            .map(|column| &*column.name)
            .filter(|name| is_added(name))
            .collect();
        let text = |table: &Table| {
            let unique = table.unique.iter();
            let unique = unique.filter(|columns| !columns.iter().all(|name| is_added(name)));
            let mut parts: Vec<String> =
                unique.map(|columns| format!("UNIQUE ({})", columns.join(", "))).collect();
            let keys = table.foreign_keys.iter().filter(|key| !is_added(&key.column));
            parts.extend(keys.map(ToString::to_string));
            let checks = table.checks.iter();
            let checks =
                checks.filter(|check| !added.iter().any(|name| contains_name(check, name)));
            parts.extend(checks.map(|condition| format!("CHECK {condition}")));
            parts.sort();
            if parts.is_empty() { "no constraint".into() } else { parts.join(", ") }
        };
        let (expected, found) = (text(self), text(found));
        if expected != found {
            let object = Object::Table(self.name.to_string());
            drift.altered.push(Alteration { object, expected, found });
        }
    }

    fn compare_indexes(&self, found: &Table, drift: &mut Drift) {
        let object = |index: &Index| Object::Index(self.name.to_string(), index.name.to_string());
        for index in self.indexes.iter() {
            match found.indexes.iter().find(|i| i.name.eq_ignore_ascii_case(&index.name)) {
                None => drift.missing.push(object(index)),
                Some(other) if other.to_string() == index.to_string() => {}
                Some(other) => drift.altered.push(Alteration {
                    object: object(index),
                    expected: index.to_string(),
                    found: other.to_string(),
                }),
            }
        }
        let ours = |name: &str| self.indexes.iter().any(|i| i.name.eq_ignore_ascii_case(name));
        drift.extra.extend(found.indexes.iter().filter(|i| !ours(&i.name)).map(object));
    }
}

impl Column {
    /// Whether no row can be written that does not name it.
    pub fn requires_value(&self) -> bool {
        self.not_null && self.default.is_none() && self.primary_key_position == 0
    }

    fn same_as(&self, other: &Column) -> bool {
        self.data_type == other.data_type
            && self.not_null == other.not_null
            && self.default == other.default
            && self.primary_key_position == other.primary_key_position
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
            0 => Ok(()),
            1 => f.write_str(" PRIMARY KEY"),
            place => write!(f, " PRIMARY KEY (part {place})"),
        }
    }
}

impl fmt::Display for ForeignKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ForeignKey { column, table, references, on_delete } = self;
        write!(f, "FOREIGN KEY ({column}) REFERENCES {table}({references}) ON DELETE {on_delete}")
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unique = if self.unique { "UNIQUE " } else { "" };
        write!(f, "{unique}({})", self.columns.join(", "))?;
        match &self.predicate {
            Some(predicate) => write!(f, " WHERE {predicate}"),
            None => Ok(()),
        }
    }
}

/// Part of the system a table belongs to; the key under which the status shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Category {
    /// Key in the status JSON.
    pub key: &'static str,
    /// Its tables.
    pub tables: &'static [&'static str],
    /// Whether its tables count among the core tables.
    pub core: bool,
}

/// The seven categories, in the order in which they are shown.
pub const CATEGORIES: [Category; 7] = [
    Category {
        key: "system",
        tables: &["users", "system_settings", "site_logs", "migrations"],
        core: true,
    },
    Category { key: "connections", tables: &["exchange_connections"], core: true },
    Category {
        key: "indications",
        tables: &[
            "indications_direction",
            "indications_move",
            "indications_active",
            "indications_optimal",
            "indications_auto",
        ],
        core: true,
    },
    Category {
        key: "strategies",
        tables: &[
            "strategies_base",
            "strategies_main",
            "strategies_real",
            "strategies_block",
            "strategies_dca",
            "strategies_trailing",
        ],
        core: true,
    },
    Category {
        key: "positions",
        tables: &["pseudo_positions", "real_pseudo_positions", "exchange_positions"],
        core: true,
    },
    Category {
        key: "statistics",
        tables: &["statistics_indication", "statistics_strategy", "statistics_daily"],
        core: true,
    },
    Category {
        key: "coordination",
        tables: &["connection_coordination", "indication_states"],
        core: false,
    },
];

/// The tables without which no trading program can work.
pub const CRITICAL: [&str; 5] =
    ["users", "system_settings", "site_logs", "exchange_connections", "migrations"];

/// The names of the core tables, which `tableCount` and `total` count.
pub fn core_tables() -> impl Iterator<Item = &'static str> {
    CATEGORIES.iter().filter(|c| c.core).flat_map(|c| c.tables).copied()
}

/// Whether a database with these tables is one of CTS: it holds a table whose name no
/// other program is likely to use, or nothing but system tables with a ledger of ours
/// (`ledger` tells whether `migrations` has the columns `name` and `executed_at`).
pub fn is_cts_database(tables: &[&str], ledger: bool) -> bool {
    let is_one_of =
        |names: &[&str], table: &str| names.iter().any(|name| name.eq_ignore_ascii_case(table));
    let generic = CATEGORIES[0].tables;
    tables.iter().any(|table| CATEGORIES.iter().skip(1).any(|c| is_one_of(c.tables, table)))
        || (ledger && tables.iter().all(|table| is_one_of(generic, table)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &'static str, kind: &'static str) -> Column {
        Column {
            name: name.into(),
            data_type: kind.into(),
            not_null: false,
            default: None,
            primary_key_position: 0,
        }
    }

    fn index(name: &'static str, columns: &[&'static str]) -> Index {
        Index {
            name: name.into(),
            columns: columns.iter().map(|c| Text::from(*c)).collect::<Vec<_>>().into(),
            unique: false,
            predicate: None,
            definition: "".into(),
        }
    }

    fn table(name: &'static str, columns: Vec<Column>, indexes: Vec<Index>) -> Table {
        Table {
            name: name.into(),
            columns: columns.into(),
            unique: List::default(),
            foreign_keys: List::default(),
            checks: List::default(),
            indexes: indexes.into(),
            definition: "".into(),
        }
    }

    fn catalog(tables: Vec<Table>) -> Catalog {
        Catalog { tables: tables.into(), other_tables: List::default() }
    }

    fn expected() -> Catalog {
        let users = table(
            "users",
            vec![column("id", "INTEGER"), column("name", "TEXT")],
            vec![index("by_name", &["name DESC"])],
        );
        catalog(vec![users, table("logs", vec![column("id", "INTEGER")], vec![])])
    }

    #[test]
    fn a_catalogue_does_not_differ_from_itself() {
        let drift = expected().difference(&expected());
        assert_eq!(drift, Drift::default());
        assert!(drift.is_none());
    }

    #[test]
    fn a_missing_table_is_one_difference() {
        let actual = catalog(vec![table("logs", vec![column("id", "INTEGER")], vec![])]);
        assert_eq!(expected().difference(&actual).missing, [Object::Table("users".into())]);
    }

    #[test]
    fn missing_columns_and_indexes_are_named() {
        let mut actual = expected();
        actual.tables.to_mut()[0] = table("users", vec![column("id", "INTEGER")], vec![]);
        let missing = expected().difference(&actual).missing;
        let named: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["column users.name", "index by_name on users"]);
    }

    #[test]
    fn what_is_otherwise_is_shown_as_expected_and_found() {
        let mut actual = expected();
        let mut name = column("NAME", "INTEGER");
        name.default = Some("0".into());
        actual.tables.to_mut()[0] = table(
            "users",
            vec![name, column("id", "INTEGER")],
            vec![Index { unique: true, ..index("by_name", &["name"]) }],
        );
        actual.tables.to_mut()[1].foreign_keys = vec![ForeignKey {
            column: "id".into(),
            table: "users".into(),
            references: "id".into(),
            on_delete: "NO ACTION".into(),
        }]
        .into();
        let drift = expected().difference(&actual);
        let altered: Vec<String> = drift.altered.iter().map(ToString::to_string).collect();
        assert_eq!(
            altered,
            [
                "column users.name: expected TEXT, found INTEGER DEFAULT 0",
                "index by_name on users: expected (name DESC), found UNIQUE (name)",
                "table logs: expected no constraint, found FOREIGN KEY (id) REFERENCES users(id) \
                 ON DELETE NO ACTION",
            ]
        );
        assert!(drift.missing.is_empty() && !drift.is_none());
    }

    #[test]
    fn what_is_more_is_extra_and_no_drift() {
        let mut actual = expected();
        actual.tables.to_mut()[1].columns.to_mut().push(column("mine", "TEXT"));
        actual.tables.to_mut()[1].indexes.to_mut().push(index("own", &["mine"]));
        actual.tables.to_mut().push(table("notes", vec![], vec![]));
        let drift = expected().difference(&actual);
        assert!(drift.is_none());
        assert_eq!(drift.extra.len(), 2, "{:?}", drift.extra);
    }

    #[test]
    fn a_database_of_cts_is_told_from_others() {
        assert!(is_cts_database(&["exchange_connections"], false));
        assert!(is_cts_database(&["users", "my_own", "pseudo_positions"], false));
        assert!(is_cts_database(&["migrations"], true));
        assert!(is_cts_database(&["migrations", "users", "site_logs"], true));
        assert!(!is_cts_database(&["migrations"], false));
        assert!(!is_cts_database(&["users", "migrations", "sessions"], true));
        assert!(!is_cts_database(&["users", "site_logs"], false));
    }
}
