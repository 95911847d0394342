//! A table as it is before it is rebuilt.

use rusqlite::Connection;

use super::catalog;
use super::error::{Result, SqliteError};
use crate::store::sql::quoted;
use cts_schema::catalog::{Column, Table, Text};
use cts_schema::sql::definition::contains_name;

/// The table whose rows a rebuild copies.
pub struct SourceTable {
    /// Its catalogue.
    pub table: Table,
    /// The columns whose values are copied: all but the generated ones that are not expected.
    pub stored_columns: Vec<String>,
    /// The name of its rowid, as SQL; `None` if it was created `WITHOUT ROWID`.
    pub rowid: Option<String>,
}

impl SourceTable {
    /// Reads the table that has the expected name, in the spelling of the expected one.
    ///
    /// # Errors
    /// If its rows cannot be told apart, because own columns have the names of the rowid; or SQLite cannot
    /// read the schema.
    pub fn read(conn: &Connection, expected: &Table) -> Result<SourceTable> {
        let table = catalog::read_table(conn, expected)?;
        let is_stored =
            |column: &&Column| has_column(expected, &column.name) || !column.is_generated();
        let stored = table.columns.iter().filter(is_stored);
        let stored_columns = stored.map(|column| column.name.to_string()).collect();
        Ok(SourceTable { rowid: rowid_name(&table, expected)?, stored_columns, table })
    }

    /// A column of it.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.table.columns.iter().find(|column| column.name == name)
    }

    /// Whether it was created `STRICT`.
    pub fn is_strict(&self) -> bool {
        self.table.attributes.iter().any(|attribute| attribute == "STRICT")
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
        let attributes = self.table.attributes.iter().filter(|a| !other.attributes.contains(a));
        let constraints = constraints.chain(attributes.map(ToString::to_string));
        let on_table =
            constraints.map(|constraint| format!("{constraint} on table {}", other.name));
        on_table.chain(self.dropped_column_clauses(other)).collect()
    }

    /// The clauses of columns, such as a collation, that the columns of `other` have not.
    fn dropped_column_clauses(&self, other: &Table) -> Vec<String> {
        let mut dropped = Vec::new();
        for column in self.table.columns.iter() {
            let found = other.columns.iter().find(|found| found.name == column.name);
            let is_kept =
                |clause: &Text| found.is_none_or(|found| found.attributes.contains(clause));
            let clauses = column.attributes.iter().filter(|clause| !is_kept(clause));
            let name = format!("{} on table {}", column.name, other.name);
            dropped.extend(clauses.map(|clause| format!("{clause} of column {name}")));
        }
        dropped
    }
}

/// The names of the rowid, of which a column may have one (sqlite.org/lang_createtable.html, 5).
const ROWID_NAMES: [&str; 3] = ["rowid", "_rowid_", "oid"];

fn rowid_name(table: &Table, expected: &Table) -> Result<Option<String>> {
    if table.attributes.iter().any(|attribute| attribute == "WITHOUT ROWID") {
        return Ok(None);
    }
    if let Some(name) = ROWID_NAMES.into_iter().find(|name| !has_column(table, name)) {
        return Ok(Some(name.to_string()));
    }
    let key = table.rowid_alias().map(|key| &key.name);
    match key.filter(|key| expected.rowid_alias().is_some_and(|column| column.name == **key)) {
        Some(key) => Ok(Some(quoted(key))),
        None => {
            let names = ROWID_NAMES.join(", ");
            let what = format!(
                "table {}: its rows cannot be told apart, because it has columns named {names}",
                table.name
            );
            Err(SqliteError::refused(
                what,
                "copy its rows into a table of its name without one of these columns",
            ))
        }
    }
}

/// Whether a table has a column of this name, in any case.
pub fn has_column(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name.eq_ignore_ascii_case(name))
}
