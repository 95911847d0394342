//! The constraint exceptions that a PostgreSQL database records.

use super::row::Row;
use super::session::Session;
use crate::error::Result;
use crate::store::sql::{
    EXCEPTIONS_TABLE, RecordedExceptions, create_exceptions_table, quoted, select_exceptions,
    upsert_acceptance, upsert_exception,
};
use cts_schema::catalog::AcceptedDifference;
use cts_schema::constraint_exception::ConstraintException;

/// The query for the exceptions; one without rows where the table of them does not exist.
pub fn select(session: &Session, table_exists: bool) -> String {
    match table_exists {
        true => select_exceptions(&session.qualified(EXCEPTIONS_TABLE)),
        false => "SELECT NULL WHERE false".into(),
    }
}

/// The exceptions in the rows of [`select`]. A rule that only a later cts knows is left out.
///
/// # Errors
/// `Kind::Io` if a row cannot be read.
pub fn read(rows: &[Row]) -> Result<RecordedExceptions> {
    let mut recorded = RecordedExceptions::default();
    for row in rows {
        let (object, detail) = (row.text(2)?.to_string(), row.text(3)?.to_string());
        recorded.add(row.text(0)?.to_string(), row.text(1)?, object, detail, row.number(4)?);
    }
    Ok(recorded)
}

/// Records an exception, and creates the table of them with the first one.
///
/// # Errors
/// If the server refuses a statement; an open transaction is aborted then.
pub fn record(session: &mut Session, exception: &ConstraintException) -> Result<()> {
    let name = session.qualified(EXCEPTIONS_TABLE);
    let table = create_exceptions_table(&name, "BIGINT", "TIMESTAMPTZ", "CURRENT_TIMESTAMP");
    session.run(&format!("{table}; {}", upsert_exception(&name, exception)))
}

/// Records accepted differences, and creates the table of exceptions with the first record.
///
/// # Errors
/// If the server refuses a statement; an open transaction is aborted then.
pub fn record_acceptance(session: &mut Session, accepted: &AcceptedDifference) -> Result<()> {
    let name = session.qualified(EXCEPTIONS_TABLE);
    let table = create_exceptions_table(&name, "BIGINT", "TIMESTAMPTZ", "CURRENT_TIMESTAMP");
    session.run(&format!("{table}; {}", upsert_acceptance(&name, accepted)))
}

/// Validates the foreign keys from one table to another, so that they hold for all rows.
///
/// # Errors
/// If the server refuses a statement, `Kind::Data` if rows violate a key; an open transaction is
/// aborted then.
pub fn validate_foreign_keys(session: &mut Session, table: &str, parent: &str) -> Result<()> {
    let sql = format!(
        "SELECT k.conname FROM pg_constraint k WHERE k.contype = 'f' AND NOT k.convalidated \
             AND k.conrelid = to_regclass({}) AND k.confrelid = to_regclass({})",
        session.qualified_literal(table),
        session.qualified_literal(parent)
    );
    for row in session.rows(&sql)? {
        let (table, name) = (session.qualified(table), quoted(row.text(0)?));
        session.run(&format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"))?;
    }
    Ok(())
}
