//! Objects that only the program which made them can use: a function or a collation that it defines, a module, a foreign
//! key that fits no column. What cannot be checked is named, and is neither damaged nor in the way of anything.

use crate::support::harness::{Machine, for_each};

/// Statements of another program, and what is said of its table, if anything is. `theirs` is what that program defines.
const OBJECTS: &[(&str, Option<&str>)] = &[
    ("CREATE TABLE mine (x REFERENCES users (role))", Some("foreign key mismatch")),
    ("CREATE TABLE mine (x REFERENCES nowhere (y)); INSERT INTO mine VALUES (NULL)", None),
    ("CREATE TABLE mine (a); CREATE VIEW v AS SELECT a FROM mine; DROP TABLE mine", None),
    (
        "CREATE TABLE mine (a); CREATE TRIGGER t AFTER INSERT ON mine BEGIN INSERT INTO gone VALUES (1); END",
        None,
    ),
    (
        "CREATE TRIGGER t AFTER INSERT ON indications_auto BEGIN INSERT INTO gone VALUES (1); END",
        None,
    ),
    ("CREATE TABLE mine (a, b AS (abs(a))); INSERT INTO mine (a) VALUES (1)", None),
    ("CREATE TABLE mine (a, b AS (abs(a)) STORED); INSERT INTO mine (a) VALUES (1)", None),
    ("CREATE TABLE mine (a CHECK (abs(a) > 0)); INSERT INTO mine (a) VALUES (1)", None),
    (
        "CREATE TABLE mine (a); CREATE INDEX i ON mine (abs(a)); INSERT INTO mine VALUES (1)",
        Some("unknown function: theirs()"),
    ),
    (
        "CREATE TABLE mine (a); CREATE INDEX i ON mine (a) WHERE abs(a); INSERT INTO mine VALUES (1)",
        Some("unknown function: theirs()"),
    ),
    (
        "CREATE TABLE mine (a COLLATE NOCASE); CREATE INDEX i ON mine (a); INSERT INTO mine VALUES (1)",
        Some("no such collation sequence: theirs"),
    ),
    (
        "CREATE TABLE mine (a TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID; INSERT INTO mine VALUES (1)",
        Some("no such collation sequence: theirs"),
    ),
    ("CREATE VIRTUAL TABLE mine USING fts5 (a)", None),
];

/// A migrated database with these objects, whose function, collation and module cts does not have.
fn with(objects: &str) -> Machine {
    let machine = Machine::migrated();
    machine.sql(&format!(
        "PRAGMA foreign_keys = OFF; INSERT INTO users (username, password_hash) VALUES ('a', 'h'); {objects}; PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(replace(replace(sql, 'abs(', 'theirs('), 'NOCASE', 'theirs'), 'fts5', 'theirs')"
    ));
    machine
}

#[test]
fn what_is_not_ours_is_named_and_stops_nothing() {
    for_each(OBJECTS, |(objects, said)| {
        let machine = with(objects);
        let said: Vec<&str> = said.iter().copied().collect();
        let named = if said.is_empty() { "CTS OK" } else { "table mine cannot be checked: " };
        let checked = machine.cts("--check --deep").success().says(&["CTS OK", named]);
        let checked = checked.says(&said).out();
        // What could not be read is not said to be.
        let is_page =
            said.iter().any(|said| said.contains("function") || said.contains("collation"));
        let read = if is_page { ", read 24 tables in " } else { " KiB of " };
        assert!(checked.contains(read), "{checked}");
        machine.cts("--check").success();
        machine.cts("verify").success();
        machine.cts("doctor").run().says(&["no damage"]);
        // Missing objects are put back, by a rebuild too, and a pending migration is applied.
        machine.sql(
            "PRAGMA foreign_keys = OFF; DROP INDEX idx_site_logs_time; DROP TABLE indication_states; DELETE FROM migrations WHERE name LIKE '071%'; \
             PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = replace(sql, 'created_at    TEXT DEFAULT (strftime(''%Y-%m-%d %H:%M:%f'', ''now''))', 'own TEXT') \
                 WHERE name = 'users'",
        );
        let repaired =
            machine.cts("repair").success().says(&["no drift", "table users was rebuilt"]);
        if !said.is_empty() {
            repaired.says(&["table mine cannot be checked: "]);
        }
        // The same database, of an older CTS.
        machine.sql(
            "PRAGMA application_id = 0; DELETE FROM migrations; PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = replace(sql, '\"email\" TEXT', '\"email\" VARCHAR(9)') WHERE name = 'users'",
        );
        machine.cts("migrate").success().says(&["table users was rebuilt"]);
        machine.cts("verify").success();
        assert_eq!(machine.texts("SELECT username FROM users"), ["a"]);
    });
}

#[test]
fn a_table_of_ours_that_cannot_be_checked_is_no_damage() {
    for (index, cause) in [
        ("CREATE INDEX own ON users (abs(username))", "unknown function: theirs()"),
        ("CREATE INDEX own ON users (role COLLATE NOCASE)", "no such collation sequence: theirs"),
    ] {
        let machine = with(index);
        let said = format!("table users cannot be checked: {cause}");
        machine.cts("--check --deep").status(1).says(&["CTS WARNING", &said]);
        machine.cts("repair").success().says(&[&said]);
        machine.sql(
            "PRAGMA application_id = 0; DELETE FROM migrations; PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = replace(sql, 'email         TEXT', 'email VARCHAR(9)') WHERE name = 'users'",
        );
        machine.cts("migrate").status(65).says(&[
            "index own of table users cannot be kept: ",
            "drop it, and let its own program create it again afterwards",
            "nothing was changed",
        ]);
    }
}

/// A table whose name is written in another case is one of ours all the same.
#[test]
fn orphans_of_a_renamed_table_are_ours() {
    let machine = Machine::migrated();
    machine.sql(
        "PRAGMA foreign_keys = OFF; INSERT INTO indication_states (connection_id, state_key) VALUES ('gone', 'k'); \
         ALTER TABLE indication_states RENAME TO old; ALTER TABLE old RENAME TO Indication_States; \
         CREATE TABLE mine (x REFERENCES users (role))",
    );
    let said = "indication_states: 1 rows refer to rows of exchange_connections that are gone";
    machine.cts("--check --deep").status(1).says(&[said, "table mine cannot be checked"]);
}

/// A collation that only the program of the owner defines: no statement that compares the column works here.
#[test]
fn a_column_with_an_unknown_collation_is_adopted_with_every_row() {
    let machine = Machine::migrated();
    machine.sql(
        "INSERT INTO users (username, password_hash) VALUES ('K', 'h'), ('k', 'h'); \
         PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, 'username      TEXT', 'username TEXT COLLATE theirs') \
             WHERE name = 'users'",
    );
    machine.cts("verify").status(1).says(&["COLLATE THEIRS"]);
    machine.cts("--check --deep").status(1).says(&["table users cannot be checked: "]);
    machine.sql("PRAGMA application_id = 0; DELETE FROM migrations");
    machine.cts("migrate").success();
    machine.cts("verify").success();
    assert_eq!(machine.texts("SELECT username FROM users"), ["K", "k"]);
}
