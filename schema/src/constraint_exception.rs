//! Constraint exceptions: rules of the expected schema that are not enforced in one database, because rows
//! from an older CTS violate them. The rows are kept, and the exception is recorded in the database and
//! reported. Values only; no database is used here.

use std::borrow::Cow;
use std::fmt;

use crate::catalog::{Catalog, Column, Index, Table};

/// The default, on SQLite, of a primary key that contains text values and so cannot be an `INTEGER PRIMARY
/// KEY`. A default cannot assign the next number, so it draws a random one, below 2^53, which every language
/// represents exactly.
pub const RANDOM_ID: &str = "abs(random() % 9007199254740991)";

/// The same on PostgreSQL, where such a key is TEXT, as the catalogue shows it.
pub const RANDOM_ID_TEXT: &str = "floor(random() * 9007199254740991)::BIGINT";

/// A rule that is not enforced in one database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConstraintException {
    /// The table.
    pub table: String,
    /// The rule that is not enforced.
    pub rule: Rule,
    /// The number of rows that violate it.
    pub rows: u64,
}

/// A rule of the schema. Each names the column, index or table it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The column is NOT NULL.
    NotNull(String),
    /// The column has the expected type; with the type it has instead.
    Type(String, String),
    /// The column has its default, which the type it has instead of the expected one does not allow.
    Default(String),
    /// The primary key contains integers only. Without it, new rows get a random number ([`RANDOM_ID`]).
    IntegerKey(String),
    /// The column is the primary key.
    PrimaryKey(String),
    /// The index is unique.
    Unique(String),
    /// Rows refer to existing rows of this table. New rows are checked all the same.
    ForeignKey(String),
}

impl Rule {
    /// The name of the rule in the record of exceptions, which is part of the database format.
    pub fn record_name(&self) -> &'static str {
        match self {
            Rule::NotNull(_) => "not null",
            Rule::Type(..) => "type",
            Rule::Default(_) => "default",
            Rule::IntegerKey(_) => "key",
            Rule::PrimaryKey(_) => "shared",
            Rule::Unique(_) => "unique",
            Rule::ForeignKey(_) => "references",
        }
    }

    /// The column, index or table it is about.
    pub fn object(&self) -> &str {
        match self {
            Rule::NotNull(name)
            | Rule::Type(name, _)
            | Rule::Default(name)
            | Rule::IntegerKey(name)
            | Rule::PrimaryKey(name)
            | Rule::Unique(name)
            | Rule::ForeignKey(name) => name,
        }
    }

    /// The rule of a record; `None` for a name that only a later cts knows. `detail` is the type of
    /// [`Rule::Type`], and empty for other rules.
    pub fn from_record(name: &str, object: String, detail: String) -> Option<Rule> {
        Some(match name {
            "not null" => Rule::NotNull(object),
            "type" => Rule::Type(object, detail),
            "default" => Rule::Default(object),
            "key" => Rule::IntegerKey(object),
            "shared" => Rule::PrimaryKey(object),
            "unique" => Rule::Unique(object),
            "references" => Rule::ForeignKey(object),
            _ => return None,
        })
    }
}

impl ConstraintException {
    /// What is true once no row violates the rule and it is enforced again.
    pub fn rule_text(&self) -> String {
        let ConstraintException { table, rule, .. } = self;
        match rule {
            Rule::NotNull(column) => format!("{table}.{column} is never NULL"),
            Rule::Type(column, _) => format!("{table}.{column} has the expected type"),
            Rule::Default(column) => format!("{table}.{column} has its default"),
            Rule::IntegerKey(column) => format!("{table}.{column} is an integer"),
            Rule::PrimaryKey(column) => format!("{table}.{column} is the primary key"),
            Rule::Unique(index) => format!("index {index} on {table} is unique"),
            Rule::ForeignKey(parent) => {
                format!("every row of {table} refers to an existing row of {parent}")
            }
        }
    }
}

