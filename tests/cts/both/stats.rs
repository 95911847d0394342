//! `cts stats`: closed trades as a trader reads them, on both stores.

use serde_json::{Value, json};

use super::AnyStore;

on_both! {
    without_a_trade_the_table_is_not_drawn,
    one_trade_is_a_row_and_the_totals,
    trades_are_measured_by_day_symbol_type_and_connection,
    a_day_whose_rows_are_deleted_comes_from_the_statistics_tables,
    positions_at_the_exchange_are_counted_with_their_fees,
    a_column_that_is_missing_is_named_with_the_remedy,
    names_and_sums_beyond_the_usual_are_shown_as_they_are,
    statistics_of_deleted_rows_that_contradict_themselves_are_said,
}

const CONNECTIONS: &str =
    "INSERT INTO exchange_connections (id, name, exchange) VALUES ('a', 'A', 'x'), ('b', 'B', 'y')";

/// A day that lies so many days before today.
fn day(store: &dyn AnyStore, ago: i64) -> String {
    let days = (ago + 1).to_string();
    let json = store.cts(&format!("stats --json --days {days}")).success().json();
    json["from"].as_str().unwrap().to_string()
}

/// Inserts closed positions: connection, symbol, type, day, time of closing, minutes that it was open, profit.
fn close(store: &dyn AnyStore, day: &str, trades: &[(&str, &str, &str, &str, u32, &str)]) {
    for (connection, symbol, kind, time, minutes, profit) in trades {
        let closed = format!("{day} {time}+00");
        let opened = format!("{day} {}:{:02}:00+00", 12 - minutes / 60, minutes % 60);
        store.sql(&format!(
            "INSERT INTO pseudo_positions (connection_id, symbol, indication_type, status, opened_at, closed_at, profit_loss) \
             VALUES ('{connection}', '{symbol}', {kind}, 'closed', '{opened}', '{closed}', {profit})"
        ));
    }
}

fn stats(store: &dyn AnyStore, words: &str) -> Value {
    store.cts(&format!("stats --json {words}")).success().json()
}

/// These values of all groups.
fn values(stats: &Value, keys: &[&str]) -> Value {
    let of = |group: &Value| keys.iter().map(|key| group[key].clone()).collect::<Value>();
    stats["groups"].as_array().unwrap().iter().map(of).collect()
}

fn without_a_trade_the_table_is_not_drawn(store: &dyn AnyStore) {
    store.cts("stats").status(65).says(&["cts migrate"]);
    store.migrate();
    let says = ["No position of pseudo_positions was closed in the last 30 days"];
    store.changes_nothing("stats", 0, &says);
    let says = ["\"groups\":[]", "\"winRate\":null", "\"trades\":0"];
    store.changes_nothing("stats --json --days 1 --by type", 0, &says);
    let says = ["real_pseudo_positions has neither a time of closing nor a profit"];
    store.changes_nothing("stats --source real", 0, &says);
    assert!(stats(store, "--source real")["reason"].is_string());
    assert!(stats(store, "")["reason"].is_null());
    for (words, says) in [
        ("stats --days 0", "'--days <N>'"),
        ("stats --by day", "symbol, type, connection"),
        ("stats --source exchange --by type", "exchange_positions has no type"),
    ] {
        store.changes_nothing(words, 64, &[says]);
    }
}

fn a_column_that_is_missing_is_named_with_the_remedy(store: &dyn AnyStore) {
    store.migrate();
    store.sql("ALTER TABLE statistics_daily DROP COLUMN source_rows_left");
    store.changes_nothing("stats", 65, &["source_rows_left", "cts repair"]);
}

fn one_trade_is_a_row_and_the_totals(store: &dyn AnyStore) {
    store.migrate();
    store.sql(CONNECTIONS);
    let day = day(store, 2);
    close(store, &day, &[("a", "BTC", "NULL", "12:30:00.5", 0, "-0.0625")]);
    let table = |words: &str, locale: &str| {
        let done = store.cts(words).env("LC_ALL", locale).success();
        done.out().lines().skip(1).map(str::to_string).collect::<Vec<_>>()
    };
    let columns = "  trades  wins  losses  draws  win %   profit  factor  expectancy  drawdown     best    worst     held  running sum";
    let cells = "       1     0       1      0    0.0  -0.0625    0.00     -0.0625    0.0625  -0.0625  -0.0625  30m 01s  ";
    let lines = table("stats", "C.UTF-8");
    assert_eq!(lines[0], format!("day       {columns}"));
    assert_eq!(lines[1], format!("{day}{cells}██████▁▁▁▁▁▁"));
    assert_eq!(lines[2], format!("total     {cells}▁"));
    assert_eq!(
        table("stats --by type", "C")[1..3],
        [format!("(none){cells}_"), format!("total {cells}_")]
    );
    // Nothing has calculated the statistics of that day.
    assert!(lines[3].contains(&format!("not those of the rows yet for {day}")), "{lines:?}");
    assert_eq!(stats(store, "")["outdatedStatisticsDays"], json!([day]));
    assert_eq!(stats(store, "--days 2")["total"]["trades"], 0);
}

