//! Servers whose processes are stopped in the middle of work, so that connections stay open and nothing
//! answers: a request to stop ends cts at once, everything else ends in time, and the next run completes the
//! work once the server goes on.

use std::time::{Duration, Instant};

use postgres::Client;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::{Cluster, Database};
use crate::support::harness::{Machine, await_that};

/// How long cts may take to end after SIGTERM.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to give up a server that does not answer, with a margin for a busy machine.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(100);
/// Holds a migration in the middle of its transaction.
const SLEEP: &str = "
    CREATE SCHEMA hold;
    CREATE FUNCTION hold.sleep() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
        AS $$ BEGIN PERFORM pg_sleep(40); END $$;
    CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION hold.sleep()";
/// More rows than are indexed in a transaction.
const FILLED: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('a', 'x');
    INSERT INTO pseudo_positions (connection_id, symbol, strategy_type, base_position_id)
    SELECT 'a', 'SYM' || g % 40, 'base', 'b' || g FROM generate_series(1, 30000) g;
    DROP INDEX idx_pseudo_positions_status";

/// A moment in the middle of some work.
struct Moment {
    words: &'static str,
    /// Prepares the database. The session that is returned holds the work up, if it is not `SLEEP`.
    hold: fn(&Database<'_>) -> Client,
    /// What `pg_stat_activity` shows of the session that is held up.
    shows: &'static str,
}

fn sleeping(database: &Database<'_>) -> Client {
    let mut admin = database.admin();
    admin.batch_execute(SLEEP).unwrap();
    admin
}

/// A transaction that the last phase of an online index build waits for.
fn writing(database: &Database<'_>) -> Client {
    database.cts("migrate").success();
    database.sql(FILLED);
    let mut writer = database.open();
    writer
        .batch_execute(
            "BEGIN; INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('a', 'S')",
        )
        .unwrap();
    writer
}

/// A lock on a table that only `pg_dump` reads.
fn locking(database: &Database<'_>) -> Client {
    database.cts("migrate").success();
    database.sql("CREATE TABLE own (id bigint)");
    let mut other = database.open();
    other.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
    other
}

const MOMENTS: [Moment; 4] = [
    Moment { words: "migrate", hold: sleeping, shows: "wait_event = 'PgSleep'" },
    Moment { words: "serve --port 0", hold: sleeping, shows: "wait_event = 'PgSleep'" },
    Moment {
        words: "migrate",
        hold: writing,
        shows: "wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX CONCURRENTLY%'",
    },
    Moment {
        words: "backup",
        hold: locking,
        shows: "wait_event_type = 'Lock' AND application_name = 'cts backup'",
    },
];

/// What is stopped.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stopped {
    TheServer,
    /// The process of the server that does the work.
    ItsProcess,
}

/// The process of the server that does the work of cts and is held up.
fn held_process(cluster: &Cluster, database: &Database<'_>, moment: &Moment) -> Option<Pid> {
    let sql = format!(
        "SELECT pid::text FROM pg_stat_activity WHERE datname = '{}' AND {}",
        database.name, moment.shows
    );
    cluster.texts(&sql).first().and_then(|pid| Pid::from_raw(pid.parse().unwrap()))
}

fn try_moment(cluster: &Cluster, moment: &Moment, stopped: Stopped) {
    let machine = Machine::new();
    let database = cluster.owned();
    let name = format!("{} {stopped:?} {}", moment.words, moment.shows);
    let mut holder = (moment.hold)(&database);
    let words =
        moment.words.replace("backup", &format!("backup {}", machine.path("one.dump").display()));
    let run = database.cts(&words).start();
    await_that(&name, || held_process(cluster, &database, moment).is_some());
    let process = held_process(cluster, &database, moment).unwrap();
    match stopped {
        Stopped::TheServer => cluster.pause(),
        Stopped::ItsProcess => kill_process(process, Signal::STOP).unwrap(),
    }
    let start = Instant::now();
    let (code, log) = run.stop();
    let took = start.elapsed();
    match stopped {
        Stopped::TheServer => cluster.resume(),
        Stopped::ItsProcess => kill_process(process, Signal::CONT).unwrap(),
    }
    eprintln!("{name}: ended {took:?} after SIGTERM with {code:?}");
    assert!(took < STOPS_WITHIN, "{name}: {took:?}\n{log}");
    assert_eq!(code, Some(75), "{name}: {log}");
    let _ = holder.batch_execute("DROP EVENT TRIGGER IF EXISTS hold");
    drop(holder);
    database.cts("migrate").success();
    database.cts("verify").success().says(&["no drift"]);
    assert_eq!(database.invalid(), Vec::<String>::new(), "{name}");
    database.cts(&words.replace("serve --port 0", "migrate")).success();
}

#[test]
fn a_request_to_stop_ends_the_work_on_a_server_that_is_frozen() {
    let cluster = Cluster::builder().start();
    for moment in &MOMENTS {
        for stopped in [Stopped::TheServer, Stopped::ItsProcess] {
            try_moment(&cluster, moment, stopped);
        }
    }
}

#[test]
#[ignore = "sweep"]
fn work_on_a_server_that_is_frozen_ends_by_itself() {
    for moment in &MOMENTS {
        let (cluster, machine) = (Cluster::builder().start(), Machine::new());
        let database = cluster.owned();
        let _holder = (moment.hold)(&database);
        let words = moment
            .words
            .replace("backup", &format!("backup {}", machine.path("one.dump").display()));
        let run = database.cts(&words).env("CTS_WAIT", "1s").start();
        await_that(moment.words, || held_process(&cluster, &database, moment).is_some());
        cluster.pause();
        let start = Instant::now();
        let (code, log) = run.end_within(GIVES_UP_WITHIN);
        eprintln!("{}: ended by itself after {:?} with {code:?}", moment.words, start.elapsed());
        assert!(matches!(code, Some(69 | 75)), "{code:?}: {log}");
        assert!(log.contains("does not answer"), "{log}");
        cluster.resume();
    }
}
