//! `--check`, `status`, `verify`, `stats`, `migrate --dry-run` and `doctor` change nothing, neither in the
//! database nor beside it, and read through the WAL that a killed program has left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::Connection;

use crate::support::harness::{Machine, is_root};
use crate::support::scenario::copy;

const LOOKS: [&str; 6] =
    ["--check", "--check --deep", "status", "verify", "migrate --dry-run", "doctor"];

/// Every file in a folder, with its content and the time of its last change.
fn content(folder: &Path) -> Vec<(String, Vec<u8>, SystemTime)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            (path.display().to_string(), fs::read(&path).unwrap(), modified)
        })
        .collect();
    files.sort();
    files
}

/// Runs every look; each finds the missing index, or each finds none missing.
fn look_at(machine: &Machine, misses_index: bool) {
    let before = content(&machine.path(""));
    for look in LOOKS {
        let done = machine.cts(look).run();
        let says = done.out().contains("idx_site_logs_time");
        assert_eq!(says, misses_index, "{look}: {}{}", done.out(), done.err());
        assert!(content(&machine.path("")) == before, "{look} changed something");
    }
    machine.cts("stats").success().says(&["No position of pseudo_positions was closed"]);
    assert!(content(&machine.path("")) == before, "stats changed something");
}

/// A machine with the files that a program has left which was killed after it dropped an index, with
/// or without its shared memory.
fn killed(with_shm: bool) -> Machine {
    let source = Machine::migrated();
    let conn = source.open();
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; DROP INDEX idx_site_logs_time").unwrap();
    let machine = Machine::new();
    copy(&source.db(), &machine.db());
    let shm = machine.path("cts.db-shm");
    match with_shm {
        true => drop(fs::copy(source.path("cts.db-shm"), shm).unwrap()),
        false => drop(fs::remove_file(shm)),
    }
    machine
}

#[test]
fn a_look_at_a_database_at_rest_leaves_nothing_beside_it() {
    look_at(&Machine::migrated(), false);
    let rollback = Machine::migrated();
    rollback.sql("PRAGMA journal_mode = DELETE");
    look_at(&rollback, false);
}

#[test]
fn a_look_reads_through_the_wal_of_a_killed_program_and_leaves_it() {
    for with_shm in [true, false] {
        let machine = killed(with_shm);
        look_at(&machine, true);
        machine.cts("migrate").success();
        look_at(&machine, false);
    }
}

#[test]
fn a_look_reads_through_a_wal_where_it_may_write_nothing() {
    let machine = killed(false);
    for name in ["cts.db", "cts.db-wal"] {
        fs::set_permissions(machine.path(name), fs::Permissions::from_mode(0o444)).unwrap();
    }
    let before = fs::read(machine.path("cts.db-wal")).unwrap();
    if !is_root() {
        crate::support::not_tried("only root can run cts as a user who may not write the folder");
        return;
    }
    machine.cts_as_nobody("status").status(1).says(&["idx_site_logs_time"]);
    machine.cts_as_nobody("verify").status(1).says(&["idx_site_logs_time"]);
    machine.cts_as_nobody("stats").success().says(&["No position of pseudo_positions was closed"]);
    assert!(fs::read(machine.path("cts.db-wal")).unwrap() == before);
    assert!(!machine.path("cts.db-shm").exists());
}

#[test]
fn a_look_at_a_database_in_use_sees_what_was_just_committed() {
    let machine = Machine::migrated();
    let conn: Connection = machine.open();
    conn.execute_batch("DROP INDEX idx_site_logs_time").unwrap();
    machine.cts("verify").status(1).says(&["idx_site_logs_time"]);
    conn.execute_batch("BEGIN IMMEDIATE; DROP INDEX idx_site_logs_category").unwrap();
    let done = machine.cts("verify").status(1);
    assert!(!done.out().contains("idx_site_logs_category"), "{}", done.out());
    conn.execute_batch(
        "ROLLBACK; INSERT INTO exchange_connections (id, name, exchange) VALUES ('a', 'A', 'x'); \
         INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at) VALUES ('a', 'BTC', 'closed', datetime('now')); \
         BEGIN IMMEDIATE",
    )
    .unwrap();
    machine.cts("stats --by symbol").success().says(&["BTC"]);
}
