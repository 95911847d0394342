//! Online index builds on large tables, and invalid indexes left by interrupted builds.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use postgres::Client;
use rustix::process::Signal;

use crate::support::cluster::{Cluster, Database, texts};
use crate::support::harness::{await_that, await_within};

/// More rows than are indexed in a transaction.
const FILLED: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('a', 'x');
    INSERT INTO pseudo_positions (connection_id, symbol, status, strategy_type, base_position_id)
    SELECT 'a', 'SYM' || g % 40, CASE g % 9 WHEN 0 THEN 'active' ELSE 'closed' END, 'base', 'b' || g
    FROM generate_series(1, 30000) g";
const WRITE: &str = "INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('a', 'S')";
/// Makes one migration pending again and drops its indexes.
const PENDING: &str = "DELETE FROM migrations WHERE name LIKE '070%'; \
    DROP INDEX idx_pseudo_positions_live, idx_pseudo_positions_limit, idx_pseudo_positions_base, idx_exchange_positions_real";
const BUILDS: &str =
    "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";

fn filled() -> Database<'static> {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(FILLED);
    database
}

fn assert_whole(database: &Database) {
    assert_eq!(database.invalid(), Vec::<String>::new());
    database.cts("verify").success().says(&["no drift"]);
    assert_eq!(database.number("SELECT count(*) FROM migrations"), 4);
}

/// An open transaction that has executed this, and the name by which cts reports it.
fn trader(database: &Database, sql: &str) -> (Client, String) {
    let mut client = database.open();
    client.batch_execute("SET application_name = 'trader'").unwrap();
    client.batch_execute(&format!("BEGIN; {sql}")).unwrap();
    let pid = texts(&mut client, "SELECT pg_backend_pid()").remove(0);
    (client, format!("trader (pid {pid}"))
}

/// The processes of the server that hold a migration lock of the database.
fn lock_holders(database: &Database) -> Vec<String> {
    database.texts(
        "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
         WHERE d.datname = current_database() AND l.locktype = 'advisory' AND l.granted",
    )
}

/// Leaves an invalid index, as an interrupted build does.
fn cut_off(database: &Database, name: &str, table: &str, columns: &str) {
    let (mut writer, _) = trader(database, &format!("LOCK TABLE {table} IN ROW EXCLUSIVE MODE"));
    let build = format!("CREATE INDEX CONCURRENTLY {name} ON {table} ({columns})");
    let mut client = database.open();
    client.batch_execute("SET statement_timeout = '200ms'").unwrap();
    assert!(client.batch_execute(&build).is_err());
    writer.batch_execute("ROLLBACK").unwrap();
    assert_eq!(database.invalid(), [name]);
}

#[test]
fn an_index_of_a_large_table_is_built_while_programs_write() {
    let database = filled();
    let name = &database.name;
    Cluster::shared().sql(&format!("ALTER DATABASE \"{name}\" SET log_statement = 'ddl'"));
    let is_over = AtomicBool::new(false);
    let (longest, rows) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut client = database.open();
            let (mut longest, mut rows) = (Duration::ZERO, 0);
            while !is_over.load(Ordering::Relaxed) {
                let start = Instant::now();
                client.batch_execute(WRITE).unwrap();
                longest = longest.max(start.elapsed());
                rows += 1;
                thread::sleep(Duration::from_millis(1));
            }
            (longest, rows)
        });
        let works = || {
            for (lost, words) in [
                ("DROP INDEX idx_pseudo_positions_status", "migrate"),
                ("DROP INDEX idx_pseudo_positions_closed", "repair"),
                (PENDING, "migrate"),
            ] {
                database.sql(lost);
                let done = database.cts(words).run();
                if done.0.status.code() != Some(0) {
                    return Err(done.err());
                }
            }
            Ok(())
        };
        let done = works();
        is_over.store(true, Ordering::Relaxed);
        done.unwrap();
        writer.join().unwrap()
    });
    assert!(longest < Duration::from_secs(1) && rows > 50, "{longest:?}, {rows} rows");
    assert_whole(&database);
    let log = Cluster::shared().log();
    let ours: Vec<_> = log.lines().filter(|line| line.contains(&format!("@{name} cts"))).collect();
    for index in ["status", "closed", "live", "limit", "base"] {
        let build = format!("CREATE INDEX CONCURRENTLY \"idx_pseudo_positions_{index}\"");
        assert!(ours.iter().any(|line| line.contains(&build)), "{build}");
    }
    // The index of an empty table was made in the transaction of the migration.
    assert!(!ours.iter().any(|line| line.contains("CONCURRENTLY \"idx_exchange_positions_real")));
    let noted = "SELECT count(*) FROM site_logs WHERE message LIKE 'cts 3.1.0 built index %'";
    assert_eq!(database.number(noted), 5);
    assert_eq!(database.number("SELECT count(*) FROM pseudo_positions"), 30000 + rows);
}

