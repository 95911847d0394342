//! Backups by `pg_dump`: what is in them, what is refused before and after, and that nothing is left of one that failed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::cluster::{Cluster, Database, Mode};
use crate::support::harness::{Machine, Run, await_that, mode};

/// A text of a row that does not compress well.
const ROW_TEXT: &str = "md5(i::text) || md5((i * 7)::text)";

/// A migrated database with some rows.
pub fn filled(database: &Database, rows: u32) {
    database.cts("migrate").success();
    database.sql(&format!(
        "INSERT INTO site_logs (level, category, message) SELECT 'info', 'trade', {ROW_TEXT} FROM generate_series(1, {rows}) i; \
         CREATE TABLE own (id int); INSERT INTO own VALUES (1), (2)"
    ));
}

/// A run with the folder of backups on this machine.
pub fn cts(database: &Database, machine: &Machine, words: &str) -> Run {
    database.cts(words).env("CTS_BACKUP_DIR", machine.path("backups"))
}

/// The files of backups in a folder, sorted, complete or not.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("cts-"));
    names.sort();
    names
}

/// The newest backup of the folder.
fn newest(machine: &Machine) -> PathBuf {
    let folder = machine.path("backups");
    let names = files(&folder);
    folder.join(names.iter().rfind(|name| name.ends_with(".dump")).unwrap())
}

/// A program that prints this version and does nothing else.
fn fake(machine: &Machine, version: &str) -> PathBuf {
    let path = machine.path("pg_dump");
    for name in ["pg_dump", "pg_restore"] {
        let text = format!("#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n");
        fs::write(machine.path(name), text).unwrap();
        fs::set_permissions(machine.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    path
}

#[test]
fn a_backup_has_every_table_with_its_rows_and_is_described() {
    let (database, machine) = (Cluster::shared().one_schema(), Machine::new());
    filled(&database, 500);
    cts(&database, &machine, "backup").success().says(&["24 tables", "proved"]);
    let backup = newest(&machine);
    assert_eq!(files(&machine.path("backups")).len(), 3);
    assert_eq!(mode(&backup), 0o600);
    let manifest = fs::read(format!("{}.json", backup.display())).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["database"]["type"], "postgresql");
    assert_eq!(manifest["tables"]["site_logs"], database.number("SELECT count(*) FROM site_logs"));
    assert_eq!(manifest["tables"].as_object().unwrap().len(), 24);
    assert_eq!(manifest["migrations"].as_array().unwrap().len(), 4);
    let list = database.printed_of("pg_restore", &["--list", backup.to_str().unwrap()]);
    assert!(list.contains("TABLE DATA cts own "), "the owner's own tables are kept: {list}");
    cts(&database, &machine, "backups").success().says(&[backup
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()]);
    let copy = machine.path("one.dump");
    database.cts(&format!("backup {}", copy.display())).success();
    database.cts(&format!("backup {}", copy.display())).status(73).says(&["already"]);
}

#[test]
fn a_database_without_tables_and_a_folder_that_is_not_set_are_named() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    cts(&database, &machine, "backup").status(65).says(&["there is no table of CTS"]);
    database.cts("backup").status(78).says(&["CTS_BACKUP_DIR"]);
    assert_eq!(files(&machine.path("backups")), [""; 0]);
}

#[test]
fn programs_that_are_missing_or_older_than_the_server_are_named_with_the_package() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 1);
    let with = |path: &Path| cts(&database, &machine, "backup").env("CTS_PG_DUMP", path);
    with(Path::new("/nowhere/pg_dump")).status(78).says(&["CTS_PG_DUMP", "/nowhere/pg_dump"]);
    let package = format!("postgresql-client-{}", database.server_major());
    let old = fake(&machine, "9.6.24");
    with(&old).status(78).says(&["of PostgreSQL 9.6.24, older than the server", &package]);
    fs::remove_file(machine.path("pg_restore")).unwrap();
    with(&old).status(78).says(&["pg_restore in the same folder"]);
    assert_eq!(files(&machine.path("backups")), [""; 0]);
}

#[test]
fn a_right_that_is_missing_is_named_and_leaves_no_backup() {
    let cluster = Cluster::shared();
    let (database, machine) = (cluster.owned(), Machine::new());
    filled(&database, 1);
    let reader = format!("Reader {}", database.name);
    let name = &database.name;
    cluster.sql(&format!("CREATE ROLE \"{reader}\" LOGIN PASSWORD 'read-only'"));
    database.sql(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{reader}\"; REVOKE SELECT ON users FROM \"{reader}\""));
    let reader_url = format!(
        "postgresql://{}:read-only@127.0.0.1:{}/{name}?sslmode=disable",
        reader.replace(' ', "%20"),
        cluster.port
    );
    let run = || cts(&database, &machine, "backup").env("DATABASE_URL", &reader_url);
    run().status(77).says(&["may not read:", "users", "GRANT SELECT ON ALL TABLES"]);
    database.sql(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{reader}\"; GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO \"{reader}\""));
    run().success();
    database.sql("ALTER TABLE users ENABLE ROW LEVEL SECURITY");
    run().status(77).says(&["row-level security hides rows", "users", "BYPASSRLS"]);
    assert_eq!(files(&machine.path("backups")).len(), 3);
    cluster
        .admin(name)
        .batch_execute(&format!("DROP OWNED BY \"{reader}\"; DROP ROLE \"{reader}\""))
        .unwrap();
}

