//! Retention on a SQLite file: what is deleted, what never is, and by which clock.

use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::disk::Disk;
use crate::support::harness::{Machine, Run, await_within, is_root};
use crate::support::kills::kill_after;

/// Of the Debian package faketime; the dynamic linker replaces `$LIB`.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// Fills `site_logs` with so many rows of programs that are old, and as many that are young.
fn fill_logs(machine: &Machine, rows: u32) {
    machine.sql(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {rows} - 1) \
         INSERT INTO site_logs (timestamp, level, category, message) \
         SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '-60 days', '+' || i || ' seconds'), 'info', 'engine', \
             'a line of the engine as it is written now and then, number ' || i FROM n \
         UNION ALL SELECT strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || ({rows} - i) || ' seconds'), 'info', 'engine', 'young' FROM n"
    ));
}

fn logs(machine: &Machine, which: &str) -> i64 {
    machine.number(&format!("SELECT count(*) FROM site_logs WHERE category = 'engine' AND {which}"))
}

const OLD: &str = "message <> 'young'";
const YOUNG: &str = "message = 'young'";

/// Deletes are counted by table.
fn rows_of(json: &Value, table: &str) -> i64 {
    let tables = json["tables"].as_array().unwrap().iter();
    tables
        .filter(|found| found["table"] == table)
        .map(|found| found["rows"].as_i64().unwrap())
        .sum()
}

#[test]
fn a_run_that_is_interrupted_says_how_many_rows_it_has_deleted() {
    let machine = Machine::migrated();
    fill_logs(&machine, 100_000);
    let run = machine.cts("prune").start();
    await_within(Duration::from_secs(60), "rows are deleted", || logs(&machine, OLD) < 100_000);
    run.signal(Signal::INT);
    let (code, log) = run.end();
    assert_eq!(code, Some(75), "{log}");
    assert!(log.contains("old rows were deleted") && log.contains("remains"), "{log}");
    assert!(!log.contains("nothing was changed"), "{log}");
    let left = logs(&machine, OLD);
    assert!(left > 0 && logs(&machine, YOUNG) == 100_000, "{left}");
}

#[test]
fn only_old_rows_of_the_rules_go_and_a_dry_run_says_which() {
    let machine = Machine::migrated();
    let before = machine.number("SELECT count(*) FROM site_logs");
    machine.sql(
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x'); \
         INSERT INTO site_logs (timestamp, level, category, message, context) VALUES \
             (datetime('now', '-31 days'), 'info', 'engine', 'goes', NULL), \
             (strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-32 days'), 'info', 'engine', 'goes', NULL), \
             (datetime('now', '-400 days'), 'error', 'database', 'goes', NULL), \
             (datetime('now', '-40 days'), 'error', 'database', 'goes', 'of a program'), \
             (datetime('now', '-40 days'), 'error', 'database', 'stays', NULL), \
             (datetime('now', '-29 days'), 'info', 'engine', 'stays', NULL), (datetime('now'), 'info', 'engine', 'stays', NULL), \
             (datetime('now', '-30 days', '+1 hour') || '-05:00', 'info', 'engine', 'stays', NULL), \
             (NULL, 'info', 'engine', 'stays', NULL), ('', 'info', 'engine', 'stays', NULL), \
             ('a year ago', 'info', 'engine', 'stays', NULL), (x'32303230', 'info', 'engine', 'stays', NULL), \
             ('20200101', 'info', 'engine', 'stays', NULL), (datetime('now', '+400 days'), 'info', 'engine', 'stays', NULL); \
         INSERT INTO indications_move (connection_id, symbol, status, calculated_at, metadata) VALUES \
             ('c', 'B', 'expired', datetime('now', '-8 days'), 'goes'), \
             ('c', 'B', 'active', datetime('now', '-8 days'), 'stays'), ('c', 'B', NULL, datetime('now', '-8 days'), 'stays'), \
             ('c', 'B', 'closed', datetime('now', '-8 days'), 'stays'), ('c', 'B', 'expired', datetime('now', '-6 days'), 'stays'); \
         INSERT INTO statistics_daily (connection_id, trade_date) VALUES ('c', '2020-01-01');",
    );
    let everything = machine.files();
    let dry = machine.cts("prune --dry-run --json").success().json();
    assert_eq!(machine.files(), everything, "a dry run changes no byte");
    assert_eq!((rows_of(&dry, "site_logs"), rows_of(&dry, "indications_move")), (4, 1), "{dry}");
    let done = machine.cts("prune --json").success().json();
    assert_eq!(done["tables"].as_array().unwrap().len(), dry["tables"].as_array().unwrap().len());
    assert_eq!((rows_of(&done, "site_logs"), rows_of(&done, "indications_move")), (4, 1), "{done}");
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE message = 'goes'"), 0);
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE message = 'stays'"), 10);
    assert_eq!(machine.number("SELECT count(*) FROM indications_move WHERE metadata = 'stays'"), 4);
    assert_eq!(machine.number("SELECT count(*) FROM indications_move"), 4);
    assert_eq!(machine.number("SELECT count(*) FROM statistics_daily"), 1, "statistics_days is 0");
    // It is written down; a second run finds nothing, and writes nothing.
    let entries = "SELECT count(*) FROM site_logs WHERE message LIKE 'prune: 5 old rows deleted%'";
    assert_eq!(machine.number(entries), 1);
    let everything = machine.number("SELECT count(*) FROM site_logs");
    assert_eq!(everything, before + 10 + 1);
    machine.cts("prune").success().says(&["no row is old enough"]);
    assert_eq!(machine.number("SELECT count(*) FROM site_logs"), everything);
}