impl fmt::Display for ConstraintException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConstraintException { table, rule, rows } = self;
        match rule {
            Rule::NotNull(column) => write!(f, "{table}.{column} may be NULL ({rows} rows)"),
            Rule::Type(column, data_type) => {
                let data_type = if data_type.is_empty() { "no type" } else { data_type };
                write!(f, "{table}.{column} keeps its type {data_type} ({rows} rows)")
            }
            Rule::Default(column) => {
                write!(f, "{table}.{column} has no default ({rows} rows keep its type)")
            }
            Rule::IntegerKey(column) => {
                write!(f, "{table}.{column} contains text values ({rows} rows)")
            }
            Rule::PrimaryKey(column) => {
                write!(f, "{table}.{column} is not a key ({rows} rows have duplicate values)")
            }
            Rule::Unique(index) => {
                write!(
                    f,
                    "index {index} on {table} is not unique ({rows} rows have duplicate values)"
                )
            }
            Rule::ForeignKey(parent) => {
                write!(f, "{table} refers to missing rows of {parent} ({rows} rows)")
            }
        }
    }
}

/// The catalogue that is expected in a database with these exceptions.
pub fn with_exceptions<'c>(
    expected: &'c Catalog,
    exceptions: &[ConstraintException],
) -> Cow<'c, Catalog> {
    if exceptions.is_empty() {
        return Cow::Borrowed(expected);
    }
    let mut expected = expected.clone();
    for exception in exceptions {
        let is_it = |table: &&mut Table| table.name.eq_ignore_ascii_case(&exception.table);
        if let Some(table) = expected.tables.to_mut().iter_mut().find(is_it) {
            remove_rule(table, &exception.rule);
        }
    }
    Cow::Owned(expected)
}

/// Removes the rule from the table, and the text of the statement that states it.
fn remove_rule(table: &mut Table, rule: &Rule) {
    table.definition = Cow::Borrowed("");
    match rule {
        Rule::Unique(name) => {
            let is_it = |index: &&mut Index| index.name == *name;
            if let Some(index) = table.indexes.to_mut().iter_mut().find(is_it) {
                index.unique = false;
                index.definition = Cow::Borrowed("");
            }
        }
        Rule::ForeignKey(_) => {}
        Rule::NotNull(name)
        | Rule::Type(name, _)
        | Rule::Default(name)
        | Rule::IntegerKey(name)
        | Rule::PrimaryKey(name) => {
            let column = table.columns.to_mut().iter_mut().find(|column| column.name == *name);
            if let Some(column) = column {
                remove_column_rule(column, rule);
            }
        }
    }
}

fn remove_column_rule(column: &mut Column, rule: &Rule) {
    match rule {
        Rule::NotNull(_) => column.not_null = false,
        Rule::Type(_, data_type) => column.data_type = data_type.clone().into(),
        Rule::Default(_) => column.default = None,
        Rule::IntegerKey(_) => {
            // On SQLite, a primary key of type INTEGER accepts integers only; one without a type accepts all.
            let (data_type, default) = match &*column.data_type {
                "INTEGER" => ("", RANDOM_ID),
                _ => ("TEXT", RANDOM_ID_TEXT),
            };
            (column.data_type, column.default) = (data_type.into(), Some(default.into()));
        }
        Rule::PrimaryKey(_) => column.primary_key_position = 0,
        Rule::Unique(_) | Rule::ForeignKey(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_rule_is_read_back() {
        for rule in [
            Rule::NotNull("a".into()),
            Rule::Type("a".into(), "REAL".into()),
            Rule::Default("a".into()),
            Rule::IntegerKey("id".into()),
            Rule::PrimaryKey("id".into()),
            Rule::Unique("i".into()),
            Rule::ForeignKey("t".into()),
        ] {
            let detail = if let Rule::Type(_, data_type) = &rule {
                data_type.clone()
            } else {
                String::new()
            };
            let read = Rule::from_record(rule.record_name(), rule.object().into(), detail);
            assert_eq!(read, Some(rule));
        }
        assert_eq!(Rule::from_record("later", String::new(), String::new()), None);
    }
}