#[test]
fn settings_of_the_role_and_of_the_environment_do_not_end_a_backup() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 2000);
    let name = &database.name;
    for set in [
        "statement_timeout = 500",
        "lock_timeout = 500",
        "idle_in_transaction_session_timeout = 1",
        "quote_all_identifiers = on",
        "datestyle = 'German'",
    ] {
        database.sql(&format!("ALTER ROLE \"{name}\" SET {set}"));
    }
    let mut run = cts(&database, &machine, "backup");
    for (variable, value) in [
        ("PGHOST", "nowhere"),
        ("PGPORT", "1"),
        ("PGUSER", "x"),
        ("PGOPTIONS", "-cfoo"),
        ("PGSERVICE", "y"),
        ("LC_ALL", "de_DE.UTF-8"),
        ("PGDATABASE", "z"),
        ("PGPASSWORD", "w"),
        ("PGSSLMODE", "verify-full"),
    ] {
        run = run.env(variable, value);
    }
    run.success().says(&["24 tables"]);
}

#[test]
fn a_table_that_another_session_has_locked_is_named_with_its_holder() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 1);
    let mut holder = database.open();
    holder.batch_execute("SET application_name = 'my trader'").unwrap();
    // Of a table of cts already the catalogue cannot be read.
    for table in ["own", "users"] {
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        holder.batch_execute(&lock).unwrap();
        let run = cts(&database, &machine, "backup").env("CTS_LOCK_TIMEOUT", "1s");
        run.status(75).says(&[&format!("table {table} is locked by"), "my trader"]);
        assert_eq!(files(&machine.path("backups")), [""; 0]);
        holder.batch_execute("ROLLBACK").unwrap();
    }
    let run = || cts(&database, &machine, "backup");
    run().success();
}

#[test]
fn of_two_backups_of_one_database_the_second_waits() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 1);
    let mut holder = database.open();
    holder.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
    let first = cts(&database, &machine, "backup").start();
    await_that("pg_dump waits for the table", || waiting(&database) == 1);
    let second = cts(&database, &machine, "backup").env("CTS_LOCK_TIMEOUT", "1s");
    second.status(75).says(&["another cts makes or restores a backup", "pid "]);
    let third = cts(&database, &machine, "backup").start();
    holder.batch_execute("ROLLBACK").unwrap();
    assert_eq!((first.end().0, third.end().0), (Some(0), Some(0)));
    // Of one day, the rules keep the newest.
    assert_eq!(files(&machine.path("backups")).len(), 3);
}

/// The number of sessions of pg_dump that wait for a lock.
pub fn waiting(database: &Database) -> i64 {
    Cluster::shared().number(&format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'cts backup' AND wait_event_type = 'Lock'",
        database.name
    ))
}

#[test]
fn a_backup_that_is_stopped_or_killed_leaves_no_pg_dump_and_no_backup() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 1);
    let mut holder = database.open();
    for is_kill in [false, true] {
        holder.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
        let run = cts(&database, &machine, "backup").start();
        await_that("pg_dump waits for the table", || waiting(&database) == 1);
        let code = match is_kill {
            true => {
                run.signal(rustix::process::Signal::KILL);
                run.end().0
            }
            false => run.stop().0,
        };
        assert_eq!(code, (!is_kill).then_some(75));
        await_that("no session of pg_dump is left", || database.sessions_of_cts() == 0);
        holder.batch_execute("ROLLBACK").unwrap();
        let left = files(&machine.path("backups"));
        assert!(left.iter().all(|name| is_kill && name.ends_with(".partial")), "{left:?}");
    }
    cts(&database, &machine, "backup").success();
    cts(&database, &machine, "backups").success();
}

#[test]
fn a_server_that_is_stopped_in_the_middle_of_a_backup_is_named() {
    let machine = Machine::new();
    for how in [None, Some(Mode::Fast), Some(Mode::Immediate)] {
        let cluster = Cluster::builder().start();
        let database = cluster.owned();
        filled(&database, 1);
        let mut holder = database.open();
        holder.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
        let run = cts(&database, &machine, "backup").start();
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cts backup' AND wait_event_type = 'Lock'";
        await_that("pg_dump waits for the table", || cluster.number(waits) == 1);
        match how {
            None => cluster.kill(),
            Some(mode) => cluster.stop(mode),
        }
        let (code, log) = run.end();
        assert_eq!(code, Some(69), "{log}");
        assert!(log.contains("pg_dump: "), "{log}");
        assert_eq!(files(&machine.path("backups")), [""; 0]);
        cluster.start_again();
        cts(&database, &machine, "backup").success();
        fs::remove_dir_all(machine.path("backups")).unwrap();
    }
}

#[test]
#[ignore = "sweep"]
fn a_server_that_hangs_ends_a_backup_within_a_minute() {
    let (machine, cluster) = (Machine::new(), Cluster::builder().start());
    let database = cluster.owned();
    filled(&database, 1);
    let mut holder = database.open();
    holder.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
    let run = cts(&database, &machine, "backup").env("CTS_LOCK_TIMEOUT", "1h").start();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cts backup' AND wait_event_type = 'Lock'";
    await_that("pg_dump waits for the table", || cluster.number(waits) == 1);
    cluster.pause();
    let (code, log) = run.end();
    cluster.resume();
    assert_eq!(code, Some(69), "{log}");
    assert_eq!(files(&machine.path("backups")), [""; 0]);
}
