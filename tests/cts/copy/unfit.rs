//! Values that the other store cannot hold: each is reported by table, id, column and reason before anything is
//! written, all in one pass; on request these rows are written to a file, and the others copied.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::support::disk::Disk;
use crate::support::harness::{Machine, is_root, mode};

use super::{Ends, side};

/// Values of SQLite that the server cannot hold: table, column, value, reason.
const OF_SQLITE: &[(&str, &str, &str, &str)] = &[
    ("exchange_connections", "testnet", "2", "is neither true nor false"),
    ("exchange_connections", "testnet", "'yes'", "is neither true nor false"),
    ("exchange_connections", "testnet", "0.5", "is neither true nor false"),
    ("exchange_connections", "is_active", "x'01'", "is neither true nor false"),
    ("exchange_connections", "user_id", "2.5", "is not an integer"),
    ("exchange_connections", "user_id", "'12x'", "is not an integer"),
    ("exchange_connections", "user_id", "''", "is not an integer"),
    ("exchange_connections", "user_id", "'9223372036854775808'", "is not an integer of 64 bits"),
    ("exchange_connections", "user_id", "-1e300", "is not an integer of 64 bits"),
    ("exchange_connections", "exchange_id", "2147483648", "is not an integer of 32 bits"),
    ("exchange_connections", "exchange_id", "'true'", "is not an integer"),
    ("exchange_connections", "last_test_timestamp", "'yesterday'", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "''", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "1740821400123", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "'2025-02-29 00:00:00'", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "'2026-01-02 24:00:00'", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "'2026-01-02 03:04:60'", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "'2026-01-02 03:04:05+15:00'", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "'2026-1-2'", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "' 2026-01-02'", "is not a time"),
    ("exchange_connections", "last_test_timestamp", "x'32303236'", "is not a time"),
    (
        "exchange_connections",
        "created_at",
        "'2026-01-02 03:04:05.1234567'",
        "digits below the microsecond",
    ),
    ("exchange_connections", "name", "'a' || char(0) || 'b'", "contains the character NUL"),
    ("exchange_connections", "name", "CAST(x'636166e9' AS TEXT)", "is not valid UTF-8"),
    ("exchange_connections", "name", "CAST(x'eda080' AS TEXT)", "is not valid UTF-8"),
    ("exchange_connections", "name", "CAST(x'c0af' AS TEXT)", "is not valid UTF-8"),
    ("exchange_connections", "api_key", "x'616263'", "is not text"),
    ("users", "password_hash", "x'00ff'", "is not text"),
    ("users", "email", "hex(zeroblob(1400))", "is too long for an index"),
    ("pseudo_positions", "entry_price", "'n/a'", "is not a number"),
    ("pseudo_positions", "entry_price", "x'00'", "is not a number"),
    ("pseudo_positions", "volume", "''", "is not a number"),
    ("statistics_daily", "trade_date", "'2026-02-30'", "is not a day"),
    ("statistics_daily", "trade_date", "'2026-01-02 00:00:00'", "is not a day"),
];

/// Statements that insert a row with each of these values, with ids from 1000, among rows that fit.
fn insert(values: &[(&str, &str, &str, &str)]) -> String {
    let mut sql = String::from(
        "INSERT INTO exchange_connections (id, name) VALUES ('good', 'good');
         INSERT INTO users (username, password_hash) VALUES ('good', 'x');",
    );
    for (n, (table, column, value, _)) in values.iter().enumerate() {
        let id = 1000 + n;
        let required = match *table {
            "exchange_connections" => "name",
            "users" => "username, password_hash",
            "pseudo_positions" => "connection_id, symbol",
            _ => "connection_id, trade_date",
        };
        let given = match *table {
            "exchange_connections" => "'n'".to_string(),
            "users" => format!("'u{id}', 'x'"),
            "pseudo_positions" => "'good', 's'".into(),
            _ => "'good', '2026-01-02'".into(),
        };
        sql += &format!(
            "INSERT INTO {table} (id, {required}) VALUES ('{id}', {given}); UPDATE {table} SET {column} = {value} WHERE id = '{id}';"
        );
    }
    sql
}

