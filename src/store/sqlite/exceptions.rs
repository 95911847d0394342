//! The constraint exceptions that a SQLite database records.

use rusqlite::{Connection, Result};

use crate::store::sql::{
    EXCEPTIONS_TABLE, create_exceptions_table, delete_exception, select_exceptions,
    upsert_exception,
};
use cts_schema::catalog::Catalog;
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// Reads the exceptions, by table; none where the table of them does not exist.
///
/// # Errors
/// Where the table is not the one that cts creates, or cannot be read. Nothing is changed.
pub fn read(conn: &Connection, catalog: &Catalog) -> Result<Vec<ConstraintException>> {
    if !catalog.other_tables.iter().any(|name| name.eq_ignore_ascii_case(EXCEPTIONS_TABLE)) {
        return Ok(Vec::new());
    }
    let mut statement = conn.prepare(&select_exceptions()).map_err(|_| {
        let what = format!("table {EXCEPTIONS_TABLE} is not the one that cts makes: rename it");
        rusqlite::Error::ToSqlConversionFailure(what.into())
    })?;
    let rows = statement.query_map([], |row| {
        let kind: String = row.get(1)?;
        let rule = Rule::from_record(&kind, row.get(2)?, row.get(3)?);
        Ok(rule.map(|rule| (row.get(0), rule, row.get::<_, i64>(4))))
    })?;
    let mut found = Vec::new();
    for row in rows {
        if let Some((table, rule, rows)) = row? {
            found.push(ConstraintException { table: table?, rule, rows: rows?.unsigned_abs() });
        }
    }
    Ok(found)
}

/// Records an exception, and creates the table of them with the first one.
///
/// # Errors
/// Where SQLite refuses the statement. The transaction stays open.
pub fn write(conn: &Connection, exception: &ConstraintException) -> Result<()> {
    let table =
        create_exceptions_table("INTEGER", "TEXT", "(strftime('%Y-%m-%d %H:%M:%f', 'now'))");
    conn.execute_batch(&format!("{table}; {}", upsert_exception(exception)))
}

/// Removes the record of an exception.
///
/// # Errors
/// Where SQLite refuses the statement. The transaction stays open.
pub fn remove(conn: &Connection, exception: &ConstraintException) -> Result<()> {
    conn.execute_batch(&delete_exception(exception))
}
