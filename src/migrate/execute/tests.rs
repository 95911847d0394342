//! A fault at every call of the seam, in an adoption and in a repair.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::migrate::{Task, run};
use crate::store::failing::Failing;
use crate::store::sqlite::{FileAccess, Sqlite};
use crate::store::{Store, WaitPolicy};

/// Of an older version: other types, rows that break rules, somebody's own objects.
const OLDER: &str = "
    CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, mine TEXT);
    CREATE TABLE indication_states (id TEXT PRIMARY KEY, connection_id INTEGER, state_key TEXT);
    CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, level TEXT CHECK (level = 'x'));
    CREATE TABLE migrations (id INTEGER PRIMARY KEY, name TEXT UNIQUE, executed_at DATETIME DEFAULT CURRENT_TIMESTAMP);
    CREATE VIEW names AS SELECT name FROM exchange_connections;
    CREATE TRIGGER guard BEFORE DELETE ON users BEGIN SELECT raise(ABORT, 'kept'); END;
    INSERT INTO exchange_connections (id, name, mine) VALUES (7, 'main', 'note');
    INSERT INTO indication_states VALUES ('V1StGXR8_Z5jdHi6B-myT', 7, 'k'), ('2', 8, 'k');
    INSERT INTO users VALUES (1, NULL, 'x'); INSERT INTO migrations (name) VALUES ('unified_001');";
/// Of this version, where somebody dropped things, and a rule was relaxed that holds by now.
const DRIFTED: &str = "
    INSERT INTO users (username, password_hash) VALUES ('a', 'x');
    ALTER TABLE users DROP COLUMN created_at; ALTER TABLE users DROP COLUMN role;
    DROP TABLE statistics_daily; DROP INDEX idx_site_logs_time;
    DELETE FROM migrations WHERE id > 2;";

fn with<T>(work: impl FnOnce(&WaitPolicy<'_>) -> T) -> T {
    let stop = Arc::new(AtomicBool::new(false));
    work(&WaitPolicy::silent(Duration::from_secs(5), &stop))
}

fn open(path: &Path, wait: &WaitPolicy<'_>) -> Box<dyn Store> {
    Box::new(Sqlite::open(path, FileAccess::default(), wait).unwrap())
}

/// Every statement and every row, in their order.
fn dump(path: &Path) -> Vec<String> {
    let conn = Connection::open(path).unwrap();
    let texts = |sql: &str| -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            (0..columns).map(|at| row.get_ref(at).map(|value| format!("{value:?}"))).collect()
        });
        rows.unwrap().map(Result::<String, _>::unwrap).collect()
    };
    let mut dump = texts("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2");
    let mut tables = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
    for name in names.map(Result::unwrap) {
        dump.extend(texts(&format!("SELECT * FROM \"{name}\"")));
    }
    dump
}

/// In memory where there is such a place: what is tried here does not need a disk.
fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

/// Lets every call fail in turn. Returns how many there were.
fn fail_everywhere(made: &Path) -> usize {
    let folder = folder();
    for call in 1.. {
        let path = folder.path().join(format!("{call}.db"));
        fs::copy(made, &path).unwrap();
        let before = dump(&path);
        let failed = with(|wait| {
            let mut store = Failing::at(call, open(&path, wait));
            let done = run(&mut store, wait, Task::Repair);
            assert_eq!(done.is_err(), store.has_failed(), "call {call}: {:?}", done.err());
            store.has_failed()
        });
        let beside = fs::read_dir(folder.path()).unwrap();
        let names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let backups = names.filter(|name| name.contains(".before-")).count();
        if !failed {
            assert_ne!(dump(&path), before);
            assert_eq!(backups, 1);
            return call - 1;
        }
        assert_eq!(dump(&path), before, "call {call}");
        assert_eq!(backups, 0, "call {call}");
        if call % 8 == 0 {
            with(|wait| run(&mut *open(&path, wait), wait, Task::Repair)).unwrap();
            let snapshot = with(|wait| open(&path, wait).inspect()).unwrap();
            assert!(snapshot.drift(&crate::store::schema::SQLITE).is_none(), "call {call}");
        }
        for entry in fs::read_dir(folder.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    0
}

#[test]
fn a_store_that_fails_at_any_call_is_left_as_it_was() {
    let folder = folder();
    let older = folder.path().join("older.db");
    Connection::open(&older).unwrap().execute_batch(OLDER).unwrap();
    assert!(fail_everywhere(&older) > 100);

    let drifted = folder.path().join("drifted.db");
    with(|wait| run(&mut *open(&drifted, wait), wait, Task::Migrate)).unwrap();
    Connection::open(&drifted).unwrap().execute_batch(DRIFTED).unwrap();
    assert!(fail_everywhere(&drifted) > 20);
}
