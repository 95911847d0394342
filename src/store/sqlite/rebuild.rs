//! Rebuilds a table in the expected shape and keeps every row, as sqlite.org/lang_altertable.html
//! prescribes ("Making Other Kinds Of Table Schema Changes"): a new table is created, the rows are
//! copied, the old table is dropped, the new one renamed, and its indexes and triggers are created
//! again. Foreign keys are off on this connection, or the drop would delete rows of other tables.
//!
//! Everything comes from the catalogue and from the table itself; no table is known by name. What its
//! owner has added stays: columns, their constraints, indexes, triggers, and AUTOINCREMENT with its
//! counter.

use rusqlite::Connection;

use super::catalog::{self, number};
use super::counters;
use super::create_table::create_table;
use super::error::{Result, SqliteError, is_statement_fault, is_uncheckable};
use super::existing_table::SourceTable;
use super::index::{self, count_duplicates};
use super::row_copy::RowCopy;
use super::violations;
use crate::store::sql::{index_columns, not_unique, quoted, table_with_exceptions};
use crate::store::{Forecast, Progress, Rebuilt};
use cts_schema::catalog::{Index, Table};

/// Rebuilds the table as expected, but without the rules that its rows violate. A transaction is open.
///
/// # Errors
/// If the table cannot be rebuilt without altering a value, or SQLite refuses a statement. The
/// transaction has to be rolled back then.
pub fn rebuild(
    conn: &Connection,
    expected: &Table,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Rebuilt> {
    let source = SourceTable::read(conn, expected)?;
    let mut exceptions = violations::of_columns(conn, &source, expected)?;
    let new_name = &*format!("cts_rebuilt_{}", expected.name);
    let rows = loop {
        let target = &table_with_exceptions(expected, &exceptions);
        conn.execute_batch(&create_table(&source, new_name, target))?;
        let copy = RowCopy { source: &source, new_name, target };
        let rows = copy.run(conn, progress)?;
        let altered = copy.altered_columns(conn, rows)?;
        if altered.is_empty() {
            replace(conn, &copy)?;
            break rows;
        }
        // A column keeps its old type if the expected one would alter values.
        conn.execute_batch(&format!("DROP TABLE {}", quoted(new_name)))?;
        exceptions.extend(altered);
    };
    for index in expected.indexes.iter() {
        exceptions.extend(index::create(conn, &expected.name, index, progress)?);
    }
    let dropped = source.dropped_constraints(&catalog::read_table(conn, expected)?);
    Ok(Rebuilt { rows, exceptions, dropped })
}

/// What a rebuild would find: the number of rows, and the rules that they violate as far as that can
/// be counted in the old table. Changes nothing.
///
/// # Errors
/// If the table cannot be rebuilt, or SQLite refuses a query.
pub fn forecast(conn: &Connection, expected: &Table) -> Result<Forecast> {
    let source = SourceTable::read(conn, expected)?;
    let rows = number(conn, &format!("SELECT count(*) FROM {}", quoted(&expected.name)))?;
    let mut exceptions = violations::of_columns(conn, &source, expected)?;
    for index in expected.indexes.iter().filter(|index| index.unique) {
        let duplicates = forecast_duplicates(conn, &source, index)?;
        exceptions.extend(not_unique(&expected.name, index, duplicates));
    }
    Ok(Forecast { rows, exceptions, dropped: source.dropped_constraints(expected) })
}

/// Counts the rows that share a key of a unique index; 0 if the old table has not all its columns.
fn forecast_duplicates(conn: &Connection, source: &SourceTable, index: &Index) -> Result<u64> {
    if !index_columns(index).all(|name| source.column(name).is_some()) {
        return Ok(0);
    }
    match count_duplicates(conn, &source.table.name, index) {
        // The predicate names a column that does not exist yet, so that no row meets it.
        Err(e) if is_statement_fault(&e) => Ok(0),
        other => Ok(other?),
    }
}

/// Drops the old table, gives the new one its name, and creates its other indexes and its triggers
/// again.
fn replace(conn: &Connection, copy: &RowCopy<'_>) -> Result<()> {
    let name = &copy.source.table.name;
    let counter = autoincrement_counter(conn, copy.source)?;
    let dependents = dependents(conn, name)?;
    // The rename as it was before SQLite 3.26, which leaves views and other tables as they are. It parses
    // the whole schema; what of it only its own program can use, such as an index with a collation of
    // that, is no error with a writable schema (sqlite.org/src/file/src/alter.c, `renameTableTest`).
    let settings = |value: &str| {
        format!("PRAGMA legacy_alter_table = {value}; PRAGMA writable_schema = {value}")
    };
    let renamed = conn.execute_batch(&format!(
        "{2}; DROP TABLE {0}; ALTER TABLE {1} RENAME TO {0}",
        quoted(name),
        quoted(copy.new_name),
        settings("ON")
    ));
    conn.execute_batch(&settings("OFF"))?;
    renamed?;
    for dependent in dependents.iter().filter(|dependent| !dependent.is_index_of(copy.target)) {
        dependent.create(conn, name)?;
    }
    match counter.filter(|_| copy.target.rowid_alias().is_some()) {
        Some(counter) => set_autoincrement_counter(conn, name, counter),
        None => Ok(()),
    }
}

/// An index or a trigger of a table.
struct Dependent {
    /// Its name.
    name: String,
    is_index: bool,
    /// The statement that creates it.
    sql: String,
}

impl Dependent {
    /// Whether it is an index that the table is expected to have.
    fn is_index_of(&self, table: &Table) -> bool {
        let mut indexes = table.indexes.iter();
        self.is_index && indexes.any(|index| index.name.eq_ignore_ascii_case(&self.name))
    }

    fn create(&self, conn: &Connection, table: &str) -> Result<()> {
        match conn.execute_batch(&self.sql) {
            Err(e) if is_uncheckable(&e) => {
                let kind = if self.is_index { "index" } else { "trigger" };
                let what = format!("{kind} {} of table {table} cannot be kept: {e}", self.name);
                let remedy = "drop it, and let its own program create it again afterwards";
                Err(SqliteError::refused(what, remedy))
            }
            created => Ok(created?),
        }
    }
}

fn dependents(conn: &Connection, table: &str) -> Result<Vec<Dependent>> {
    let mut statement = conn.prepare(
        "SELECT name, type = 'index', sql FROM sqlite_schema \
         WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL \
         ORDER BY rowid",
    )?;
    let dependents = statement.query_map([table], |row| {
        Ok(Dependent { name: row.get(0)?, is_index: row.get(1)?, sql: row.get(2)? })
    })?;
    Ok(dependents.collect::<rusqlite::Result<_>>()?)
}

/// The highest id that AUTOINCREMENT has given in the table. `None` if it has given none.
fn autoincrement_counter(conn: &Connection, source: &SourceTable) -> Result<Option<i64>> {
    if !source.has_autoincrement() {
        return Ok(None);
    }
    Ok(counters::read(conn, &source.table.name)?)
}

/// Makes AUTOINCREMENT go on after `counter` and after the highest id in the table.
fn set_autoincrement_counter(conn: &Connection, table: &str, counter: i64) -> Result<()> {
    let update = "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1";
    if conn.execute(update, (table, counter))? == 0 {
        conn.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (table, counter))?;
    }
    Ok(())
}
