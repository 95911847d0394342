//! Reads what a SQLite database holds: the catalogue and the ledger in one look, and
//! damage where there is some.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, Row, TransactionState};

use super::error::error;
use super::{catalog, exceptions};
use crate::error::Result;
use crate::store::schema::SQLITE;
use crate::store::sql::{LEDGER_COLUMNS, quoted};
use crate::store::{Damage, Orphans, Snapshot};
use cts_schema::catalog::Catalog;
use cts_schema::migration::AppliedMigration;

/// Ledger and catalogue in one read transaction. `known` keeps the catalogue for as long as the
/// schema does not change.
pub fn snapshot(
    conn: &Connection,
    known: &mut Option<(i64, Catalog)>,
) -> rusqlite::Result<Snapshot> {
    // Inside a migration the transaction is open already.
    let own =
        conn.transaction_state(Some("main"))? == TransactionState::None && conn.is_autocommit();
    if own {
        conn.execute_batch("BEGIN")?;
    }
    let found = (|| {
        let version: i64 = conn.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
        if known.as_ref().is_none_or(|(at, _)| *at != version) {
            *known = Some((version, catalog::read(conn, SQLITE.expected)?));
        }
        let catalog = known.as_ref().map(|(_, catalog)| catalog.clone()).unwrap_or_default();
        let exceptions = exceptions::read(conn, &catalog)?;
        Ok(Snapshot { ledger: ledger(conn, &catalog)?, catalog, exceptions })
    })();
    if own && !conn.is_autocommit() {
        conn.execute_batch("COMMIT")?;
    }
    found
}

/// Reads the ledger, whatever columns it has, and damaged rows too.
fn ledger(conn: &Connection, catalog: &Catalog) -> rusqlite::Result<Vec<AppliedMigration>> {
    let Some(table) = catalog.table("migrations") else {
        return Ok(Vec::new());
    };
    let column = |name: &str| {
        let is_there = table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name));
        if is_there { name.to_string() } else { format!("NULL AS {name}") }
    };
    let columns = LEDGER_COLUMNS.map(column);
    let sql = format!("SELECT {} FROM migrations ORDER BY 1", columns.join(", "));
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        Ok(AppliedMigration {
            id: integer(row, 0)?.unwrap_or_default(),
            name: words(row, 1)?.unwrap_or_default(),
            checksum: words(row, 2)?,
            executed_at: words(row, 3)?,
            execution_time_ms: integer(row, 4)?,
            version: words(row, 5)?,
        })
    })?;
    rows.collect()
}

fn integer(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get_ref(at)? {
        ValueRef::Integer(value) => Some(value),
        _ => None,
    })
}

/// A text, or anything else but NULL as text, so that a damaged row is seen as one.
fn words(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(at)? {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
        ValueRef::Integer(value) => Some(value.to_string()),
        ValueRef::Real(value) => Some(value.to_string()),
    })
}

/// Looks for damage; a file that SQLite calls corrupt is a finding, not an error.
pub fn find_damage(conn: &Connection, path: &Path, deep: bool) -> Result<Damage> {
    let is_damage = |e: &rusqlite::Error| {
        let codes = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        e.sqlite_error_code().is_some_and(|code| codes.contains(&code))
    };
    let pragma = if deep { "integrity_check" } else { "quick_check" };
    let pages: Vec<String> = match rows(conn, &format!("PRAGMA {pragma}(20)"), |row| row.get(0)) {
        Ok(lines) => lines.into_iter().filter(|line: &String| line != "ok").collect(),
        Err(e) if is_damage(&e) => vec![e.to_string()],
        Err(e) => return Err(error(path, &e)),
    };
    let indexes = damaged_indexes(&pages).unwrap_or_default();
    let pages = pages.into_iter().map(|line| line.clone() + &whose(conn, &line)).collect();
    let orphans = if deep { rows(conn, ORPHANS, orphans) } else { Ok(Vec::new()) };
    match orphans {
        Ok(orphans) => Ok(Damage { pages, indexes, orphans }),
        Err(e) if is_damage(&e) => Ok(Damage { pages, indexes, orphans: Vec::new() }),
        Err(e) => Err(error(path, &e)),
    }
}

/// The table or index whose tree a line is about, where SQLite gives no more than its root page.
fn whose(conn: &Connection, line: &str) -> String {
    let root = line.strip_prefix("Tree ").and_then(|rest| rest.split(' ').next());
    let sql = "SELECT format(' (%s %s)', type, name) FROM sqlite_schema WHERE rootpage = ?1";
    // A schema that cannot be read says nothing.
    root.and_then(|root| conn.query_row(sql, [root], |row| row.get(0)).ok()).unwrap_or_default()
}

/// The indexes that these lines of `integrity_check` are about, if they are about nothing else.
fn damaged_indexes(lines: &[String]) -> Option<Vec<String>> {
    let index = |line: &String| {
        let (about, index) = line.split_once(" index ")?;
        let is_known = about.ends_with("missing from")
            || about == "wrong # of entries in"
            || about == "non-unique entry in";
        is_known.then(|| index.to_string())
    };
    let mut indexes = lines.iter().map(index).collect::<Option<Vec<String>>>()?;
    indexes.sort();
    indexes.dedup();
    Some(indexes)
}

const ORPHANS: &str =
    "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2";

fn orphans(row: &Row<'_>) -> rusqlite::Result<Orphans> {
    Ok(Orphans { table: row.get(0)?, parent: row.get(1)?, rows: row.get(2)? })
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    make: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = conn.prepare(sql)?;
    statement.query_map([], make)?.collect()
}

/// Whether a table, if it is there, has at most so many rows and is whole, and the schema too.
pub fn is_small(conn: &Connection, table: &str, rows: u32) -> rusqlite::Result<bool> {
    let is_whole = |name: &str| {
        let sql = format!("PRAGMA quick_check({})", quoted(name));
        conn.query_row(&sql, [], |row| row.get::<_, String>(0)).map(|said| said == "ok")
    };
    if !is_whole("sqlite_schema")? {
        return Ok(false);
    }
    let sql =
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE";
    if conn.query_row(sql, [table], |row| row.get::<_, i64>(0))? == 0 {
        return Ok(true);
    }
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM {} LIMIT {})",
        quoted(table),
        u64::from(rows) + 1
    );
    let few = conn.query_row(&sql, [], |row| row.get::<_, i64>(0))? <= i64::from(rows);
    Ok(few && is_whole(table)?)
}
