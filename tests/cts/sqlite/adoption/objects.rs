//! Objects that the owner added are kept and work.

use rusqlite::Connection;

use crate::support::harness::Machine;
use crate::support::older_databases::Old;

use super::content::{columns, fresh, number, schema, tables, texts};
use super::{every_old, older_with};

#[test]
fn objects_of_the_owner_are_kept_and_work() {
    let theirs = "SELECT name || message FROM my_view ORDER BY 1";
    every_old(|old, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        let (ours, our_indexes) = (tables(&fresh), schema(&fresh, "'index'"));
        let made = |conn: &Connection| {
            let mut made = schema(conn, "'table', 'view', 'trigger', 'index'");
            made.retain(|name, _| {
                !ours.contains(name)
                    && !our_indexes.contains_key(name)
                    && !name.starts_with("sqlite_")
            });
            made
        };
        let seen = |conn: &Connection| -> Vec<String> {
            if old == Old::Empty { Vec::new() } else { texts(conn, theirs) }
        };
        let (before, view) = (made(&conn), seen(&conn));
        let extra: Vec<_> = ours.iter().map(|table| (table, columns(&conn, table))).collect();
        drop(conn);
        machine.cts("migrate").success();
        let conn = machine.open();
        let after = made(&conn);
        for (name, sql) in &before {
            assert_eq!(after.get(name), Some(sql), "{name}");
        }
        assert_eq!(seen(&conn), view);
        for (table, old) in extra {
            let (now, new) = (columns(&conn, table), columns(&fresh, table));
            for (name, column) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                let found =
                    now.get(name).unwrap_or_else(|| panic!("column {table}.{name} is gone"));
                if name.starts_with("my") {
                    assert_eq!(found, column, "{table}.{name}");
                }
                assert_eq!(
                    (&found.kind, &found.default),
                    (&column.kind, &column.default),
                    "{table}.{name}"
                );
            }
        }
        if old != Old::Empty {
            assert_theirs_work(&conn);
        }
    });
}

/// Triggers fire, indexes are used, and foreign keys of the owner are checked and cascade.
fn assert_theirs_work(conn: &Connection) {
    assert_eq!(number(conn, "SELECT count(*) FROM my_audit"), 0, "a trigger fired in the adoption");
    conn.execute_batch(
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('mine-1', 'mine', 'bybit'); \
         INSERT INTO my_notes (body, connection) VALUES ('mine', 'mine-1')",
    )
    .unwrap();
    assert_eq!(texts(conn, "SELECT what FROM my_audit"), ["mine"]);
    let highest = "SELECT max(id) FROM my_notes";
    let id = number(conn, highest);
    assert!(
        id > number(conn, "SELECT count(*) FROM my_notes"),
        "the id of a deleted note is used again"
    );
    conn.execute_batch("DELETE FROM exchange_connections WHERE id = 'mine-1'").unwrap();
    assert!(number(conn, highest) < id, "the note outlived its connection");
    let guarded = conn.execute("DELETE FROM users", []).unwrap_err();
    assert!(guarded.to_string().contains("users stay"), "{guarded}");
    number(
        conn,
        "SELECT count(*) FROM exchange_connections INDEXED BY my_index WHERE exchange IS NOT NULL",
    );
    number(conn, "SELECT count(*) FROM users INDEXED BY my_lower WHERE lower(username) = 'x'");
    assert_eq!(number(conn, "SELECT count(*) FROM my_search WHERE body MATCH 'find'"), 1);
    assert_eq!(number(conn, "SELECT count(*) FROM users WHERE my_shout <> upper(username)"), 0);
    assert_eq!(number(conn, "SELECT count(*) FROM users WHERE my_nickname = 'n''É'"), 0);
    assert!(number(conn, "SELECT count(*) FROM users WHERE my_nickname = 'N''é'") > 0);
    assert_eq!(
        texts(conn, "SELECT \"table\" FROM pragma_foreign_key_check WHERE \"table\" = 'my_notes'"),
        [""; 0]
    );
}

