//! What goes on after a copy: new ids, the ledger of the target itself, indexes and foreign keys, and what of the owner
//! travels.

use crate::support::harness::Machine;
use crate::support::hostile::{Forms, fill};
use crate::support::random::Random;

use super::{Ends, columns, migrated_database, proved, rows};

/// The tables with ids that the database assigns.
fn numbered() -> Vec<&'static str> {
    let ids = columns().iter().filter(|column| column.name == "id" && column.data_type == "bigint");
    ids.map(|column| &*column.table).collect()
}

/// An insertion without an id, with as little as the table needs.
fn insertion(table: &str) -> String {
    let is_needed = |name: &str| name != "id";
    let needed =
        columns().iter().filter(|c| c.table == table && c.is_required && is_needed(&c.name));
    let (names, values): (Vec<_>, Vec<_>) = needed
        .map(|column| match (&*column.name, &*column.data_type) {
            ("connection_id", _) => ("connection_id", "'okx'"),
            (name, "text") => (name, "'new'"),
            (name, "date") => (name, "'2031-01-01'"),
            (name, _) => (name, "'2031-01-01 00:00:00'"),
        })
        .unzip();
    let (names, values) = (names.join(", "), values.join(", "));
    match names.is_empty() {
        true => format!("INSERT INTO {table} DEFAULT VALUES RETURNING id"),
        false => format!("INSERT INTO {table} ({names}) VALUES ({values}) RETURNING id"),
    }
}

#[test]
fn new_rows_get_ids_past_the_highest_on_both_sides() {
    let ends = Ends::new();
    let mut conn = ends.machine.open();
    fill(&conn, columns(), &mut Random(7), 6, Forms::Any);
    assert_eq!(numbered().len(), 21);
    ends.to_postgresql("").success();
    ends.to_sqlite("").success();
    let back = rusqlite::Connection::open(ends.back()).unwrap();
    // Each table of the first file tells what comes next.
    let first = conn.transaction().unwrap();
    for table in numbered() {
        let sql = insertion(table);
        let expected: i64 = first.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(ends.database.texts(&sql), [expected.to_string()], "{table}");
        let in_file: i64 = back.query_row(&sql, [], |row| row.get(0)).unwrap();
        assert_eq!(in_file, expected, "{table}");
    }
}

/// A row with the highest id there is arrives, though no id is left for a new one.
#[test]
fn the_highest_id_there_is_travels() {
    let max = i64::MAX;
    let ends = Ends::with(&format!(
        "INSERT INTO users (id, username, password_hash) VALUES ({max}, 'last', 'x'), (-5, 'first', 'x'), (0, 'zero', 'x')"
    ));
    let there = proved(&ends.to_postgresql("--json").success().json());
    assert_eq!(proved(&ends.to_sqlite("--json").success().json()), there);
    ends.database.cts("--check").status(1).says(&["ids of users.id", &max.to_string()]);
}

/// The ledger of the target names its own files and their checksums; the history of an older CTS goes along.
#[test]
fn the_ledger_of_the_target_is_its_own_and_the_older_history_travels() {
    let ends = Ends::with(
        "INSERT INTO migrations (name, executed_at) VALUES ('unified_001', '2025-01-01 00:00:00'), ('unified_001', '2025-01-02 00:00:00.123'),
         ('unified_002 ✓', '2025-01-03T00:00:00Z')",
    );
    let own = "SELECT name || ' ' || checksum || ' ' || version FROM migrations WHERE checksum IS NOT NULL ORDER BY id";
    let older = "SELECT name || ' ' || count(*) FROM migrations WHERE checksum IS NULL GROUP BY name ORDER BY name";
    let expected = {
        let fresh = migrated_database();
        fresh.texts(own)
    };
    let there = proved(&ends.to_postgresql("--json").success().json());
    assert_eq!(ends.database.texts(own), expected);
    assert_eq!(ends.database.texts(older), ["unified_001 2", "unified_002 ✓ 1"]);
    assert_eq!(there["migrations"].0, 3, "{there:?}");
    assert_eq!(proved(&ends.to_sqlite("--json").success().json()), there);
    let back = Machine::new();
    std::fs::rename(ends.back(), back.db()).unwrap();
    assert_eq!(back.texts(own), ends.machine.texts(own));
    assert_eq!(back.texts(older), ["unified_001 2", "unified_002 ✓ 1"]);
    for run in [ends.database.cts("status --json"), back.cts("status --json")] {
        assert_eq!(run.success().json()["status"], "complete");
    }
    ends.database.cts("migrate").success();
    ends.server_is_good();
}

/// The schema is that of a new database: columns, defaults, indexes, keys and foreign keys.
#[test]
fn the_schema_of_the_target_is_that_of_a_new_database() {
    let ends = Ends::new();
    fill(&ends.machine.open(), columns(), &mut Random(11), 20, Forms::Any);
    ends.to_postgresql("").success();
    ends.to_sqlite("").success();
    let schema = |shape: Vec<String>| -> Vec<String> {
        shape.into_iter().filter(|line| !line.ends_with(" notes")).collect()
    };
    let fresh = migrated_database();
    assert_eq!(schema(ends.database.shape()), schema(fresh.shape()));
    assert!(ends.database.invalid().is_empty());
    let unproved = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated";
    assert_eq!(ends.database.number(unproved), 0);
    let back = Machine::new();
    std::fs::rename(ends.back(), back.db()).unwrap();
    let schema =
        "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1";
    assert_eq!(back.texts(schema), ends.machine.texts(schema));
    assert_eq!(crate::support::harness::mode(&back.db()), 0o600);
    assert_eq!(back.number("SELECT application_id FROM pragma_application_id"), 0x4354_5333);
    assert_eq!(back.texts("SELECT journal_mode FROM pragma_journal_mode"), ["wal"]);
    back.cts("--check --deep").success();
    back.cts("verify").success().says(&["no drift"]);
    // A service starts on either, and finds nothing to do.
    let before = back.number("SELECT count(*) FROM site_logs");
    back.cts("migrate").success();
    assert_eq!(back.number("SELECT count(*) FROM site_logs"), before);
}

