//! The rows of a table, read and written by binary COPY in the transaction that is open. Of a table of any size, only a few
//! hundred KiB are in memory at a time.

use super::conversion::SourceType;
use super::copy_columns::selected;
use super::copy_format::{self, Encoded, FormatFault, HEADER, RowReader, TRAILER};
use super::existing_table::column_types;
use super::row::unreadable;
use super::session::{CopyFeed, Session};
use crate::error::{Error, Kind, Result};
use crate::store::sql::quoted;
use crate::store::{CopiedTable, Field, Incompatibility, RowSink, Value, ValueType};

/// The most bytes that all values of a row may have together: the server makes one message of a row, of less than 1 GiB,
/// with the length of each of at most 1600 values. (PostgreSQL source, MaxAllocSize)
pub const ROW_BYTES_MAX: u64 = 0x3fff_ffff - (64 << 10);

/// Rows that are written at once, in bytes.
const PART_BYTES: usize = 128 << 10;
/// What the last row of a part may be longer without that its memory is moved.
const PART_MARGIN_BYTES: usize = 4 << 10;

/// Whether a value can be stored in a column of this type, so that it is read back the same.
///
/// # Errors
/// The reason why it cannot.
pub fn accepts(value: &Value<'_>, value_type: ValueType) -> Result<(), Incompatibility> {
    match (copy_format::encoded(value, value_type)?, value) {
        (Encoded::Long(bytes), _) if bytes.len() as u64 > ROW_BYTES_MAX => {
            Err(Incompatibility::TooLong)
        }
        (Encoded::Long(bytes), Value::Text(_)) if bytes.contains(&0) => {
            Err(Incompatibility::NulInText)
        }
        _ => Ok(()),
    }
}

/// Calls `on_row` with each row of a table, in the order of its key.
///
/// # Errors
/// If the table cannot be read, or with the error of `on_row`. The transaction has to be rolled back, or was with its
/// connection.
pub fn read_rows(
    session: &mut Session,
    table: &CopiedTable,
    on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<()>,
) -> Result<()> {
    let columns: Vec<(&str, ValueType)> =
        table.columns.iter().map(|column| (&*column.name, column.value_type)).collect();
    read_selected(session, &table.name, &columns, &order_by(&table.key), on_row)
}