#[test]
fn concurrent_starts_build_each_index_once() {
    let database = filled();
    database.sql(PENDING);
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let mut run = database.cts("migrate");
            run.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for start in starts {
        let output = start.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
    }
    assert_whole(&database);
}

#[test]
fn a_transaction_that_a_build_waits_for_is_named() {
    // A transaction that writes, one that only has a snapshot, and one that holds a conflicting
    // lock.
    for held in [
        WRITE,
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1",
        "LOCK TABLE pseudo_positions IN SHARE UPDATE EXCLUSIVE MODE",
    ] {
        let database = filled();
        database.sql("DROP INDEX idx_pseudo_positions_status");
        let (mut client, named) = trader(&database, held);
        let run = database.cts("migrate").env("CTS_LOCK_TIMEOUT", "1500ms");
        let done = run.within(Duration::from_secs(30));
        assert_eq!(done.0.status.code(), Some(75), "{}", done.err());
        done.says(&[
            "index idx_pseudo_positions_status on pseudo_positions: the build waits for a transaction of ",
            &named,
            "what was committed before remains",
            "CTS_LOCK_TIMEOUT",
        ]);
        database.cts("--check").status(1).says(&["index idx_pseudo_positions_status"]);
        let command = database.cts("migrate").start();
        command.until("waiting for ").until(&named);
        client.batch_execute("ROLLBACK").unwrap();
        assert_eq!(command.end().0, Some(0), "{held}");
        assert_whole(&database);
    }
}

/// The pool has no room for a second connection.
#[test]
fn a_lock_that_is_lost_during_a_build_is_taken_again() {
    let database = filled();
    database.sql("DROP INDEX idx_pseudo_positions_status");
    let (mut client, named) = trader(&database, WRITE);
    let run = database.cts("migrate").env("CTS_POOL_MAX", "1").env("CTS_LOCK_TIMEOUT", "8s");
    let command = run.start();
    command.until("waiting for ").until(&named);
    let lost = lock_holders(&database);
    assert_eq!(lost.len(), 1, "{lost:?}");
    database.sql(&format!("SELECT pg_terminate_backend({})", lost[0]));
    let is_held_again = || matches!(&lock_holders(&database)[..], [new] if *new != lost[0]);
    await_within(Duration::from_secs(5), "the lock is held again", is_held_again);
    // What blocks the build is still seen.
    let (code, log) = command.end();
    assert_eq!(code, Some(75), "{log}");
    client.batch_execute("ROLLBACK").unwrap();
    database.cts("migrate").success();
    assert_whole(&database);
}

#[test]
fn an_invalid_index_counts_as_missing_and_is_rebuilt() {
    let database = filled();
    for (name, table, columns) in [
        ("idx_site_logs_time", "site_logs", "timestamp, level"),
        ("idx_pseudo_positions_status", "pseudo_positions", "connection_id, status"),
    ] {
        for words in ["migrate", "repair", "serve"] {
            database.sql(&format!("DROP INDEX {name}"));
            cut_off(&database, name, table, columns);
            let missing = format!("index {name} on {table}");
            database
                .cts("verify")
                .status(1)
                .says(&[&format!("missing: {missing}\n"), "drift: 1 missing"]);
            database
                .cts("--check")
                .status(1)
                .says(&[&format!("missing: {missing}. Run: cts repair")]);
            if words == "serve" {
                let service = database.serve().start();
                service.until_ready().until_status("healthy");
            } else {
                database.cts(words).success().says(&[&missing]);
            }
            assert_whole(&database);
        }
    }
}

