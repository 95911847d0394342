//! Connection poolers between cts and the server: PgBouncer in each of its modes. In transaction mode each
//! connection of the server serves many programs in turn, so that what cts leaves on one is met by another.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::cluster::{Cluster, Database, Pooler, texts};
use crate::support::harness::{await_that, await_within};
use crate::support::kills::tried;

/// More rows than are indexed in a transaction.
const FILLED: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('a', 'x');
    INSERT INTO pseudo_positions (connection_id, symbol, status, strategy_type, base_position_id)
    SELECT 'a', 'SYM' || g % 40, CASE g % 9 WHEN 0 THEN 'active' ELSE 'closed' END, 'base', 'b' || g
    FROM generate_series(1, 30000) g";
const LOST: &str = "DROP INDEX idx_pseudo_positions_status";
const WRITE: &str = "INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('a', 'S')";
const BUILDS: &str =
    "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";

fn start_at_once(database: &Database, pooler: &Pooler, starts: usize, words: &str) {
    let start = |_| {
        let mut run = pooler.cts(words);
        run.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let starts: Vec<_> = (0..starts).map(start).collect();
    for start in starts {
        let output = start.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
    }
    assert_eq!(database.number("SELECT count(*) FROM migrations"), 4);
    pooler.assert_clean();
}

#[test]
fn many_starts_through_a_pool_in_transaction_mode_all_succeed_and_leave_nothing() {
    for size in [20, 2, 1] {
        let database = Cluster::shared().owned();
        let pooler = database.pooler("transaction", size, "");
        start_at_once(&database, &pooler, 8, "migrate");
        database.cts("verify").success().says(&["no drift"]);
    }
}

#[test]
#[ignore = "sweep"]
fn twenty_rounds_of_starts_through_pools_of_each_size_leave_nothing() {
    for (size, more) in [
        (20, ""),
        (4, "server_round_robin = 1"),
        (1, ""),
        (4, "server_reset_query = DISCARD ALL\nserver_reset_query_always = 1"),
    ] {
        for round in tried(5) {
            let database = Cluster::shared().owned();
            let pooler = database.pooler("transaction", size, more);
            let mut killed = pooler.cts("migrate");
            let mut killed = killed.command.stderr(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(10 + 40 * u64::from(round)));
            killed.kill().unwrap();
            killed.wait().unwrap();
            start_at_once(&database, &pooler, 32, "migrate");
        }
    }
}

#[test]
fn every_command_leaves_no_setting_and_no_lock_on_pooled_connections() {
    let database = Cluster::shared().owned();
    let pooler = database.pooler("transaction", 2, "");
    for (words, code) in [
        ("--check", 2),
        ("migrate", 0),
        ("migrate", 0),
        ("--check", 0),
        ("--check --deep", 0),
        ("status", 0),
        ("verify", 0),
        ("stats", 0),
    ] {
        pooler.cts(words).status(code);
        pooler.assert_clean();
    }
    database.sql("DROP INDEX idx_site_logs_time; ALTER TABLE users DROP COLUMN role");
    pooler.cts("repair").success();
    pooler.assert_clean();
    let service = pooler.serve().start();
    service.until_ready().until_status("healthy");
    // The transaction of a trading program is neither cancelled nor without its rows.
    let mut trader = pooler.open();
    trader.batch_execute("BEGIN; SELECT pg_sleep(5.5); COMMIT").unwrap();
    service.until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
    pooler.assert_clean();
}

#[test]
fn an_older_database_is_adopted_through_a_pooler() {
    let database = Cluster::shared().owned();
    database.sql(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, email TEXT, password_hash TEXT); \
         INSERT INTO users VALUES (7, 'a', 'b', 'c'); \
         CREATE TABLE migrations (id SERIAL, name TEXT, executed_at TIMESTAMPTZ DEFAULT now()); \
         CREATE TABLE site_logs (id SERIAL, level TEXT, message TEXT)",
    );
    let pooler = database.pooler("transaction", 4, "");
    pooler.cts("migrate").success();
    pooler.assert_clean();
    assert_eq!(database.number("SELECT count(*) FROM users"), 1);
    database.cts("verify").success();
}