/// Calls `on_row` with these columns of rows of a table. What stands behind the table, which is `t` there, is SQL.
///
/// # Errors
/// As [`read_rows`].
pub fn read_selected(
    session: &mut Session,
    table: &str,
    columns: &[(&str, ValueType)],
    rest: &str,
    on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<()>,
) -> Result<()> {
    let types = column_types(session, table)?;
    let unknown = SourceType::default();
    let selected_columns = columns.iter().map(|(name, value_type)| {
        let found = types.iter().find(|found| found.column == *name);
        let source = found.map_or(&unknown, |found| &found.source);
        selected(source, *value_type, &format!("t.{}", quoted(name)))
    });
    let (expressions, forms): (Vec<_>, Vec<_>) =
        selected_columns.map(|column| (column.sql, column.form)).unzip();
    let own_rows = own_rows(session, table)?;
    let query = format!("SELECT {} FROM {own_rows} t{rest}", expressions.join(", "));
    let copy = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
    let mut reader = RowReader::new(forms);
    session.copy_out(&copy, &mut |messages| {
        let mut fields = Vec::with_capacity(columns.len());
        let mut on_row = |row: &[Field<'_>]| on_row(row).map_err(ReadFault::Row);
        for message in messages {
            let read = reader.read(message, &mut fields, &mut on_row);
            read.map_err(|fault| fault.error(&copy))?;
        }
        Ok(())
    })?;
    reader.finish().map_err(|fault| ReadFault::Format(fault).error(&copy))
}

/// A table as SQL, without the rows of tables that inherit from it: those are rows of these. The rows of a partitioned table
/// are in others only.
///
/// # Errors
/// If the query fails, or there is no such table.
pub fn own_rows(session: &mut Session, table: &str) -> Result<String> {
    let sql = format!(
        "SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = {}::regclass",
        session.qualified_literal(table)
    );
    let only = if session.flag(&sql)? { "" } else { "ONLY " };
    Ok(format!("{only}{}", session.qualified(table)))
}

/// The order of the rows of a table with this key.
fn order_by(key: &[String]) -> String {
    let order: Vec<String> = key.iter().map(|column| format!("t.{}", quoted(column))).collect();
    match order.is_empty() {
        true => String::new(),
        false => format!(" ORDER BY {}", order.join(", ")),
    }
}

/// Why no more rows are read.
enum ReadFault {
    Format(FormatFault),
    Row(Error),
}

impl From<FormatFault> for ReadFault {
    fn from(fault: FormatFault) -> ReadFault {
        ReadFault::Format(fault)
    }
}

impl ReadFault {
    fn error(self, query: &str) -> Error {
        match self {
            ReadFault::Format(fault) => unreadable(query, &fault.to_string()),
            ReadFault::Row(error) => error,
        }
    }
}

/// Writes the rows that `feed` hands to the sink. With `freeze`, they need no further work of the server later on; the
/// table was created or emptied in this transaction then. Returns how many.
///
/// # Errors
/// If a row is refused, or with the error of `feed`. The transaction has to be rolled back.
pub fn write_rows(
    session: &mut Session,
    table: &CopiedTable,
    freeze: bool,
    feed: &mut dyn FnMut(&mut dyn RowSink) -> Result<()>,
) -> Result<u64> {
    let columns: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let copy = format!(
        "COPY {} ({}) FROM STDIN (FORMAT binary{})",
        session.qualified(&table.name),
        columns.join(", "),
        if freeze { ", FREEZE" } else { "" }
    );
    let mut sent = 0;
    let stored = session.copy_in(&copy, &mut |copy| {
        let mut writer = RowWriter { table, copy, buffer: new_buffer(), rows: 0 };
        writer.buffer.extend_from_slice(HEADER);
        feed(&mut writer)?;
        sent = writer.rows;
        writer.finish()
    })?;
    match stored == sent {
        true => Ok(stored),
        false => {
            let what = format!(
                "table {}: {sent} rows were written, and the server has stored {stored}",
                table.name
            );
            Err(Error::new(Kind::Data, what).remedy("check the triggers and rules of the table"))
        }
    }
}

fn new_buffer() -> Vec<u8> {
    Vec::with_capacity(PART_BYTES + PART_MARGIN_BYTES)
}

/// Writes rows to a COPY.
struct RowWriter<'w, 's> {
    table: &'w CopiedTable,
    copy: &'w mut CopyFeed<'s>,
    buffer: Vec<u8>,
    rows: u64,
}

impl RowWriter<'_, '_> {
    /// Sends what is left, and the trailer.
    fn finish(mut self) -> Result<()> {
        self.buffer.extend_from_slice(&TRAILER);
        self.copy.send(self.buffer)
    }

    /// Writes the bytes of a text, for example. They are moved once, however many they are.
    fn write_long(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = PART_BYTES.saturating_sub(self.buffer.len());
            let (part, rest) = bytes.split_at(bytes.len().min(room));
            self.buffer.extend_from_slice(part);
            bytes = rest;
            self.send_full()?;
        }
        Ok(())
    }

    fn send_full(&mut self) -> Result<()> {
        if self.buffer.len() < PART_BYTES {
            return Ok(());
        }
        self.copy.send(std::mem::replace(&mut self.buffer, new_buffer()))
    }

    /// The error of a row that does not fit.
    fn refused(&self, at: usize, why: &dyn std::fmt::Display) -> Error {
        let column = self.table.columns.get(at).map_or("?", |column| &column.name);
        Error::new(Kind::Data, format!("{}.{column}: the value of a row {why}", self.table.name))
    }
}

impl RowSink for RowWriter<'_, '_> {
    fn write(&mut self, row: &[Field<'_>]) -> Result<()> {
        let table = self.table;
        let count =
            i16::try_from(table.columns.len()).ok().filter(|_| row.len() == table.columns.len());
        let Some(count) = count else {
            let what = format!("table {}: a row has {} values", table.name, row.len());
            return Err(Error::new(Kind::Data, what));
        };
        self.buffer.extend_from_slice(&count.to_be_bytes());
        for (at, (field, column)) in row.iter().zip(&table.columns).enumerate() {
            let value = field.as_ref().map_err(|found| self.refused(at, &found.reason))?;
            let long = copy_format::append(&mut self.buffer, value, column.value_type);
            let long = long.map_err(|reason| self.refused(at, &reason))?;
            if !long.is_empty() {
                self.write_long(long)?;
            }
        }
        self.rows += 1;
        self.send_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_nul_or_longer_than_a_row_is_refused() {
        let text = |text: &str| accepts(&Value::Text(text.to_string().into()), ValueType::Text);
        assert_eq!(text("a\0"), Err(Incompatibility::NulInText));
        assert_eq!(text("a"), Ok(()));
        assert_eq!(accepts(&Value::Bytes(b"\0"[..].into()), ValueType::Bytes), Ok(()));
        let long = vec![0; ROW_BYTES_MAX as usize + 1];
        let longest = Value::Bytes(long[1..].into());
        assert_eq!(accepts(&longest, ValueType::Bytes), Ok(()));
        let longer = Value::Bytes(long.as_slice().into());
        assert_eq!(accepts(&longer, ValueType::Bytes), Err(Incompatibility::TooLong));
    }

    #[test]
    fn rows_are_ordered_by_the_columns_of_the_table_and_not_by_expressions() {
        assert_eq!(order_by(&["id".into(), "a".into()]), r#" ORDER BY t."id", t."a""#);
        assert_eq!(order_by(&[]), "");
    }
}
