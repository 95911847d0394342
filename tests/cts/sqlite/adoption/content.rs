//! The content of a database, to compare it before and after an adoption.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::support::harness::Machine;

#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    pub columns: Vec<String>,
    /// Every value with its type, by the order of the rows.
    pub rows: Vec<Vec<String>>,
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

pub fn shown(value: ValueRef) -> String {
    match value {
        ValueRef::Null => "null".to_string(),
        ValueRef::Integer(number) => format!("integer {number}"),
        ValueRef::Real(number) => format!("real {number:?}"),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => format!("text {text:?}"),
            Err(_) => format!("text {text:02x?}"),
        },
        ValueRef::Blob(bytes) => format!("blob {bytes:02x?}"),
    }
}

pub fn rows(conn: &Connection, table: &str, columns: &[String]) -> Vec<Vec<String>> {
    let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let without_rowid = "SELECT count(*) FROM pragma_table_list(?1) WHERE wr";
    let by_key: i64 = conn.query_row(without_rowid, [table], |row| row.get(0)).unwrap();
    let order = if by_key == 0 { "rowid" } else { "1" };
    let sql = format!("SELECT {} FROM {} ORDER BY {order}", names.join(", "), quoted(table));
    let mut statement = conn.prepare(&sql).unwrap_or_else(|e| panic!("{e}"));
    let read =
        |row: &rusqlite::Row| (0..columns.len()).map(|n| row.get_ref(n).map(shown)).collect();
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

pub fn snapshot(conn: &Connection) -> BTreeMap<String, Rows> {
    let of = |table: String| {
        let columns: Vec<String> = columns(conn, &table).into_keys().collect();
        let rows = Rows { rows: rows(conn, &table, &columns), columns };
        (table, rows)
    };
    tables(conn).into_iter().map(of).collect()
}

pub fn texts(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

pub fn number(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{e}: {sql}"))
}

pub fn tables(conn: &Connection) -> Vec<String> {
    texts(
        conn,
        "SELECT name FROM sqlite_schema \
         WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name",
    )
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub kind: String,
    pub not_null: bool,
    pub default: Option<String>,
    pub key: i64,
}

impl Column {
    pub fn is_needed(&self) -> bool {
        self.not_null && self.default.is_none() && !self.is_integer_key()
    }

    pub fn is_integer_key(&self) -> bool {
        self.key == 1 && self.kind == "INTEGER"
    }
}

pub fn columns(conn: &Connection, table: &str) -> BTreeMap<String, Column> {
    let sql = "SELECT name, type, \"notnull\", dflt_value, pk \
        FROM pragma_table_xinfo(?1) WHERE hidden <> 1";
    let mut statement = conn.prepare(sql).unwrap();
    let column = |row: &rusqlite::Row| {
        let column = Column {
            kind: row.get(1)?,
            not_null: row.get(2)?,
            default: row.get(3)?,
            key: row.get(4)?,
        };
        Ok((row.get(0)?, column))
    };
    statement.query_map([table], column).unwrap().map(Result::unwrap).collect()
}

/// The SQL of every object of these types, by name.
pub fn schema(conn: &Connection, types: &str) -> BTreeMap<String, String> {
    let sql =
        format!("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND type IN ({types})");
    let mut statement = conn.prepare(&sql).unwrap();
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// A foreign key: column, referenced table, referenced column.
pub fn foreign_keys(conn: &Connection, table: &str) -> Vec<(String, String, String)> {
    let mut statement = conn
        .prepare("SELECT \"from\", \"table\", \"to\" FROM pragma_foreign_key_list(?1)")
        .unwrap();
    let keys = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    keys.unwrap().map(Result::unwrap).collect()
}

pub fn assert_sound(conn: &Connection) {
    assert_eq!(texts(conn, "PRAGMA integrity_check"), ["ok"]);
}

/// The schema of a new database.
pub fn fresh() -> (Machine, Connection) {
    let machine = Machine::migrated();
    let conn = machine.open();
    (machine, conn)
}

/// The old value as the new column may show it: an integer id becomes its text where ids are now
/// text.
pub fn carried(value: &str, column: &str, now: &Column) -> String {
    match value.strip_prefix("integer ") {
        Some(number) if now.kind == "TEXT" && (column == "id" || column.ends_with("_id")) => {
            format!("text {number:?}")
        }
        _ => value.to_string(),
    }
}

/// Every old row is present in its old order, and only cts has added rows.
pub fn assert_kept(before: &BTreeMap<String, Rows>, conn: &Connection) {
    for (table, old) in before {
        let now = columns(conn, table);
        let expected = old.rows.iter().map(|row| -> Vec<String> {
            let pairs = row.iter().zip(&old.columns);
            pairs.map(|(value, column)| carried(value, column, &now[column])).collect()
        });
        let found = rows(conn, table, &old.columns);
        let mut left: HashMap<&Vec<String>, usize> = HashMap::new();
        for row in &found {
            *left.entry(row).or_default() += 1;
        }
        for row in expected {
            let there = left.get_mut(&row).filter(|n| **n > 0);
            *there.unwrap_or_else(|| {
                panic!("{table}: {:?} = {row:?} is not there, but {found:#?}", old.columns)
            }) -= 1;
        }
        let ours = ["migrations", "system_settings", "site_logs"].contains(&table.as_str());
        assert!(ours || found.len() == old.rows.len(), "{table}: rows that were not there");
    }
}
