//! The steps that `cts migrate --dry-run --json` prints, compared with the log of the run that
//! follows: for a new, a current, a drifted, an older and a newer database, on both stores.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::AnyStore;
#[cfg(feature = "postgres")]
use crate::support::cluster::Cluster;
use crate::support::harness::Machine;

on_both! {
    a_run_does_what_its_dry_run_lists,
    a_newer_database_is_refused_by_a_dry_run_as_by_a_run,
}

/// Tables of an older CTS, with columns of which some are taken.
const TABLES: [(&str, &[&str]); 7] = [
    ("exchange_connections", &["id", "name", "exchange", "is_active", "created_at"]),
    ("users", &["id", "username", "email", "password_hash", "role"]),
    ("site_logs", &["id", "level", "category", "message"]),
    ("pseudo_positions", &["id", "connection_id", "symbol", "side", "status", "pnl"]),
    ("indication_states", &["id", "connection_id", "state_key"]),
    ("system_settings", &["key", "value", "category"]),
    ("strategies_dca", &["id", "connection_id", "symbol"]),
];

/// Numbers that are the same in every run (Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// The database of an older CTS, in SQL that both stores understand.
fn older(numbers: &mut Numbers) -> String {
    let mut sql = String::from(
        "CREATE TABLE migrations (id INTEGER PRIMARY KEY, name TEXT, executed_at TEXT); \
         INSERT INTO migrations VALUES (1, 'unified_001', '2025-01-01 00:00:00'); ",
    );
    for (table, columns) in TABLES {
        if table != "exchange_connections" && numbers.below(4) == 0 {
            continue;
        }
        let kept: Vec<&str> = columns
            .iter()
            .enumerate()
            .filter(|(at, _)| *at < 2 || numbers.below(4) > 0)
            .map(|(_, name)| *name)
            .collect();
        let is_text: Vec<bool> = kept.iter().map(|_| numbers.below(3) > 0).collect();
        let typed = kept.iter().zip(&is_text);
        let defined: Vec<String> = typed
            .map(|(name, is_text)| format!("{name} {}", if *is_text { "TEXT" } else { "INTEGER" }))
            .collect();
        let _ = write!(sql, "CREATE TABLE {table} ({}); ", defined.join(", "));
        for row in 0..numbers.below(4) {
            let values: Vec<String> = is_text
                .iter()
                .enumerate()
                .map(|(at, is_text)| match (at, is_text) {
                    (0, true) => format!("'k{row}'"),
                    (0, false) => (row + 1).to_string(),
                    (_, true) => ["'a'", "'1'", "'2.5'", "NULL"][numbers.below(4)].into(),
                    (_, false) => ["1", "0", "7", "NULL"][numbers.below(4)].into(),
                })
                .collect();
            let (names, values) = (kept.join(", "), values.join(", "));
            let _ = write!(sql, "INSERT INTO {table} ({names}) VALUES ({values}); ");
        }
    }
    sql
}

/// What the log says once a step is done; nothing for steps that it does not name.
fn logged(step: &Value) -> Option<String> {
    let object = step["object"].as_str().unwrap();
    Some(match step["action"].as_str().unwrap() {
        "apply migration" => format!("✓ {object}: "),
        "rebuild table" => format!("✓ {object} was rebuilt, "),
        "create table" | "add column" | "create index" => {
            format!("{object} was ")
        }
        "build index online" => format!("✓ {object} was built online"),
        "record exception" => {
            format!("constraint exception recorded, so that every row is kept: {object}")
        }
        "drop constraint" => format!(
            "constraint dropped, because the schema of this version does not have it: {object}"
        ),
        "back up" => "✓ The database as it was: ".into(),
        _ => return None,
    })
}

/// The lines of a log that name a step.
fn step_lines(log: &str) -> BTreeSet<&str> {
    let marks = [
        " was rebuilt, ",
        "put back",
        " was created",
        "built online",
        "constraint exception recorded",
        "constraint dropped, ",
        "as it was: ",
        " applied (",
        " skipped (",
    ];
    let is_step = |line: &&str| {
        marks.iter().any(|mark| line.contains(mark)) && !line.contains("Unified setup complete")
    };
    log.lines().filter(is_step).collect()
}

fn steps(store: &dyn AnyStore) -> Vec<Value> {
    let before = store.everything();
    let plan = store.cts("migrate --dry-run --json").success().json();
    assert_eq!(store.everything(), before);
    plan["steps"].as_array().unwrap().clone()
}

