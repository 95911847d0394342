//! A source that is written, altered or replaced while it is copied: what arrives is the state of one moment, or
//! nothing does.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::harness::{Machine, await_within};

use super::{Ends, migrated_file, proved};

/// Enough that a copy takes a while.
const ROWS: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('c', 'c');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
    INSERT INTO pseudo_positions (connection_id, symbol, entry_price) SELECT 'c', 'S' || i, i / 7.0 FROM n;";

/// Takes the migration lock of the target, until the transaction ends.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(x'43545333'::int, 'public'::regnamespace::oid::int4)";

/// Calls `write` again and again while `work` runs. Returns how often.
fn while_written<T>(write: impl Fn() + Send + Sync, work: impl FnOnce() -> T) -> (u32, T) {
    let (is_done, count) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                write();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        while count.load(Ordering::Relaxed) == 0 {
            thread::yield_now();
        }
        let before = count.load(Ordering::Relaxed);
        let done = work();
        let written = count.load(Ordering::Relaxed) - before;
        is_done.store(true, Ordering::Relaxed);
        (written, done)
    })
}

/// Each transaction writes to the first table that is copied and to the last: both have as many rows.
const PAIR: &str = "BEGIN; \
    INSERT INTO users (username, password_hash) SELECT 'u' || (count(*) + 1), 'x' FROM users; \
    INSERT INTO indication_states (state_key, connection_id) SELECT 's' || (count(*) + 1), 'c' FROM indication_states; \
    INSERT INTO connection_coordination (connection_id, status) SELECT 'c', 'x' WHERE NOT EXISTS (SELECT 1 FROM connection_coordination); \
    INSERT INTO site_logs (level, category, message) VALUES ('pair', 'x', 'y'); COMMIT";
const COUNTS: &str = "SELECT (SELECT count(*) FROM users) || ' ' || (SELECT count(*) FROM indication_states) || ' ' || \
    (SELECT count(*) FROM site_logs WHERE level = 'pair')";

fn are_pairs(counts: &str) {
    let counts: Vec<u32> = counts.split(' ').map(|count| count.parse().unwrap()).collect();
    assert!(counts[0] > 0 && counts[0] == counts[1] && counts[1] == counts[2], "{counts:?}");
}

#[test]
fn a_source_that_is_written_meanwhile_arrives_as_it_was_at_one_moment() {
    let ends = Ends::with(ROWS);
    let writer = std::sync::Mutex::new(ends.machine.open());
    let write = || {
        writer.lock().unwrap().execute_batch(PAIR).unwrap();
        thread::sleep(Duration::from_millis(1));
    };
    let (written, report) = while_written(write, || ends.to_postgresql("--json").success().json());
    proved(&report);
    are_pairs(&ends.database.texts(COUNTS)[0]);
    assert!(written > 20, "only {written} transactions");
    let server = std::sync::Mutex::new(ends.database.open());
    let write = || server.lock().unwrap().batch_execute(PAIR).unwrap();
    let (written, report) = while_written(write, || ends.to_sqlite("--json").success().json());
    proved(&report);
    assert!(written > 20, "only {written} transactions");
    let back = Machine::new();
    fs::rename(ends.back(), back.db()).unwrap();
    are_pairs(&back.texts(COUNTS)[0]);
}

/// TRUNCATE and ALTER TABLE show in snapshots that are older than they are, unless the table is locked.
#[test]
fn a_source_that_is_altered_meanwhile_arrives_as_it_was_or_not_at_all() {
    // Locks are waited for in turn with the copy, which may have to wait for the alteration.
    let ends = Ends::with(ROWS);
    ends.to_postgresql("").success();
    ends.database.sql(
        "INSERT INTO statistics_daily (connection_id, trade_date) VALUES ('c', '2026-01-01'); \
         INSERT INTO users (username, password_hash) VALUES ('u', 'x')",
    );
    let server = std::sync::Mutex::new(ends.database.open());
    let write = || {
        let sql = "BEGIN; TRUNCATE statistics_daily; INSERT INTO statistics_daily (connection_id, trade_date) VALUES ('c', '2026-01-01'); COMMIT; \
                   BEGIN; ALTER TABLE users DROP COLUMN role; ALTER TABLE users ADD COLUMN role TEXT DEFAULT 'user'; COMMIT";
        server.lock().unwrap().batch_execute(sql).unwrap();
    };
    let mut ended = Vec::new();
    for _ in 0..3 {
        let (_, done) = while_written(write, || ends.to_sqlite("--json").run());
        ended.push(done.0.status.code());
        match done.0.status.code() {
            Some(0) => {
                proved(&done.json());
                let back = Machine::new();
                fs::rename(ends.back(), back.db()).unwrap();
                assert_eq!(back.texts("SELECT trade_date FROM statistics_daily"), ["2026-01-01"]);
                assert_eq!(back.texts("SELECT username || role FROM users"), ["uuser"]);
            }
            Some(65 | 75) => {
                assert!(!ends.back().exists());
                done.says(&["nothing was changed"]);
            }
            other => panic!("{other:?}: {}", done.err()),
        }
    }
    eprintln!("altered meanwhile: {ended:?}");
    // A column more or less in the file, too.
    let ends = Ends::with(ROWS);
    let file = std::sync::Mutex::new(ends.machine.open());
    let write = || {
        let sql = "BEGIN; ALTER TABLE users ADD COLUMN more TEXT; COMMIT; BEGIN; ALTER TABLE users DROP COLUMN more; COMMIT; VACUUM";
        file.lock().unwrap().execute_batch(sql).unwrap();
        thread::sleep(Duration::from_millis(5));
    };
    let (written, report) = while_written(write, || ends.to_postgresql("--json").success().json());
    proved(&report);
    assert!(written > 2, "{written}");
    ends.server_is_good();
}

/// Another file in the place of the source: what was read is no longer the database.
#[test]
fn a_source_that_is_replaced_meanwhile_is_noticed() {
    let ends = Ends::with(ROWS);
    let other = migrated_file();
    // The copy has read the file once, and waits for the lock of the target.
    let mut holder = ends.database.open();
    let mut lock = holder.transaction().unwrap();
    lock.batch_execute(LOCK).unwrap();
    let copy = ends.to_postgresql("").start();
    await_within(Duration::from_secs(60), "the copy waits for the lock", || {
        copy.log().contains("the write lock")
    });
    fs::rename(other.db(), ends.machine.db()).unwrap();
    lock.commit().unwrap();
    let (code, log) = copy.end();
    assert_eq!(code, Some(75), "{log}");
    assert!(log.contains("cts.db"), "{log}");
    let relations = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    assert_eq!(ends.database.number(relations), 0);
}
