//! A server that stops, a connection that is lost and a disk that is full in the middle of a copy: the target is as it
//! was, the message says why, and the next copy succeeds.

use std::fs;
use std::time::Duration;

use crate::support::cluster::{Cluster, Database, Mode};
use crate::support::disk::Disk;
use crate::support::harness::{Machine, Run, Service, await_that, is_root};

use super::{Ends, proved};

const ROWS: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('c', 'c');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)
    INSERT INTO pseudo_positions (connection_id, symbol, entry_price, close_reason) SELECT 'c', 'S' || i, i / 7.0, hex(randomblob(30)) FROM n;";

const SUM: &str = "SELECT count(*) || ' ' || sum(entry_price) FROM pseudo_positions";

/// Waits until the copy is moving rows: its session has run for a while, and does so in a transaction.
fn until_rows_move(database: &Database) {
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'cts%' \
         AND state = 'active' AND query ILIKE 'copy%pseudo_positions%'",
        database.name
    );
    let mut admin = database.admin();
    await_that("the copy moves rows", || crate::support::cluster::number(&mut admin, &sql) > 0);
}

fn is_empty(database: &Database) -> bool {
    database.number("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
        == 0
}

/// The copy ends with this code, and has left nothing.
fn leaves_nothing(ends: &Ends, copy: Service, to: &str, code: i32) -> String {
    let (found, log) = copy.end();
    assert_eq!(found, Some(code), "{log}");
    match to {
        "postgresql" => assert!(is_empty(&ends.database), "{log}"),
        _ => {
            let files = ends.machine.files();
            let left: Vec<_> =
                files.keys().filter(|path| !path.to_string_lossy().contains("cts.db")).collect();
            assert!(left.is_empty(), "{left:?}: {log}");
        }
    }
    log
}

fn copy(ends: &Ends, to: &str) -> Run {
    let run = if to == "sqlite" { ends.to_sqlite("") } else { ends.to_postgresql("") };
    run.env("CTS_WAIT", "0s")
}

/// A server of its own, the ends of both directions, and the file's content before.
fn on_server<'c>(cluster: &'c Cluster, to: &str) -> (Ends<'c>, Vec<String>) {
    let ends = Ends::on(cluster);
    ends.machine.sql(ROWS);
    if to == "sqlite" {
        ends.to_postgresql("").success();
    }
    let before = ends.machine.texts(SUM);
    (ends, before)
}

#[test]
fn a_server_that_stops_in_the_middle_leaves_nothing() {
    for to in ["postgresql", "sqlite"] {
        let cluster = Cluster::builder().start();
        let (ends, before) = on_server(&cluster, to);
        let ways: [(&str, &dyn Fn()); 3] = [
            ("a fast stop", &|| cluster.stop(Mode::Fast)),
            ("an immediate stop", &|| cluster.stop(Mode::Immediate)),
            ("SIGKILL", &|| cluster.kill()),
        ];
        for (way, stop) in ways {
            let service = copy(&ends, to).start();
            until_rows_move(&ends.database);
            stop();
            let (code, log) = service.end();
            assert_eq!(code, Some(69), "{to}, {way}: {log}");
            cluster.start_again();
            if to == "postgresql" {
                assert!(is_empty(&ends.database), "{way}");
            } else {
                let files = ends.machine.files();
                assert!(
                    files.keys().all(|path| path.to_string_lossy().contains("/cts.db")),
                    "{way}: {files:?}"
                );
            }
            assert_eq!(
                ends.machine
                    .texts("SELECT count(*) || ' ' || sum(entry_price) FROM pseudo_positions"),
                before
            );
        }
        copy(&ends, to).success();
        ends.server_is_good();
    }
}

#[test]
fn a_session_that_is_ended_and_a_connection_that_is_lost_leave_nothing() {
    for to in ["postgresql", "sqlite"] {
        let (ends, _) = on_server(Cluster::shared(), to);
        let service = copy(&ends, to).start();
        until_rows_move(&ends.database);
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}' AND application_name LIKE 'cts%'",
            ends.database.name
        );
        crate::support::cluster::texts(&mut ends.database.admin(), &end);
        leaves_nothing(&ends, service, to, 69);
        // The pooler between is killed.
        let pooler = ends.database.pooler("transaction", 2, "");
        let service = copy(&ends, to).env("DATABASE_URL", pooler.url()).start();
        until_rows_move(&ends.database);
        drop(pooler);
        let (code, log) = service.end();
        assert_eq!(code, Some(69), "{to}: {log}");
        await_that("the server has noticed", || ends.database.sessions_of_cts() == 0);
        if to == "postgresql" {
            assert!(is_empty(&ends.database));
        } else {
            assert!(!ends.back().exists());
        }
        copy(&ends, to).success();
        ends.server_is_good();
    }
}

/// A server that is paused for a while is waited for.
#[test]
fn a_server_that_hangs_for_a_while_is_waited_for() {
    let cluster = Cluster::builder().start();
    let (ends, _) = on_server(&cluster, "postgresql");
    let service = copy(&ends, "postgresql").start();
    until_rows_move(&ends.database);
    cluster.pause();
    std::thread::sleep(Duration::from_millis(500));
    cluster.resume();
    let (code, log) = service.end();
    assert_eq!(code, Some(0), "{log}");
    ends.server_is_good();
}

#[test]
fn a_termination_in_the_middle_leaves_nothing() {
    for to in ["postgresql", "sqlite"] {
        let (ends, _) = on_server(Cluster::shared(), to);
        let service = copy(&ends, to).start();
        until_rows_move(&ends.database);
        service.signal(rustix::process::Signal::TERM);
        let log = leaves_nothing(&ends, service, to, 75);
        assert!(log.contains("nothing was changed"), "{log}");
        copy(&ends, to).success();
    }
}

#[test]
fn a_full_disk_of_the_server_leaves_nothing() {
    let cluster = Cluster::builder().start();
    let Some(disk) = cluster.small_tablespace(32) else { return };
    let mut ends = Ends::on(&cluster);
    ends.database = disk.database();
    ends.machine.sql(ROWS);
    let before = ends.machine.files();
    for free in [1 << 20, 3 << 20, 5 << 20] {
        disk.leave(u64::MAX);
        cluster.sql("CHECKPOINT");
        disk.leave(free);
        let done = ends.to_postgresql("").status(74);
        done.says(&["No space left on device", "free some space on the server"]);
        disk.leave(u64::MAX);
        assert!(is_empty(&ends.database));
        assert_eq!(ends.machine.files(), before);
    }
    proved(&ends.to_postgresql("--json").success().json());
    ends.server_is_good();
}

#[test]
fn a_full_disk_of_the_file_leaves_nothing() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let ends = Ends::with(ROWS);
    ends.to_postgresql("").success();
    let before = ends.database.everything();
    let machine = Machine::new();
    let disk = Disk::mount(&machine);
    let db = disk.folder.join("cts.db");
    for free in [0, 100 << 10, 1 << 20, 3 << 20] {
        disk.leave(free);
        let done = ends.to_sqlite("").db(&db).status(74);
        done.says(&[db.to_str().unwrap(), "the disk is full", "free some space"]);
        let left: Vec<_> =
            fs::read_dir(&disk.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["filler"], "{free}");
        assert_eq!(ends.database.everything(), before);
    }
    disk.leave(u64::MAX);
    proved(&ends.to_sqlite("--json").db(&db).success().json());
    machine.cts("verify").db(&db).success();
}
