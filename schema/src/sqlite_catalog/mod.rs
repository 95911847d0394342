//! Runs schema statements on a SQLite database and reads its catalogue. The connection is a [`SqliteConnection`], which
//! the build script and the SQLite store implement, so that the catalogue expected at build time and the one read
//! later come from the same code.

mod clauses;
mod spelling;
mod table;

use std::borrow::Cow;

use crate::catalog::{Catalog, Table, Text};
use crate::sql::definition::contains_name;
use crate::sql::{Created, Statement};

/// An open SQLite database, as far as it is needed here.
pub trait SqliteConnection {
    /// The error of a statement.
    type Error;

    /// The rows of a query with these parameters.
    ///
    /// # Errors
    /// Where SQLite refuses the query. Nothing is changed.
    fn query(&self, sql: &str, parameters: &[&str]) -> Result<Vec<TextRow>, Self::Error>;

    /// Runs one statement.
    ///
    /// # Errors
    /// Where SQLite refuses the statement. The statement has changed nothing.
    fn execute(&self, sql: &str) -> Result<(), Self::Error>;

    /// The number of rows inserted, updated or deleted since the connection was opened.
    fn total_changes(&self) -> u64;

    /// The error for a row that does not have the form that the query promises.
    fn malformed(&self, what: &str) -> Self::Error;
}

/// A row of a query, each cell as text. Numbers are in decimal; bytes that are not UTF-8 are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextRow(pub Vec<Option<String>>);

impl TextRow {
    /// The text of a cell; `None` where it is NULL.
    pub fn get(&self, at: usize) -> Option<&str> {
        self.0.get(at)?.as_deref()
    }

    /// The text of a cell; empty where it is NULL.
    pub fn text(&self, at: usize) -> &str {
        self.get(at).unwrap_or_default()
    }

    fn owned(&self, at: usize) -> Text {
        Cow::Owned(self.text(at).to_string())
    }
}

/// Runs a statement. Returns whether it changed the schema or any row. SQLite has no `ADD COLUMN IF NOT
/// EXISTS`, so a column that exists already is skipped here.
///
/// # Errors
/// Where SQLite refuses the statement. The statement has changed nothing, and a transaction stays open.
pub fn execute<C: SqliteConnection>(conn: &C, statement: &Statement<'_>) -> Result<bool, C::Error> {
    if let Created::Column(table, column) = statement.creates() {
        let sql = "SELECT 1 FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE";
        if !conn.query(sql, &[&table, &column])?.is_empty() {
            return Ok(false);
        }
    }
    let before = change_counters(conn)?;
    conn.execute(statement.sql)?;
    Ok(change_counters(conn)? != before)
}

/// Counters of changes: `schema_version` counts changes of the schema, which `sqlite3_total_changes` does not,
/// and `total_changes` counts changed rows.
#[derive(PartialEq, Eq)]
struct ChangeCounters {
    schema_version: Vec<TextRow>,
    total_changes: u64,
}

fn change_counters<C: SqliteConnection>(conn: &C) -> Result<ChangeCounters, C::Error> {
    let schema_version = conn.query("PRAGMA schema_version", &[])?;
    Ok(ChangeCounters { schema_version, total_changes: conn.total_changes() })
}

/// A row of `sqlite_schema`.
struct SchemaRow {
    name: String,
    table: String,
    sql: String,
}

impl SchemaRow {
    fn is_virtual(&self) -> bool {
        contains_name(self.sql.split('(').next().unwrap_or_default(), "VIRTUAL")
    }
}

/// Reads the catalogue. With `expected`, only the tables it contains are read; of other tables only the name. A table
/// whose statements are literally the expected ones is copied from `expected` instead of being read column by column,
/// which makes inspecting an unchanged database fast.
///
/// # Errors
/// Where SQLite cannot read its schema.
pub fn read<C: SqliteConnection>(
    conn: &C,
    expected: Option<&Catalog>,
) -> Result<Catalog, C::Error> {
    let tables = schema_rows(conn, "table")?;
    let indexes = schema_rows(conn, "index")?;
    let mut catalog = Catalog::default();
    for row in tables {
        let own = || indexes.iter().filter(|i| i.table.eq_ignore_ascii_case(&row.name));
        let known = expected.map(|expected| {
            let mut tables = expected.tables.iter();
            tables.find(|table| table.name.eq_ignore_ascii_case(&row.name))
        });
        match known {
            Some(Some(known)) if is_same(known, &row, own()) => {
                catalog.tables.to_mut().push(known.clone());
            }
            // A virtual table is not ours, whatever its name is: its rows are where its module keeps them, and it may
            // not be readable without that.
            Some(Some(_)) if row.is_virtual() => {
                catalog.other_tables.to_mut().push(row.name.into());
            }
            Some(Some(known)) => {
                catalog.tables.to_mut().push(table::read(conn, &row, own(), Some(known))?);
            }
            Some(None) => catalog.other_tables.to_mut().push(row.name.into()),
            None => catalog.tables.to_mut().push(table::read(conn, &row, own(), None)?),
        }
    }
    Ok(catalog)
}

/// Reads the table that is in the place of an expected one; `None` if it does not exist.
///
/// # Errors
/// Where SQLite cannot read its schema.
pub fn read_table<C: SqliteConnection>(
    conn: &C,
    expected: &Table,
) -> Result<Option<Table>, C::Error> {
    let is_it = |row: &SchemaRow| row.name.eq_ignore_ascii_case(&expected.name);
    let Some(row) = schema_rows(conn, "table")?.into_iter().find(is_it) else { return Ok(None) };
    let indexes = schema_rows(conn, "index")?;
    let own = indexes.iter().filter(|index| index.table.eq_ignore_ascii_case(&expected.name));
    table::read(conn, &row, own, Some(expected)).map(Some)
}

fn schema_rows<C: SqliteConnection>(conn: &C, kind: &str) -> Result<Vec<SchemaRow>, C::Error> {
    let sql = "SELECT name, tbl_name, sql FROM sqlite_schema \
               WHERE type = ?1 AND sql IS NOT NULL AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let row = |row: &TextRow| SchemaRow {
        name: row.text(0).into(),
        table: row.text(1).into(),
        sql: row.text(2).into(),
    };
    Ok(conn.query(sql, &[kind])?.iter().map(row).collect())
}

fn is_same<'e>(
    known: &Table,
    row: &SchemaRow,
    indexes: impl Iterator<Item = &'e SchemaRow>,
) -> bool {
    let mut found = 0;
    known.definition == row.sql
        && indexes.inspect(|_| found += 1).all(|index| {
            known.indexes.iter().any(|i| i.name == index.name && i.definition == index.sql)
        })
        && found == known.indexes.len()
}
