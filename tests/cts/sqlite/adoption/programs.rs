//! Statements of the trading programs work on an adopted database.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::content::{columns, foreign_keys, fresh, number, schema, tables, texts};
use super::{every_adopted, every_old};

/// A new row with a value for each column that needs one.
fn insert(fresh: &Connection, conn: &Connection, table: &str, n: usize) -> Option<i64> {
    let now = columns(fresh, table);
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, _) in
        now.iter().filter(|(name, column)| column.is_needed() || *name == "connection_id")
    {
        names.push(name.clone());
        values.push(if name == "connection_id" {
            "'bybit-x03'".to_string()
        } else {
            format!("'new {n}'")
        });
    }
    let returning = if now.contains_key("id") { "id" } else { "NULL" };
    let sql = format!(
        "INSERT INTO {table} ({}) VALUES ({}) RETURNING {returning}",
        names.join(", "),
        values.join(", ")
    );
    conn.query_row(&sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{e}: {sql}"))
}

const CONNECTION: &str = "INSERT INTO exchange_connections (id, name) VALUES ('bybit-x03', 'main')";

#[test]
fn new_rows_get_an_id_and_are_deleted_with_their_connection() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        conn.execute_batch(CONNECTION).unwrap();
        for table in tables(&fresh).iter().filter(|table| *table != "exchange_connections") {
            if columns(&fresh, table).contains_key("id") {
                let ids = [1, 2].map(|n| {
                    let id = insert(&fresh, &conn, table, n);
                    id.unwrap_or_else(|| panic!("{table}: a new row got no id"))
                });
                assert_ne!(ids[0], ids[1], "{table}");
                let there =
                    format!("SELECT count(*) FROM {table} WHERE id IN ({}, {})", ids[0], ids[1]);
                assert_eq!(number(&conn, &there), 2, "{table}");
            } else {
                insert(&fresh, &conn, table, 1);
            }
        }
        conn.execute_batch("DELETE FROM exchange_connections WHERE id = 'bybit-x03'").unwrap();
        for table in tables(&fresh) {
            if !foreign_keys(&fresh, &table).is_empty() {
                let left =
                    format!("SELECT count(*) FROM {table} WHERE connection_id = 'bybit-x03'");
                assert_eq!(number(&conn, &left), 0, "{table}");
            }
        }
    });
}

#[test]
fn statements_of_the_trading_programs_work() {
    every_adopted(|_, machine| {
        let conn = machine.open();
        for sql in [
            CONNECTION,
            "INSERT INTO exchange_connections (id, name, position_mode) \
             VALUES ('bybit-x04', 'main', 'one-way')",
            "INSERT INTO exchange_connections (id, name) VALUES ('bybit-x03', 'other') \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            "INSERT INTO system_settings (key, value) VALUES ('positionCost', '0.2') \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            "INSERT INTO users (username, password_hash) VALUES ('new', 'x')",
            "INSERT INTO site_logs (level, category, message, connection_id) \
             VALUES ('warn', 'engine', 'm', 'bybit-x03')",
            "INSERT INTO indication_states (state_key, validated_at) VALUES ('new', datetime('now'))",
            "INSERT INTO pseudo_positions (connection_id, symbol, direction, status) \
             VALUES ('bybit-x03', 'BTCUSDT', 'long', 'base_active')",
            "INSERT INTO indications_optimal (connection_id, symbol, status) \
             VALUES ('bybit-x03', 'BTCUSDT', 'validated')",
            "INSERT INTO strategies_real (connection_id, symbol, status) \
             VALUES ('bybit-x03', 'BTCUSDT', 'active')",
        ] {
            conn.execute_batch(sql).unwrap_or_else(|e| panic!("{e}: {sql}"));
        }
        let orphan = conn.execute(
            "INSERT INTO strategies_base (connection_id, symbol) VALUES ('nobody', 'x')",
            [],
        );
        assert!(orphan.is_err(), "a row of no connection was taken");
        assert_eq!(
            texts(&conn, "SELECT name FROM exchange_connections WHERE id = 'bybit-x03'"),
            ["other"]
        );
    });
}

#[test]
fn sequences_continue_above_the_highest_id() {
    every_old(|_, machine| {
        let counters = |conn: &Connection| -> BTreeMap<String, i64> {
            if number(conn, "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'")
                == 0
            {
                return BTreeMap::new();
            }
            let mut statement = conn.prepare("SELECT name, seq FROM sqlite_sequence").unwrap();
            statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        let before = counters(&machine.open());
        machine.cts("migrate").success();
        let conn = machine.open();
        let (after, sql) = (counters(&conn), schema(&conn, "'table'"));
        for (table, counter) in before {
            if sql[&table].contains("AUTOINCREMENT") {
                assert!(
                    after.get(&table) >= Some(&counter),
                    "{table}: {:?} after {counter}",
                    after.get(&table)
                );
            }
        }
        let twice = "SELECT count(*) - count(DISTINCT name) FROM sqlite_sequence";
        if !after.is_empty() {
            assert_eq!(number(&conn, twice), 0);
        }
    });
}