#[test]
fn nonsense_deletes_nothing_by_its_rule_and_is_said() {
    let machine = Machine::migrated();
    fill_logs(&machine, 3);
    machine.sql(
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x'); \
         INSERT INTO statistics_daily (connection_id, trade_date) VALUES ('c', '2020-01-01'); \
         UPDATE system_settings SET value = '30' WHERE key = 'statistics_days'",
    );
    for value in ["abc", "-1", "30.5", "36501", "", "1e2", "99999999999999999999"] {
        machine.sql(&format!(
            "UPDATE system_settings SET value = '{value}' WHERE key = 'site_logs_days'"
        ));
        let said = format!("setting site_logs_days is '{value}'");
        machine.cts("prune").status(78).says(&[&said, "from 0 to 36500"]);
        machine.cts("doctor --port 0").run().says(&[&said]);
        assert_eq!(logs(&machine, OLD), 3);
    }
    assert_eq!(machine.number("SELECT count(*) FROM statistics_daily"), 0, "other rules hold");
    // 0 keeps all, and the setting of an older CTS keeps for longer.
    machine.sql("UPDATE system_settings SET value = '0' WHERE key = 'site_logs_days'");
    machine.cts("prune").success();
    machine.sql("UPDATE system_settings SET value = '30' WHERE key = 'site_logs_days'");
    machine.sql("INSERT INTO system_settings (key, value) VALUES ('logRetentionDays', '90')");
    machine.cts("prune").success();
    assert_eq!(logs(&machine, OLD), 3);
    machine.sql("UPDATE system_settings SET value = '7' WHERE key = 'logRetentionDays'");
    machine.cts("prune").success();
    assert_eq!((logs(&machine, OLD), logs(&machine, YOUNG)), (0, 3));
}

