//! The constraint exceptions that a SQLite database records.

use rusqlite::Connection;

use super::error::{Result, SqliteError, is_statement_fault};
use crate::store::sql::{
    EXCEPTIONS_TABLE, RecordedExceptions, create_exceptions_table, delete_exception,
    select_exceptions, upsert_acceptance, upsert_exception,
};
use cts_schema::catalog::{AcceptedDifference, Catalog};
use cts_schema::constraint_exception::ConstraintException;

/// Reads the exceptions and the accepted differences, by table; none if the table of them does not exist. A rule that only a later
/// cts knows is left out.
///
/// # Errors
/// If the table is not the one that cts creates, or cannot be read. Nothing is changed.
pub fn read(conn: &Connection, catalog: &Catalog) -> Result<RecordedExceptions> {
    if !catalog.other_tables.iter().any(|name| name.eq_ignore_ascii_case(EXCEPTIONS_TABLE)) {
        return Ok(RecordedExceptions::default());
    }
    let mut statement =
        conn.prepare(&select_exceptions(EXCEPTIONS_TABLE)).map_err(unknown_table)?;
    let mut rows = statement.query([])?;
    let mut recorded = RecordedExceptions::default();
    while let Some(row) = rows.next()? {
        let rule: String = row.get(1)?;
        let count = row.get::<_, i64>(4)?.unsigned_abs();
        recorded.add(row.get(0)?, &rule, row.get(2)?, row.get(3)?, count);
    }
    Ok(recorded)
}

fn unknown_table(cause: rusqlite::Error) -> SqliteError {
    if !is_statement_fault(&cause) {
        return SqliteError::Sqlite(cause);
    }
    let what = format!("table {EXCEPTIONS_TABLE} is not the one that cts creates");
    SqliteError::refused(what, "rename that table")
}

/// Records an exception, and creates the table of them with the first one.
///
/// # Errors
/// If SQLite refuses the statement. The transaction stays open.
pub fn record(conn: &Connection, exception: &ConstraintException) -> rusqlite::Result<()> {
    let table = create_table();
    conn.execute_batch(&format!("{table}; {}", upsert_exception(EXCEPTIONS_TABLE, exception)))
}

/// Records accepted differences, and creates the table of exceptions with the first record.
///
/// # Errors
/// If SQLite refuses the statement. The transaction stays open.
pub fn record_acceptance(conn: &Connection, accepted: &AcceptedDifference) -> rusqlite::Result<()> {
    conn.execute_batch(&format!(
        "{}; {}",
        create_table(),
        upsert_acceptance(EXCEPTIONS_TABLE, accepted)
    ))
}

fn create_table() -> String {
    let now = "(strftime('%Y-%m-%d %H:%M:%f', 'now'))";
    create_exceptions_table(EXCEPTIONS_TABLE, "INTEGER", "TEXT", now)
}

/// Removes the record of an exception.
///
/// # Errors
/// If SQLite refuses the statement. The transaction stays open.
pub fn remove(conn: &Connection, exception: &ConstraintException) -> rusqlite::Result<()> {
    conn.execute_batch(&delete_exception(EXCEPTIONS_TABLE, exception))
}