#[test]
fn doctor_names_the_pooler_and_says_what_does_not_work_through_it() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let named = "a connection pooler in transaction mode is before the server";
    for size in [5, 1] {
        let pooler = database.pooler("transaction", size, "");
        let done = pooler.cts("doctor --quiet").run();
        assert!(done.out().contains(named), "{}", done.out());
        pooler.assert_clean();
    }
    for done in [
        database.cts("doctor --quiet").run(),
        database.pooler("session", 5, "").cts("doctor --quiet").run(),
    ] {
        assert!(!done.out().contains("pooler"), "{}", done.out());
    }
}

#[test]
fn backups_through_a_pooler_in_transaction_mode_are_refused_and_in_session_mode_made() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let folder = tempfile::tempdir().unwrap();
    let pooler = database.pooler("transaction", 3, "");
    let with_folder = |pooler: &Pooler, words: &str| {
        pooler.cts(words).env("CTS_BACKUP_DIR", folder.path()).env("PATH", "/usr/bin:/bin")
    };
    with_folder(&pooler, "backup").status(78).says(&[
        "a connection pooler in transaction mode is before the server",
        "pg_dump would change settings",
        "name the server's own address in the URL, or a pool in session mode",
    ]);
    assert_eq!(folder.path().read_dir().unwrap().filter(is_dump).count(), 0);
    pooler.assert_clean();
    let session = database.pooler("session", 5, "");
    with_folder(&session, "backup").success();
    let dump = folder.path().read_dir().unwrap().find(is_dump).unwrap().unwrap().path();
    let anew = format!(
        "ALTER SCHEMA public RENAME TO before; CREATE SCHEMA public AUTHORIZATION \"{}\"",
        database.name
    );
    database.admin().batch_execute(&anew).unwrap();
    let restore = format!("restore {}", dump.display());
    with_folder(&pooler, &restore).status(78).says(&["pg_restore would change settings"]);
    with_folder(&session, &restore).success();
    database.cts("verify").success();
}

fn is_dump(file: &std::io::Result<std::fs::DirEntry>) -> bool {
    file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "dump")
}

#[test]
fn startup_options_that_a_pooler_refuses_or_drops_are_named() {
    let database = Cluster::shared().owned();
    database.admin().batch_execute("CREATE SCHEMA other AUTHORIZATION CURRENT_USER").unwrap();
    let url = |pooler: &Pooler| pooler.url_with("sslmode=disable&options=-csearch_path%3Dother");
    let refusing = database.pooler("transaction", 3, "");
    let dropping = database.pooler("transaction", 3, "ignore_startup_parameters = options");
    for (pooler, named) in [
        (&refusing, "refuses the parameter options of the URL (-csearch_path=other)"),
        (&dropping, "drops the parameter options of the URL: it asks for search_path=other"),
    ] {
        for (words, code) in [("migrate", 78), ("--check", 3)] {
            let done = pooler.cts(words).env("DATABASE_URL", url(pooler)).run();
            let all = done.out() + &done.err();
            assert!(all.contains(named), "{words}: {all}");
            assert_eq!(done.0.status.code(), Some(code), "{all}");
        }
    }
    assert_eq!(database.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0);
}