/// Table, column, reason, id of every reported value.
fn reported(report: &Value) -> BTreeSet<(String, String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{value}")).to_string();
    let mut found = BTreeSet::new();
    for problem in report["skipped"]["problems"].as_array().unwrap_or_else(|| panic!("{report}")) {
        let examples = problem["examples"].as_array().unwrap();
        for example in examples {
            found.insert((
                text(&problem["table"]),
                text(&problem["column"]),
                text(&problem["reason"]),
                text(&example["id"]),
            ));
        }
        assert!(problem["rows"].as_u64().unwrap() >= examples.len() as u64, "{problem}");
    }
    found
}

/// Expects each of the values to be among those reported, with its reason.
fn all_are_reported(report: &Value, values: &[(&str, &str, &str, &str)]) {
    let found = reported(report);
    for (n, (table, column, value, reason)) in values.iter().enumerate() {
        let id = (1000 + n).to_string();
        let of_it =
            found.iter().find(|found| (&*found.0, &*found.1, &found.3) == (*table, *column, &id));
        // Of many values with one reason, the first are named.
        if let Some(of_it) = of_it {
            assert!(of_it.2.contains(reason), "{value}: {of_it:?}");
            continue;
        }
        let problems = report["skipped"]["problems"].as_array().unwrap();
        let is_counted = problems.iter().any(|problem| {
            problem["table"] == *table
                && problem["column"] == *column
                && problem["reason"].as_str().unwrap().contains(reason)
                && problem["rows"].as_u64().unwrap()
                    > problem["examples"].as_array().unwrap().len() as u64
        });
        assert!(is_counted, "{table}.{column} {value}: {report}");
    }
    let counted: u64 = report["skipped"]["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|problem| problem["rows"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, values.len() as u64, "{report}");
    assert_eq!(report["skipped"]["rows"], values.len(), "{report}");
}

#[test]
fn every_value_that_the_server_cannot_hold_is_reported_and_nothing_is_written() {
    let ends = Ends::with(&insert(OF_SQLITE));
    for words in ["--json", "--json --dry-run"] {
        let done = ends.changes_nothing(ends.to_postgresql(words), 65, &[]);
        assert_eq!(done.json()["dryRun"], words.contains("--dry-run"));
        all_are_reported(&done.json(), OF_SQLITE);
    }
    // For people: where each is, why, and what to do.
    ends.changes_nothing(
        ends.to_postgresql(""),
        65,
        &[
            "exchange_connections",
            "last_test_timestamp",
            "1011",
            "yesterday",
            "is not a time",
            "--skip-bad",
        ],
    );
    assert!(ends.database.texts("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace").is_empty());
}

#[test]
fn rows_that_do_not_fit_are_written_to_a_file_and_the_others_are_copied() {
    let ends = Ends::with(&insert(OF_SQLITE));
    let file = ends.machine.path("bad.jsonl");
    let words = format!("--json --skip-bad {}", file.display());
    let report = ends.to_postgresql(&words).success().json();
    all_are_reported(&report, OF_SQLITE);
    assert_eq!(side(&report, "source"), side(&report, "target"), "{report}");
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), OF_SQLITE.len());
    for (n, (table, column, value, reason)) in OF_SQLITE.iter().enumerate() {
        let id = 1000 + n;
        let text_id = json!(id.to_string());
        let is_it = |line: &&Value| {
            line["table"] == *table && (line["row"]["id"] == id || line["row"]["id"] == text_id)
        };
        let line = lines.iter().find(is_it).unwrap_or_else(|| panic!("{table} {id}:\n{text}"));
        let problem = &line["problems"][0];
        assert_eq!(problem["column"], *column, "{line}");
        assert!(problem["reason"].as_str().unwrap().contains(reason), "{line}");
        let written = &line["row"][column];
        let expected = match *value {
            "'a' || char(0) || 'b'" => json!("a\0b"),
            _ if value.starts_with("x'") || value.contains("(x'") => {
                json!({"hex": value.split('\'').nth(1).unwrap()})
            }
            "hex(zeroblob(1400))" => json!("0".repeat(2800)),
            "-1e300" => json!(-1e300),
            "1740821400123" => json!("1740821400123"),
            "'9223372036854775808'" => json!(9_223_372_036_854_775_808.0_f64),
            text if text.starts_with('\'') => json!(text.trim_matches('\'')),
            number => serde_json::from_str(number).unwrap(),
        };
        assert_eq!(written, &expected, "{line}");
        // The whole row.
        assert!(line["row"].as_object().unwrap().len() > 6, "{line}");
    }
    assert_eq!(ends.database.texts("SELECT id FROM exchange_connections"), ["good"]);
    assert_eq!(ends.database.texts("SELECT username FROM users"), ["good"]);
    assert_eq!(ends.database.number("SELECT count(*) FROM pseudo_positions"), 0);
    ends.server_is_good();
}

