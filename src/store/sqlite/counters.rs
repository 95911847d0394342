//! The counters of AUTOINCREMENT, which the owner of a table may have given it: table `sqlite_sequence`
//! (sqlite.org/autoinc.html). Without AUTOINCREMENT a new id follows the highest one in the table.

use rusqlite::{Connection, OptionalExtension};

use super::error::{Result, SqliteError};
use crate::store::sql::quoted;
use cts_schema::catalog::{Catalog, CounterFault, CounterState, Table};
use cts_schema::sql::definition::contains_name;

/// The counters that are behind the ids of their table, so that an id may be given again, or that have
/// given the last one, so that every insert fails. One search of the highest id each. None in a table that has
/// changed since its catalogue was read.
///
/// # Errors
/// If SQLite cannot read a table.
pub fn find_faults(conn: &Connection, catalog: &Catalog) -> rusqlite::Result<Vec<CounterFault>> {
    let mut faults = Vec::new();
    if !exist(conn)? {
        return Ok(faults);
    }
    for table in catalog.tables.iter() {
        if contains_name(&table.definition, "AUTOINCREMENT") {
            faults.extend(find_fault(conn, table)?);
        }
    }
    Ok(faults)
}

/// Whether there are counters: SQLite creates their table with the first one that has AUTOINCREMENT, and an
/// ordinary database has none. Reads the whole of `sqlite_schema`.
///
/// # Errors
/// If SQLite cannot read its schema.
pub fn exist(conn: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence')";
    conn.query_row(sql, [], |row| row.get(0))
}

fn find_fault(conn: &Connection, table: &Table) -> rusqlite::Result<Option<CounterFault>> {
    let Some(key) = table.rowid_alias() else { return Ok(None) };
    if !is_rowid_alias(conn, &table.name, &key.name)? {
        return Ok(None);
    }
    let counter = read(conn, &table.name)?.unwrap_or_default();
    let used = highest_id(conn, &table.name, &key.name)?;
    let state = match used {
        _ if counter.max(used.unwrap_or(i64::MIN)) == i64::MAX => {
            Some(CounterState::Exhausted { last: i64::MAX })
        }
        Some(used) if used > counter => {
            Some(CounterState::Behind { next: counter.saturating_add(1), used })
        }
        _ => None,
    };
    let (table, column) = (table.name.to_string(), key.name.to_string());
    Ok(state.map(|state| CounterFault { table, column, state }))
}

/// Whether a column still is what the catalogue says, which another process may have changed since it was
/// read, by an adoption: the ids may be texts by now.
fn is_rowid_alias(conn: &Connection, table: &str, column: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) \
         WHERE name = ?2 COLLATE NOCASE AND pk = 1 AND type = 'INTEGER' COLLATE NOCASE)";
    conn.query_row(sql, [table, column], |row| row.get(0))
}

fn highest_id(conn: &Connection, table: &str, key: &str) -> rusqlite::Result<Option<i64>> {
    let sql = format!("SELECT max({}) FROM {}", quoted(key), quoted(table));
    conn.query_row(&sql, [], |row| row.get(0))
}

/// The highest id that AUTOINCREMENT has given in a table, whose name may be in any case. `None` if it
/// has given none.
///
/// # Errors
/// If SQLite cannot read the table of the counters.
pub fn read(conn: &Connection, table: &str) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = ?1 COLLATE NOCASE ORDER BY rowid";
    let counter = conn.query_row(sql, [table], |row| row.get::<_, Option<i64>>(0));
    Ok(counter.optional()?.flatten())
}

/// Sets the counter of a table to the highest id in it.
///
/// # Errors
/// If a row has the highest of all ids, after which there is none; or SQLite refuses a statement.
pub fn advance(conn: &Connection, fault: &CounterFault) -> Result<()> {
    let used = highest_id(conn, &fault.table, &fault.column)?.unwrap_or_default();
    if used == i64::MAX {
        let remedy = "give the row with the highest id a smaller one";
        return Err(SqliteError::refused(fault.to_string(), remedy));
    }
    // SQLite looks the row up by the name of the table as it was created.
    conn.execute("DELETE FROM sqlite_sequence WHERE name = ?1 COLLATE NOCASE", [&fault.table])?;
    conn.execute(
        "INSERT INTO sqlite_sequence (name, seq) \
         SELECT name, ?2 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE",
        (&fault.table, used),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::SQLITE;
    use crate::store::sqlite::catalog;

    #[test]
    fn a_table_that_was_adopted_since_its_catalogue_was_read_has_no_counter() {
        let conn = Connection::open_in_memory().unwrap();
        let older = "CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);
            INSERT INTO users (id) VALUES (7); UPDATE sqlite_sequence SET seq = 3";
        conn.execute_batch(older).unwrap();
        let read = catalog::read(&conn, SQLITE.expected).unwrap();
        assert_eq!(find_faults(&conn, &read).unwrap().len(), 1);
        for newer in [
            "CREATE TABLE users (id TEXT PRIMARY KEY); INSERT INTO users VALUES ('a')",
            "CREATE TABLE users (key INTEGER PRIMARY KEY)",
            "SELECT 1",
        ] {
            conn.execute_batch(&format!("DROP TABLE IF EXISTS users; {newer}")).unwrap();
            assert_eq!(find_faults(&conn, &read).unwrap(), [], "{newer}");
        }
    }
}
