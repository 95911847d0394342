//! Retention on both stores: which rows go, and that the service announces it a day before.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::AnyStore;
use crate::support::harness::await_that;

on_both! {
    only_old_rows_of_the_rules_go_and_a_dry_run_says_which,
    the_service_announces_first_and_deletes_a_day_later,
    closed_positions_go_once_their_statistics_are_proved,
}

/// A time as both stores read it.
fn ago(days: u64) -> String {
    let at = SystemTime::now() - Duration::from_secs(days * 86_400);
    humantime::format_rfc3339_millis(at).to_string()
}

/// How many rows of a table an answer counts.
fn rows_of(json: &Value, table: &str) -> u64 {
    let tables = json["tables"].as_array().unwrap().iter();
    tables
        .filter(|found| found["table"] == table)
        .map(|found| found["rows"].as_u64().unwrap())
        .sum()
}

fn add_log(store: &dyn AnyStore, days: u64, level: &str, category: &str, message: &str) {
    let at = ago(days);
    store.sql(&format!(
        "INSERT INTO site_logs (timestamp, level, category, message) VALUES ('{at}', '{level}', '{category}', '{message}')"
    ));
}

fn messages(store: &dyn AnyStore, message: &str) -> i64 {
    store.number(&format!("SELECT count(*) FROM site_logs WHERE message = '{message}'"))
}

fn only_old_rows_of_the_rules_go_and_a_dry_run_says_which(store: &dyn AnyStore) {
    store.migrate();
    store.sql("INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x')");
    for (days, level, category, message) in [
        (31, "info", "engine", "goes"),
        (400, "error", "database", "goes"),
        (40, "error", "engine", "goes"),
        (40, "error", "database", "stays"),
        (29, "info", "engine", "stays"),
        (0, "error", "engine", "stays"),
    ] {
        add_log(store, days, level, category, message);
    }
    store.sql(
        "INSERT INTO site_logs (timestamp, level, category, message) VALUES (NULL, 'info', 'engine', 'stays')",
    );
    for (days, status, name) in [
        (8, "'expired'", "goes"),
        (6, "'expired'", "stays"),
        (8, "'active'", "stays"),
        (8, "'closed'", "stays"),
        (8, "NULL", "stays"),
    ] {
        let at = ago(days);
        store.sql(&format!(
            "INSERT INTO indications_auto (connection_id, symbol, status, calculated_at) VALUES ('c', '{name}', {status}, '{at}')"
        ));
    }
    for (days, fees) in [(40, 1), (20, 2)] {
        let day = &ago(days)[..10];
        store.sql(&format!(
            "INSERT INTO statistics_daily (connection_id, trade_date, total_fees) VALUES ('c', '{day}', {fees})"
        ));
    }
    store.changes_nothing("prune --dry-run", 0, &["site_logs: 3 rows would be deleted, from 20"]);
    let done = store.cts("prune --json").success().json();
    assert_eq!((rows_of(&done, "site_logs"), rows_of(&done, "indications_auto")), (3, 1), "{done}");
    assert_eq!((messages(store, "goes"), messages(store, "stays")), (0, 4));
    let symbols = "SELECT symbol FROM indications_auto ORDER BY symbol";
    assert_eq!(store.texts(symbols), ["stays", "stays", "stays", "stays"]);
    // Statistics are kept unless it is set.
    assert_eq!(store.number("SELECT count(*) FROM statistics_daily"), 2);
    store.sql("UPDATE system_settings SET value = ' 30 ' WHERE key = 'statistics_days'");
    let done = store.cts("prune --json").success().json();
    assert_eq!(rows_of(&done, "statistics_daily"), 1, "{done}");
    assert_eq!(store.number("SELECT CAST(sum(total_fees) AS INTEGER) FROM statistics_daily"), 2);
    let entries = "SELECT count(*) FROM site_logs WHERE message LIKE 'prune: % old row% deleted%'";
    assert_eq!(store.number(entries), 2);
    // A second run finds nothing, and writes nothing.
    store.cts("prune").success().says(&["no row is old enough"]);
    assert_eq!(store.number(entries), 2);
}

/// Makes as if the announcement had been made some days ago.
fn announced_before(store: &dyn AnyStore, days: u64) {
    let key = "key = 'retention_announced'";
    let value = &store.texts(&format!("SELECT value FROM system_settings WHERE {key}"))[0];
    let (_, rest) = value.split_once(' ').unwrap();
    let at = ago(days);
    store.sql(&format!("UPDATE system_settings SET value = '{at} {rest}' WHERE {key}"));
}

