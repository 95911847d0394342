//! Reads the catalogue of an open SQLite database and runs the statements that change it, by the code
//! that the build uses too.

use cts_schema::catalog::{Catalog, Table};
use cts_schema::sql::Statement;
use cts_schema::sqlite_catalog::{self, SqliteConnection, TextRow};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use super::error::{Result, SqliteError};

/// A connection, for [`sqlite_catalog`].
struct CatalogReader<'c>(&'c Connection);

impl SqliteConnection for CatalogReader<'_> {
    type Error = SqliteError;

    fn query(&self, sql: &str, parameters: &[&str]) -> Result<Vec<TextRow>> {
        let mut statement = self.0.prepare(sql)?;
        let columns = statement.column_count();
        let rows = statement.query_map(params_from_iter(parameters), |row| {
            let cells = (0..columns).map(|at| row.get_ref(at).map(text));
            cells.collect::<rusqlite::Result<_>>().map(TextRow)
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn execute(&self, sql: &str) -> Result<()> {
        Ok(self.0.execute_batch(sql)?)
    }

    fn total_changes(&self) -> u64 {
        self.0.total_changes()
    }

    fn malformed(&self, what: &str) -> SqliteError {
        SqliteError::Malformed(what.to_string())
    }
}

/// A value as text; `None` for NULL. Bytes that are not UTF-8, which other programs may have written,
/// are replaced.
pub fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

/// Runs a statement. Returns whether it changed the schema or any row.
///
/// # Errors
/// If SQLite refuses the statement. It changed nothing then; an open transaction stays open.
pub fn execute(conn: &Connection, statement: &Statement<'_>) -> Result<bool> {
    sqlite_catalog::execute(&CatalogReader(conn), statement)
}

/// Reads the tables that `expected` names in full, and the names of the others.
///
/// # Errors
/// If SQLite cannot read its schema.
pub fn read(conn: &Connection, expected: &Catalog) -> Result<Catalog> {
    sqlite_catalog::read(&CatalogReader(conn), Some(expected))
}

/// Reads the table that is in the place of an expected one in full, in the spelling of that.
///
/// # Errors
/// If SQLite cannot read its schema, or the table does not exist.
pub fn read_table(conn: &Connection, expected: &Table) -> Result<Table> {
    sqlite_catalog::read_table(&CatalogReader(conn), expected)?
        .ok_or_else(|| SqliteError::Malformed(format!("table {} does not exist", expected.name)))
}

/// The number in the first column of a query's only row.
///
/// # Errors
/// If the query fails or has no such number.
pub fn number(conn: &Connection, sql: &str) -> rusqlite::Result<u64> {
    conn.query_row(sql, [], |row| row.get(0))
}
