//! Restoring backups by `pg_restore`: all or nothing, into an empty schema only.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::backup::{cts, files, filled};
use crate::support::cluster::{Cluster, Database, Mode, number};
use crate::support::harness::{Machine, await_that, for_each};
use crate::support::kills::{KillSweep, kill_after};

/// What keeps every statement that creates an object waiting while another session holds the lock.
const HOLD: &str = "

    CREATE SCHEMA hold;
    CREATE FUNCTION hold.wait() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
        AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); END $$;
    CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION hold.wait()";

/// A backup of a database with some rows, and the number of rows in `site_logs` and `own`.
fn made(machine: &Machine, database: &Database) -> (PathBuf, [i64; 2]) {
    filled(database, 500);
    let path = machine.path("one.dump");
    database.cts(&format!("backup {}", path.display())).success();
    (path, rows(database))
}

fn rows(database: &Database) -> [i64; 2] {
    ["site_logs WHERE category = 'trade'", "own"]
        .map(|table| database.number(&format!("SELECT count(*) FROM {table}")))
}

/// The number of objects in its schema.
fn objects(database: &Database) -> i64 {
    database
        .number("SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace")
}

fn restore(
    database: &Database,
    machine: &Machine,
    backup: &std::path::Path,
) -> crate::support::harness::Run {
    cts(database, machine, &format!("restore {}", backup.display()))
}

#[test]
fn a_backup_is_restored_into_an_empty_schema_of_another_role() {
    let (machine, from, to) =
        (Machine::new(), Cluster::shared().one_schema(), Cluster::shared().one_schema());
    let (backup, expected) = made(&machine, &from);
    restore(&to, &machine, &backup).env("CTS_PG_DUMP", "/nowhere/pg_dump").status(78);
    let plan = cts(&to, &machine, &format!("restore {} --dry-run", backup.display()));
    plan.success();
    assert_eq!(objects(&to), 0);
    restore(&to, &machine, &backup).success().says(&["24 tables", "site_logs"]);
    assert_eq!(rows(&to), expected);
    to.cts("verify").success();
    to.cts("--check --deep").success();
    let owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'cts'";
    assert_eq!(to.texts(owners).concat(), to.name);
    // New rows get ids that no row has.
    to.sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'trade', 'new')");
    // A second time the schema is not empty, and what is there stays.
    let mut program = to.open();
    program.batch_execute("SET application_name = 'my trader'").unwrap();
    let before = to.everything();
    restore(&to, &machine, &backup).status(73).says(&[
        "schema \"cts\" is not empty",
        "my trader (pid ",
        "ALTER SCHEMA \"cts\" RENAME TO",
    ]);
    assert_eq!(to.everything(), before);
    // The remedy that the message gives.
    let mut admin = to.admin();
    let remedy = format!(
        "ALTER SCHEMA cts RENAME TO cts_before_restore; CREATE SCHEMA cts AUTHORIZATION \"{}\"",
        to.name
    );
    admin.batch_execute(&remedy).unwrap();
    restore(&to, &machine, &backup).success();
    assert_eq!(rows(&to), expected);
    assert_eq!(number(&mut admin, "SELECT count(*) FROM cts_before_restore.own"), 2);
}

#[test]
fn what_cannot_be_restored_here_is_refused_and_changes_nothing() {
    let (machine, from, to) =
        (Machine::new(), Cluster::shared().one_schema(), Cluster::shared().owned());
    let (backup, _) = made(&machine, &from);
    restore(&to, &machine, &backup)
        .status(78)
        .says(&["is a backup of schema \"cts\"", "schema \"public\""]);
    let good = fs::read(&backup).unwrap();
    let harmed = machine.path("harmed.dump");
    for (bytes, says) in [
        (&good[..good.len() / 2], "damaged"),
        (&good[..0], "empty"),
        (&b"PGDMP"[..], "damaged"),
        (&b"-- SQL"[..], "is no backup"),
    ] {
        fs::write(&harmed, bytes).unwrap();
        restore(&to, &machine, &harmed).status(65).says(&[says]);
    }
    let sqlite = Machine::migrated();
    restore(&to, &machine, &sqlite.db()).status(65).says(&["SQLite"]);
    cts(
        &to,
        &machine,
        &format!("restore {} --to {}", backup.display(), machine.path("x").display()),
    )
    .status(64);
    assert_eq!(objects(&to), 0);
    // A type that is in another schema, and so not in the backup.
    let (from, to) = (Cluster::shared().owned(), Cluster::shared().owned());
    from.sql("CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('good')");
    filled(&from, 1);
    from.sql("ALTER TABLE own ADD COLUMN mood other.mood");
    let backup = machine.path("two.dump");
    from.cts(&format!("backup {}", backup.display())).success();
    restore(&to, &machine, &backup).status(65).says(&[
        "pg_restore: ",
        "\"other\" does not exist",
        "nothing was changed",
    ]);
    assert_eq!(objects(&to), 0);
    to.sql("CREATE SCHEMA other; CREATE TYPE other.mood AS ENUM ('good')");
    restore(&to, &machine, &backup).success();
}

