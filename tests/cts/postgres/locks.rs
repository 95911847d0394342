//! Concurrent starts on a server, and locks that other programs hold: cts waits, names the holder,
//! and does not block other programs while it waits.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use rustix::process::Signal;

use crate::support::cluster::{Cluster, Database, texts};
use crate::support::harness::await_that;

const STARTS: usize = 16;
/// As in `src/store/postgres/lock.rs`: another cts.
const LOCK: &str =
    "SELECT pg_advisory_lock(x'43545333'::int, current_schema()::regnamespace::oid::int4)";

fn migrated() -> Database<'static> {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database
}

/// A session that has executed this and is now idle.
fn program(database: &Database, sql: &str) -> Client {
    let mut client = database.open();
    // In its own statement, so that a later rollback keeps the name.
    client.batch_execute("SET application_name = 'trader'").unwrap();
    client.batch_execute(sql).unwrap();
    client
}

/// The name by which cts reports the session.
fn title(client: &mut Client) -> String {
    format!("trader (pid {}", texts(client, "SELECT pg_backend_pid()")[0])
}

fn start_at_once(database: &Database, words: &str) {
    let start = |_| {
        let mut run = database.cts(words);
        run.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let starts: Vec<_> = (0..STARTS).map(start).collect();
    for start in starts {
        let output = start.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
    }
    database.cts("verify").success();
    let twice = "SELECT name FROM migrations GROUP BY name HAVING count(*) > 1";
    assert_eq!(database.texts(twice), Vec::<String>::new());
    assert_eq!(database.number("SELECT count(*) FROM migrations"), 4);
}

#[test]
fn a_prepared_transaction_that_holds_a_lock_is_named() {
    let cluster = Cluster::builder().set("max_prepared_transactions", "2").start();
    let database = cluster.owned();
    database.cts("migrate").success();
    database.sql("DROP INDEX idx_site_logs_time");
    database.sql("BEGIN; LOCK TABLE site_logs; PREPARE TRANSACTION 'it''s mine'");
    let done = database.cts("migrate").env("CTS_LOCK_TIMEOUT", "1").status(75);
    done.says(&[
        "table site_logs is locked by the prepared transaction",
        "ROLLBACK PREPARED 'it''s mine'",
    ]);
    database.sql("ROLLBACK PREPARED 'it''s mine'");
    database.cts("migrate").success();
}

#[test]
fn a_ledger_with_many_rows_of_another_program_is_read_in_time() {
    let database = migrated();
    database.sql(
        "INSERT INTO migrations (name, executed_at) \
         SELECT 'old_' || n, now() FROM generate_series(1, 300000) n",
    );
    database.cts("--check").success().says(&["4/4 migrations"]);
}

#[test]
fn concurrent_starts_on_an_empty_database_all_succeed() {
    for _ in 0..3 {
        let database = Cluster::shared().owned();
        start_at_once(&database, "migrate");
        assert_eq!(database.number("SELECT count(*) FROM site_logs"), 4);
    }
}

#[test]
fn concurrent_starts_that_repair_a_filled_database_all_succeed() {
    let database = migrated();
    database.sql(
        "INSERT INTO exchange_connections (id, name) VALUES ('a', 'x'); \
         INSERT INTO pseudo_positions (connection_id, symbol) SELECT 'a', 'S' FROM generate_series(1, 5000)",
    );
    let notes = database.number("SELECT count(*) FROM site_logs");
    for words in ["migrate", "repair"] {
        database.sql(
            "DELETE FROM migrations WHERE name > '06' AND name < '1'; DROP TABLE indication_states; \
             DROP INDEX idx_pseudo_positions_live; ALTER TABLE users DROP COLUMN role",
        );
        start_at_once(&database, words);
    }
    assert_eq!(database.number("SELECT count(*) FROM pseudo_positions"), 5000);
    // Two migrations and one repair are recorded each time.
    assert_eq!(database.number("SELECT count(*) FROM site_logs") - notes, 6);
}

#[test]
fn a_held_lock_ends_with_75_and_names_its_holder() {
    let database = migrated();
    database.sql("DROP INDEX idx_site_logs_time");
    let mut holder = program(&database, LOCK);
    let before = database.everything();
    for words in ["migrate", "repair"] {
        let start = Instant::now();
        database.cts(words).env("CTS_LOCK_TIMEOUT", "1s").status(75).says(&[
            "the lock is held by trader (pid ",
            &title(&mut holder),
            "pg_terminate_backend",
            "CTS_LOCK_TIMEOUT",
            "nothing was changed",
        ]);
        assert!(start.elapsed() >= Duration::from_secs(1));
    }
    assert_eq!(database.everything(), before);
    // A command with nothing to do needs no lock.
    database.cts("--check").status(1);
    drop(holder);
    database.cts("migrate").success().says(&["index idx_site_logs_time on site_logs was missing"]);
}

#[test]
fn the_migration_lock_is_one_per_schema_and_database() {
    let (database, other) = (migrated(), migrated());
    database.sql("DROP INDEX idx_site_logs_time; CREATE SCHEMA other");
    let _elsewhere = program(&other, LOCK);
    let _beside = program(&database, &format!("SET search_path = other; {LOCK}"));
    database.cts("migrate").env("CTS_LOCK_TIMEOUT", "1s").success();
}

#[test]
fn the_service_reports_the_lock_it_waits_for_and_then_starts() {
    let database = migrated();
    // Also with nothing to migrate.
    for lost in ["DROP INDEX idx_site_logs_time", "SELECT 1"] {
        database.sql(lost);
        let mut holder = program(&database, LOCK);
        let service = database.serve().env("CTS_LOCK_TIMEOUT", "1ms").start();
        service.until("waiting for the write lock").until(&title(&mut holder));
        let answer = service.get("/api/health/database");
        assert_eq!((answer.code, answer.json()["status"].as_str()), (503, Some("initializing")));
        assert!(answer.body.contains(&title(&mut holder)), "{}", answer.body);
        assert_eq!((service.get("/readyz").code, service.get("/livez").code), (503, 200));
        assert_eq!(service.get("/api/admin/migrations/status").json()["status"], "initializing");
        assert_eq!(service.get("/api/admin/overview").json()["status"], "initializing");
        drop(holder);
        service.until_ready().until_status("healthy");
        assert_eq!(service.stop().0, Some(0));
    }
}

#[test]
fn a_signal_ends_the_wait_for_the_lock_at_once() {
    let database = migrated();
    database.sql("DROP INDEX idx_site_logs_time");
    let _holder = program(&database, LOCK);
    let command = database.cts("migrate").start();
    let service = database.serve().start();
    command.until("waiting for the write lock").signal(Signal::TERM);
    service.until("waiting for the write lock").signal(Signal::TERM);
    let start = Instant::now();
    assert_eq!((command.end().0, service.end().0), (Some(75), Some(0)));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn a_check_during_a_migration_is_initializing() {
    let database = migrated();
    database.sql("DELETE FROM migrations WHERE id = 4; DROP TABLE indication_states");
    let check = |database: &Database| {
        let start = Instant::now();
        let json = database.cts("--check --json").status(1).json();
        assert_eq!(json["status"], "initializing", "{json}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    };
    let holder = program(&database, LOCK);
    check(&database);
    drop(holder);
    database.cts("--check").status(1).says(&["071_add_coordination_tables.sql is pending"]);
    let empty = Cluster::shared().owned();
    let holder = program(&empty, LOCK);
    check(&empty);
    drop(holder);
    empty.cts("--check").status(2);
}

/// Executes a statement repeatedly as another program. Returns the longest time of one.
fn longest(database: &Database, sql: &str, is_over: &AtomicBool) -> Duration {
    let mut client = database.open();
    let mut longest = Duration::ZERO;
    while !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        client.batch_execute(sql).unwrap();
        longest = longest.max(start.elapsed());
        thread::sleep(Duration::from_millis(2));
    }
    longest
}

/// Sets the flag when dropped, after a failure too.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Longer than cts may block another program.
const TOO_LONG: Duration = Duration::from_secs(1);
const READ: &str = "SELECT count(*) FROM users";
const WRITE: &str = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'x')";

/// Statements that give cts work, that hold a lock, and that a third program repeats meanwhile.
const IN_THE_WAY: [(&str, &str, &str); 5] = [
    ("ALTER TABLE users DROP COLUMN role", "LOCK TABLE users IN ACCESS SHARE MODE", READ),
    ("ALTER TABLE users DROP COLUMN role", "SELECT count(*) FROM users", READ),
    ("DROP INDEX idx_site_logs_time", WRITE, WRITE),
    (
        "DELETE FROM migrations WHERE id = 3; DROP INDEX idx_site_logs_time, idx_pseudo_positions_live",
        "LOCK TABLE pseudo_positions IN ROW EXCLUSIVE MODE",
        WRITE,
    ),
    ("ALTER TABLE users DROP COLUMN role", "LOCK TABLE users IN ACCESS EXCLUSIVE MODE", WRITE),
];

#[test]
fn waiting_for_a_locked_table_does_not_block_other_programs() {
    thread::scope(|scope| {
        for case in IN_THE_WAY {
            scope.spawn(move || wait_for_a_table(case));
        }
    });
}

fn wait_for_a_table((lost, held, goes_on): (&str, &str, &str)) {
    let database = migrated();
    database.sql(lost);
    let shape = database.shape();
    let mut holder = program(&database, &format!("BEGIN; {held}"));
    let named = title(&mut holder);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let third = scope.spawn(|| longest(&database, goes_on, &is_over));
        let over = SetOnDrop(&is_over);
        for words in ["migrate", "repair"] {
            let done = database.cts(words).env("CTS_LOCK_TIMEOUT", "1s").status(75);
            done.says(&["is locked by a transaction of ", &named, "s old", "nothing was changed"]);
        }
        // The schema can be read only without this lock.
        holder.batch_execute("ROLLBACK").unwrap();
        assert_eq!(database.shape(), shape, "{held}");
        holder.batch_execute(&format!("BEGIN; {held}")).unwrap();
        let command = database.cts("migrate").start();
        command.until("waiting for ").until(&named);
        let service = database.serve().env("CTS_LOCK_TIMEOUT", "1s").start();
        service.until("waiting for ");
        assert_eq!(service.get("/api/health/database").json()["status"], "initializing");
        holder.batch_execute("ROLLBACK").unwrap();
        assert_eq!(command.end().0, Some(0));
        service.until_ready();
        drop(over);
        let longest = third.join().unwrap();
        assert!(longest < TOO_LONG, "{held}: {longest:?}");
    });
    database.cts("verify").success();
}

