//! The statistics of closed positions: the service calculates them, and `cts verify --statistics` proves them and finds
//! whatever is changed in them or in the positions.

use serde_json::{Value, json};

use super::AnyStore;
use crate::support::harness::await_that;

on_both! {
    statistics_are_calculated_as_defined_and_a_second_start_writes_nothing,
    every_change_of_the_statistics_is_found_and_put_right,
    every_change_of_a_position_is_found_and_counted,
    what_does_not_count_is_said,
    the_statistics_of_a_day_that_retention_has_begun_with_are_final,
}

type HistoryRow =
    (&'static str, &'static str, &'static str, &'static str, &'static str, u32, u32, &'static str);

/// Day, connection, symbol, indication, strategy, minutes of the day at which it was closed, minutes that it was open,
/// and profit. On `2026-01-05` in the order of closing: 10, -4, 0, -8, 3.5, -0.5.
const HISTORY: &[HistoryRow] = &[
    ("2026-01-05", "c1", "BTCUSDT", "'direction'", "'main'", 70, 1, "10"),
    ("2026-01-05", "c1", "BTCUSDT", "'direction'", "'base'", 150, 2, "3.5"),
    ("2026-01-05", "c1", "BTCUSDT", "'move'", "'main'", 80, 3, "-4"),
    ("2026-01-05", "c1", "ETHUSDT", "NULL", "NULL", 90, 4, "0"),
    ("2026-01-05", "c1", "BTCUSDT", "'direction'", "'main'", 100, 5, "-8"),
    ("2026-01-05", "c1", "BTCUSDT", "'direction'", "'main'", 160, 6, "-0.5"),
    ("2026-01-06", "c1", "BTCUSDT", "'direction'", "'main'", 0, 5, "0.1"),
    ("2026-01-06", "c1", "BTCUSDT", "'direction'", "'main'", 1, 5, "0.2"),
    ("2026-01-06", "c2", "BTCUSDT", "'direction'", "'main'", 1439, 5, "1"),
    ("2026-03-01", "c2", "O''Hara", "'a\"b'", "'main'", 700, 5, "-1e15"),
];
const STATUSES: [&str; 4] = ["closed", "archived", "stopped", "main_closed"];

/// The statement that inserts a position. Its time of closing has an offset, which on SQLite makes its text that of the
/// next day, late in the day.
fn position(at: usize) -> String {
    let (day, connection, symbol, indication, strategy, closed, open, profit) = HISTORY[at];
    let time = |minutes: i64| {
        let (hours, minutes) = (minutes.div_euclid(60), minutes.rem_euclid(60));
        match at % 2 {
            0 => format!("{day} {hours:02}:{minutes:02}:00.250+00"),
            _ if hours < 19 => format!("{day}T{hours:02}:{minutes:02}:00.250Z"),
            _ => format!("2026-01-07 {:02}:{:02}:00.250+05:30", hours - 19, minutes - 30),
        }
    };
    let opened = match i64::from(closed) - i64::from(open) {
        0.. => format!("'{}'", time(i64::from(closed) - i64::from(open))),
        _ => "NULL".into(),
    };
    let column = if at.is_multiple_of(3) { "profit_loss" } else { "pnl" };
    format!(
        "INSERT INTO pseudo_positions (connection_id, symbol, indication_type, strategy_type, status, opened_at, closed_at, {column}) \
         VALUES ('{connection}', '{symbol}', {indication}, {strategy}, '{}', {opened}, '{}', {profit})",
        STATUSES[at % 4],
        time(i64::from(closed))
    )
}

/// A migrated database with the history, and with positions that are not closed.
pub(super) fn with_history(store: &dyn AnyStore) {
    store.migrate();
    store.sql("INSERT INTO exchange_connections (id, name) VALUES ('c1', 'one'), ('c2', 'two')");
    for at in 0..HISTORY.len() {
        store.sql(&position(at));
    }
    for (status, closed_at) in
        [("'active'", "'2026-01-05'"), ("'closed'", "NULL"), ("NULL", "NULL")]
    {
        store.sql(&format!(
            "INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'X', {status}, {closed_at}, 1)"
        ));
    }
}

/// Waits until a service has calculated the statistics, and stops it.
pub(super) fn serve_until_proved(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    await_that("the statistics are proved", || {
        store.cts("verify --statistics").run().0.status.code() == Some(0)
    });
    service.stop();
}

