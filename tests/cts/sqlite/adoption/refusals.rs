//! Databases that are not adopted: hot journals, other programs, names that are taken.

use std::fs;

use crate::support::harness::Machine;

use super::older_with;

/// Every row of every table.
/// A copy of a database in the middle of a large write, as a power cut leaves it: pages are in the
/// file already, and a journal beside it holds what they were.
fn cut_off(machine: &Machine, write: &str) {
    let db = machine.db();
    let conn = machine.open();
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 4; BEGIN; {write}"
    ))
    .unwrap();
    let copy = machine.path("copy");
    let (journal, beside) = (machine.path("cts.db-journal"), machine.path("copy-journal"));
    fs::copy(&db, &copy).unwrap();
    fs::copy(&journal, &beside).unwrap();
    conn.execute_batch("ROLLBACK").unwrap();
    drop(conn);
    fs::rename(copy, db).unwrap();
    fs::rename(beside, journal).unwrap();
}

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";

#[test]
fn an_older_database_with_a_hot_journal_is_adopted_after_rollback() {
    let machine = Machine::new();
    machine.sql(&format!(
        "CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT, exchange TEXT);
         CREATE TABLE site_logs (id INTEGER PRIMARY KEY, level TEXT, category TEXT, message TEXT);
         INSERT INTO site_logs (level, category, message) {MANY} SELECT 'info', 'x', 'kept ' || i FROM n;"
    ));
    cut_off(&machine, "UPDATE site_logs SET message = 'lost'; DROP TABLE exchange_connections;");
    machine.cts("--check").status(2).says(&["not rolled back yet"]);
    machine.cts("migrate").success();
    machine.cts("verify").success();
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE message LIKE 'kept %'"), 5000);
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE message = 'lost'"), 0);
}

#[test]
fn another_programs_database_with_a_hot_journal_is_left_as_it_is() {
    let machine = Machine::new();
    machine.sql(&format!(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
         INSERT INTO notes (text) {MANY} SELECT 'note ' || i FROM n;"
    ));
    cut_off(&machine, "UPDATE notes SET text = 'other'");
    let before = machine.files();
    machine.cts("migrate").status(65).says(&["another program's", "notes"]);
    assert_eq!(machine.files(), before);
}

/// Databases of other programs, some with table names of CTS.
const FOREIGN: [(&str, &str); 5] = [
    (
        "Django",
        "CREATE TABLE django_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, app, name, applied); \
         CREATE TABLE auth_user (id INTEGER PRIMARY KEY, username, email); \
         INSERT INTO auth_user VALUES (1, 'a', 'b')",
    ),
    (
        "Rails",
        "CREATE TABLE schema_migrations (version TEXT PRIMARY KEY); \
         CREATE TABLE users (id INTEGER PRIMARY KEY, email, encrypted_password); \
         INSERT INTO schema_migrations VALUES ('20250101000000'); INSERT INTO users VALUES (1, 'a', 'b')",
    ),
    (
        "TypeORM",
        "CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, \
         timestamp bigint NOT NULL, name varchar NOT NULL); \
         CREATE TABLE post (id INTEGER PRIMARY KEY, title); \
         INSERT INTO migrations (timestamp, name) VALUES (1, 'Init1')",
    ),
    (
        "db-migrate",
        "CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, \
         name VARCHAR(255) NOT NULL, run_on DATETIME NOT NULL); \
         CREATE TABLE pets (id INTEGER PRIMARY KEY, name); \
         INSERT INTO migrations (name, run_on) VALUES ('/2025-add-pets', '2025')",
    ),
    (
        "notes",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body); INSERT INTO notes VALUES (1, 'x')",
    ),
];

#[test]
fn databases_of_other_programs_are_refused_and_left_alone() {
    for (program, sql) in FOREIGN {
        let machine = Machine::new();
        machine.sql(sql);
        let before = machine.files();
        for words in ["migrate --dry-run", "migrate", "repair", "serve --port 0"] {
            let done = machine.cts(words).run();
            assert_eq!(
                done.0.status.code(),
                Some(65),
                "{program}, {words}: {}{}",
                done.out(),
                done.err()
            );
            assert_eq!(machine.files(), before, "{program}, {words}");
            done.says(&["another program's database"]);
        }
    }
}

#[test]
fn a_database_that_cannot_be_adopted_is_refused_and_not_changed() {
    for (sql, sentence, remedy) in [
        (
            "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT); CREATE TABLE own (x); \
             CREATE INDEX idx_users_username ON own (x)",
            "index idx_users_username cannot be created: an index of table own has its name",
            "rename that object",
        ),
        (
            "CREATE VIRTUAL TABLE users USING fts5 (id, username, email)",
            "table users cannot be created: virtual table users has its name",
            "rename that object",
        ),
        (
            "DROP TABLE exchange_connections; \
             CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT UNIQUE); \
             CREATE TABLE own (n TEXT REFERENCES exchange_connections (name))",
            "table own refers to a column that would no longer be unique",
            "drop its foreign key",
        ),
        (
            "CREATE TABLE cts_relaxations (a, b)",
            "table cts_relaxations is not the one",
            "rename that table",
        ),
        (
            "CREATE TRIGGER none BEFORE INSERT ON migrations BEGIN SELECT raise(IGNORE); END",
            "a row inserted into table migrations is not stored",
            "trigger",
        ),
    ] {
        let machine = older_with(sql);
        let before = machine.files();
        machine.cts("migrate").status(65).says(&[sentence, "nothing was changed", "Try: ", remedy]);
        assert_eq!(machine.files(), before, "{sql}");
    }
}

#[test]
fn exhausted_ids_are_distinguished_from_a_full_disk() {
    let machine = older_with(
        "DROP TABLE migrations; CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT); \
         INSERT INTO migrations VALUES (9223372036854775807, 'x')",
    );
    let before = machine.files();
    let words = ["nothing was changed", "this disk has room", "used up its ids"];
    machine.cts("migrate").status(74).says(&words);
    assert_eq!(machine.files(), before);
}
