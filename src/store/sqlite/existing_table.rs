//! A table as it is before it is rebuilt.

use rusqlite::Connection;

use super::catalog;
use super::error::{Result, SqliteError};
use crate::store::sql::quoted;
use cts_schema::catalog::{Column, Table};
use cts_schema::sql::definition::contains_name;

/// The table whose rows a rebuild copies.
pub struct SourceTable {
    /// Its catalogue.
    pub table: Table,
    /// The columns whose values are copied: all but the generated ones that are not expected.
    pub stored_columns: Vec<String>,
    /// Whether its rows have a rowid: it was not created `WITHOUT ROWID`.
    pub has_rowid: bool,
}

impl SourceTable {
    /// Reads the table that has the expected name.
    ///
    /// # Errors
    /// If it is a virtual table, or SQLite cannot read the schema.
    pub fn read(conn: &Connection, expected: &Table) -> Result<SourceTable> {
        let name = &*expected.name;
        let table = catalog::read_table(conn, name)?;
        let before_columns = table.definition.split('(').next().unwrap_or_default();
        if contains_name(before_columns, "VIRTUAL") {
            let what = format!("table {name} is a virtual table, which cannot be rebuilt");
            let remedy = format!("rename it (`ALTER TABLE {} RENAME TO …`)", quoted(name));
            return Err(SqliteError::refused(what, remedy));
        }
        let sql = "SELECT NOT wr FROM pragma_table_list(?1) WHERE schema = 'main'";
        let has_rowid = conn.query_row(sql, [name], |row| row.get(0))?;
        let stored_columns = stored_columns(conn, expected)?;
        Ok(SourceTable { table, stored_columns, has_rowid })
    }

    /// A column of it, by its name in any case.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The type of a column; empty if it has none.
    pub fn data_type(&self, column: &str) -> String {
        self.column(column).map(|column| column.data_type.to_string()).unwrap_or_default()
    }

    /// Whether it was created with `AUTOINCREMENT`, and has a counter of ids.
    pub fn has_autoincrement(&self) -> bool {
        contains_name(&self.table.definition, "AUTOINCREMENT")
    }

    /// The constraints that it has and another table in its place has not, each as a sentence.
    pub fn dropped_constraints(&self, other: &Table) -> Vec<String> {
        let constraints = self.table.constraints_not_in(other).into_iter();
        constraints.map(|constraint| format!("{constraint} on table {}", other.name)).collect()
    }
}

fn stored_columns(conn: &Connection, expected: &Table) -> Result<Vec<String>> {
    let mut statement =
        conn.prepare("SELECT name, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let mut rows = statement.query([&*expected.name])?;
    let mut stored = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, hidden): (String, i64) = row.try_into()?;
        if hidden == 0 || has_column(expected, &name) {
            stored.push(name);
        }
    }
    Ok(stored)
}

/// Whether a table has a column of this name, in any case.
pub fn has_column(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name))
}

/// Whether a column is an INTEGER PRIMARY KEY, and so another name of the rowid.
pub fn is_integer_key(column: &Column) -> bool {
    column.primary_key_position == 1 && column.data_type == "INTEGER"
}
