//! What `cts doctor` says of a move to the other store: which values would not survive it, without bothering a machine that
//! never moves.

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::harness::{Machine, Run};

/// What `cts doctor` says of the move, and its exit code.
fn found(run: Run, store: &str) -> (Value, i32) {
    let done = run.run();
    let report = done.json();
    let all = report["findings"].as_array().unwrap();
    let is_it = |finding: &&Value| finding["name"] == format!("move to {store}");
    let finding = all.iter().find(is_it).unwrap_or_else(|| panic!("{report:#}")).clone();
    (finding, done.0.status.code().unwrap())
}

#[track_caller]
fn says(run: Run, store: &str, status: &str, what: &str, remedy: &str) -> i32 {
    let (finding, code) = found(run, store);
    let text = |key: &str| finding[key].as_str().unwrap_or_default();
    assert_eq!(text("status"), status, "{finding:#}");
    assert!(text("what").contains(what), "{what:?} is missing in {finding:#}");
    assert!(text("remedy").contains(remedy), "{remedy:?} is missing in {finding:#}");
    code
}

fn doctor(machine: &Machine) -> Run {
    machine.cts("doctor --json --port 0")
}

fn prepared(machine: &Machine) -> Run {
    let url = "postgresql://cts:secret@db.example.net/cts";
    doctor(machine).env("DATABASE_TYPE", "sqlite").env("DATABASE_URL", url)
}

#[test]
fn values_that_would_not_survive_matter_where_a_move_is_prepared() {
    let machine = Machine::migrated();
    let what = "rows would survive it";
    let code = says(doctor(&machine), "PostgreSQL", "good", what, "");
    assert_eq!(says(prepared(&machine), "PostgreSQL", "good", what, ""), code);
    machine.sql(
        "ALTER TABLE users ADD COLUMN nickname TEXT;
         INSERT INTO site_logs (level, category, message, timestamp)
         VALUES ('info', 'orders', 'a' || char(0), 'yesterday'), ('info', 'orders', 'ok', NULL)",
    );
    let before = machine.files();
    let what = "1 of ";
    assert_eq!(says(doctor(&machine), "PostgreSQL", "good", what, "--dry-run"), code);
    let at = "PostgreSQL";
    assert_eq!(says(prepared(&machine), at, "attention", what, "--skip-bad"), 1);
    assert_eq!(machine.files(), before);
    for what in [
        "site_logs.timestamp is not a time (1 row, such as ",
        "site_logs.message contains the character NUL (1 row",
        "left out: column users.nickname",
    ] {
        says(prepared(&machine), at, "attention", what, "");
    }
}

#[test]
fn a_large_table_is_read_for_a_short_time() {
    let machine = Machine::migrated();
    machine.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
         INSERT INTO site_logs (level, category, message) SELECT 'info', 'orders', i FROM n",
    );
    // Of a table behind it, all rows are read.
    machine.sql("INSERT INTO exchange_connections (id, name) VALUES ('x', CAST(x'ff' AS TEXT))");
    let (finding, _) = found(doctor(&machine), "PostgreSQL");
    let what = finding["what"].as_str().unwrap();
    assert!(what.starts_with("1 of the ") && what.contains("in 2 s"), "{finding:#}");
    assert!(what.contains("exchange_connections.name is not valid UTF-8"), "{finding:#}");
}

#[test]
fn a_database_on_a_server_is_examined_for_the_way_back() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let doctor = || database.cts("doctor --json --port 0");
    says(doctor(), "SQLite", "good", "rows would survive it", "");
    database.sql("UPDATE system_settings SET updated_at = 'infinity' WHERE id = 1");
    let what = "system_settings.updated_at is an infinite time (1 row, such as 1)";
    says(doctor(), "SQLite", "good", what, "cts copy --to sqlite --dry-run");
    let prepared = doctor().env("SQLITE_DB_PATH", "/data/new.db");
    assert_eq!(says(prepared, "SQLite", "attention", what, "--skip-bad"), 1);
}
