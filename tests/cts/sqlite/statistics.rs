//! The statistics on a SQLite file under faults: a damaged page, a full disk, a wrong clock, two services; and a
//! late change while the service runs.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::disk::Disk;
use crate::support::harness::{Machine, Run, Service, await_that, await_within, is_root};

/// Positions of 60 days.
const HISTORY: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('c1', 'one'), ('c2', 'two');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
    INSERT INTO pseudo_positions (connection_id, symbol, indication_type, strategy_type, status, pnl, opened_at, closed_at)
    SELECT iif(i % 3, 'c1', 'c2'), 'SYM' || (i % 7), 'type' || (i % 5), 'main', 'closed', (abs(random()) % 2001 - 1000) / 7.0,
        strftime('%Y-%m-%d %H:%M:%f', 1.76e9 + i * 864 - 60, 'unixepoch'), strftime('%Y-%m-%d %H:%M:%f', 1.76e9 + i * 864, 'unixepoch')
    FROM n;";
/// Of the Debian package faketime (see `both/clock.rs`).
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

fn with_history() -> Machine {
    let machine = Machine::migrated();
    machine.sql(HISTORY);
    machine
}

fn is_proved(run: Run) -> bool {
    run.run().0.status.code() == Some(0)
}

fn until_proved(machine: &Machine) {
    await_that("the statistics are proved", || is_proved(machine.cts("verify --statistics")));
}

fn served(machine: &Machine) -> Service {
    let service = machine.cts("serve --port 0").start();
    service.until_ready();
    service
}

#[test]
fn a_damaged_page_is_said_and_the_other_days_are_calculated() {
    let machine = with_history();
    machine.sql("UPDATE pseudo_positions SET symbol = 'DAMAGED-DAMAGED' WHERE id = 3000; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)");
    let mut bytes = fs::read(machine.db()).unwrap();
    let at = bytes.windows(15).position(|window| window == b"DAMAGED-DAMAGED").unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 100].fill(0xff);
    fs::write(machine.db(), bytes).unwrap();
    let service = served(&machine);
    let answer = service.until_status("unhealthy");
    assert!(answer.body.contains("the statistics are not kept current"), "{}", answer.body);
    assert!(answer.body.contains("damaged"), "{}", answer.body);
    assert_eq!(service.get("/livez").code, 200);
    await_that("the days of other pages are calculated", || {
        machine.number("SELECT count(DISTINCT trade_date) FROM statistics_daily") > 20
    });
    assert_eq!(service.get("/livez").code, 200);
    machine.cts("verify --statistics").status(65).says(&["damaged"]);
}

#[test]
fn a_full_disk_stops_the_statistics_and_not_the_service() {
    if !is_root() {
        return;
    }
    let machine = Machine::new();
    // Less than 16 MiB that are free beside the database and its WAL would be a fault of their own.
    let disk = Disk::mount_with(&machine, "size=64m", 64 << 20);
    let db = disk.folder.join("cts.db");
    machine.cts("migrate").db(&db).success();
    rusqlite::Connection::open(&db).unwrap().execute_batch(HISTORY).unwrap();
    // A backup that falls into this time fails as well, which is another condition.
    let service = machine.cts("serve --port 0").db(&db).env("CTS_BACKUP_EVERY", "0").start();
    service.until_ready();
    disk.leave(0);
    service.until("the statistics are not kept current");
    assert_eq!(service.get("/livez").code, 200);
    disk.leave(disk.size);
    await_that("the statistics are proved", || {
        is_proved(machine.cts("verify --statistics").db(&db))
    });
    service.until_status("healthy");
    service.stop();
}

#[test]
fn a_clock_that_is_set_back_or_forward_changes_no_statistics() {
    let machine = with_history();
    let service = served(&machine);
    until_proved(&machine);
    service.stop();
    let rows = || {
        machine.texts("SELECT trade_date || connection_id || total_pnl || source_digest || last_calculated_at FROM statistics_daily ORDER BY id")
    };
    let before = rows();
    for time in ["@2025-01-01 00:00:00", "@2027-12-31 23:59:55"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cts"));
        command.args(["serve", "--port", "0"]).env_clear().env("SQLITE_DB_PATH", machine.db());
        command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", time).env("DONT_FAKE_MONOTONIC", "1");
        let service = Run { command }.start();
        service.until_ready();
        // A new position shows that days were compared by then.
        machine.sql("INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'new', 'closed', '2024-05-05', 1)");
        until_proved(&machine);
        service.stop();
        machine.sql("DELETE FROM pseudo_positions WHERE symbol = 'new'; DELETE FROM statistics_daily WHERE trade_date = '2024-05-05'");
        assert_eq!(rows(), before, "{time}");
    }
}

#[test]
fn a_clock_that_is_ahead_of_the_recorded_one_makes_no_day_too_old() {
    let machine = with_history();
    machine.sql(
        "UPDATE system_settings SET value = '20000' WHERE key = 'statistics_days'; \
         INSERT INTO system_settings (key, value) VALUES ('retention_clock', strftime('%Y-%m-%dT%H:%M:%fZ', 'now') || ' x 1')",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_cts"));
    command.args(["verify", "--statistics"]).env_clear().env("SQLITE_DB_PATH", machine.db());
    command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", "@2099-01-01 00:00:00");
    Run { command }.status(1).says(&[": 61 days, 6000 positions and 0 rows of statistics\n"]);
}

#[test]
fn a_late_change_is_counted_while_the_service_runs_and_two_services_write_nothing_twice() {
    let machine = with_history();
    machine.sql(
        "INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) \
         VALUES ('c1', 'recent', 'closed', strftime('%Y-%m-%d %H:%M:%f', 'now', '-2 days'), 1)",
    );
    let services = [served(&machine), served(&machine)];
    until_proved(&machine);
    // One of the last week, and an old one.
    machine.sql("UPDATE pseudo_positions SET pnl = 2 WHERE symbol = 'recent' OR id = 1");
    machine.cts("verify --statistics").status(1).says(&["altered:  statistics_daily"]);
    await_within(Duration::from_secs(75), "both changes are counted", || {
        is_proved(machine.cts("verify --statistics"))
    });
    for service in services {
        service.stop();
    }
    machine.cts("verify --statistics").success();
}

#[test]
fn what_is_no_time_or_no_day_ends_nothing_and_is_said() {
    let machine = with_history();
    for closed_at in [
        "x'323032362d31312d3230'",
        "'9999-12-31 23:59:59'",
        "'2026-13-45'",
        "'zz'",
        "'1795811445123'",
        "'2026-11-20 99:00'",
    ] {
        machine.sql(&format!("INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'odd', 'closed', {closed_at}, 1)"));
    }
    machine.sql("INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) VALUES ('c1', 'future', 'closed', '2999-06-01', 1)");
    let service = served(&machine);
    until_proved(&machine);
    service.stop();
    machine
        .cts("verify --statistics")
        .success()
        .says(&["left out: 6 positions: closed_at is not a time\n"]);
    machine.sql("UPDATE statistics_daily SET trade_date = '2025-11-0x' WHERE id = 5; UPDATE statistics_strategy SET period_start = 'zz' WHERE id = 9; \
         UPDATE statistics_daily SET win_rate = 7 WHERE trade_date = '2999-06-01'");
    machine.cts("verify --statistics").status(1).says(&[
        "surplus:  statistics_daily, ",
        "surplus:  statistics_strategy, ",
        "altered:  statistics_daily, 2999-06-01, connection c1: win_rate\n",
        "5 differences: ",
    ]);
    let service = served(&machine);
    until_proved(&machine);
    service.stop();
}