#[test]
fn an_invalid_index_of_a_pending_migration_is_rebuilt() {
    let database = filled();
    database.sql(PENDING);
    cut_off(&database, "idx_pseudo_positions_live", "pseudo_positions", "connection_id");
    database.cts("migrate").success();
    assert_whole(&database);
    database.sql(PENDING);
    cut_off(
        &database,
        "idx_exchange_positions_real",
        "exchange_positions",
        "real_pseudo_position_id",
    );
    database.cts("migrate").success();
    assert_whole(&database);
}

#[test]
fn an_interrupted_index_build_is_completed_by_the_next_run() {
    let database = filled();
    for (signal, words) in [
        (Signal::KILL, "migrate"),
        (Signal::KILL, "serve --port 0"),
        (Signal::TERM, "repair"),
        (Signal::INT, "serve --port 0"),
    ] {
        database.sql("DROP INDEX idx_pseudo_positions_status");
        let (mut writer, _) = trader(&database, WRITE);
        let run = database.cts(words).start();
        await_that("it builds", || database.number(BUILDS) == 1);
        run.signal(signal);
        let (code, log) = run.end();
        match signal {
            Signal::KILL => assert_eq!(code, None),
            _ => {
                assert_eq!(code, Some(75), "{log}");
                let said = "interrupted by a signal; what was committed before remains";
                assert!(log.contains(said) && !log.contains("nothing was changed"), "{log}");
            }
        }
        let is_gone = || database.sessions_of_cts() == 0;
        if signal == Signal::KILL && database.server_major() < 14 {
            // The server does not notice that the client was killed, and goes on to the end.
            writer.batch_execute("ROLLBACK").unwrap();
            await_that("the build has ended", is_gone);
            database.cts("migrate").success();
            assert_whole(&database);
            continue;
        }
        // The server detects that the client was killed.
        let limit = Duration::from_secs(4);
        await_within(limit, "nothing of it is left on the server", is_gone);
        writer.batch_execute("ROLLBACK").unwrap();
        database.cts("verify").status(1).says(&["missing: index idx_pseudo_positions_status"]);
        database.cts("migrate").success();
        assert_whole(&database);
    }
}

#[test]
fn a_unique_index_over_duplicate_keys_becomes_a_recorded_exception() {
    let database = filled();
    database.sql(
        "DROP INDEX idx_indication_states_key; \
         INSERT INTO indication_states (state_key) SELECT 'k' || g % 29998 FROM generate_series(1, 30000) g",
    );
    let exception = "index idx_indication_states_key";
    database.cts("migrate").success().says(&["constraint exception recorded", exception]);
    database.cts("verify").success().says(&["exception: ", exception, "4 rows"]);
    let json = database.cts("verify --json").success().json();
    assert_eq!(
        json["relaxed"],
        serde_json::json!([{"table": "indication_states", "rule": "unique", "object": "idx_indication_states_key", "rows": 4}])
    );
    database.cts("--check").success();
    database.cts("migrate").success().says(&["0 applied"]);
    database.sql("DELETE FROM indication_states WHERE id > 29998");
    database.cts("repair").success().says(&["enforced again", exception]);
    let twice = "INSERT INTO indication_states (state_key) VALUES ('k1')";
    assert!(database.open().batch_execute(twice).is_err());
    assert_whole(&database);
}

#[test]
fn an_index_is_built_though_site_logs_cannot_be_written() {
    let database = filled();
    database.sql(
        "DELETE FROM site_logs WHERE id > 1; CREATE UNIQUE INDEX no_more ON site_logs (category); \
         DROP INDEX idx_pseudo_positions_status, idx_pseudo_positions_closed",
    );
    database.cts("migrate").success().says(&["cannot write to table site_logs"]);
    assert_whole(&database);
}
