//! The ledger: complete rows, and rows that are refused.

use std::time::{Duration, SystemTime};

use super::{AnyStore, FILES};

on_both! {
    a_ledger_row_is_complete,
    an_edited_migration_is_refused_by_name,
    a_newer_database_is_refused_by_name_with_both_versions,
    damaged_ledger_rows_are_distinguished_from_valid_ones,
    the_status_is_incomplete_when_the_ledger_is_refused,
}

fn a_ledger_row_is_complete(store: &dyn AnyStore) {
    store.migrate();
    assert_eq!(store.texts("SELECT name FROM migrations ORDER BY id"), FILES);
    let wrong = "SELECT count(*) FROM migrations WHERE length(checksum) <> 64 OR version <> '3.1.0' \
                 OR execution_time_ms NOT BETWEEN 0 AND 60000";
    assert_eq!(store.number(wrong), 0);
    let status = store.cts("status --json").success().json();
    for row in status["migrations"]["applied"].as_array().unwrap() {
        let time = row["executedAt"].as_str().unwrap();
        assert_eq!(time.len(), 24, "{time}");
        let age = SystemTime::now().duration_since(humantime::parse_rfc3339(time).unwrap());
        assert!(age.unwrap() < Duration::from_secs(600), "{time}");
    }
    assert!(store.number("SELECT count(*) FROM system_settings") >= 10);
}

fn an_edited_migration_is_refused_by_name(store: &dyn AnyStore) {
    store.migrate();
    let sum = "f".repeat(64);
    store.sql(&format!(
        "UPDATE migrations SET checksum = '{sum}', version = '3.0.9' WHERE id = 2; \
         DROP TABLE statistics_daily"
    ));
    let file = "051_add_performance_indexes.sql";
    store.refuses(65, &[file, "ffffffffffff", "cts 3.0.9", "cts 3.1.0", "nothing was changed"]);
    store.changes_nothing("--check", 1, &["CTS WARNING", file]);
}

fn a_newer_database_is_refused_by_name_with_both_versions(store: &dyn AnyStore) {
    store.migrate();
    let sum = "a".repeat(64);
    store.sql(&format!(
        "INSERT INTO migrations (name, checksum, version) VALUES ('072_later.sql', '{sum}', '3.2.0'); \
         DROP TABLE statistics_daily"
    ));
    store.refuses(65, &["072_later.sql", "cts 3.2.0", "cts 3.1.0", "nothing was changed"]);
}

fn damaged_ledger_rows_are_distinguished_from_valid_ones(store: &dyn AnyStore) {
    store.migrate();
    store.sql("DROP INDEX idx_migrations_name");
    for (damage, code, correction) in [
        (
            "INSERT INTO migrations (name) VALUES ('old_1')",
            0,
            "DELETE FROM migrations WHERE id > 4",
        ),
        (
            "INSERT INTO migrations (name, checksum) VALUES ('', 'x')",
            0,
            "DELETE FROM migrations WHERE id > 4",
        ),
        (
            "UPDATE migrations SET checksum = upper(checksum) WHERE id = 1",
            65,
            "UPDATE migrations SET checksum = lower(checksum) WHERE id = 1",
        ),
        ("UPDATE migrations SET checksum = '' WHERE id = 2", 65, "SELECT 1"),
    ] {
        store.sql(damage);
        store.cts("migrate").status(code);
        if correction != "SELECT 1" {
            store.sql(correction);
        }
        assert!(store.number("SELECT count(*) FROM migrations") >= 4, "{damage}");
    }
}

fn the_status_is_incomplete_when_the_ledger_is_refused(store: &dyn AnyStore) {
    store.migrate();
    store.sql(&format!("UPDATE migrations SET checksum = '{}' WHERE id = 1", "0".repeat(64)));
    let status = store.cts("status --json").status(1).json();
    assert_eq!(status["status"], "incomplete");
    assert!(status["migrations"]["pending"][0].as_str().unwrap().contains(FILES[0]));
}
