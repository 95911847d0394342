//! Counts the rows of a table that violate rules of the expected schema.

use rusqlite::{Connection, ErrorCode};

use super::catalog::number;
use super::error::{Result, is_statement_fault};
use super::existing_table::SourceTable;
use super::index::count_duplicates;
use super::row_copy::is_same_sql;
use crate::store::sql::quoted;
use cts_schema::catalog::{Column, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// The rules of the expected columns that rows violate.
///
/// # Errors
/// If SQLite refuses a query.
pub fn of_columns(
    conn: &Connection,
    source: &SourceTable,
    expected: &Table,
) -> Result<Vec<ConstraintException>> {
    let mut violations = Vec::new();
    for column in expected.columns.iter() {
        for CheckedRule { rule, count_sql } in rules_of(source, expected, column) {
            let rows = number(conn, &count_sql)?;
            let table = expected.name.to_string();
            violations.extend((rows > 0).then_some(ConstraintException { table, rule, rows }));
        }
    }
    Ok(violations)
}

/// A rule, and the query for the number of rows that violate it.
struct CheckedRule {
    rule: Rule,
    count_sql: String,
}

/// The rules of an expected column that rows may violate.
fn rules_of(source: &SourceTable, expected: &Table, column: &Column) -> Vec<CheckedRule> {
    let (table, name) = (&*source.table.name, column.name.to_string());
    let exists = source.column(&name).is_some();
    let mut rules = Vec::new();
    // What is the rowid already is unique.
    let is_alias = expected.rowid_alias() == Some(column);
    let is_rowid = is_alias && source.table.rowid_alias().is_some_and(|key| key.name == name);
    if column.primary_key_position == 1 && exists && !is_rowid {
        let count_sql = shared_keys_sql(table, &name);
        rules.push(CheckedRule { rule: Rule::PrimaryKey(name.clone()), count_sql });
    }
    if is_alias && exists {
        let count_sql = non_integer_keys_sql(table, &name);
        rules.push(CheckedRule { rule: Rule::IntegerKey(name), count_sql });
    } else if column.not_null && exists {
        let count_sql = nulls_sql(table, &name);
        rules.push(CheckedRule { rule: Rule::NotNull(name), count_sql });
    } else if column.not_null && column.default.is_none() {
        let count_sql = format!("SELECT count(*) FROM {}", quoted(table));
        rules.push(CheckedRule { rule: Rule::NotNull(name), count_sql });
    }
    rules
}

/// The number of rows that violate a rule of which there is an exception. `expected` is the table
/// without the exception. An open transaction is needed for [`Rule::Type`] and [`Rule::Default`].
///
/// # Errors
/// If SQLite refuses a query.
pub fn count_violations(conn: &Connection, expected: &Table, rule: &Rule) -> rusqlite::Result<u64> {
    let table = &*expected.name;
    match rule {
        Rule::NotNull(name) => number(conn, &nulls_sql(table, name)),
        Rule::IntegerKey(name) => number(conn, &non_integer_keys_sql(table, name)),
        Rule::PrimaryKey(name) => number(conn, &shared_keys_sql(table, name)),
        Rule::Unique(name) => match expected.index(name) {
            Some(index) => count_duplicates(conn, table, index),
            None => Ok(0),
        },
        Rule::Type(name, _) | Rule::Default(name) => {
            match expected.columns.iter().find(|column| column.name == *name) {
                Some(column) => count_altered_by_type(conn, table, column),
                None => Ok(0),
            }
        }
        Rule::ForeignKey(parent) => {
            let sql = "SELECT count(*) FROM pragma_foreign_key_check(?1) WHERE parent = ?2 COLLATE NOCASE";
            conn.query_row(sql, [table, parent], |row| row.get(0))
        }
    }
}

fn nulls_sql(table: &str, column: &str) -> String {
    format!("SELECT count(*) FROM {} WHERE {} IS NULL", quoted(table), quoted(column))
}

/// Counts the rows whose id cannot be an INTEGER PRIMARY KEY, or is that of another row too.
fn non_integer_keys_sql(table: &str, column: &str) -> String {
    let (table, column) = (quoted(table), quoted(column));
    let is_integer = format!(
        "(typeof({column}) = 'integer' OR typeof({column}) = 'text' AND CAST(CAST({column} AS INTEGER) AS TEXT) = {column} COLLATE BINARY)"
    );
    format!(
        "SELECT count(*) - count(DISTINCT CASE WHEN {is_integer} THEN CAST({column} AS INTEGER) END) FROM {table}"
    )
}

/// Counts the rows whose key is that of another row too.
fn shared_keys_sql(table: &str, column: &str) -> String {
    let (table, column) = (quoted(table), quoted(column));
    format!(
        "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {table} WHERE {column} IS NOT NULL \
         GROUP BY CAST({column} AS TEXT) COLLATE BINARY HAVING n > 1)"
    )
}

/// Counts the values that the expected type would alter, by storing them in a table of that type.
fn count_altered_by_type(conn: &Connection, table: &str, column: &Column) -> rusqlite::Result<u64> {
    let (table, name) = (quoted(table), quoted(&column.name));
    conn.execute_batch(&format!(
        "CREATE TABLE cts_tried (old, new {}); INSERT INTO cts_tried SELECT {name}, {name} FROM {table}",
        column.data_type
    ))?;
    let is_same = is_same_sql("old", "new", false);
    let altered = number(
        conn,
        &format!(
            "SELECT count(*) FROM cts_tried AS o JOIN cts_tried AS n ON n.rowid = o.rowid WHERE NOT ({is_same})"
        ),
    )?;
    conn.execute_batch("DROP TABLE cts_tried")?;
    Ok(altered)
}

/// The tables with a foreign key to columns that are not unique. SQLite refuses every write to one
/// with "foreign key mismatch" (sqlite.org/foreignkeys.html, 3).
///
/// # Errors
/// If SQLite cannot read the schema or a table.
pub fn mismatched_foreign_keys(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let tables = tables.query_map([], |row| row.get(0))?;
    let mut mismatched = Vec::new();
    for table in tables.collect::<rusqlite::Result<Vec<String>>>()? {
        let sql = "SELECT count(*) FROM pragma_foreign_key_check(?1)";
        match conn.query_row(sql, [&table], |row| row.get::<_, i64>(0)) {
            Ok(_) => {}
            // The one error that the check of an ordinary table reports with this code.
            Err(e) if is_statement_fault(&e) => mismatched.push(table),
            // Such as a collation that only the table's own program defines.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::Unknown) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(mismatched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_key_to_a_column_that_is_not_unique_is_found_by_its_code() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "PRAGMA foreign_keys = OFF; \
             CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT, code TEXT UNIQUE); \
             CREATE TABLE fits (code TEXT REFERENCES parent (code), lost INTEGER REFERENCES nowhere); \
             CREATE TABLE \"it's\" (name TEXT REFERENCES parent (name)); \
             CREATE VIEW v AS SELECT 1; INSERT INTO fits VALUES ('x', 1)",
        )
        .unwrap();
        assert_eq!(mismatched_foreign_keys(&conn).unwrap(), ["it's"]);
    }
}
