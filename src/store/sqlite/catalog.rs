//! The catalogue of an open SQLite database, read and changed by the code that the build uses too.

use cts_schema::catalog::{Catalog, Table};
use cts_schema::sql::Statement;
use cts_schema::sqlite_catalog::{self, SqliteConnection, TextRow};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, params_from_iter};

/// A connection, for [`sqlite_catalog`].
struct CatalogReader<'c>(&'c Connection);

impl SqliteConnection for CatalogReader<'_> {
    type Error = rusqlite::Error;

    fn query(&self, sql: &str, parameters: &[&str]) -> Result<Vec<TextRow>> {
        let mut statement = self.0.prepare(sql)?;
        let columns = statement.column_count();
        let rows = statement.query_map(params_from_iter(parameters), |row| {
            let cells = (0..columns).map(|at| row.get_ref(at).map(text));
            cells.collect::<Result<_>>().map(TextRow)
        })?;
        rows.collect()
    }

    fn execute(&self, sql: &str) -> Result<()> {
        self.0.execute_batch(sql)
    }

    fn total_changes(&self) -> u64 {
        self.0.total_changes()
    }

    fn malformed(&self, what: &str) -> rusqlite::Error {
        rusqlite::Error::ToSqlConversionFailure(what.into())
    }
}

/// The text of a cell. Other programs may have written bytes that are not UTF-8.
fn text(value: ValueRef<'_>) -> Option<String> {
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
/// Where SQLite refuses the statement. It changed nothing then; a transaction stays open.
pub fn execute(conn: &Connection, statement: &Statement<'_>) -> Result<bool> {
    sqlite_catalog::execute(&CatalogReader(conn), statement)
}

/// Reads the tables that `expected` names in full, and the names of the others.
///
/// # Errors
/// Where SQLite cannot read its schema.
pub fn read(conn: &Connection, expected: &Catalog) -> Result<Catalog> {
    sqlite_catalog::read(&CatalogReader(conn), Some(expected))
}

/// Reads one table in full.
///
/// # Errors
/// Where SQLite cannot read its schema, or there is no such table.
pub fn read_table(conn: &Connection, name: &str) -> Result<Table> {
    sqlite_catalog::read_table(&CatalogReader(conn), name)?
        .ok_or(rusqlite::Error::QueryReturnedNoRows)
}