#[test]
fn a_setting_that_is_there_twice_keeps_longest_and_one_of_another_program_deletes_nothing() {
    let machine = Machine::migrated();
    fill_logs(&machine, 3);
    machine.sql("DROP INDEX idx_system_settings_key");
    let set = |rows: &[&str]| {
        machine.sql("DELETE FROM system_settings WHERE key = 'site_logs_days'");
        for row in rows {
            machine.sql(&format!(
                "INSERT INTO system_settings (key, value, category) VALUES ('site_logs_days', {row})"
            ));
        }
    };
    let twice = "setting site_logs_days is there 2 times";
    for (rows, said, json) in [
        (["'7', 'retention'", "'90', 'retention'"].as_slice(), twice, "90"),
        (&["'0', 'retention'", "'7', 'retention'"], twice, "0"),
        (&["'7', 'retention'", "'x', 'retention'"], "site_logs_days is 'x'", "null"),
        (&["'7', 'web'"], "has the category 'web'", "null"),
        (&["x'37', 'retention'"], "site_logs_days is 'x'37''", "null"),
        (&["7.5, 'retention'"], "site_logs_days is '7.5'", "null"),
        (&["'-1', 'retention'"], "site_logs_days is '-1'", "null"),
    ] {
        set(rows);
        machine.cts("prune").status(78).says(&[said]);
        let done = machine.cts("prune --json").status(78).json();
        assert_eq!(done["settings"]["site_logs_days"].to_string(), json, "{rows:?}");
        assert_eq!(logs(&machine, OLD), 3, "{rows:?}");
    }
    set(&["'30', 'retention'"]);
    machine.sql("INSERT INTO system_settings (key, value) VALUES ('logRetentionDays', 'ever')");
    machine
        .cts("prune")
        .status(78)
        .says(&["DELETE FROM system_settings WHERE key = 'logRetentionDays'"]);
    assert_eq!(logs(&machine, OLD), 3);
    machine.sql("DELETE FROM system_settings WHERE key = 'logRetentionDays'");
    machine.cts("prune").success();
    assert_eq!(logs(&machine, OLD), 0);
}

#[test]
fn a_table_that_cannot_be_pruned_is_said_with_a_remedy_and_keeps_no_other_from_it() {
    let repair = "`cts repair` puts it back";
    for (sql, code, said) in [
        (
            "CREATE TABLE notes (line INTEGER REFERENCES indications_move (id) ON DELETE CASCADE)",
            65,
            "table notes refers to rows of indications_move",
        ),
        ("ALTER TABLE indications_move RENAME COLUMN calculated_at TO calculated", 65, repair),
        ("DROP TABLE indications_move", 65, repair),
        (
            "INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x'); \
          INSERT INTO indications_move (connection_id, symbol, status, calculated_at) VALUES ('c', 'B', 'expired', '2020-01-01'); \
          CREATE TRIGGER no BEFORE DELETE ON indications_move BEGIN SELECT raise(ABORT, 'no'); END",
            65,
            "drop the trigger",
        ),
        (
            "ALTER TABLE system_settings RENAME COLUMN category TO kind",
            65,
            "the settings of retention cannot be read",
        ),
    ] {
        let machine = Machine::migrated();
        fill_logs(&machine, 3);
        machine.sql(sql);
        machine.cts("prune").status(code).says(&[said]);
        let is_readable = !sql.contains("system_settings");
        assert_eq!(logs(&machine, OLD) == 0, is_readable, "{sql}");
    }
}

/// A run whose clock shows this time.
fn at(time: &str, machine: &Machine, words: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cts"));
    command.args(words.split_whitespace()).env_clear().env("SQLITE_DB_PATH", machine.db());
    command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", time).env("DONT_FAKE_MONOTONIC", "1");
    command.env("NO_FAKE_STAT", "1");
    Run { command }
}

const CLOCK: &str = "SELECT value FROM system_settings WHERE key = 'retention_clock'";

