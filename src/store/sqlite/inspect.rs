//! Reads catalogue, ledger and constraint exceptions of a SQLite database in one transaction.

use rusqlite::{Connection, TransactionState};

use super::damage::is_undamaged;
use super::error::Result;
use super::{catalog, exceptions, ledger};
use crate::store::Snapshot;
use crate::store::schema::SQLITE;
use crate::store::sql::quoted;
use cts_schema::catalog::Catalog;

/// The catalogue as it was read last. It is the same as long as SQLite's `schema_version` is.
pub struct CachedCatalog {
    schema_version: i64,
    catalog: Catalog,
}

/// Reads the database in one read transaction, or in the transaction that is open. Reads the
/// catalogue only if the `cached` one is of an older `schema_version`, and keeps it there.
///
/// # Errors
/// If SQLite cannot read the database, or the table of the exceptions is another program's. Nothing
/// is changed; a transaction that was open stays open.
pub fn snapshot(conn: &Connection, cached: &mut Option<CachedCatalog>) -> Result<Snapshot> {
    let begins =
        conn.transaction_state(Some("main"))? == TransactionState::None && conn.is_autocommit();
    if begins {
        conn.execute_batch("BEGIN")?;
    }
    let snapshot = read(conn, cached);
    if begins && !conn.is_autocommit() {
        conn.execute_batch("COMMIT")?;
    }
    snapshot
}

fn read(conn: &Connection, cached: &mut Option<CachedCatalog>) -> Result<Snapshot> {
    let schema_version = conn.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
    let catalog = match cached {
        Some(cached) if cached.schema_version == schema_version => cached.catalog.clone(),
        _ => {
            let catalog = catalog::read(conn, SQLITE.expected)?;
            *cached = Some(CachedCatalog { schema_version, catalog: catalog.clone() });
            catalog
        }
    };
    let exceptions = exceptions::read(conn, &catalog)?;
    Ok(Snapshot { ledger: ledger::read(conn, &catalog)?, catalog, exceptions })
}

/// Whether a table has at most `rows_max` rows or does not exist, and neither its pages nor those of
/// the schema are damaged. Takes milliseconds, because only so many rows are counted.
///
/// # Errors
/// If SQLite cannot read the table.
pub fn is_small(conn: &Connection, table: &str, rows_max: u32) -> rusqlite::Result<bool> {
    if !is_undamaged(conn, "sqlite_schema")? {
        return Ok(false);
    }
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    if conn.query_row(sql, [table], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(true);
    }
    let limit = u64::from(rows_max) + 1;
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {limit})", quoted(table));
    let rows = catalog::number(conn, &sql)?;
    Ok(rows <= u64::from(rows_max) && is_undamaged(conn, table)?)
}
