//! The transaction that writes a copy into a SQLite database: the shape of the tables, the rows, and what is made after
//! them.

use std::path::Path;

use rusqlite::Statement;
use rusqlite::types::{Null, ToSqlOutput, ValueRef};

use super::copy_reader;
use super::copy_shape::{Shape, create_extra_table};
use super::copy_values::canonical_integer;
use super::error::from_sqlite;
use super::transaction::SqliteTx;
use super::{counters, exceptions};
use crate::error::{Error, Kind, Result};
use crate::store::schema::SQLITE;
use crate::store::sql::quoted;
use crate::store::time_text::TimeText;
use crate::store::{
    CopiedTable, CopyTarget, Field, Incompatibility, ReadRows, RowSink, Value, ValueType,
    WaitPolicy,
};
use cts_schema::constraint_exception::ConstraintException;

impl ReadRows for SqliteTx<'_> {
    fn read_rows(
        &mut self,
        table: &CopiedTable,
        on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<()>,
    ) -> Result<()> {
        copy_reader::read_rows(self.conn, self.path, table, on_row)
    }

    fn count_rows(&mut self, table: &str) -> Result<u64> {
        copy_reader::count_rows(self.conn, self.path, table)
    }
}

impl CopyTarget for SqliteTx<'_> {
    fn prepare_tables(
        &mut self,
        tables: &[CopiedTable],
        exceptions: &[ConstraintException],
    ) -> Result<()> {
        self.known = None;
        for table in tables {
            let prepared = match table.is_extra {
                true => self.conn.execute_batch(&create_extra_table(table)).map_err(Into::into),
                false => Shape::of(table, exceptions).and_then(|shape| shape.prepare(self.conn)),
            };
            prepared.map_err(|e| e.at(self.path))?;
        }
        Ok(())
    }

    fn write_rows(
        &mut self,
        table: &CopiedTable,
        feed: &mut dyn FnMut(&mut dyn RowSink) -> Result<()>,
    ) -> Result<u64> {
        let statement = self.conn.prepare(&insert_row(table));
        let mut insert = RowInsert {
            statement: statement.map_err(|e| from_sqlite(self.path, &e))?,
            table,
            path: self.path,
            integer_key: integer_key(table),
            rows: 0,
        };
        feed(&mut insert)?;
        Ok(insert.rows)
    }

    fn complete_tables(
        &mut self,
        tables: &[CopiedTable],
        exceptions: &[ConstraintException],
        wait: &WaitPolicy<'_>,
    ) -> Result<Vec<ConstraintException>> {
        self.known = None;
        let mut in_force = Vec::new();
        for table in tables.iter().filter(|table| !table.is_extra) {
            let completed =
                Shape::of(table, exceptions).and_then(|shape| shape.complete(self.conn, wait));
            in_force.extend(completed.map_err(|e| e.at(self.path))?);
        }
        for exception in &in_force {
            exceptions::record(self.conn, exception).map_err(|e| from_sqlite(self.path, &e))?;
        }
        let faults = counters::find_faults(self.conn, SQLITE.expected);
        for fault in faults.map_err(|e| from_sqlite(self.path, &e))? {
            counters::advance(self.conn, &fault).map_err(|e| e.at(self.path))?;
        }
        Ok(in_force)
    }
}

/// The statement that inserts a row.
fn insert_row(table: &CopiedTable) -> String {
    let name = quoted(&table.name);
    if table.columns.is_empty() {
        return format!("INSERT INTO {name} DEFAULT VALUES");
    }
    let columns: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let values = vec!["?"; columns.len()].join(", ");
    format!("INSERT INTO {name} ({}) VALUES ({values})", columns.join(", "))
}

/// The position of the key that is to hold integers, and holds texts too in this database. SQLite keeps each value as what
/// it is, and gives no new row the id of an integer that is there as a text.
fn integer_key(table: &CopiedTable) -> Option<usize> {
    let expected = SQLITE.expected.table(&table.name).filter(|_| !table.is_extra)?;
    let key = expected.rowid_alias()?;
    let mut columns = table.columns.iter();
    columns.position(|column| column.name == key.name && column.value_type == ValueType::Text)
}

/// Inserts the rows of a table.
struct RowInsert<'i> {
    statement: Statement<'i>,
    table: &'i CopiedTable,
    path: &'i Path,
    integer_key: Option<usize>,
    rows: u64,
}

impl RowSink for RowInsert<'_> {
    fn write(&mut self, row: &[Field<'_>]) -> Result<()> {
        for (at, field) in row.iter().enumerate() {
            let Ok(value) = field else { return Err(self.refused(at, None)) };
            match self.bind(at, value) {
                Ok(done) => done.map_err(|e| from_sqlite(self.path, &e))?,
                Err(reason) => return Err(self.refused(at, Some(reason))),
            }
        }
        self.statement.raw_execute().map_err(|e| from_sqlite(self.path, &e))?;
        self.rows += 1;
        Ok(())
    }
}

impl RowInsert<'_> {
    fn bind(
        &mut self,
        at: usize,
        value: &Value<'_>,
    ) -> Result<rusqlite::Result<()>, Incompatibility> {
        let statement = &mut self.statement;
        let parameter = at + 1;
        let time = |text: &TimeText, statement: &mut Statement<'_>| {
            let text = ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes()));
            statement.raw_bind_parameter(parameter, text)
        };
        Ok(match value {
            Value::Null => statement.raw_bind_parameter(parameter, Null),
            Value::Boolean(value) => statement.raw_bind_parameter(parameter, i64::from(*value)),
            Value::Integer(value) => statement.raw_bind_parameter(parameter, *value),
            Value::Real(value) => statement.raw_bind_parameter(parameter, *value),
            Value::Text(text) => {
                let integer = self.integer_key.filter(|key| *key == at);
                match integer.and_then(|_| canonical_integer(text.as_bytes()).ok()) {
                    Some(integer) => statement.raw_bind_parameter(parameter, integer),
                    None => statement.raw_bind_parameter(parameter, &**text),
                }
            }
            Value::Time(moment) => time(&TimeText::of_moment(*moment)?, statement),
            Value::Day(day) => time(&TimeText::of_day(*day)?, statement),
            Value::Bytes(bytes) => statement.raw_bind_parameter(parameter, &**bytes),
        })
    }

    /// The error of a value that should have been left out.
    fn refused(&self, at: usize, reason: Option<Incompatibility>) -> Error {
        let column = self.table.columns.get(at).map_or("", |column| &*column.name);
        let reason = reason.map_or("cannot be read".to_string(), |reason| reason.to_string());
        let what = format!("a value of {}.{column} {reason}", self.table.name);
        Error::new(Kind::Data, what).at(self.path.display())
    }
}