#[test]
fn a_clock_that_nothing_proves_deletes_nothing_until_programs_write_by_it() {
    let machine = Machine::migrated();
    fill_logs(&machine, 3);
    machine.sql(
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x'); \
         INSERT INTO indications_auto (connection_id, symbol, status) VALUES ('c', 'B', 'expired')",
    );
    let kept = || {
        assert_eq!((logs(&machine, OLD), logs(&machine, YOUNG)), (3, 3));
        assert_eq!(machine.number("SELECT count(*) FROM indications_auto"), 1);
    };
    let doubt = "ahead of the newest row that other programs wrote";
    // None, and one that is none.
    for record in ["", "INSERT INTO system_settings (key, value) VALUES ('retention_clock', 'x')"] {
        machine.sql(record);
        at("+1y", &machine, "prune").status(78).says(&[doubt, "`cts prune --trust-clock`"]);
        at("+1y", &machine, "prune --dry-run").success().says(&[doubt, "would be deleted"]);
        at("+1y", &machine, "doctor --port 0").run().says(&[doubt]);
        let service = at("+1y", &machine, "serve --port 0").start();
        service.until_ready().until(doubt);
        let answer = service.get("/api/health/database");
        assert!(answer.code == 200 && answer.body.contains(doubt), "{}", answer.body);
        let (_, log) = service.stop();
        assert!(!log.contains("will be deleted"), "{log}");
        // What cts has written itself by that clock proves nothing.
        at("+1y", &machine, "prune").status(78).says(&[doubt]);
        at("-1y", &machine, "prune").status(78).says(&["before cts was built"]);
        kept();
    }
    // At the right time, rows prove it, and it is recorded though nothing goes.
    machine.sql("UPDATE system_settings SET value = '0' WHERE key = 'site_logs_days'");
    machine.cts("prune").success().says(&["no row is old enough"]);
    assert!(machine.texts(CLOCK)[0].starts_with("20"), "{:?}", machine.texts(CLOCK));
    machine.sql("UPDATE system_settings SET value = '30' WHERE key = 'site_logs_days'");
    at("+1y", &machine, "prune").success().says(&["ahead of what has passed"]);
    assert_eq!((logs(&machine, OLD), logs(&machine, YOUNG)), (0, 3));
    // Programs that write by a clock prove it, where there is no record.
    machine.sql(
        "DELETE FROM system_settings WHERE key = 'retention_clock'; \
         INSERT INTO site_logs (timestamp, level, category, message) VALUES (datetime('now', '+1 year'), 'info', 'engine', 'later')",
    );
    at("+1y", &machine, "prune").success();
    assert_eq!((logs(&machine, YOUNG), logs(&machine, "message = 'later'")), (0, 1));
}

#[test]
fn a_record_that_lies_in_the_future_is_set_back() {
    let machine = Machine::migrated();
    fill_logs(&machine, 3);
    let record = |value: &str| {
        machine.sql(&format!(
            "INSERT OR REPLACE INTO system_settings (key, value) VALUES ('retention_clock', {value})"
        ));
    };
    let is_right = || {
        let found = machine.number(
            "SELECT abs(unixepoch(substr(value, 1, 19)) - unixepoch()) < 3600 FROM system_settings WHERE key = 'retention_clock'",
        );
        assert_eq!(found, 1, "{:?}", machine.texts(CLOCK));
    };
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for boot in ["another-start", boot.trim()] {
        let future = format!("strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+1 year') || ' {boot} 1000'");
        record(&future);
        machine.cts("doctor --port 0").run().says(&["days ahead of the clock"]);
        machine.cts("prune").success().says(&["days ahead of the clock: the clock is believed"]);
        is_right();
        at("+350d", &machine, "prune").run();
        assert_eq!(logs(&machine, YOUNG), 3);
        record(&future);
        let service = machine.serve().start();
        service.until_ready().until("days ahead of the clock");
        service.stop();
        is_right();
    }
}