/// The rows of all three tables, without the times at which they were calculated.
pub(super) fn statistics(store: &dyn AnyStore, with_times: bool) -> Vec<String> {
    let times = if with_times { ", last_calculated_at" } else { "" };
    let columns = "total_pnl, total_profit, total_loss, total_fees, win_rate, profit_factor, max_drawdown, \
         avg_hold_duration_seconds, highest_sum, lowest_sum, source_rows, source_digest";
    let text = |expressions: String| {
        let cast: Vec<String> = expressions
            .split(", ")
            .map(|column| format!("coalesce(CAST({column} AS TEXT), '-')"))
            .collect();
        cast.join(" || ' ' || ")
    };
    let groups = |table: &str, kind: &str| {
        let names = format!(
            "connection_id, symbol, {kind}, total_positions, winning_positions, losing_positions, best_trade_pnl, worst_trade_pnl, {columns}{times}"
        );
        let sql = text(names);
        store.texts(&format!(
            "SELECT {sql} FROM {table} ORDER BY period_start, connection_id, symbol, {kind}"
        ))
    };
    let names = format!(
        "trade_date, connection_id, total_trades, winning_trades, losing_trades, max_profit, max_loss, {columns}{times}"
    );
    let daily = store.texts(&format!(
        "SELECT {} FROM statistics_daily ORDER BY trade_date, connection_id",
        text(names)
    ));
    [
        daily,
        groups("statistics_indication", "indication_type"),
        groups("statistics_strategy", "strategy_type"),
    ]
    .concat()
}

fn statistics_are_calculated_as_defined_and_a_second_start_writes_nothing(store: &dyn AnyStore) {
    with_history(store);
    store.cts("verify --statistics").status(1).says(&[
        "missing:  statistics_daily, 2026-01-05, connection c1\n",
        "missing:  statistics_indication, 2026-01-05, connection c1, ETHUSDT, (none)\n",
        "16 differences: 3 days, 10 positions and 0 rows of statistics\n",
    ]);
    serve_until_proved(store);
    store
        .cts("verify --statistics")
        .success()
        .says(&["no difference: 3 days, 10 positions and 16 rows of statistics\n"]);
    let number = |sql: &str| store.texts(sql)[0].parse::<f64>().unwrap();
    let of_day = "FROM statistics_daily WHERE trade_date = '2026-01-05'";
    for (column, expected) in [
        ("total_trades", 6.0),
        ("winning_trades", 2.0),
        ("losing_trades", 3.0),
        ("total_pnl", 1.0),
        ("total_profit", 13.5),
        ("total_loss", -12.5),
        ("win_rate", 2.0 / 6.0),
        ("profit_factor", 13.5 / 12.5),
        ("max_profit", 10.0),
        ("max_loss", -8.0),
        ("max_drawdown", 12.0),
        ("highest_sum", 10.0),
        ("lowest_sum", -2.0),
        ("avg_hold_duration_seconds", 210.0),
        ("source_rows", 6.0),
    ] {
        let found = number(&format!("SELECT CAST({column} AS TEXT) {of_day}"));
        assert!((found - expected).abs() < 1e-12, "{column}: {found}");
    }
    // Compensated, and NULL where there is no loss, no type, or no opening before the closing.
    let second = "FROM statistics_indication WHERE connection_id = 'c1' AND total_positions = 2 AND period_start < '2026-01-07' AND period_start > '2026-01-05 12:00:00+00'";
    assert_eq!(
        store.texts(&format!(
            "SELECT CAST(profit_factor AS TEXT) {second} AND profit_factor IS NOT NULL"
        )),
        [""; 0]
    );
    assert_eq!(store.number("SELECT count(*) FROM statistics_strategy WHERE strategy_type = '' AND total_positions = 1"), 1);
    assert_eq!(store.number("SELECT count(*) FROM statistics_daily WHERE source_rows_left IS NULL AND total_fees IS NULL"), 4);
    let before = statistics(store, true);
    let service = store.serve();
    service.until_ready();
    // A position of another day shows that the statistics were compared.
    store.sql("INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'X', 'closed', '2026-02-01 00:00:00+00', 1)");
    await_that("the new position is counted", || {
        store.cts("verify --statistics").run().0.status.code() == Some(0)
    });
    service.stop();
    store.sql("DELETE FROM statistics_daily WHERE trade_date = '2026-02-01'");
    store.sql("DELETE FROM statistics_indication WHERE symbol = 'X'");
    store.sql("DELETE FROM statistics_strategy WHERE symbol = 'X'");
    assert_eq!(statistics(store, true), before);
}

