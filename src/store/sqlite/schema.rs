//! Runs schema statements on a SQLite database and reads its catalogue. `build.rs` compiles
//! this file too, so that what is proved and expected at build time and what is done and
//! found later come from the same code.

use std::borrow::Cow;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, Row};

use crate::catalog::{Catalog, Column, ForeignKey, Index, Table, Text};
use crate::definition::checks;
use crate::migration::{Statement, Subject, fold};

/// Runs a statement; whether it changed anything. A column that is there already is no
/// error: SQLite has no `ADD COLUMN IF NOT EXISTS`.
pub fn execute(conn: &Connection, statement: &Statement<'_>) -> Result<bool> {
    let before = state(conn)?;
    match conn.execute_batch(statement.sql) {
        Ok(()) => Ok(state(conn)? != before),
        Err(error) if is_in_place(statement, &error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_in_place(statement: &Statement<'_>, error: &rusqlite::Error) -> bool {
    error.to_string().contains("duplicate column name")
        && matches!(statement.subject(), Subject::Column(..))
}

/// Moves when a statement changes the schema (which `total_changes` does not count) or rows.
fn state(conn: &Connection) -> Result<(i64, u64)> {
    let version = conn.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
    Ok((version, conn.total_changes()))
}

/// A row of `sqlite_schema`.
struct Entry {
    name: String,
    table: String,
    sql: String,
}

/// Reads the catalogue. With `expected`, only the tables that it names are read in full,
/// and one whose statements are the expected ones to the letter is taken from it without
/// asking SQLite for its parts, which makes a look at an intact database cheap.
pub fn read(conn: &Connection, expected: Option<&Catalog>) -> Result<Catalog> {
    let tables = entries(conn, "table")?;
    let indexes = entries(conn, "index")?;
    let mut catalog = Catalog::default();
    for entry in tables {
        let own = || indexes.iter().filter(|i| i.table.eq_ignore_ascii_case(&entry.name));
        match expected {
            Some(expected) => match expected.table(&entry.name) {
                None => catalog.others.to_mut().push(entry.name.into()),
                Some(known) if is_same(known, &entry, own()) => {
                    catalog.tables.to_mut().push(known.clone());
                }
                Some(known) => {
                    catalog.tables.to_mut().push(table(conn, &entry, own(), Some(known))?)
                }
            },
            None => catalog.tables.to_mut().push(table(conn, &entry, own(), None)?),
        }
    }
    Ok(catalog)
}

/// Reads one table in full.
#[allow(dead_code)] // Not used at build time.
pub fn read_table(conn: &Connection, name: &str) -> Result<Table> {
    let is_it = |entry: &Entry| entry.name.eq_ignore_ascii_case(name);
    let entry = entries(conn, "table")?.into_iter().find(is_it);
    let entry = entry.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let indexes = entries(conn, "index")?;
    let own = indexes.iter().filter(|index| index.table.eq_ignore_ascii_case(name));
    table(conn, &entry, own, None)
}

fn entries(conn: &Connection, kind: &str) -> Result<Vec<Entry>> {
    let sql = "SELECT name, tbl_name, sql FROM sqlite_schema \
               WHERE type = ?1 AND sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([kind], |row| {
        Ok(Entry { name: words(row, 0)?, table: words(row, 1)?, sql: words(row, 2)? })
    })?;
    rows.collect()
}

fn is_same<'e>(known: &Table, entry: &Entry, indexes: impl Iterator<Item = &'e Entry>) -> bool {
    let mut found = 0;
    known.definition == entry.sql
        && indexes.inspect(|_| found += 1).all(|index| {
            known.indexes.iter().any(|i| i.name == index.name && i.definition == index.sql)
        })
        && found == known.indexes.len()
}