#[test]
fn a_clock_that_jumps_deletes_nothing() {
    let machine = Machine::migrated();
    // Deletes something, so that the time is recorded.
    fill_logs(&machine, 3);
    machine.cts("prune").success();
    machine.sql("INSERT INTO system_settings (key, value) VALUES ('note', 'x')");
    for (time, said) in [("+1y", "ahead of what has passed"), ("-1y", "before cts was built")] {
        let done = at(time, &machine, "prune").run();
        assert!(done.all_err().contains(said), "{}", done.all_err());
        assert_eq!(logs(&machine, YOUNG), 3, "{time}");
        at(time, &machine, "prune --dry-run").run();
    }
    // The machine was started anew since the record: a day is believed, and no more.
    let record = |value: &str| {
        machine.sql(&format!(
            "UPDATE system_settings SET value = {value} WHERE key = 'retention_clock'"
        ));
    };
    record("strftime('%Y-%m-%dT%H:%M:%SZ', 'now') || ' another-start 1000'");
    at("+1y", &machine, "prune").success();
    assert_eq!(logs(&machine, YOUNG), 3);
    // A person says that it is right.
    at("+1y", &machine, "prune --trust-clock").success();
    assert_eq!(logs(&machine, YOUNG), 0);
    let clock = machine.texts("SELECT value FROM system_settings WHERE key = 'retention_clock'");
    assert!(clock[0].starts_with("202") && clock[0].as_str() > "2027", "{clock:?}");
}

#[test]
fn an_adopted_database_is_told_what_will_go_and_keeps_it() {
    let machine = Machine::new();
    machine.sql(
        "CREATE TABLE indication_states (id INTEGER PRIMARY KEY, connection_id TEXT, state_key TEXT); \
         CREATE TABLE site_logs (id INTEGER PRIMARY KEY, timestamp TEXT, level TEXT NOT NULL, category TEXT NOT NULL, message TEXT NOT NULL); \
         INSERT INTO site_logs (timestamp, level, category, message) VALUES \
             ('2024-01-01 00:00:00', 'info', 'engine', 'old'), (datetime('now'), 'info', 'engine', 'young')",
    );
    let off = machine.serve().env("CTS_RETENTION", "0").start();
    off.until_ready();
    let service = machine.serve().start();
    service
        .until_ready()
        .until("old rows will be deleted: site_logs 1 row to 2024-01-01T00:00:00.000Z");
    service.stop();
    let (_, log) = off.stop();
    assert!(!log.contains("old rows"), "{log}");
    assert_eq!(logs(&machine, OLD), 1);
}

const SMALL: &str =
    "UPDATE system_settings SET value = '16777216' WHERE key = 'database_max_bytes'";

#[test]
fn a_database_that_stays_too_large_is_degraded() {
    let machine = Machine::migrated();
    machine.sql(&format!(
        "INSERT INTO site_logs (timestamp, level, category, message) VALUES (datetime('now', '-2 days'), 'info', 'engine', printf('%.*c', 9000000, 'a')); \
         INSERT INTO site_logs (timestamp, level, category, message) VALUES (datetime('now', '-2 minutes'), 'info', 'engine', printf('%.*c', 9000000, 'b')); \
         CREATE TABLE own AS SELECT zeroblob(9000000) AS content; {SMALL}",
    ));
    machine.cts("prune --dry-run").success().says(&["above database_max_bytes (16 MiB)"]);
    machine.cts("doctor --port 0").run().says(&["above database_max_bytes (16 MiB)"]);
    // The row of two days goes, that of two minutes stays.
    let done = machine.cts("prune --json").status(78).json();
    assert_eq!(rows_of(&done["size"], "site_logs"), 1, "{done}");
    assert_eq!(done["size"]["exceeded"], true, "{done}");
    assert_eq!(logs(&machine, "message LIKE 'b%'"), 1);
    let exceeded = "and nothing more may be deleted";
    machine.cts("prune --dry-run").status(78).says(&[exceeded]);
    machine.cts("prune").status(78).says(&[exceeded, "raise database_max_bytes"]);
    // Nothing is announced where nothing may go.
    let service = machine.serve().start();
    service.until_ready();
    let answer = service.until_status("degraded");
    assert!(answer.body.contains(exceeded), "{}", answer.body);
    let (_, log) = service.stop();
    assert!(!log.contains("will be deleted"), "{log}");
    machine.sql("DROP TABLE own");
    let done = machine.cts("prune --json").success().json();
    assert_eq!(done["size"], Value::Null, "free pages are not counted: {done}");
}

