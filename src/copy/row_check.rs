//! Finds the values of a row that cannot be copied to the target.

use super::problems::RowProblem;
use crate::store::sql::index_columns;
use crate::store::{Backend, CopiedTable, Database, Field, Incompatibility, Value};

/// The most bytes that a value in an index of PostgreSQL may have: a third of a page, without what the page and the entry
/// need themselves. One that is compressed well may be longer, which only the server can tell. (PostgreSQL source,
/// `BTMaxItemSize`)
const INDEX_BYTES_MAX: u64 = 2704;

/// Checks the rows of one table.
pub struct RowCheck<'c> {
    table: &'c CopiedTable,
    target: &'c dyn Database,
    row_bytes_max: u64,
    /// Of each column, whether it is in the primary key.
    in_key: Vec<bool>,
    /// Of each column, whether an index of the target limits the length of its values.
    in_index: Vec<bool>,
    problems: Vec<RowProblem>,
}

impl<'c> RowCheck<'c> {
    /// That of the rows of a table that are to be copied to this target.
    pub fn of(table: &'c CopiedTable, target: &'c dyn Database) -> RowCheck<'c> {
        let identity = target.identity();
        let expected = identity.schema.expected.table(&table.name).filter(|_| !table.is_extra);
        let indexes = expected.into_iter().flat_map(|expected| expected.indexes.iter());
        let mut indexed: Vec<&str> = indexes.flat_map(index_columns).collect();
        indexed.extend(table.key.iter().map(String::as_str));
        let has_limit = identity.backend == Backend::Postgresql;
        let columns = table.columns.iter().map(|column| &column.name);
        RowCheck {
            table,
            target,
            row_bytes_max: target.row_bytes_max(),
            in_key: columns.clone().map(|name| table.key.contains(name)).collect(),
            in_index: columns.map(|name| has_limit && indexed.contains(&name.as_str())).collect(),
            problems: Vec::new(),
        }
    }

    /// The problems of a row, in the order of its columns.
    pub fn problems(&mut self, row: &[Field<'_>]) -> &[RowProblem] {
        self.problems.clear();
        let mut bytes = 0;
        for (at, (field, column)) in row.iter().zip(&self.table.columns).enumerate() {
            let fault = match field {
                Err(incompatible) => Some(incompatible.reason),
                Ok(value) => {
                    let value_bytes = value_bytes(value);
                    bytes += value_bytes;
                    let accepted = self.target.accepts(value, column.value_type);
                    accepted.err().or_else(|| self.key_fault(at, value, value_bytes))
                }
            };
            self.problems.extend(fault.map(|reason| (at, reason)));
        }
        if bytes > self.row_bytes_max && self.problems.is_empty() {
            self.problems.push((row.len(), Incompatibility::TooLong));
        }
        &self.problems
    }

    fn key_fault(&self, at: usize, value: &Value<'_>, bytes: u64) -> Option<Incompatibility> {
        let is_set = |flags: &[bool]| flags.get(at).copied().unwrap_or_default();
        if *value == Value::Null {
            return is_set(&self.in_key).then_some(Incompatibility::NullInKey);
        }
        (bytes > INDEX_BYTES_MAX && is_set(&self.in_index))
            .then_some(Incompatibility::TooLongForIndex)
    }
}

/// About the bytes that a value takes.
fn value_bytes(value: &Value<'_>) -> u64 {
    match value {
        Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        _ => 8,
    }
}