fn trades_are_measured_by_day_symbol_type_and_connection(store: &dyn AnyStore) {
    store.migrate();
    store.sql(CONNECTIONS);
    let (first, second) = (day(store, 5), day(store, 4));
    close(
        store,
        &second,
        &[("b", "BTC", "'move'", "12:00:00", 60, "0"), ("a", "ETH", "''", "00:00:00", 0, "2.5")],
    );
    close(
        store,
        &first,
        &[
            ("a", "BTC", "'move'", "12:40:00", 20, "-8"),
            ("a", "ETH", "'move'", "12:30:00", 0, "10"),
            ("b", "BTC", "NULL", "12:50:00", 0, "1.5"),
        ],
    );
    // Those that do not count: open, without a time, and closed without a profit, which is said.
    store.sql(&format!(
        "INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, profit_loss) VALUES \
         ('a', 'BTC', 'active', '{first} 01:00:00+00', 5), ('a', 'BTC', 'closed', NULL, 5), ('a', 'BTC', 'closed', '{first} 01:00:00+00', NULL)"
    ));
    // A profit in pnl comes before the one in profit_loss.
    store.sql(&format!(
        "INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, profit_loss, pnl) VALUES \
         ('b', 'BTC', 'archived', '{second} 01:00:00+02', 5, -1)"
    ));
    let by_day = stats(store, "");
    let keys = ["day", "trades", "wins", "losses", "draws", "profit", "drawdown", "best", "worst"];
    // 01:00 at +02 is of the day before.
    let expected = json!([
        [first, 4, 2, 2, 0, 2.5, 8.0, 10.0, -8.0],
        [second, 2, 1, 0, 1, 2.5, 0.0, 2.5, 0.0]
    ]);
    assert_eq!(values(&by_day, &keys), expected, "{by_day:#}");
    assert_eq!(
        by_day["leftOut"],
        json!([{"reason": "neither pnl nor profit_loss is set", "rows": 1}])
    );
    let total = json!([6, 3, 2, 1, 0.5, 14.0 / 9.0, 5.0 / 6.0, 5.0, 8.0, false]);
    for (words, name, expected) in [
        ("", "day", json!([[first, 4], [second, 2]])),
        ("--by symbol", "symbol", json!([["ETH", 2], ["BTC", 4]])),
        ("--by type", "type", json!([["", 3], ["move", 3]])),
        ("--by connection", "connection", json!([["a", 3], ["b", 3]])),
    ] {
        let stats = stats(store, words);
        assert_eq!(values(&stats, &[name, "trades"]), expected, "{words}");
        let keys = [
            "trades",
            "wins",
            "losses",
            "draws",
            "winRate",
            "profitFactor",
            "expectancy",
            "profit",
            "drawdown",
            "drawdownIsApproximate",
        ];
        assert_eq!(
            keys.map(|key| stats["total"][key].clone())[..],
            total.as_array().unwrap()[..],
            "{words}"
        );
    }
    store.changes_nothing("stats --by symbol", 0, &["BTC", "+5.00", "left out: 1 row"]);
}

/// Sets the statistics of a day as they are once retention has deleted its rows.
fn freeze(store: &dyn AnyStore, day: &str, connection: &str, profits: (f64, f64), rows_left: u32) {
    // Two trades: a win, then a loss.
    let (win, loss) = profits;
    let total = win + loss;
    let values =
        format!("2, 1, 1, {total}, {win}, {loss}, 0.5, {}, {}, {win}, {loss}, 90.0, 2", -loss, win);
    store.sql(&format!(
        "INSERT INTO statistics_daily (connection_id, trade_date, total_trades, winning_trades, losing_trades, total_pnl, \
             total_profit, total_loss, win_rate, max_drawdown, highest_sum, max_profit, max_loss, \
             avg_hold_duration_seconds, source_rows, lowest_sum, source_rows_left) \
         VALUES ('{connection}', '{day}', {values}, {}, {rows_left})",
        total.min(0.0)
    ));
    store.sql(&format!(
        "INSERT INTO statistics_indication (connection_id, symbol, indication_type, period_start, period_end, \
             total_positions, winning_positions, losing_positions, total_pnl, total_profit, total_loss, win_rate, \
             max_drawdown, highest_sum, best_trade_pnl, worst_trade_pnl, avg_hold_duration_seconds, source_rows, lowest_sum) \
         SELECT '{connection}', 'OLD', 'move', '{day} 00:00:00.000+00', {}, {values}, {}",
        next_midnight(store, day),
        total.min(0.0)
    ));
}