const EXTRA: &str = r#"
    ALTER TABLE users ADD COLUMN "my rank ü" INTEGER NOT NULL DEFAULT 7;
    ALTER TABLE users ADD COLUMN nickname TEXT;
    INSERT INTO users (username, password_hash, nickname) VALUES ('a', 'x', 'A'), ('b', 'x', NULL);
    UPDATE users SET "my rank ü" = -9 WHERE id = 2;
    CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT, weight REAL, picture BLOB);
    INSERT INTO notes VALUES (3, 'three', 0.1, x'00ff'), (40, 'forty', 9e999, NULL), (50, 'gone', NULL, NULL);
    DELETE FROM notes WHERE id = 50;
    CREATE TABLE "my ""own"" table" ("a b" TEXT PRIMARY KEY, c) WITHOUT ROWID;
    INSERT INTO "my ""own"" table" VALUES ('x', 1), ('y', NULL);
    CREATE VIEW best AS SELECT username FROM users;"#;

#[test]
fn what_the_owner_has_added_is_named_where_it_is_left_out() {
    let ends = Ends::with(EXTRA);
    let report = ends.to_postgresql("--json").success().json();
    proved(&report);
    let left_out = report["leftOut"].to_string();
    for name in ["column users.my rank ü", "column users.nickname", "table notes", "own"] {
        assert!(left_out.contains(name), "{name}: {left_out}");
    }
    assert_eq!(report["tables"].as_array().unwrap().len(), 24);
    let found = ends.database.texts("SELECT to_regclass('notes')");
    assert_eq!(found, ["NULL"]);
    ends.server_is_good();
    let said = Ends::with(EXTRA);
    said.to_postgresql("").success().says(&["users.nickname", "notes", "--with-extra"]);
}

#[test]
fn what_the_owner_has_added_travels_there_and_back_on_request() {
    let ends = Ends::with(EXTRA);
    let there = ends.to_postgresql("--json --with-extra").success().json();
    assert_eq!(there["tables"].as_array().unwrap().len(), 26, "{there}");
    let own = ends.database.texts(
        "SELECT username || coalesce(nickname, '-') || \"my rank ü\" FROM users ORDER BY id",
    );
    assert_eq!(own, ["aA7", "b--9"]);
    assert_eq!(
        ends.database.texts("SELECT body || weight FROM notes ORDER BY id"),
        ["three0.1", "fortyInfinity"]
    );
    assert_eq!(
        ends.database.texts(
            "SELECT \"a b\" || coalesce(c::text, '-') FROM \"my \"\"own\"\" table\" ORDER BY 1"
        ),
        ["x1", "y-"]
    );
    // With their keys.
    for table in ["notes", r#""my ""own"" table""#] {
        let key = format!(
            "SELECT count(*) FROM pg_index WHERE indrelid = '{table}'::regclass AND indisprimary"
        );
        assert_eq!(ends.database.number(&key), 1, "{table}");
    }
    let next = ends.database.texts("INSERT INTO notes (body) VALUES ('next') RETURNING id");
    assert!(next[0].parse::<i64>().is_ok_and(|id| id > 40), "{next:?}");
    ends.database.sql("DELETE FROM notes WHERE body = 'next'");
    ends.server_is_good();
    let back = ends.to_sqlite("--json --with-extra").success().json();
    assert_eq!(proved(&back), proved(&there));
    for table in ["users", "notes", r#""my ""own"" table""#] {
        assert_eq!(rows(&ends.machine.db(), table), rows(&ends.back(), table), "{table}");
    }
    ends.machine.cts("verify").db(&ends.back()).success();
}

#[test]
fn rows_of_a_table_that_inherits_are_its_own() {
    let ends = Ends::backwards(
        "CREATE TABLE archive () INHERITS (users); \
         INSERT INTO users (username, password_hash) VALUES ('a', 'x'); \
         INSERT INTO archive (id, username, password_hash) VALUES (77, 'z', 'y')",
    );
    let users = |words: &str| {
        proved(&ends.to_sqlite(words).success().json());
        let conn = rusqlite::Connection::open(ends.back()).unwrap();
        let count = |table: &str| -> i64 {
            conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        };
        let archived = words.contains("extra").then(|| count("archive"));
        let found = (count("users"), archived);
        // SQLite removes the side files.
        drop(conn);
        std::fs::remove_file(ends.back()).unwrap();
        found
    };
    assert_eq!(users("--json"), (1, None));
    assert_eq!(users("--json --with-extra"), (1, Some(1)));
}

#[test]
fn names_that_the_target_cannot_have_are_all_named_before_anything_is_written() {
    let ends = Ends::with(&format!(
        "CREATE TABLE \"{}\" (a); CREATE TABLE rows_of (ctid, b)",
        "n".repeat(64)
    ));
    let says = ["63 bytes", "table rows_of: column \"ctid\"", "--with-extra"];
    ends.changes_nothing(ends.to_postgresql("--with-extra"), 65, &says);
    let ends = Ends::backwards(
        "CREATE TABLE \"Case\" (a int); CREATE TABLE \"case\" (a int); ALTER TABLE users ADD COLUMN \"ID\" text",
    );
    let says = ["table case beside Case", "table users: column ID beside id"];
    ends.changes_nothing(ends.to_sqlite("--with-extra"), 65, &says);
}
