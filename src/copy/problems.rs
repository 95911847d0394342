//! The values that cannot be copied: which, why, and how many.

use std::collections::BTreeMap;

use crate::store::{CopiedTable, Field, Incompatibility, IncompatibleValue, StoredValue, Value};
use crate::system::visible::hexadecimal;

/// How many rows a problem names.
const EXAMPLES_MAX: usize = 5;
/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 60;

/// Values of one column that cannot be copied for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The table.
    pub table: String,
    /// The column; `None` where it is the row as a whole.
    pub column: Option<String>,
    /// Why the values cannot be copied.
    pub reason: Incompatibility,
    /// The number of rows.
    pub rows: u64,
    /// The first of them.
    pub examples: Vec<ProblemExample>,
}

/// One row with a value that cannot be copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemExample {
    /// The key of the row, as text.
    pub key: String,
    /// The value as it is shown in a sentence; empty where it is the row as a whole.
    pub value: String,
}

/// The problems of a database.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    found: BTreeMap<(usize, usize, Incompatibility), Problem>,
    /// The rows that have a problem at least.
    pub rows: u64,
}

/// A value of a row that cannot be copied: the position of its column, and why. The position after the last one stands for
/// the row as a whole.
pub type RowProblem = (usize, Incompatibility);

impl Problems {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The problems, by table and column.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.values()
    }

    /// Adds the problems of a row. `at` is the position of its table, `number` that of the row in it.
    pub fn add(
        &mut self,
        (at, table): (usize, &CopiedTable),
        number: u64,
        row: &[Field<'_>],
        problems: &[RowProblem],
    ) {
        self.rows += 1;
        for (column, reason) in problems {
            let problem = self.found.entry((at, *column, *reason)).or_insert_with(|| Problem {
                table: table.name.clone(),
                column: table.columns.get(*column).map(|column| column.name.clone()),
                reason: *reason,
                rows: 0,
                examples: Vec::new(),
            });
            problem.rows += 1;
            if problem.examples.len() < EXAMPLES_MAX {
                let value = row.get(*column).map(shown).unwrap_or_default();
                let key = row_key(table, number, row);
                problem.examples.push(ProblemExample { key, value });
            }
        }
    }
}

/// What a row is known by: the values of its primary key, else its number.
pub fn row_key(table: &CopiedTable, number: u64, row: &[Field<'_>]) -> String {
    let position = |name: &String| table.columns.iter().position(|column| column.name == *name);
    let fields = table.key.iter().map(|name| row.get(position(name)?));
    match fields.collect::<Option<Vec<_>>>().filter(|fields| !fields.is_empty()) {
        Some(fields) => fields.iter().map(|field| plain(field)).collect::<Vec<_>>().join(", "),
        None => format!("row {number}"),
    }
}

/// A value as text.
fn plain(field: &Field<'_>) -> String {
    match field {
        Ok(Value::Text(text)) => text.to_string(),
        other => shown(other),
    }
}

/// A value as it is shown in a sentence: text in quotes, and not more of it than a line holds.
fn shown(field: &Field<'_>) -> String {
    match field {
        Ok(Value::Null) => "NULL".into(),
        Ok(Value::Boolean(value)) => value.to_string(),
        Ok(Value::Integer(value))
        | Err(IncompatibleValue { stored: StoredValue::Integer(value), .. }) => value.to_string(),
        Ok(Value::Real(value))
        | Err(IncompatibleValue { stored: StoredValue::Real(value), .. }) => {
            format!("{value:?}")
        }
        Ok(Value::Time(time)) => time.to_string(),
        Ok(Value::Day(day)) => day.to_string(),
        Ok(Value::Text(text)) => quoted(text),
        Ok(Value::Bytes(bytes)) => quoted_bytes(bytes),
        Err(IncompatibleValue { stored: StoredValue::Text(bytes), .. }) => {
            quoted(&String::from_utf8_lossy(bytes.get(..SHOWN_CHARS * 4).unwrap_or(bytes)))
        }
        Err(IncompatibleValue { stored: StoredValue::Bytes(bytes), .. }) => quoted_bytes(bytes),
    }
}

fn quoted(text: &str) -> String {
    let mut rest = text.chars();
    let shown: String = rest.by_ref().take(SHOWN_CHARS).collect();
    let more = if rest.next().is_some() { "…" } else { "" };
    format!("'{shown}{more}'")
}

fn quoted_bytes(bytes: &[u8]) -> String {
    let shown = bytes.get(..SHOWN_CHARS / 2);
    let more = if shown.is_some_and(|shown| shown.len() < bytes.len()) { "…" } else { "" };
    format!("x'{}{more}'", hexadecimal(shown.unwrap_or(bytes)))
}