/// A restore that waits in its transaction until the session that is returned ends.
fn held(database: &Database) -> postgres::Client {
    let mut admin = database.admin();
    admin.batch_execute(HOLD).unwrap();
    admin.batch_execute("SELECT pg_advisory_lock(4711)").unwrap();
    admin
}

fn waits(cluster: &Cluster, database: &Database) -> bool {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'cts restore' AND wait_event_type = 'Lock'",
        database.name
    );
    cluster.number(&sql) == 1
}

#[test]
fn a_restore_that_is_stopped_or_killed_leaves_an_empty_schema_and_no_program() {
    let (machine, cluster) = (Machine::new(), Cluster::shared());
    let (from, to) = (cluster.owned(), cluster.owned());
    let (backup, expected) = made(&machine, &from);
    let mut holder = held(&to);
    for signal in [Signal::TERM, Signal::KILL] {
        let run = restore(&to, &machine, &backup).start();
        await_that("pg_restore waits", || waits(cluster, &to));
        run.signal(signal);
        let (code, log) = run.end();
        assert_eq!(code, (signal == Signal::TERM).then_some(75), "{log}");
        await_that("no session of it is left", || to.sessions_of_cts() == 0);
        assert_eq!(objects(&to), 0);
    }
    holder.batch_execute("DROP EVENT TRIGGER hold").unwrap();
    restore(&to, &machine, &backup).success();
    assert_eq!(rows(&to), expected);
}

#[test]
fn a_server_that_is_stopped_in_the_middle_of_a_restore_has_all_or_nothing() {
    let machine = Machine::new();
    let (backup, expected) = made(&machine, &Cluster::shared().owned());
    for how in [None, Some(Mode::Fast), Some(Mode::Immediate)] {
        let cluster = Cluster::builder().start();
        let to = cluster.owned();
        let holder = held(&to);
        let run = restore(&to, &machine, &backup).start();
        await_that("pg_restore waits", || waits(&cluster, &to));
        match how {
            None => cluster.kill(),
            Some(mode) => cluster.stop(mode),
        }
        let (code, log) = run.end();
        assert_eq!(code, Some(69), "{log}");
        assert!(log.contains("pg_restore: "), "{log}");
        drop(holder);
        cluster.start_again();
        assert_eq!(objects(&to), 0);
        to.admin().batch_execute("DROP EVENT TRIGGER hold").unwrap();
        restore(&to, &machine, &backup).success();
        assert_eq!(rows(&to), expected);
    }
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_of_a_restore_leaves_nothing_or_all_of_it() {
    let (machine, cluster) = (Machine::new(), Cluster::shared());
    let (backup, expected) = made(&machine, &cluster.owned());
    let first = cluster.owned();
    let start = Instant::now();
    restore(&first, &machine, &backup).success();
    let sweep = KillSweep::<bool>::over(start.elapsed());
    for_each(sweep.moments(), |(_, delay)| {
        let to = cluster.owned();
        let is_killed = kill_after(delay, restore(&to, &machine, &backup));
        to.await_unused(Duration::from_secs(20));
        let is_restored = objects(&to) > 0;
        match is_restored {
            true => to.cts("migrate").success(),
            false => restore(&to, &machine, &backup).success(),
        };
        assert_eq!(rows(&to), expected);
        to.cts("verify").success();
        sweep.record(is_killed, is_restored);
    });
    sweep.found("a restore of PostgreSQL");
    assert_eq!(files(&machine.path("backups")), [""; 0]);
}