#[test]
fn the_oldest_rows_of_all_tables_go_first_for_the_size() {
    let machine = Machine::migrated();
    // 20 days, of each a log line and an indication of 1 MB, in turns of age.
    machine.sql(&format!(
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x'); \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) \
         INSERT INTO site_logs (timestamp, level, category, message) \
         SELECT datetime('now', '-' || (21 - i) || ' days'), 'info', 'engine', printf('%.*c', 1000000, 'a') FROM n; \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20) \
         INSERT INTO indications_auto (connection_id, symbol, status, calculated_at, metadata) \
         SELECT 'c', 'B', 'expired', datetime('now', '-' || (21 - i) || ' days', '+12 hours'), printf('%.*c', 1000000, 'a') FROM n; \
         UPDATE system_settings SET value = '0' WHERE key = 'indications_expired_days'; {SMALL}",
    ));
    let done = machine.cts("prune --json").success().json();
    assert_eq!(done["size"]["exceeded"], false, "{done}");
    let left = machine.number("SELECT count(*) FROM site_logs WHERE category = 'engine'");
    let left_indications = machine.number("SELECT count(*) FROM indications_auto");
    assert!((7..10).contains(&left) && (left - left_indications).abs() <= 1, "{left} {done}");
    let oldest = machine.number("SELECT julianday('now') - julianday(min(timestamp)) < 10 FROM site_logs WHERE category = 'engine'");
    assert_eq!(oldest, 1);
}