fn the_service_announces_first_and_deletes_a_day_later(store: &dyn AnyStore) {
    store.migrate();
    add_log(store, 60, "info", "engine", "old");
    add_log(store, 0, "info", "engine", "young");
    let service = store.serve();
    service.until_ready().until("old rows will be deleted: site_logs 1 row to 20");
    let (_, log) = service.stop();
    assert!(log.contains("`cts prune --dry-run`"), "{log}");
    assert_eq!(messages(store, "old"), 1);
    let entry = "SELECT count(*) FROM site_logs WHERE message LIKE 'retention: from %'";
    assert_eq!(store.number(entry), 1);
    // Started again before the day is over: nothing is announced or deleted. A setting that is nonsense is said.
    store.sql("UPDATE system_settings SET value = 'many' WHERE key = 'statistics_days'");
    let service = store.serve();
    service.until_ready().until("setting statistics_days is 'many'");
    let answer = service.until_status("degraded");
    assert!(answer.body.contains("statistics_days"), "{}", answer.body);
    let (_, log) = service.stop();
    assert!(!log.contains("will be deleted") && !log.contains("rows deleted"), "{log}");
    // A setting that deletes more is announced again, however old the announcement is.
    announced_before(store, 2);
    store.sql("UPDATE system_settings SET value = '29' WHERE key = 'site_logs_days'");
    let service = store.serve();
    service.until_ready().until("old rows will be deleted");
    service.stop();
    assert_eq!(messages(store, "old"), 1);
    announced_before(store, 2);
    let service = store.serve();
    service.until_ready().until("1 old row deleted (site_logs 1)");
    let metrics = service.get("/metrics").body;
    assert!(
        metrics.contains("cts_retention_deleted_rows_total{table=\"site_logs\"} 1"),
        "{metrics}"
    );
    service.stop();
    assert_eq!(messages(store, "old"), 0);
}

fn closed_positions_go_once_their_statistics_are_proved(store: &dyn AnyStore) {
    store.migrate();
    store.sql("INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x')");
    let add = |id: i64, days: Option<u64>, status: &str, pnl: &str, base: &str| {
        let closed = days.map_or("NULL".to_string(), |days| format!("'{}'", ago(days)));
        store.sql(&format!(
            "INSERT INTO pseudo_positions (id, connection_id, symbol, status, closed_at, pnl, profit_loss, base_position_id) \
             VALUES ({id}, 'c', 'B', '{status}', {closed}, {pnl}, NULL, {base})"
        ));
    };
    add(1, Some(40), "closed", "1", "NULL");
    add(2, Some(40), "stopped", "-2", "NULL");
    add(3, Some(41), "archived", "3", "NULL");
    // The base of one that is open; without profit; open; too young; without time.
    add(4, Some(40), "closed", "4", "NULL");
    add(5, None, "active", "NULL", "'4'");
    add(6, Some(40), "closed", "NULL", "NULL");
    add(7, Some(40), "active", "7", "NULL");
    add(8, Some(20), "closed", "8", "NULL");
    add(9, None, "closed", "9", "NULL");
    let ids = || store.texts("SELECT CAST(id AS TEXT) FROM pseudo_positions ORDER BY id");
    store.sql("UPDATE system_settings SET value = '30' WHERE key = 'positions_closed_days'");
    store.cts("prune").success().says(&["pseudo_positions: not all deleted", "are not proved"]);
    assert_eq!(ids().len(), 9, "there are no statistics yet");
    let service = store.serve();
    service.until_ready();
    await_that("the statistics are proved", || {
        store.cts("verify --statistics").run().0.status.code() == Some(0)
    });
    service.stop();
    let trades = "SELECT CAST(sum(total_trades) AS INTEGER) FROM statistics_daily";
    let counted = store.number(trades);
    assert_eq!(counted, 5);
    let dry = store.cts("prune --dry-run --json").success().json();
    assert_eq!(rows_of(&dry, "pseudo_positions"), 4, "{dry}");
    let done = store.cts("prune --json").success().json();
    assert_eq!(rows_of(&done, "pseudo_positions"), 3, "{done}");
    assert_eq!(ids(), ["4", "5", "6", "7", "8", "9"]);
    // The statistics say what they said, and can still be proved.
    assert_eq!(store.number(trades), counted);
    store.cts("verify --statistics").success();
    store.cts("prune").success().says(&["no row is old enough"]);
    assert_eq!(ids().len(), 6);
    // A position whose statistics are not as they are calculated stays.
    add(10, Some(50), "closed", "1", "NULL");
    store.cts("prune").success().says(&["1 closed position of 20"]);
    assert_eq!(ids().len(), 7);
}