#[test]
fn a_file_for_rows_that_exists_is_refused_and_kept() {
    let ends = Ends::with(&insert(OF_SQLITE));
    let file = ends.machine.path("bad.jsonl");
    fs::write(&file, "mine").unwrap();
    let words = format!("--skip-bad {}", file.display());
    ends.changes_nothing(ends.to_postgresql(&words), 73, &[file.to_str().unwrap(), "already"]);
    let words = format!("--skip-bad {}", ends.machine.path("no/folder/bad.jsonl").display());
    ends.changes_nothing(ends.to_postgresql(&words), 73, &["no/folder/bad.jsonl"]);
}

/// What is left out is safe in the file before anything is copied.
#[test]
fn a_file_for_rows_on_a_full_disk_leaves_the_target_empty() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    // One row, which is not written to the file before the file is full or closed.
    let ends = Ends::with(&insert(&OF_SQLITE[..1]));
    let machine = Machine::new();
    let disk = Disk::mount(&machine);
    disk.leave(0);
    let file = disk.folder.join("bad.jsonl");
    let words = format!("--skip-bad {}", file.display());
    ends.changes_nothing(ends.to_postgresql(&words), 74, &[file.to_str().unwrap()]);
    assert!(!file.exists());
}

/// A row that others refer to may be among those left out; the rows that refer to it are kept.
#[test]
fn rows_that_refer_to_one_left_out_become_a_constraint_exception() {
    let ends = Ends::with(
        "INSERT INTO exchange_connections (id, name, created_at) VALUES ('bad', 'bad', 'yesterday'), ('good', 'good', NULL);
         INSERT INTO indications_move (connection_id, symbol) VALUES ('bad', 's'), ('good', 's')",
    );
    let words = format!("--json --skip-bad {}", ends.machine.path("bad.jsonl").display());
    let report = ends.to_postgresql(&words).success().json();
    assert!(report["constraintExceptions"].to_string().contains("indications_move"), "{report}");
    let found = ends.database.texts("SELECT connection_id FROM indications_move ORDER BY 1");
    assert_eq!(found, ["bad", "good"]);
    ends.server_is_good();
}