/// Expects that a run does what its dry run lists. What depends on the data may differ: the
/// exceptions of tables with such a step, and those of foreign keys after an adoption.
fn assert_run_follows_plan(store: &dyn AnyStore, about: &str) {
    let planned = steps(store);
    let log = store.cts("migrate --verbose").success().err();
    let mut left = step_lines(&log);
    let uncertain: Vec<&str> = planned
        .iter()
        .filter(|step| !step["dependsOnData"].is_null())
        .filter_map(|step| step["object"].as_str())
        .collect();
    let is_uncertain = |text: &str| {
        let mut names = uncertain.iter().filter_map(|object| object.rsplit(' ').next());
        names.any(|table| text.contains(table)) || text.contains(" refers to missing rows of ")
    };
    for step in &planned {
        let Some(words) = logged(step) else { continue };
        let found: Vec<&str> = left.iter().copied().filter(|line| line.contains(&words)).collect();
        let may_be_left_out = !step["dependsOnData"].is_null() || is_uncertain(&words);
        assert!(!found.is_empty() || may_be_left_out, "{about}: not done: {step}\n{log}");
        left.retain(|line| !found.contains(line));
    }
    let rebuilt: Vec<&str> = planned
        .iter()
        .filter(|step| step["action"] == "rebuild table")
        .filter_map(|step| step["object"].as_str()?.split(' ').nth(1))
        .collect();
    left.retain(|line| {
        let is_of_rebuild = rebuilt.iter().any(|table| line.contains(&format!("column {table}.")));
        !(is_of_rebuild || line.contains("constraint exception recorded") && is_uncertain(line))
    });
    assert!(left.is_empty(), "{about}: not planned: {left:#?}\n{planned:#?}");
}

fn a_run_does_what_its_dry_run_lists(store: &dyn AnyStore) {
    let planned = steps(store);
    assert!(planned.iter().all(|step| step["action"] == "apply migration"), "{planned:?}");
    for key in ["action", "object", "reason", "rows", "blocksWriters", "dependsOnData", "blocked"] {
        assert!(planned[0].get(key).is_some(), "{key}");
    }
    assert_run_follows_plan(store, "new");
    assert_eq!(steps(store), [] as [Value; 0], "current");
    store.sql("INSERT INTO users (username, password_hash) VALUES ('a', 'x')");
    for sql in [
        "DROP TABLE statistics_daily",
        "DROP INDEX idx_site_logs_time; ALTER TABLE users DROP COLUMN role",
        "DROP TABLE indication_states; DELETE FROM migrations WHERE id > 2",
        "DROP TABLE strategies_block; DROP INDEX idx_users_email; DELETE FROM migrations WHERE id > 3",
        "ALTER TABLE users DROP COLUMN created_at; DROP TABLE indications_auto",
        "DROP TABLE system_settings; CREATE TABLE system_settings (key VARCHAR(3) PRIMARY KEY, value TEXT); \
         INSERT INTO system_settings VALUES ('a', 'b')",
    ] {
        store.sql(sql);
        assert_run_follows_plan(store, sql);
        store.cts("verify").success();
    }
}

fn a_newer_database_is_refused_by_a_dry_run_as_by_a_run(store: &dyn AnyStore) {
    store.migrate();
    let sum = "a".repeat(64);
    store.sql(&format!(
        "INSERT INTO migrations (name, checksum, version) VALUES ('099_later.sql', '{sum}', '9.0.0')"
    ));
    for words in ["migrate --dry-run", "migrate --dry-run --json", "migrate"] {
        store.changes_nothing(words, 65, &["099_later.sql", "9.0.0"]);
    }
}

fn older_databases_are_adopted_as_planned(make: &dyn Fn() -> Box<dyn AnyStore>, count: u64) {
    for seed in 0..count {
        let store = make();
        store.sql(&older(&mut Numbers(seed.wrapping_mul(2_654_435_761) + 1)));
        let planned = store.cts("migrate --dry-run --json").run();
        if planned.0.status.code() == Some(0) {
            assert_run_follows_plan(&*store, &format!("database {seed}"));
            store.cts("verify").success();
        } else {
            let done = store.cts("migrate").status(planned.0.status.code().unwrap());
            let reason = planned.err();
            let reason = reason.split(". Try").next().unwrap().trim_start_matches("[v0] ");
            assert!(done.err().contains(reason), "database {seed}: {reason}\n{}", done.err());
        }
    }
}

#[test]
fn older_sqlite_databases_are_adopted_as_planned() {
    older_databases_are_adopted_as_planned(&|| Box::new(Machine::new()), 16);
}

#[test]
#[cfg(feature = "postgres")]
fn older_postgres_databases_are_adopted_as_planned() {
    older_databases_are_adopted_as_planned(&|| Box::new(Cluster::shared().owned()), 10);
}

#[test]
fn a_damaged_index_is_planned_for_by_repair_alone() {
    let machine = Machine::migrated();
    machine.sql(
        "PRAGMA writable_schema = ON; \
         CREATE TEMP TABLE kept AS SELECT * FROM sqlite_schema WHERE name = 'idx_site_logs_time'; \
         DELETE FROM sqlite_schema WHERE name = 'idx_site_logs_time'; PRAGMA writable_schema = RESET; \
         INSERT INTO site_logs (level, category, message) VALUES ('info', 'a', 'b'); \
         PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM kept; \
         PRAGMA writable_schema = RESET",
    );
    machine.cts("--check --deep").status(2).says(&["idx_site_logs_time"]);
    assert_eq!(steps(&machine), [] as [Value; 0]);
    machine.sql("DROP TABLE statistics_daily");
    // A migration is refused, by its dry run too.
    for words in ["migrate --dry-run", "migrate --dry-run --json", "migrate"] {
        machine.changes_nothing(words, 65, &["the database is damaged", "idx_site_logs_time"]);
    }
    machine.cts("repair").success().says(&["idx_site_logs_time was damaged"]);
    machine.cts("--check --deep").success();
}
