//! The constraint exceptions that a PostgreSQL database records.

use super::session::{Row, Session};
use crate::error::Result;
use crate::store::sql::{create_exceptions_table, select_exceptions, upsert_exception};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// The query for the exceptions; one without rows where the table of them does not exist.
pub fn select(table_exists: bool) -> String {
    if table_exists { select_exceptions() } else { "SELECT NULL WHERE false".into() }
}

/// The exceptions in the rows of [`select`].
pub fn read(rows: &[Row]) -> Vec<ConstraintException> {
    let exception = |row: &Row| {
        let rule = Rule::from_record(row.text(1), row.text(2).into(), row.text(3).into())?;
        Some(ConstraintException { table: row.text(0).into(), rule, rows: row.number(4) })
    };
    rows.iter().filter_map(exception).collect()
}

/// Records an exception, and creates the table of them with the first one.
///
/// # Errors
/// Where the server refuses a statement; inside a transaction, that is then aborted.
pub fn record(session: &mut Session, exception: &ConstraintException) -> Result<()> {
    let table = create_exceptions_table("BIGINT", "TIMESTAMPTZ", "CURRENT_TIMESTAMP");
    session.run(&format!("{table}; {}", upsert_exception(exception)))
}