fn every_change_of_the_statistics_is_found_and_put_right(store: &dyn AnyStore) {
    with_history(store);
    serve_until_proved(store);
    let right = statistics(store, false);
    for (table, own) in [
        (
            "statistics_daily",
            ["total_trades", "winning_trades", "losing_trades", "max_profit", "max_loss"],
        ),
        (
            "statistics_indication",
            [
                "total_positions",
                "winning_positions",
                "losing_positions",
                "best_trade_pnl",
                "worst_trade_pnl",
            ],
        ),
        (
            "statistics_strategy",
            [
                "total_positions",
                "winning_positions",
                "losing_positions",
                "best_trade_pnl",
                "worst_trade_pnl",
            ],
        ),
    ] {
        let common = [
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
        ];
        let columns: Vec<&str> = own.into_iter().chain(common).collect();
        // Each column in a row of its own, as far as there are rows.
        let ids = store.texts(&format!("SELECT CAST(id AS TEXT) FROM {table} ORDER BY id"));
        let row = |at: usize| &ids[at % ids.len()];
        for (at, column) in columns.iter().enumerate() {
            store.sql(&format!(
                "UPDATE {table} SET {column} = coalesce({column}, 0) + 1 WHERE id = {}",
                row(at)
            ));
        }
        let found = store.cts("verify --statistics --json").status(1).json();
        let of_table = |found: &&Value| found["table"] == table;
        let differences = found["differences"].as_array().unwrap().iter().filter(of_table);
        let named: Vec<&Value> =
            differences.flat_map(|found| found["columns"].as_array().unwrap()).collect();
        assert_eq!(named.len(), columns.len(), "{found}");
        assert!(columns.iter().all(|column| named.contains(&&json!(column))), "{found}");
    }
    serve_until_proved(store);
    for (change, words) in [
        (
            "UPDATE statistics_daily SET source_digest = 'x' WHERE trade_date = '2026-01-05'",
            "altered:  statistics_daily, 2026-01-05, connection c1: source_digest\n",
        ),
        (
            "UPDATE statistics_daily SET trade_date = '2026-01-09' WHERE trade_date = '2026-01-05'",
            "surplus:  statistics_daily, 2026-01-09, connection c1\n",
        ),
        (
            "DELETE FROM statistics_indication WHERE indication_type = ''",
            "missing:  statistics_indication, 2026-01-05, connection c1, ETHUSDT, (none)\n",
        ),
        (
            "UPDATE statistics_strategy SET period_end = '2026-01-08 00:00:00+00' WHERE strategy_type = 'base'",
            "surplus:  statistics_strategy, 2026-01-05, connection c1, (none), (none)\n",
        ),
        (
            "UPDATE statistics_strategy SET symbol = 'y' WHERE strategy_type = ''",
            "connection c1, y, (none)\n",
        ),
    ] {
        store.sql(change);
        store.cts("verify --statistics").status(1).says(&[words]);
    }
    serve_until_proved(store);
    assert_eq!(statistics(store, false), right);
}