#[test]
fn every_value_that_a_file_cannot_hold_is_reported_and_left_out_on_request() {
    let ends = Ends::backwards(
        "INSERT INTO exchange_connections (id, name) VALUES ('good', 'good');
         INSERT INTO pseudo_positions (id, connection_id, symbol, entry_price) VALUES (1, 'good', 's', 'Infinity'), (2, 'good', 's', '-0'), (1000, 'good', 's', 'NaN');
         INSERT INTO users (id, username, password_hash, created_at) VALUES (1, 'good', 'x', '9999-12-31 23:59:59.999999+00'), (1001, 'b', 'x', 'infinity'),
             (1002, 'c', 'x', '-infinity'), (1003, 'd', 'x', '10000-01-01 00:00:00+00'), (1004, 'e', 'x', '0001-12-31 23:59:59+00 BC');
         INSERT INTO statistics_daily (id, connection_id, trade_date) VALUES (1, 'good', '0001-01-01'), (1005, 'good', 'infinity'), (1006, 'good', '10000-01-01'), (1007, 'good', '0044-03-15 BC')",
    );
    let problems = [
        ("pseudo_positions", "entry_price", "'NaN'", "is NaN"),
        ("users", "created_at", "'infinity'", "is an infinite time"),
        ("users", "created_at", "'-infinity'", "is an infinite time"),
        ("users", "created_at", "", "outside of the years 1 to 9999"),
        ("users", "created_at", "", "outside of the years 1 to 9999"),
        ("statistics_daily", "trade_date", "", ""),
        ("statistics_daily", "trade_date", "", ""),
        ("statistics_daily", "trade_date", "", ""),
    ];
    for words in ["--json", "--json --dry-run"] {
        let done = ends.changes_nothing(ends.to_sqlite(words), 65, &[]);
        all_are_reported(&done.json(), &problems);
    }
    assert!(!ends.back().exists());
    let file = ends.machine.path("bad.jsonl");
    let words = format!("--json --skip-bad {}", file.display());
    let report = ends.to_sqlite(&words).success().json();
    all_are_reported(&report, &problems);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), problems.len(), "{text}");
    assert!(text.contains(r#"{"number":"NaN"}"#), "{text}");
    let back = rusqlite::Connection::open(ends.back()).unwrap();
    let rows = "SELECT (SELECT count(*) FROM users) || ' ' || (SELECT count(*) FROM pseudo_positions) || ' ' || (SELECT count(*) FROM statistics_daily)";
    let counts: String = back.query_row(rows, [], |row| row.get(0)).unwrap();
    assert_eq!(counts, "1 2 1");
}

#[test]
fn a_dry_run_tells_what_would_be_copied_and_changes_nothing() {
    let ends =
        Ends::with("INSERT INTO users (username, password_hash) VALUES ('a', 'x'), ('b', 'x')");
    let done = ends.changes_nothing(ends.to_postgresql("--dry-run --json"), 0, &[]);
    let report = done.json();
    assert_eq!((&report["dryRun"], &report["equal"]), (&json!(true), &Value::Null), "{report}");
    let tables = report["tables"].as_array().unwrap();
    assert_eq!(tables.len(), 24, "{report}");
    assert!(tables.iter().all(|table| table["target"].is_null() && table["equal"].is_null()));
    let expected = side(&report, "source");
    assert_eq!(expected["users"].0, 2);
    ends.changes_nothing(ends.to_postgresql("--dry-run"), 0, &["users", "24 tables"]);
    let copied = ends.to_postgresql("--json").success().json();
    assert_eq!(side(&copied, "target"), expected);
    // The other way.
    let done = ends.changes_nothing(ends.to_sqlite("--dry-run --json"), 0, &[]);
    assert_eq!(side(&done.json(), "source"), expected);
    assert!(!ends.back().exists());
}

/// Doubled and swapped rows show.
#[test]
fn a_digest_depends_on_every_row_and_on_nothing_else() {
    let ends = Ends::new();
    let digest = |values: &str| {
        let columns = "id, username, email, password_hash, role, is_active, created_at";
        ends.machine
            .sql(&format!("DELETE FROM users; INSERT INTO users ({columns}) VALUES {values}"));
        side(&ends.to_postgresql("--dry-run --json").success().json(), "source")["users"].1.clone()
    };
    let first = digest(
        "(1, 'a', 'b', 'x', NULL, 1, '2026-01-01'), (2, 'c', NULL, 'x', '', 0, '2026-01-02')",
    );
    let same = digest(
        "(2, 'c', NULL, 'x', '', 'false', '2026-01-02T01:00:00+01:00'), (1, 'a', 'b', 'x', NULL, 'true', '2026-01-01 00:00Z')",
    );
    assert_eq!(first, same);
    for other in [
        "(1, 'a', 'b', 'x', '', 1, '2026-01-01'), (2, 'c', NULL, 'x', '', 0, '2026-01-02')",
        "(1, 'ab', '', 'x', NULL, 1, '2026-01-01'), (2, 'c', NULL, 'x', '', 0, '2026-01-02')",
        "(1, 'c', 'b', 'x', NULL, 1, '2026-01-01'), (2, 'a', NULL, 'x', '', 0, '2026-01-02')",
        "(1, 'a', 'b', 'x', NULL, 1, '2026-01-01'), (2, 'c', NULL, 'x', '', 0, '2026-01-02 00:00:00.000001')",
        "(1, 'a', 'b', 'x', NULL, 1, '2026-01-01')",
    ] {
        assert_ne!(digest(other), first, "{other}");
    }
}