#[test]
fn a_signal_during_the_wait_for_a_table_changes_nothing() {
    let database = migrated();
    database.sql("ALTER TABLE users DROP COLUMN role");
    let shape = database.shape();
    let mut holder = program(&database, "BEGIN; SELECT count(*) FROM users");
    let command = database.cts("migrate").start();
    command.until(&title(&mut holder)).signal(Signal::TERM);
    assert_eq!(command.end().0, Some(75));
    let service = database.serve().start();
    service.until(&title(&mut holder)).signal(Signal::TERM);
    let (code, log) = service.end();
    assert!(matches!(code, Some(0 | 75)), "{code:?}: {log}");
    assert_eq!(database.shape(), shape);
    await_that("nothing is left on the server", || database.sessions_of_cts() == 0);
}

#[test]
fn a_check_names_the_program_that_locks_a_table() {
    let database = migrated();
    let mut holder =
        program(&database, "BEGIN; LOCK TABLE pseudo_positions IN ACCESS EXCLUSIVE MODE");
    let named =
        format!("table pseudo_positions is locked by a transaction of {}", title(&mut holder));
    let start = Instant::now();
    database.cts("--check").status(2).says(&["CTS CRITICAL", &named]);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    database.cts("verify").status(75).says(&[&named]);
    holder.batch_execute("ROLLBACK").unwrap();
    database.cts("--check").success();
}

#[test]
fn the_service_waits_for_a_lock_on_site_logs() {
    let database = migrated();
    let mut holder = program(&database, "BEGIN; LOCK TABLE site_logs IN EXCLUSIVE MODE");
    let service = database.serve().start();
    service.until(&title(&mut holder));
    assert_eq!(service.get("/readyz").code, 503);
    holder.batch_execute("ROLLBACK").unwrap();
    service.until_ready();
    assert_eq!(service.stop().0, Some(0));
}