fn every_change_of_a_position_is_found_and_counted(store: &dyn AnyStore) {
    with_history(store);
    serve_until_proved(store);
    for change in [
        "UPDATE pseudo_positions SET pnl = 1e-9 WHERE symbol = 'ETHUSDT'",
        "UPDATE pseudo_positions SET profit_loss = profit_loss + 1 WHERE pnl IS NULL AND status = 'closed'",
        "UPDATE pseudo_positions SET symbol = 'other' WHERE symbol = 'ETHUSDT'",
        "UPDATE pseudo_positions SET indication_type = 'auto' WHERE indication_type = 'move'",
        "UPDATE pseudo_positions SET strategy_type = NULL WHERE strategy_type = 'base'",
        "UPDATE pseudo_positions SET connection_id = 'c2' WHERE strategy_type IS NULL AND status <> 'active'",
        "UPDATE pseudo_positions SET opened_at = '2026-01-01 00:00:00+00' WHERE indication_type = 'auto'",
        // A late change of the day, a back-dated position, a late closing, one that is open again, and deletions.
        "UPDATE pseudo_positions SET closed_at = '2026-02-28 23:59:59.999999+00' WHERE indication_type = 'auto'",
        "INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'X', 'closed', '2020-02-29 12:00:00+00', -2)",
        "UPDATE pseudo_positions SET closed_at = '2026-01-05 12:00:00+00' WHERE status = 'closed' AND closed_at IS NULL",
        "UPDATE pseudo_positions SET status = 'active' WHERE symbol = 'X' AND pnl = -2",
        "DELETE FROM pseudo_positions WHERE id = (SELECT min(id) FROM pseudo_positions)",
        "DELETE FROM pseudo_positions WHERE connection_id = 'c2'",
    ] {
        store.sql(change);
        let found = store.cts("verify --statistics --json").status(1).json();
        assert!(found["difference_count"].as_u64().unwrap() > 0, "{change}: {found}");
        if change.starts_with("DELETE")
            || change.starts_with("INSERT")
            || change.contains("closed_at =")
        {
            serve_until_proved(store);
        }
    }
    serve_until_proved(store);
    assert_eq!(store.number("SELECT count(*) FROM statistics_daily WHERE connection_id = 'c2'"), 0);
    let sum = "SELECT coalesce(sum(source_rows), 0) FROM";
    let counted = store.number(
        "SELECT count(*) FROM pseudo_positions WHERE closed_at IS NOT NULL AND status <> 'active'",
    );
    for table in ["statistics_daily", "statistics_indication", "statistics_strategy"] {
        assert_eq!(store.number(&format!("{sum} {table}")), counted, "{table}");
    }
}

fn what_does_not_count_is_said(store: &dyn AnyStore) {
    with_history(store);
    store
        .sql("UPDATE pseudo_positions SET pnl = NULL, profit_loss = NULL WHERE symbol = 'ETHUSDT'");
    let infinite = if store.kind() == "sqlite" { "9e999" } else { "'Infinity'" };
    store
        .sql(&format!("UPDATE pseudo_positions SET pnl = {infinite} WHERE strategy_type = 'base'"));
    let no_time = if store.kind() == "sqlite" { "yesterday" } else { "infinity" };
    store.sql(&format!(
        "UPDATE pseudo_positions SET closed_at = '{no_time}' WHERE indication_type = 'move'"
    ));
    serve_until_proved(store);
    store.cts("verify --statistics").success().says(&[
        "left out: 1 position: neither pnl nor profit_loss is set\n",
        "left out: 1 position: the profit is not a finite number\n",
        "left out: 1 position: closed_at is not a time\n",
        "no difference: 3 days, 7 positions and 12 rows of statistics\n",
    ]);
    let found = store.cts("verify --statistics --json").success().json();
    assert_eq!(found["left_out"].as_array().unwrap().len(), 3, "{found}");
    assert_eq!((&found["proved"], &found["setting_fault"]), (&json!(true), &Value::Null));
    store.sql("UPDATE system_settings SET value = '-1' WHERE key = 'statistics_days'");
    store
        .cts("verify --statistics")
        .success()
        .says(&["setting:  statistics_days is '-1', which is not"]);
    store.sql("ALTER TABLE statistics_daily DROP COLUMN source_digest_left");
    store.cts("verify --statistics").status(65).says(&["source_digest_left", "cts migrate"]);
}

fn the_statistics_of_a_day_that_retention_has_begun_with_are_final(store: &dyn AnyStore) {
    with_history(store);
    serve_until_proved(store);
    store.sql("UPDATE statistics_daily SET source_rows_left = source_rows, source_digest_left = source_digest WHERE trade_date = '2026-01-05'");
    store.cts("verify --statistics").success();
    let right = statistics(store, true);
    store.sql("INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'late', 'closed', '2026-01-05 13:00:00+00', 5)");
    store.cts("verify --statistics").success().says(&[
        "late:     2026-01-05, connection c1: 1 position is in no statistics",
        "no difference: ",
    ]);
    let service = store.serve();
    service.until("1 position of connection c1 closed on 2026-01-05 is in no statistics");
    service.stop();
    assert_eq!(statistics(store, true), right);
    store.sql("DELETE FROM pseudo_positions WHERE symbol = 'late'");
    store.cts("verify --statistics").success();
    store.sql("DELETE FROM pseudo_positions WHERE symbol = 'ETHUSDT'");
    store.cts("verify --statistics").status(1).says(&[
        "altered:  2026-01-05, connection c1: the positions that retention has left are not those that were counted\n",
    ]);
}