fn table<'e>(
    conn: &Connection,
    entry: &Entry,
    indexes: impl Iterator<Item = &'e Entry>,
    known: Option<&Table>,
) -> Result<Table> {
    // An index that was changed alone does not make its table's parts worth reading.
    let known = known.filter(|known| known.definition == entry.sql);
    let indexes = indexes.map(|index| self::index(conn, index)).collect::<Result<Vec<_>>>()?.into();
    if let Some(known) = known {
        return Ok(Table { indexes, ..known.clone() });
    }
    Ok(Table {
        name: entry.name.clone().into(),
        columns: columns(conn, &entry.name)?.into(),
        unique: unique(conn, &entry.name)?.into(),
        foreign_keys: foreign_keys(conn, &entry.name)?.into(),
        checks: checks(&entry.sql).into_iter().map(Cow::Owned).collect::<Vec<_>>().into(),
        indexes,
        definition: entry.sql.clone().into(),
    })
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    name: &str,
    make: impl Fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = conn.prepare(sql)?;
    let found = statement.query_map([name], make)?;
    found.collect()
}

fn columns(conn: &Connection, table: &str) -> Result<Vec<Column>> {
    let sql = "SELECT name, upper(type), \"notnull\", dflt_value, pk FROM pragma_table_xinfo(?1) ORDER BY cid";
    rows(conn, sql, table, |row| {
        Ok(Column {
            name: text(row, 0)?,
            kind: text(row, 1)?,
            not_null: row.get(2)?,
            default: default(row, 3)?,
            key: row.get(4)?,
        })
    })
}

fn unique(conn: &Connection, table: &str) -> Result<Vec<Cow<'static, [Text]>>> {
    let sql = "SELECT name FROM pragma_index_list(?1) WHERE origin = 'u' ORDER BY name";
    let names = rows(conn, sql, table, |row| words(row, 0))?;
    names.iter().map(|name| Ok(index_columns(conn, name)?.into())).collect()
}

fn foreign_keys(conn: &Connection, table: &str) -> Result<Vec<ForeignKey>> {
    let sql = "SELECT \"from\", \"table\", coalesce(\"to\", ''), on_delete \
               FROM pragma_foreign_key_list(?1) ORDER BY id DESC, seq";
    rows(conn, sql, table, |row| {
        Ok(ForeignKey {
            column: text(row, 0)?,
            table: text(row, 1)?,
            references: text(row, 2)?,
            on_delete: text(row, 3)?,
        })
    })
}

fn index(conn: &Connection, entry: &Entry) -> Result<Index> {
    let sql = fold(&entry.sql);
    let upper = sql.to_ascii_uppercase();
    let predicate = upper.find(" WHERE ").and_then(|at| sql.get(at + 7..));
    Ok(Index {
        name: entry.name.clone().into(),
        columns: index_columns(conn, &entry.name)?.into(),
        unique: upper.starts_with("CREATE UNIQUE"),
        predicate: predicate.map(|p| p.to_string().into()),
        definition: entry.sql.clone().into(),
    })
}

fn index_columns(conn: &Connection, index: &str) -> Result<Vec<Text>> {
    let sql = "SELECT coalesce(name, '(expression)') || iif(\"desc\", ' DESC', '') \
               FROM pragma_index_xinfo(?1) WHERE \"key\" ORDER BY seqno";
    rows(conn, sql, index, |row| text(row, 0))
}

fn default(row: &Row<'_>, at: usize) -> Result<Option<Text>> {
    let is_none = row.get_ref(at)? == ValueRef::Null;
    Ok(if is_none { None } else { Some(fold(&words(row, at)?).into()) })
}

fn text(row: &Row<'_>, at: usize) -> Result<Text> {
    words(row, at).map(Cow::Owned)
}

/// A text that may not be UTF-8, as other programs may have written it.
fn words(row: &Row<'_>, at: usize) -> Result<String> {
    let bytes = row.get_ref(at)?.as_bytes().unwrap_or_default();
    Ok(String::from_utf8_lossy(bytes).into_owned())
}
