//! The measures of 10,000 random histories are those that programs of others calculate of the same rows: freqtrade and
//! quantstats, which `tests/run.sh` installs, by `tests/clients/measures.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::params;
use serde_json::Value;

use crate::support::harness::{Machine, await_within};
use crate::support::project::source;
use crate::support::random::Random;

/// Ten thousand days and connections on a busy machine.
const CALCULATED_WITHIN: Duration = Duration::from_secs(300);
const CONNECTIONS: usize = 500;
const DAYS: usize = 20;

/// Where `tests/run.sh` installs them.
fn packages() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let packages = cache.unwrap_or_default().join("cts/statistics");
    if !packages.join("freqtrade_metrics.py").exists() {
        let missing = packages.display();
        crate::support::not_tried(&format!("{missing} is missing; tests/run.sh installs it"));
        return None;
    }
    Some(packages)
}

/// A profit of one of several kinds: of a quote currency in cents, tiny, as exact as a double is, and nothing.
fn profit(random: &mut Random, kind: usize) -> f64 {
    let cents = random.below(200_001) as f64 / 100.0;
    let signed = |amount: f64| amount - 1_000.0;
    match (kind, random.below(20)) {
        (0, _) => cents,
        (1, _) => -cents,
        (_, 0) => 0.0,
        (2, _) => signed(cents) / 1e6,
        (3, _) => signed(cents) * (random.below(1 << 20) as f64) / 1e5,
        _ => signed(cents),
    }
}

/// Closes positions of each connection on each day: one to some dozens, not inserted in the order of closing, some of
/// them at the same time.
fn fill(machine: &Machine) {
    let mut conn = machine.open();
    let mut random = Random(1_007);
    let transaction = conn.transaction().unwrap();
    let sql = "INSERT INTO exchange_connections (id, name, exchange) VALUES (?1, ?1, 'x')";
    for connection in 0..CONNECTIONS {
        transaction.execute(sql, [format!("c{connection}")]).unwrap();
    }
    let mut insert = transaction
        .prepare(
            "INSERT INTO pseudo_positions (connection_id, symbol, indication_type, strategy_type, status, closed_at, profit_loss, pnl) \
             VALUES (?1, ?2, ?3, 'base', 'closed', date('now', ?4) || printf(' %02d:%02d:00.000', ?5, ?6), ?7, ?8)",
        )
        .unwrap();
    for day in 1..=DAYS {
        for connection in 0..CONNECTIONS {
            let (kind, count) = (random.below(8), 1 + random.below(4) * random.below(8));
            for _ in 0..count {
                let profit = profit(&mut random, kind);
                // What stands in pnl comes first.
                let (loss, pnl) =
                    if random.below(3) == 0 { (77.0, Some(profit)) } else { (profit, None) };
                let (hour, minute) = (random.below(24), random.below(60));
                let symbol = format!("S{}", random.below(2));
                let (id, ago) = (format!("c{connection}"), format!("-{day} days"));
                insert.execute(params![id, symbol, "move", ago, hour, minute, loss, pnl]).unwrap();
            }
        }
    }
    drop(insert);
    transaction.commit().unwrap();
}

/// What differs, after this many histories were compared.
fn differences(packages: &Path, machine: &Machine, words: &[&str]) -> (u64, Vec<String>) {
    let done = Command::new("python3")
        .arg(source("tests/clients/measures.py"))
        .arg(packages)
        .arg(machine.db())
        .args(words)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    let texts = found["differences"].as_array().unwrap().iter();
    let texts = texts.map(|text| text.as_str().unwrap().to_string()).collect();
    (found["histories"].as_u64().unwrap(), texts)
}

#[test]
fn ten_thousand_histories_are_measured_as_others_measure_them() {
    let Some(packages) = packages() else { return };
    let machine = Machine::migrated();
    fill(&machine);
    let service = machine.serve().start();
    let histories = (CONNECTIONS * DAYS) as i64;
    await_within(CALCULATED_WITHIN, "the statistics are calculated", || {
        machine.number("SELECT count(*) FROM statistics_daily") == histories
    });
    service.stop();
    let stats = machine.path("stats.json");
    let printed = machine.cts("stats --json --by connection").success();
    assert_eq!(printed.json()["outdatedStatisticsDays"], serde_json::json!([]));
    fs::write(&stats, printed.out()).unwrap();
    let (compared, found) = differences(&packages, &machine, &[stats.to_str().unwrap()]);
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(compared, (CONNECTIONS * (DAYS + 1)) as u64);
    // It would find the least edit.
    for column in [
        "total_trades",
        "winning_trades",
        "losing_trades",
        "total_pnl",
        "total_profit",
        "total_loss",
        "max_profit",
        "max_loss",
        "max_drawdown",
        "win_rate",
    ] {
        machine.sql(&format!(
            "UPDATE statistics_daily SET {column} = {column} * (1 + 1e-8) + 1e-8 WHERE connection_id = 'c7'"
        ));
    }
    let (compared, found) = differences(&packages, &machine, &["-", "--only", "c7"]);
    assert_eq!(compared, DAYS as u64);
    assert!(found.len() >= 9 * DAYS, "{found:#?}");
}