fn next_midnight(store: &dyn AnyStore, day: &str) -> String {
    match store.kind() {
        "sqlite" => format!("strftime('%Y-%m-%d %H:%M:%f', '{day}', '+1 day')"),
        _ => format!("timestamptz '{day} 00:00:00+00' + interval '1 day'"),
    }
}

fn a_day_whose_rows_are_deleted_comes_from_the_statistics_tables(store: &dyn AnyStore) {
    store.migrate();
    store.sql(CONNECTIONS);
    let days: Vec<String> = [5, 4, 3].map(|ago| day(store, ago)).into();
    close(store, &days[0], &[("a", "NEW", "NULL", "12:10:00", 0, "20")]);
    freeze(store, &days[1], "a", (10.0, -25.0), 0);
    close(store, &days[2], &[("a", "NEW", "NULL", "12:10:00", 0, "-6")]);
    let keys = ["trades", "profit", "drawdown", "drawdownIsApproximate"];
    let total = |stats: &Value| keys.map(|key| stats["total"][key].clone());
    // 20, 30, 5, -1: joined exactly.
    let exact = stats(store, "");
    assert_eq!(total(&exact), [json!(4), json!(-1.0), json!(31.0), json!(false)], "{exact:#}");
    assert_eq!(
        values(&exact, &["day", "profit"]),
        json!([[days[0], 20.0], [days[1], -15.0], [days[2], -6.0]])
    );
    for (words, expected) in [
        ("--by symbol", json!([["NEW", 2, 14.0], ["OLD", 2, -15.0]])),
        ("--by type", json!([["", 2, 14.0], ["move", 2, -15.0]])),
        ("--by connection", json!([["a", 4, -1.0]])),
    ] {
        let stats = stats(store, words);
        let name = words.trim_start_matches("--by ");
        assert_eq!(values(&stats, &[name, "trades", "profit"]), expected, "{words}");
    }
    // A row of that day that came later is said, and not counted.
    close(store, &days[1], &[("a", "LATE", "NULL", "12:10:00", 0, "1000")]);
    assert_eq!(total(&stats(store, "")), total(&exact));
    assert_eq!(stats(store, "")["lateRows"], 1);
    // What another connection closed that day lies between the others.
    freeze(store, &days[1], "b", (1.0, -1.0), 1);
    let approximate = stats(store, "");
    assert_eq!(approximate["total"]["drawdownIsApproximate"], true);
    assert_eq!(approximate["total"]["profit"], -1.0);
    let done = store.cts("stats --by connection").success();
    let lines: Vec<String> = done.out().lines().map(str::to_string).collect();
    assert!(lines[2].starts_with("b") && !lines[2].contains('~'), "{lines:#?}");
    assert!(lines[4].starts_with("total") && lines[4].contains(" ~"), "{lines:#?}");
    assert!(lines[5].starts_with("~ approximate: "), "{lines:#?}");
}

fn positions_at_the_exchange_are_counted_with_their_fees(store: &dyn AnyStore) {
    store.migrate();
    store.sql(CONNECTIONS);
    let day = day(store, 3);
    store.sql(&format!(
        "INSERT INTO exchange_positions (id, connection_id, symbol, status, opened_at, closed_at, realized_pnl, fees_paid) VALUES \
         (1, 'a', 'BTC', 'closed', '{day} 09:00:00+00', '{day} 10:00:00+00', 4, 0.5), \
         (2, 'a', 'BTC', 'liquidated', NULL, '{day} 11:00:00+00', -6, 0.25), \
         (3, 'a', 'BTC', 'open', NULL, '{day} 12:00:00+00', 100, 0), \
         (4, 'b', 'ETH', 'closed', NULL, '{day} 13:00:00+00', NULL, NULL)"
    ));
    let stats = stats(store, "--source exchange --by symbol");
    let keys = ["symbol", "trades", "profit", "drawdown", "fees", "meanHoldingSeconds"];
    assert_eq!(values(&stats, &keys), json!([["BTC", 2, -2.0, 6.0, 0.75, 3600.0]]), "{stats:#}");
    assert_eq!(stats["leftOut"], json!([{"reason": "realized_pnl is not set", "rows": 1}]));
    assert_eq!(stats["outdatedStatisticsDays"], json!([]));
    let says =
        ["exchange_positions closed in the last 30 days", "  fees  running sum", "  0.750  "];
    store.changes_nothing("stats --source exchange", 0, &says);
}

