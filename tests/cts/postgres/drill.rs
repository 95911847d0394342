//! The drill on PostgreSQL: a backup is restored to a database of its own on the server, which is dropped afterwards.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::backup::{cts, filled};
use crate::support::cluster::{Cluster, Database, Mode};
use crate::support::harness::{Machine, Run, await_that};
use crate::support::kills::kill_after;

const TRIALS: &str = "SELECT count(*) FROM pg_database WHERE datname LIKE 'cts\\_drill\\_%'";

/// A server of its own, because trials of other tests would be counted; its databases' roles may create databases.
fn server() -> Cluster {
    Cluster::builder().start()
}

fn made<'a>(cluster: &'a Cluster, machine: &Machine) -> (Database<'a>, PathBuf) {
    let database = cluster.one_schema();
    filled(&database, 300);
    cluster.sql(&format!("ALTER ROLE \"{}\" CREATEDB", database.name));
    let path = machine.path("one.dump");
    database.cts(&format!("backup {}", path.display())).success();
    (database, path)
}

fn verify(database: &Database, machine: &Machine, backup: &std::path::Path) -> Run {
    cts(database, machine, &format!("backup --verify {}", backup.display()))
}

#[test]
fn a_backup_is_tried_in_a_database_that_is_dropped_afterwards() {
    let (machine, cluster) = (Machine::new(), server());
    let (database, backup) = made(&cluster, &machine);
    let before = database.everything();
    verify(&database, &machine, &backup).success().says(&["24 tables", "restored for a trial"]);
    assert_eq!((database.everything(), cluster.number(TRIALS)), (before, 0));
    // A database in a schema with a name that has to be quoted.
    let odd = cluster.owned();
    odd.sql("CREATE SCHEMA \"My \"\"own\\ schema\"");
    odd.admin()
        .batch_execute(&format!("ALTER ROLE \"{0}\" CREATEDB; ALTER ROLE \"{0}\" SET search_path = \"My \"\"own\\ schema\"", odd.name))
        .unwrap();
    let path = machine.path("odd.dump");
    odd.cts("migrate").success();
    odd.cts(&format!("backup {}", path.display())).success();
    verify(&odd, &machine, &path).success();
    assert_eq!(cluster.number(TRIALS), 0);
    cluster.sql(&format!("ALTER ROLE \"{}\" NOCREATEDB", database.name));
    verify(&database, &machine, &backup)
        .status(77)
        .says(&["may not create the database", "CREATEDB"]);
}

#[test]
fn what_a_killed_drill_has_left_is_dropped_by_the_next() {
    let (machine, cluster) = (Machine::new(), server());
    let (database, backup) = made(&cluster, &machine);
    // As a process leaves it that was killed, and one of another role.
    cluster.sql(&format!("CREATE DATABASE cts_drill_1_a OWNER \"{}\"", database.name));
    cluster.sql("CREATE DATABASE cts_drill_2_b");
    verify(&database, &machine, &backup).success();
    assert_eq!(
        cluster.texts("SELECT datname FROM pg_database WHERE datname LIKE 'cts_drill%'"),
        ["cts_drill_2_b"]
    );
    cluster.sql("DROP DATABASE cts_drill_2_b");
    let start = Instant::now();
    verify(&database, &machine, &backup).success();
    let duration = start.elapsed();
    for moment in 1..10 {
        kill_after(duration * moment / 10, verify(&database, &machine, &backup));
        verify(&database, &machine, &backup).success();
        assert_eq!(cluster.number(TRIALS), 0, "{moment}");
    }
}

/// The second copy of the database would take its room on the server until the next drill, perhaps for a day.
/// Dropping a large database takes a while; here it waits for a lock.
#[test]
fn a_drill_that_is_told_to_stop_drops_its_database() {
    let (machine, cluster) = (Machine::new(), server());
    let (database, backup) = made(&cluster, &machine);
    let run = verify(&database, &machine, &backup).start();
    await_that("the drill has its database", || cluster.number(TRIALS) == 1);
    let name = cluster.texts("SELECT datname FROM pg_database WHERE datname LIKE 'cts_drill%'");
    let mut locking = cluster.admin("postgres");
    locking.batch_execute(&format!("BEGIN; COMMENT ON DATABASE {} IS ''", name[0])).unwrap();
    run.signal(Signal::TERM);
    await_that("the database is being dropped", || {
        cluster.number(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND classid = 'pg_database'::regclass",
        ) == 1
    });
    // As long as it takes until a statement would be cancelled.
    thread::sleep(Duration::from_millis(500));
    locking.batch_execute("ROLLBACK").unwrap();
    let (code, log) = run.end_within(Duration::from_secs(5));
    assert_eq!((code, cluster.number(TRIALS)), (Some(75), 0), "{log}");
}

#[test]
fn a_server_that_is_stopped_in_the_middle_of_a_drill_is_no_fault_of_the_backup() {
    let (machine, cluster) = (Machine::new(), server());
    let (database, backup) = made(&cluster, &machine);
    for mode in [Mode::Immediate, Mode::Fast] {
        let run = verify(&database, &machine, &backup).start();
        await_that("the drill has its database", || cluster.number(TRIALS) == 1);
        cluster.stop(mode);
        let (code, log) = run.end();
        assert_eq!(code, Some(69), "{log}");
        cluster.start_again();
        verify(&database, &machine, &backup).success();
        assert_eq!(cluster.number(TRIALS), 0);
    }
}