#[test]
fn a_writer_at_full_speed_is_not_held_up() {
    let machine = Machine::migrated();
    fill_logs(&machine, 12_000);
    let pruning = machine.cts("prune --json").start();
    let conn = Connection::open(machine.db()).unwrap();
    conn.busy_timeout(Duration::from_secs(5)).unwrap();
    conn.execute_batch("PRAGMA synchronous = NORMAL").unwrap();
    let (mut waits, start) = (Vec::new(), Instant::now());
    while logs_left(&conn) > 0 {
        for _ in 0..50 {
            let began = Instant::now();
            conn.execute("UPDATE system_settings SET updated_at = datetime('now') WHERE key = 'statistics_days'", [])
                .unwrap();
            waits.push(began.elapsed());
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{} are left", logs_left(&conn));
    }
    drop(pruning);
    waits.sort();
    let late = waits.iter().filter(|wait| **wait > Duration::from_millis(50)).count();
    eprintln!("{} writes, {late} above 50 ms, the longest {:?}", waits.len(), waits.last());
    // The machine of the tests has other work, for which any program waits now and then.
    assert!(late * 100 <= waits.len(), "{late} of {} writes waited above 50 ms", waits.len());
    assert_eq!(logs(&machine, YOUNG), 12_000);
}

fn logs_left(conn: &Connection) -> i64 {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM site_logs WHERE message <> 'young' AND category = 'engine')";
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_full_disk_and_a_killed_run_leave_the_rest_for_the_next() {
    if !is_root() {
        return crate::support::not_tried("a full disk: only root can mount one");
    }
    let machine = Machine::new();
    let disk = Disk::mount(&machine);
    let db = disk.folder.join("cts.db");
    let on_disk = |words: &str| machine.cts(words).db(&db);
    on_disk("migrate").success();
    let source = Machine::migrated();
    fill_logs(&source, 20_000);
    source.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    std::fs::copy(source.db(), &db).unwrap();
    disk.leave(64 << 10);
    let conn = || Connection::open(&db).unwrap();
    let count = |which: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM site_logs WHERE category = 'engine' AND {which}");
        conn().query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    let done = on_disk("prune").status(74);
    assert!(done.all_err().contains("full"), "{}", done.all_err());
    disk.leave(16 << 20);
    assert_eq!(count(YOUNG), 20_000);
    assert!(kill_after(Duration::from_millis(300), on_disk("prune")) || count(OLD) == 0);
    assert_eq!(count(YOUNG), 20_000);
    on_disk("prune").success();
    assert_eq!((count(OLD), count(YOUNG)), (0, 20_000));
}

#[test]
fn two_at_once_and_a_setting_that_is_changed_meanwhile_delete_no_more_than_may_go() {
    let machine = Machine::migrated();
    fill_logs(&machine, 20_000);
    let runs = [machine.cts("prune --json").start(), machine.cts("prune --json").start()];
    await_within(Duration::from_secs(60), "some rows are gone", || logs(&machine, OLD) < 20_000);
    machine.sql("UPDATE system_settings SET value = '0' WHERE key = 'site_logs_days'");
    for run in runs {
        let (code, log) = run.end_within(Duration::from_secs(120));
        assert_eq!(code, Some(0), "{log}");
    }
    assert_eq!((logs(&machine, OLD), logs(&machine, YOUNG)), (0, 20_000));
}

#[test]
fn a_long_wal_ends_the_deleting_only_where_it_would_fill_the_disk() {
    let machine = Machine::migrated();
    fill_logs(&machine, 10);
    let fill = |machine: &Machine, db: &std::path::Path| {
        let reader = Connection::open(db).unwrap();
        reader
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); BEGIN; SELECT count(*) FROM site_logs")
            .unwrap();
        // Another program has written much meanwhile.
        let sql = "CREATE TABLE own AS SELECT zeroblob(140000000) AS content";
        Connection::open(db).unwrap().execute_batch(sql).unwrap();
        (reader, machine.cts("prune").db(db))
    };
    let source = machine.path("copy.db");
    machine.sql(&format!("VACUUM INTO '{}'", source.display()));
    let (reader, run) = fill(&machine, &machine.db());
    run.success();
    assert_eq!(logs(&machine, OLD), 0);
    drop(reader);
    if !is_root() {
        return crate::support::not_tried("a small disk: only root can mount one");
    }
    let disk = Disk::mount_with(&machine, "size=300m", 300 << 20);
    let db = disk.folder.join("cts.db");
    std::fs::copy(source, &db).unwrap();
    Connection::open(&db).unwrap().execute_batch("PRAGMA journal_mode = WAL").unwrap();
    let (reader, run) = fill(&machine, &db);
    let done = run.status(75);
    assert!(done.all_err().contains("the WAL is"), "{}", done.all_err());
    let count = || -> i64 {
        let sql = "SELECT count(*) FROM site_logs WHERE category = 'engine'";
        Connection::open(&db).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!(count(), 20);
    drop(reader);
    Connection::open(&db).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    machine.cts("prune").db(&db).success();
    assert_eq!(count(), 10);
}

#[test]
fn a_damaged_page_in_the_middle_ends_the_run() {
    let machine = Machine::migrated();
    fill_logs(&machine, 20_000);
    machine.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    // A page of rows in the middle of the old ones.
    let page = machine.number(
        "SELECT pageno FROM dbstat WHERE name = 'site_logs' AND pagetype = 'leaf' ORDER BY pageno LIMIT 1 OFFSET 200",
    );
    let size = machine.number("PRAGMA page_size");
    let mut bytes = std::fs::read(machine.db()).unwrap();
    let start = usize::try_from((page - 1) * size).unwrap();
    bytes[start..start + usize::try_from(size).unwrap()].fill(0xa5);
    std::fs::write(machine.db(), bytes).unwrap();
    let young = machine.number("SELECT max(id) FROM site_logs");
    let done = machine.cts("prune").status(65);
    assert!(done.all_err().contains("damaged"), "{}", done.all_err());
    assert_eq!(machine.number("SELECT max(id) FROM site_logs"), young);
}