#[test]
fn a_pool_in_statement_mode_is_refused() {
    let database = Cluster::shared().owned();
    let pooler = database.pooler("statement", 3, "");
    let done = pooler.cts("migrate").env("CTS_WAIT", "1s").run();
    assert_eq!(done.0.status.code(), Some(78), "{}", done.err());
    done.says(&["statement mode"]);
    assert_eq!(database.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"), 0);
}

/// Settings that another program has left on a connection, which the pooler gives cts next.
#[test]
fn settings_that_another_program_has_left_on_a_pooled_connection_do_not_matter() {
    let database = Cluster::shared().owned();
    let pooler = database.pooler("transaction", 1, "");
    let leave = |sql: &str| pooler.open().batch_execute(sql).unwrap();
    database.sql("CREATE SCHEMA decoy");
    leave(
        "SET search_path = decoy; SET lock_timeout = '1ms'; \
         SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET standard_conforming_strings = off; \
         SET quote_all_identifiers = on; SET client_min_messages = error; \
         SET default_transaction_isolation = 'serializable'; SET extra_float_digits = -3; \
         SET idle_in_transaction_session_timeout = '1ms'",
    );
    leave("SET statement_timeout = '5ms'");
    pooler.cts("migrate").success().says(&["92 applied, 0 skipped"]);
    pooler.cts("migrate").success();
    pooler.cts("--check").success();
    pooler.cts("verify").success().says(&["no drift"]);
    assert_eq!(database.number("SELECT count(*) FROM pg_tables WHERE schemaname = 'decoy'"), 0);
}

#[test]
fn an_index_of_a_large_table_is_built_through_pools_of_each_size() {
    // Where the pool has one place, the build holds it, and whoever comes meanwhile may wait in vain.
    for (size, starts) in [(20, 3), (2, 3), (1, 1)] {
        let database = Cluster::shared().owned();
        database.cts("migrate").success();
        database.sql(FILLED);
        database.sql(LOST);
        let pooler = database.pooler("transaction", size, "");
        start_at_once(&database, &pooler, starts, "migrate");
        assert_eq!(database.invalid(), Vec::<String>::new());
        database.cts("verify").success().says(&["no drift"]);
    }
}

#[test]
fn a_time_limit_of_the_role_that_ends_a_build_behind_a_pooler_is_named() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(FILLED);
    database.sql(LOST);
    let role = &database.name;
    Cluster::shared().sql(&format!("ALTER ROLE \"{role}\" SET statement_timeout = '400ms'"));
    // The build waits for this transaction.
    let mut writer = database.admin();
    writer.batch_execute(&format!("BEGIN; {WRITE}")).unwrap();
    // One that refuses startup options, and one that drops them in silence.
    for settings in ["", "ignore_startup_parameters = options"] {
        let pooler = database.pooler("transaction", 5, settings);
        pooler.cts("migrate").status(75).says(&[
            "statement_timeout of the role is 400ms",
            "ALTER ROLE … SET statement_timeout = 0",
        ]);
    }
    // Without a pooler, the build has no limit.
    let build = database.cts("migrate").start();
    build.until("waiting for ");
    writer.batch_execute("ROLLBACK").unwrap();
    assert_eq!(build.end().0, Some(0));
    assert_eq!(database.invalid(), Vec::<String>::new());
}

#[test]
fn a_build_whose_cts_was_killed_behind_a_pooler_is_waited_for_and_not_dropped() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(FILLED);
    let pooler = database.pooler("transaction", 5, "");
    database.sql(LOST);
    let mut writer = database.open();
    writer.batch_execute(&format!("BEGIN; {WRITE}")).unwrap();
    let run = pooler.cts("migrate").start();
    await_that("it builds", || database.number(BUILDS) == 1);
    let built = "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()";
    let pid = texts(&mut database.admin(), built).remove(0);
    run.signal(Signal::KILL);
    run.end();
    await_that("the lock is free", || pooler.advisory_locks() == 0);
    assert_eq!(texts(&mut database.admin(), built), [pid.as_str()], "the build lives on");
    let done = pooler.cts("migrate").env("CTS_LOCK_TIMEOUT", "1s").status(75);
    done.says(&[
        "index idx_pseudo_positions_status is being built by a transaction of cts (pid ",
        &pid,
    ]);
    let next = pooler.cts("migrate").start();
    next.until("is being built by a transaction of cts");
    let index = "SELECT 'idx_pseudo_positions_status'::regclass::oid::text";
    let of_the_killed = database.texts(index);
    writer.batch_execute("ROLLBACK").unwrap();
    assert_eq!(next.end().0, Some(0));
    assert_eq!(database.invalid(), Vec::<String>::new());
    assert_eq!(database.texts(index), of_the_killed);
    pooler.assert_clean();
}

/// A transaction that `cts` was killed in ends with its connection, however long its statement would take.
#[test]
fn a_cts_killed_in_its_transaction_leaves_no_lock_behind_a_pooler() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let pooler = database.pooler("transaction", 2, "");
    database.sql("DELETE FROM migrations WHERE id = 4; DROP TABLE indication_states");
    // A trigger keeps the transaction waiting.
    database.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NEW; END $$; \
         CREATE TRIGGER slow BEFORE INSERT ON migrations FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let run = pooler.cts("migrate").start();
    await_that("it holds the lock", || pooler.advisory_locks() == 1);
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    await_that("its statement runs", || database.number(sleeps) == 1);
    run.signal(Signal::KILL);
    run.end();
    // PostgreSQL 14 and later look whether the client is there still; 13 goes on to the end of the statement.
    let limit = Duration::from_secs(if database.server_major() < 14 { 30 } else { 4 });
    await_within(limit, "the lock is free", || pooler.advisory_locks() == 0);
    database.sql("DROP TRIGGER slow ON migrations");
    pooler.cts("migrate").success();
    pooler.assert_clean();
}
