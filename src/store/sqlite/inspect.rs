//! Reads catalogue, ledger and constraint exceptions of a SQLite database in one transaction.

use std::fmt;

use rusqlite::{Connection, OptionalExtension, TransactionState};

use super::error::Result;
use super::{catalog, counters, exceptions, ledger};
use crate::store::schema::SQLITE;
use crate::store::sql::quoted;
use crate::store::{Obstacle, Snapshot};
use cts_schema::catalog::{Catalog, Object};

/// The catalogue as it was read last. It is the same as long as SQLite's `schema_version` is.
pub struct CachedCatalog {
    schema_version: i64,
    catalog: Catalog,
    /// Whether a table has, or had, a counter of AUTOINCREMENT.
    pub has_counters: bool,
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
            let catalog = catalog::read(conn, SQLITE.expected)?.share(SQLITE.expected);
            let has_counters = counters::exist(conn)?;
            let read = CachedCatalog { schema_version, catalog: catalog.clone(), has_counters };
            *cached = Some(read);
            catalog
        }
    };
    let recorded = exceptions::read(conn, &catalog)?;
    Ok(Snapshot {
        ledger: ledger::read(conn, &catalog)?,
        catalog,
        exceptions: recorded.exceptions,
        accepted: recorded.accepted,
        counters: Vec::new(),
    })
}

/// Whether a table exists and has more than this number of rows.
///
/// # Errors
/// If SQLite cannot read the table.
pub fn has_more_rows(conn: &Connection, table: &str, than: u64) -> rusqlite::Result<bool> {
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    if conn.query_row(sql, [table], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(false);
    }
    let limit = than.saturating_add(1);
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {limit})", quoted(table));
    Ok(catalog::number(conn, &sql)? > than)
}

/// The objects that have the name of a missing one.
///
/// # Errors
/// If SQLite cannot read its schema.
pub fn find_obstacles(conn: &Connection, missing: &[Object]) -> rusqlite::Result<Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
    if conn.query_row(is_empty, [], |row| row.get(0))? {
        return Ok(obstacles);
    }
    for object in missing {
        let name = match object {
            Object::Table(name) | Object::Index(_, name) => name,
            Object::Column(..) => continue,
        };
        if let Some(holder) = NameHolder::find(conn, name)? {
            obstacles.push(Obstacle::name_taken(object, &holder.to_string()));
        }
    }
    Ok(obstacles)
}

/// The object that has a name. SQLite keeps tables, indexes, views and triggers under one set of
/// names.
pub struct NameHolder {
    kind: String,
    name: String,
    table: String,
}

impl NameHolder {
    /// The object that has this name, in any case.
    ///
    /// # Errors
    /// If SQLite cannot read its schema.
    pub fn find(conn: &Connection, name: &str) -> rusqlite::Result<Option<NameHolder>> {
        let sql = "SELECT iif(sql LIKE 'CREATE VIRTUAL %', 'virtual table', type), name, tbl_name \
                   FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
        let holder = conn.query_row(sql, [name], |row| {
            Ok(NameHolder { kind: row.get(0)?, name: row.get(1)?, table: row.get(2)? })
        });
        holder.optional()
    }

    /// Whether it is an index of this table.
    pub fn is_index_of(&self, table: &str) -> bool {
        self.kind == "index" && self.table.eq_ignore_ascii_case(table)
    }
}

impl fmt::Display for NameHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            "index" => write!(f, "an index of table {}", self.table),
            kind => write!(f, "{kind} {}", self.name),
        }
    }
}