#[test]
fn generated_columns_and_other_unusual_tables_are_adopted() {
    let machine = older_with(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, email TEXT AS (username || '@x') STORED, \
                             own TEXT NOT NULL CHECK(own<>'q'), password_hash TEXT); \
         INSERT INTO users (id, username, own) VALUES (1, 'Bob', 'mine'); \
         CREATE TABLE site_logs (level TEXT, category TEXT, message TEXT); \
         INSERT INTO site_logs VALUES ('info', 'a', 'gone'), ('info', 'a', 'kept'); \
         DELETE FROM site_logs WHERE message = 'gone'; \
         DROP TABLE migrations; CREATE TABLE migrations (id INTEGER PRIMARY KEY, name TEXT, created_at TEXT, own TEXT NOT NULL); \
         INSERT INTO migrations VALUES (1, 'unified_001', NULL, 'x'); \
         CREATE TABLE system_settings (id INTEGER PRIMARY KEY, key TEXT, value TEXT); \
         INSERT INTO system_settings VALUES (1, 'a', '1'), (2, 'a', '2')",
    );
    machine.cts("migrate").success();
    machine.cts("verify").success();
    assert_eq!(machine.texts("SELECT username || email || own FROM users"), ["BobBob@xmine"]);
    machine.sql("INSERT INTO users (username, password_hash) VALUES ('new', 'x')");
    let own = "INSERT INTO users (username, password_hash, own) VALUES ('q', 'x', 'q')";
    assert!(machine.open().execute(own, []).is_err(), "the CHECK of an own column is gone");
    assert_eq!(
        machine.texts("SELECT id || message FROM site_logs WHERE message = 'kept'"),
        ["2kept"]
    );
    assert_eq!(machine.texts("SELECT name FROM migrations ORDER BY id")[0], "unified_001");
    // An index with an exception is restored non-unique if dropped, and enforced once its rows
    // allow it.
    machine.sql("DROP INDEX idx_system_settings_key");
    machine.cts("repair").success();
    machine.sql("DELETE FROM system_settings WHERE id = 1");
    machine.cts("repair").success().says(&["enforced again: index idx_system_settings_key"]);
    assert_eq!(machine.number("SELECT count(*) FROM system_settings"), 25);
}

#[test]
fn dropped_rules_are_reported() {
    let machine = older_with(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT UNIQUE, role TEXT CHECK (role IN ('a')), own TEXT, \
                             UNIQUE (own, role), UNIQUE (own))",
    );
    let gone = ["CHECK (role IN ('a'))", "UNIQUE (own, role)"];
    let planned = machine.cts("migrate --dry-run").success().says(&gone);
    let done = machine.cts("migrate").success().says(&gone);
    for text in [planned.out(), done.err()] {
        assert!(!text.contains("UNIQUE (username)"), "{text}");
    }
    machine.sql("INSERT INTO users (username, password_hash, own) VALUES ('a', 'x', 'y')");
    let again = "INSERT INTO users (username, password_hash, own) VALUES ('b', 'x', 'y')";
    assert!(machine.open().execute(again, []).is_err(), "the own UNIQUE is gone");
}

#[test]
fn a_trigger_with_the_name_of_an_index_is_kept() {
    let machine = Machine::migrated();
    machine.sql(
        "INSERT INTO users (username, password_hash) VALUES ('a', 'x'); CREATE TABLE own (x); \
         DROP INDEX idx_users_email; \
         CREATE TRIGGER idx_users_email AFTER UPDATE ON users BEGIN INSERT INTO own VALUES (1); END; \
         ALTER TABLE users DROP COLUMN created_at",
    );
    machine.cts("repair").run();
    machine.sql("UPDATE users SET username = 'b'");
    assert_eq!(machine.number("SELECT count(*) FROM own"), 1);
}