fn names_and_sums_beyond_the_usual_are_shown_as_they_are(store: &dyn AnyStore) {
    store.migrate();
    store.sql(CONNECTIONS);
    let day = day(store, 3);
    let long = "é".repeat(100);
    close(
        store,
        &day,
        &[
            ("a", "", "''", "12:10:00", 0, "1e308"),
            ("a", &long, "'(none)'", "12:20:00", 0, "1e308"),
            ("a", "T", "'tiny'", "12:30:00", 0, "1e-7"),
        ],
    );
    let lines = |words: &str, locale: &str| {
        let done = store.cts(words).env("LC_ALL", locale).success();
        done.out().lines().map(str::to_string).collect::<Vec<_>>()
    };
    let by_type = lines("stats --by type", "C.UTF-8");
    let cells = |line: &str| line.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(cells(&by_type[2])[..2], ["(none)", "1"]);
    assert_eq!(cells(&by_type[3])[..2], ["\"(none)\"", "1"]);
    // The sum of all, and its mean, are beyond the largest number.
    let total = cells(&by_type[5]);
    assert_eq!((&*total[0], &*total[6], &*total[8]), ("total", "-", "-"), "{by_type:#?}");
    assert!(by_type[6].contains("beyond the largest number"), "{by_type:#?}");
    let all = stats(store, "--by symbol");
    assert!(all["total"]["profit"].is_null() && all["groups"][0]["profit"].is_number(), "{all:#}");
    let by_symbol = lines("stats --by symbol", "C.UTF-8");
    assert!(by_symbol.iter().any(|line| line.starts_with("\"\" ")), "{by_symbol:#?}");
    let of_long = by_symbol.iter().find(|line| line.starts_with('é')).unwrap();
    assert!(of_long.contains('…') && of_long.chars().count() < 200, "{by_symbol:#?}");
    assert!(lines("stats --by symbol", "C").iter().all(|line| line.is_ascii()));
    store.sql("DELETE FROM pseudo_positions WHERE symbol <> 'T'");
    let tiny = lines("stats --by symbol", "C.UTF-8");
    assert_eq!(cells(&tiny[2])[8], "+1.0000e-7", "{tiny:#?}");
    if store.kind() == "sqlite" {
        // No time, so of no day: said whatever the days are.
        store.sql("UPDATE pseudo_positions SET closed_at = x'3230'");
        for words in ["stats --days 1", "stats --days 3000"] {
            store.changes_nothing(
                words,
                0,
                &["left out: 1 row of all days: closed_at is not a time"],
            );
        }
    }
}

fn statistics_of_deleted_rows_that_contradict_themselves_are_said(store: &dyn AnyStore) {
    store.migrate();
    store.sql(CONNECTIONS);
    let days: Vec<String> = [5, 4].map(|ago| day(store, ago)).into();
    for day in &days {
        freeze(store, day, "a", (10.0, -25.0), 2);
    }
    close(
        store,
        &days[0],
        &[("a", "X", "'m'", "12:10:00", 0, "10"), ("a", "X", "'m'", "12:20:00", 0, "-25")],
    );
    let altered = || stats(store, "")["alteredStatisticsDays"].clone();
    assert_eq!(altered(), json!([]));
    // The day and its groups agree, and the rows are not these.
    store.sql("UPDATE pseudo_positions SET profit_loss = 11 WHERE profit_loss = 10");
    assert_eq!(altered(), json!([days[0]]));
    // The day and its groups do not agree.
    store.sql(&format!(
        "UPDATE statistics_daily SET total_pnl = total_pnl + 1 WHERE trade_date = '{}'",
        days[1]
    ));
    assert_eq!(altered(), json!(days));
    store.changes_nothing("stats", 0, &["contradict themselves or the rows for 2 days from"]);
    // Nothing but the record of the days says that positions were deleted.
    let record = format!(
        "INSERT INTO system_settings (key, value, category) VALUES ('positions_deleted_until', '{}', 'retention')",
        days[1]
    );
    store.sql(&record);
    store.sql("DELETE FROM statistics_daily");
    store.sql("UPDATE pseudo_positions SET profit_loss = 10 WHERE profit_loss = 11");
    let read = stats(store, "");
    // The positions of the first day are still there, those of the second are not.
    assert_eq!(read["alteredStatisticsDays"], json!([days[1]]), "{read:#}");
    assert_eq!(read["outdatedStatisticsDays"], json!([days[0]]), "{read:#}");
    store.changes_nothing("stats", 0, &["or lack the row of the day"]);
}
