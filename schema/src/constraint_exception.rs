//! Rules of the expected schema that do not hold in one database, because rows that came from
//! an older CTS break them: the rows are kept, the rule is relaxed there, and both are said.
//! Values only; no database is known here.

use std::borrow::Cow;
use std::fmt;

use crate::catalog::{Catalog, Index, Table};

/// Gives a row an id where the primary key cannot be an INTEGER: it holds texts. A positive
/// number that every language can hold without loss, drawn, since a default cannot count.
pub const RANDOM_ID: &str = "abs(random() % 9007199254740991)";

/// The same where such a key is a TEXT, as the catalogue shows it: without its casts.
pub const RANDOM_ID_TEXT: &str = "floor(random() * 9007199254740991)";

/// A rule that is relaxed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConstraintException {
    /// The table.
    pub table: String,
    /// What does not hold there.
    pub rule: Rule,
    /// How many rows break it.
    pub rows: u64,
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The column may be NULL.
    NotNull(String),
    /// The column keeps another type than the expected one: column, type.
    Type(String, String),
    /// The column has no default, since the type that it keeps has none like the expected one.
    Default(String),
    /// The primary key holds texts beside numbers, and new rows draw a number.
    IntegerKey(String),
    /// The column is no key: rows share one.
    PrimaryKey(String),
    /// The index allows equal entries.
    Unique(String),
    /// Rows refer to rows of this table that are gone. New rows cannot.
    ForeignKey(String),
}

impl Rule {
    /// The name under which it is recorded.
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

    /// The column, index or table that it is about.
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

    /// The rule as it is recorded; none where a later cts knows more of them.
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
    /// What holds once no row breaks it.
    pub fn rule_text(&self) -> String {
        let ConstraintException { table, rule, .. } = self;
        match rule {
            Rule::NotNull(column) => format!("{table}.{column} is never NULL"),
            Rule::Type(column, _) => format!("{table}.{column} has the expected type"),
            Rule::Default(column) => format!("{table}.{column} has its default"),
            Rule::IntegerKey(column) => format!("{table}.{column} is a number"),
            Rule::PrimaryKey(column) => format!("{table}.{column} is a key"),
            Rule::Unique(index) => format!("index {index} on {table} is unique"),
            Rule::ForeignKey(parent) => format!("every row of {table} has its row of {parent}"),
        }
    }
}

impl fmt::Display for ConstraintException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConstraintException { table, rule, rows } = self;
        match rule {
            Rule::NotNull(column) => write!(f, "{table}.{column} may be NULL ({rows} rows)"),
            Rule::Type(column, kind) => {
                let kind = if kind.is_empty() { "no type" } else { kind };
                write!(f, "{table}.{column} keeps its type {kind} ({rows} rows)")
            }
            Rule::Default(column) => {
                write!(f, "{table}.{column} has no default ({rows} rows keep its type)")
            }
            Rule::IntegerKey(column) => {
                write!(f, "{table}.{column} holds texts beside numbers ({rows} rows)")
            }
            Rule::PrimaryKey(column) => {
                write!(f, "{table}.{column} is no key ({rows} rows share one)")
            }
            Rule::Unique(index) => {
                write!(f, "index {index} on {table} is not unique ({rows} rows share a key)")
            }
            Rule::ForeignKey(parent) => {
                write!(f, "{table} refers to rows of {parent} that are gone ({rows} rows)")
            }
        }
    }
}

/// The catalogue as it is expected where these rules are relaxed.
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
            relax(table, &exception.rule);
        }
    }
    Cow::Owned(expected)
}

/// Takes the rule out of the table, and with it the statement that holds it.
fn relax(table: &mut Table, rule: &Rule) {
    table.definition = Cow::Borrowed("");
    let columns = table.columns.to_mut().iter_mut();
    let column = |name: &String| columns.into_iter().find(|c| c.name == *name);
    match rule {
        Rule::NotNull(name) => {
            if let Some(column) = column(name) {
                column.not_null = false;
            }
        }
        Rule::Type(name, kind) => {
            if let Some(column) = column(name) {
                column.data_type = kind.clone().into();
            }
        }
        Rule::Default(name) => {
            if let Some(column) = column(name) {
                column.default = None;
            }
        }
        Rule::IntegerKey(name) => {
            if let Some(column) = column(name) {
                // An INTEGER is the key of a SQLite table, and takes whatever it is given then.
                let (kind, drawn) = match &*column.data_type {
                    "INTEGER" => ("", RANDOM_ID),
                    _ => ("TEXT", RANDOM_ID_TEXT),
                };
                (column.data_type, column.default) = (kind.into(), Some(drawn.into()));
            }
        }
        Rule::PrimaryKey(name) => {
            if let Some(column) = column(name) {
                column.primary_key_position = 0;
            }
        }
        Rule::Unique(name) => {
            let is_it = |index: &&mut Index| index.name == *name;
            if let Some(index) = table.indexes.to_mut().iter_mut().find(is_it) {
                index.unique = false;
                index.definition = Cow::Borrowed("");
            }
        }
        Rule::ForeignKey(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_read_again() {
        for rule in [
            Rule::NotNull("a".into()),
            Rule::Type("a".into(), "REAL".into()),
            Rule::Default("a".into()),
            Rule::IntegerKey("id".into()),
            Rule::PrimaryKey("id".into()),
            Rule::Unique("i".into()),
            Rule::ForeignKey("t".into()),
        ] {
            let detail = if let Rule::Type(_, kind) = &rule { kind.clone() } else { String::new() };
            let read = Rule::from_record(rule.record_name(), rule.object().into(), detail);
            assert_eq!(read, Some(rule));
        }
        assert_eq!(Rule::from_record("later", String::new(), String::new()), None);
    }
}
