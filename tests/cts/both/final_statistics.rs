//! Statistics whose positions retention has deleted are the only copy of these numbers: they are never written again,
//! whatever is edited or deleted, and what can be found without positions is found.

use serde_json::Value;

use super::AnyStore;
use super::statistics::{serve_until_proved, statistics, with_history};
use crate::support::harness::await_that;

on_both! {
    final_statistics_are_never_written_again_whatever_was_deleted,
    edits_of_final_statistics_are_found,
}

/// The history, its statistics, and no position that is old.
fn with_final_statistics(store: &dyn AnyStore) {
    with_history(store);
    serve_until_proved(store);
    store.sql("UPDATE system_settings SET value = '30' WHERE key = 'positions_closed_days'");
    store.cts("prune").success();
    assert_eq!(
        store.number("SELECT count(*) FROM pseudo_positions WHERE closed_at IS NOT NULL"),
        1,
        "the one that is open, with a time of closing"
    );
    store.cts("verify --statistics").success().says(&["deleted:  10 positions; "]);
}

fn final_statistics_are_never_written_again_whatever_was_deleted(store: &dyn AnyStore) {
    with_final_statistics(store);
    assert_eq!(
        store.texts("SELECT value FROM system_settings WHERE key = 'positions_deleted_until'"),
        ["2026-03-01"]
    );
    for change in [
        "DELETE FROM statistics_daily WHERE trade_date = '2026-01-05'",
        "UPDATE statistics_daily SET source_rows_left = NULL, source_digest_left = NULL WHERE connection_id = 'c1'",
        "UPDATE statistics_daily SET source_rows_left = NULL, source_digest_left = NULL, source_rows = 0 WHERE trade_date = '2026-03-01'",
        // One that comes late is calculated on no day that is final.
        "INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'late', 'closed', '2026-01-05 13:00:00+00', 5)",
    ] {
        store.sql(change);
    }
    let before = statistics(store, true);
    store.cts("verify --statistics").status(1).says(&[
        "missing:  statistics_daily, 2026-01-05, connection c1 (final)\n",
        "altered:  2026-01-05, connection c1: 5 positions that were counted are gone, and statistics_daily does not say",
        "altered:  2026-01-06, connection c1: 2 positions that were counted are gone",
        "altered:  statistics_daily, 2026-03-01, connection c2: source_rows (final)\n",
    ]);
    let service = store.serve();
    service
        .until("the statistics of 2026-01-05 and connection c1 are left as they are: 5 positions");
    service
        .until("the statistics of 2026-03-01 and connection c2 are left as they are: 1 position ");
    store.sql("INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'new', 'closed', '2026-04-01 13:00:00+00', 5)");
    let days = "SELECT count(*) FROM statistics_daily WHERE trade_date = '2026-04-01'";
    await_that("the new position is counted", || store.number(days) == 1);
    service.stop();
    // Its positions stay: the statistics of their day are not proved.
    store.cts("prune").run().says(&["not all deleted"]);
    assert_eq!(store.number("SELECT count(*) FROM pseudo_positions WHERE symbol = 'late'"), 1);
    for table in ["statistics_indication", "statistics_strategy"] {
        store.sql(&format!("DELETE FROM {table} WHERE symbol = 'new'"));
    }
    store.sql("DELETE FROM statistics_daily WHERE trade_date = '2026-04-01'");
    assert_eq!(statistics(store, true), before);
    // Somebody who wants them calculated from what is left deletes them.
    store.sql("DELETE FROM statistics_daily");
    store.sql("DELETE FROM statistics_indication");
    store.sql("DELETE FROM statistics_strategy");
    serve_until_proved(store);
    assert_eq!(store.number("SELECT count(*) FROM statistics_daily"), 1);
}

/// The row that is edited in each table, each of another day and connection; those of one position agree with all rows.
const EDITED: [(&str, &str, &str, [&str; 5]); 3] = [
    (
        "statistics_daily",
        "trade_date = '2026-01-05'",
        "2026-01-05",
        ["total_trades", "winning_trades", "losing_trades", "max_profit", "max_loss"],
    ),
    ("statistics_indication", "symbol = 'O''Hara'", "2026-03-01", GROUP_COLUMNS),
    (
        "statistics_strategy",
        "connection_id = 'c2' AND symbol = 'BTCUSDT'",
        "2026-01-06",
        GROUP_COLUMNS,
    ),
];
const GROUP_COLUMNS: [&str; 5] = [
    "total_positions",
    "winning_positions",
    "losing_positions",
    "best_trade_pnl",
    "worst_trade_pnl",
];
const COLUMNS: [&str; 12] = [
    "total_pnl",
    "total_profit",
    "total_loss",
    "total_fees",
    "win_rate",
    "profit_factor",
    "max_drawdown",
    "avg_hold_duration_seconds",
    "highest_sum",
    "lowest_sum",
    "source_rows",
    "source_digest",
];

fn edits_of_final_statistics_are_found(store: &dyn AnyStore) {
    with_final_statistics(store);
    let quote = if store.kind() == "sqlite" { "quote" } else { "quote_nullable" };
    for at in 0..GROUP_COLUMNS.len() + COLUMNS.len() {
        let mut restore = Vec::new();
        for (table, row, _, own) in EDITED {
            let column = own.get(at).copied().unwrap_or_else(|| COLUMNS[at - own.len()]);
            let value =
                &store.texts(&format!("SELECT {quote}({column}) FROM {table} WHERE {row}"))[0];
            let edited = match column {
                "source_digest" => format!("'{}'", "0".repeat(64)),
                _ => format!("coalesce({column}, 0) + 1"),
            };
            store.sql(&format!("UPDATE {table} SET {column} = {edited} WHERE {row}"));
            restore.push(format!("UPDATE {table} SET {column} = {value} WHERE {row}"));
        }
        let found = store.cts("verify --statistics --json").status(1).json();
        let days: Vec<&Value> =
            found["differences"].as_array().unwrap().iter().map(|found| &found["day"]).collect();
        for (table, _, day, own) in EDITED {
            let column = own.get(at).copied().unwrap_or_else(|| COLUMNS[at - own.len()]);
            // The mean of several groups is somewhere between theirs.
            let is_found = days.contains(&&Value::from(day));
            let is_mean = table == "statistics_daily" && column.starts_with("avg");
            assert!(is_found || is_mean, "{table} {column}: {found}");
        }
        assert_eq!(found["difference_count"], found["final_difference_count"], "{found}");
        restore.iter().for_each(|sql| store.sql(sql));
    }
    store.cts("verify --statistics").success();
    for (change, words) in [
        (
            "UPDATE statistics_daily SET source_rows_left = -3 WHERE trade_date = '2026-03-01'",
            "altered:  statistics_daily, 2026-03-01, connection c2: source_rows_left (final)\n",
        ),
        (
            "DELETE FROM statistics_strategy WHERE strategy_type = 'base'",
            "unequal:  statistics_strategy, 2026-01-05, connection c1: total_positions, winning_positions,",
        ),
        (
            "UPDATE statistics_indication SET symbol = 'BTCUSDT' WHERE symbol = 'ETHUSDT'",
            "unequal:  statistics_strategy, 2026-01-05, connection c1, ETHUSDT: total_positions,",
        ),
    ] {
        store.sql(change);
        let done = store.cts("verify --statistics").status(1).says(&[words]);
        assert!(!done.out().contains("a running cts writes what differs"));
    }
}
