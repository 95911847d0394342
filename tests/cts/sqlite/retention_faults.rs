//! Retention that is killed, meets a full disk or damage at many moments: nothing is gone that may not go, and the
//! statistics of each day say what they said.

use std::fs;
use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;

use crate::support::disk::Disk;
use crate::support::harness::{Machine, await_that, is_root};
use crate::support::kills::{KillSweep, kill_after, tried};

/// Old log lines and closed positions of 8 days whose statistics are proved, each beside some that stay: young ones, open
/// ones, and one that an open one refers to.
fn source() -> Machine {
    let machine = Machine::migrated();
    machine.sql(
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x'), ('d', 'd', 'x'); \
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 799) \
         INSERT INTO site_logs (timestamp, level, category, message) \
         SELECT datetime('now', iif(i % 2, '-60 days', '-1 hours')), 'info', 'engine', iif(i % 2, 'old', 'young') FROM n; \
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 799) \
         INSERT INTO pseudo_positions (id, connection_id, symbol, status, closed_at, pnl, base_position_id) \
         SELECT i + 1, iif(i % 3, 'c', 'd'), 'S' || (i % 5), iif(i % 10, 'closed', 'active'), \
             iif(i % 10, datetime('now', '-' || (60 - i / 100) || ' days'), NULL), iif(i % 10, i % 7 - 3.3, NULL), \
             iif(i = 0, '702', NULL) FROM n; \
         UPDATE system_settings SET value = '30' WHERE key = 'positions_closed_days'",
    );
    let service = machine.serve().env("CTS_RETENTION", "0").start();
    service.until_ready();
    await_that("the statistics are proved", || {
        machine.cts("verify --statistics").run().0.status.code() == Some(0)
    });
    service.stop();
    machine.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    machine
}

fn texts(db: &Path, sql: &str) -> Vec<String> {
    let conn = Connection::open(db).unwrap();
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// What must be there whatever happened: rows that stay, and all that the statistics say of each day.
fn kept(db: &Path) -> Vec<String> {
    texts(
        db,
        "SELECT 'log ' || id FROM site_logs WHERE message = 'young' \
         UNION ALL SELECT 'position ' || id FROM pseudo_positions WHERE status = 'active' OR id = 702 \
         UNION ALL SELECT 'day ' || trade_date || connection_id || total_trades || quote(total_pnl) || source_rows || source_digest FROM statistics_daily \
         UNION ALL SELECT 'strategy ' || period_start || connection_id || symbol || source_rows || source_digest FROM statistics_strategy \
         UNION ALL SELECT 'indication ' || period_start || connection_id || symbol || source_rows || source_digest FROM statistics_indication \
         UNION ALL SELECT integrity_check FROM pragma_integrity_check ORDER BY 1",
    )
}

/// How many rows are left that may go.
fn left(db: &Path) -> i64 {
    let sql = "SELECT CAST((SELECT count(*) FROM site_logs WHERE message = 'old') + \
        (SELECT count(*) FROM pseudo_positions WHERE status = 'closed' AND id <> 702) AS TEXT)";
    texts(db, sql)[0].parse().unwrap()
}

fn expect_sound(machine: &Machine, db: &Path, expected: &[String], is_proved: bool) {
    assert_eq!(kept(db), expected);
    if is_proved {
        machine.cts("verify --statistics").db(db).success();
    }
}

#[test]
#[ignore = "sweep"]
fn a_run_killed_at_any_moment_deletes_only_what_may_go() {
    let source = source();
    let expected = kept(&source.db());
    assert!(expected.len() > 480, "{}", expected.len());
    let fresh = || {
        let machine = Machine::new();
        fs::copy(source.db(), machine.db()).unwrap();
        machine
    };
    let began = Instant::now();
    let whole = fresh();
    whole.cts("prune").success();
    assert_eq!(left(&whole.db()), 0);
    let sweep = KillSweep::at(100, began.elapsed());
    for (moment, delay) in sweep.moments() {
        let machine = fresh();
        let is_killed = kill_after(delay, machine.cts("prune"));
        let is_part = (1..1119).contains(&left(&machine.db()));
        expect_sound(&machine, &machine.db(), &expected, moment % 5 == 0);
        if moment % 10 == 0 {
            machine.cts("prune").success();
            assert_eq!(left(&machine.db()), 0);
            expect_sound(&machine, &machine.db(), &expected, true);
        }
        sweep.record(is_killed, is_part);
    }
    assert!(sweep.found("prune").contains(&true));
}

#[test]
#[ignore = "sweep"]
fn a_disk_that_becomes_full_at_any_moment_loses_nothing() {
    if !is_root() {
        return crate::support::not_tried("a full disk: only root can mount one");
    }
    let source = source();
    let expected = kept(&source.db());
    let outer = Machine::new();
    let disk = Disk::mount(&outer);
    let db = disk.folder.join("cts.db");
    let (mut full, mut complete) = (0, 0);
    for moment in tried(100) {
        disk.leave(32 << 20);
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(disk.folder.join(format!("cts.db{suffix}")));
        }
        fs::copy(source.db(), &db).unwrap();
        disk.leave(u64::from(moment) * (48 << 10));
        let done = outer.cts("prune").db(&db).run();
        match done.0.status.code() {
            Some(0) => complete += 1,
            Some(74) => {
                assert!(done.all_err().contains("full"), "{}", done.all_err());
                full += 1;
            }
            code => panic!("{code:?}: {}", done.all_err()),
        }
        disk.leave(16 << 20);
        expect_sound(&outer, &db, &expected, moment % 10 == 0);
        if moment % 10 == 0 {
            outer.cts("prune").db(&db).success();
            assert_eq!(left(&db), 0);
        }
    }
    eprintln!("{full} runs met the full disk, {complete} did not");
    assert!(full * 5 >= tried(100).count() && complete > 0, "{full} {complete}");
}

#[test]
fn damage_that_is_met_while_pages_are_given_back_ends_the_run() {
    let machine = Machine::migrated();
    machine.sql(
        "CREATE TABLE own (content); \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO own SELECT zeroblob(9000) FROM n; \
         CREATE TABLE behind AS SELECT * FROM own; DROP TABLE own; PRAGMA wal_checkpoint(TRUNCATE)",
    );
    assert_eq!(machine.number("PRAGMA auto_vacuum"), 2);
    // Pages that say where each page belongs.
    let size = usize::try_from(machine.number("PRAGMA page_size")).unwrap();
    let mut bytes = fs::read(machine.db()).unwrap();
    let pages = bytes.len() / size;
    for page in (2..pages).step_by(size / 5 + 1) {
        bytes[(page - 1) * size..page * size].fill(0xa5);
    }
    fs::write(machine.db(), &bytes).unwrap();
    let done = machine.cts("prune").status(65);
    assert!(done.all_err().contains("damaged"), "{}", done.all_err());
    assert_eq!(machine.number("SELECT count(*) FROM behind"), 1000);
    let service = machine.serve().start();
    service.until("damaged");
    let (_, log) = service.stop();
    assert!(!log.contains("panicked"), "{log}");
}
