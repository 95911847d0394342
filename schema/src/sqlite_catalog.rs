//! Runs schema statements on a SQLite database and reads its catalogue. The connection is a [`SqliteConnection`], which
//! the build script and the SQLite store implement, so that the catalogue expected at build time and the one read
//! later come from the same code.

use std::borrow::Cow;

use crate::catalog::{Catalog, Column, ForeignKey, Index, List, Table, Text};
use crate::sql::definition::check_conditions;
use crate::sql::{Created, Statement, fold};

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
        match expected {
            Some(expected) => match expected.table(&row.name) {
                None => catalog.other_tables.to_mut().push(row.name.into()),
                Some(known) if is_same(known, &row, own()) => {
                    catalog.tables.to_mut().push(known.clone());
                }
                Some(known) => {
                    catalog.tables.to_mut().push(table(conn, &row, own(), Some(known))?);
                }
            },
            None => catalog.tables.to_mut().push(table(conn, &row, own(), None)?),
        }
    }
    Ok(catalog)
}

/// Reads one table; `None` if it does not exist.
///
/// # Errors
/// Where SQLite cannot read its schema.
pub fn read_table<C: SqliteConnection>(conn: &C, name: &str) -> Result<Option<Table>, C::Error> {
    let is_it = |row: &SchemaRow| row.name.eq_ignore_ascii_case(name);
    let Some(row) = schema_rows(conn, "table")?.into_iter().find(is_it) else { return Ok(None) };
    let indexes = schema_rows(conn, "index")?;
    let own = indexes.iter().filter(|index| index.table.eq_ignore_ascii_case(name));
    table(conn, &row, own, None).map(Some)
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

fn table<'e, C: SqliteConnection>(
    conn: &C,
    row: &SchemaRow,
    indexes: impl Iterator<Item = &'e SchemaRow>,
    known: Option<&Table>,
) -> Result<Table, C::Error> {
    // Where only an index differs, the columns and constraints of the table need not be read.
    let known = known.filter(|known| known.definition == row.sql);
    let indexes = indexes.map(|index| self::index(conn, index)).collect::<Result<Vec<_>, _>>()?;
    let indexes = indexes.into();
    if let Some(known) = known {
        return Ok(Table { indexes, ..known.clone() });
    }
    Ok(Table {
        name: row.name.clone().into(),
        columns: columns(conn, &row.name)?.into(),
        unique: unique(conn, &row.name)?.into(),
        foreign_keys: foreign_keys(conn, &row.name)?.into(),
        checks: check_conditions(&row.sql).into_iter().map(Cow::Owned).collect::<Vec<_>>().into(),
        attributes: List::default(),
        indexes,
        definition: row.sql.clone().into(),
    })
}

fn columns<C: SqliteConnection>(conn: &C, table: &str) -> Result<Vec<Column>, C::Error> {
    let sql = "SELECT name, upper(type), \"notnull\", dflt_value, pk FROM pragma_table_xinfo(?1) ORDER BY cid";
    let column = |row: &TextRow| {
        let malformed = |_| conn.malformed("pragma_table_xinfo: pk is not a number");
        Ok(Column {
            name: row.owned(0),
            data_type: row.owned(1),
            not_null: row.text(2) != "0",
            default: row.get(3).map(|sql| fold(sql).into()),
            primary_key_position: row.text(4).parse().map_err(malformed)?,
            attributes: List::default(),
        })
    };
    conn.query(sql, &[table])?.iter().map(column).collect()
}

fn unique<C: SqliteConnection>(
    conn: &C,
    table: &str,
) -> Result<Vec<Cow<'static, [Text]>>, C::Error> {
    let sql = "SELECT name FROM pragma_index_list(?1) WHERE origin = 'u' ORDER BY name";
    let rows = conn.query(sql, &[table])?;
    rows.iter().map(|row| Ok(index_columns(conn, row.text(0))?.into())).collect()
}

fn foreign_keys<C: SqliteConnection>(conn: &C, table: &str) -> Result<Vec<ForeignKey>, C::Error> {
    let sql = "SELECT \"from\", \"table\", coalesce(\"to\", ''), on_delete \
               FROM pragma_foreign_key_list(?1) ORDER BY id DESC, seq";
    let key = |row: &TextRow| ForeignKey {
        column: row.owned(0),
        table: row.owned(1),
        references: row.owned(2),
        on_delete: row.owned(3),
        attributes: List::default(),
    };
    Ok(conn.query(sql, &[table])?.iter().map(key).collect())
}

fn index<C: SqliteConnection>(conn: &C, row: &SchemaRow) -> Result<Index, C::Error> {
    let sql = fold(&row.sql);
    let upper = sql.to_ascii_uppercase();
    let predicate = upper.find(" WHERE ").and_then(|at| sql.get(at + 7..));
    Ok(Index {
        name: row.name.clone().into(),
        columns: index_columns(conn, &row.name)?.into(),
        unique: upper.starts_with("CREATE UNIQUE"),
        predicate: predicate.map(|p| p.to_string().into()),
        attributes: List::default(),
        definition: row.sql.clone().into(),
    })
}

fn index_columns<C: SqliteConnection>(conn: &C, index: &str) -> Result<Vec<Text>, C::Error> {
    let sql = "SELECT coalesce(name, '(expression)') || iif(\"desc\", ' DESC', '') \
               FROM pragma_index_xinfo(?1) WHERE \"key\" ORDER BY seqno";
    Ok(conn.query(sql, &[index])?.iter().map(|row| row.owned(0)).collect())
}
