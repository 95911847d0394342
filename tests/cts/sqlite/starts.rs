//! Concurrent starts, an interrupted start, and locks that other programs hold.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::harness::Machine;

fn assert_complete(machine: &Machine) {
    assert_eq!(machine.number("SELECT count(*) FROM migrations"), 4);
    assert_eq!(machine.number("SELECT count(*) FROM sqlite_schema WHERE type = 'table'"), 24);
    assert_eq!(machine.texts("PRAGMA integrity_check"), ["ok"]);
    machine.cts("verify").success();
}

#[test]
fn concurrent_starts_on_an_empty_path_all_succeed() {
    for round in 0..20 {
        let machine = Machine::new();
        let starts: Vec<_> = (0..32)
            .map(|_| {
                let mut run = machine.cts("migrate");
                run.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for start in starts {
            let output = start.wait_with_output().unwrap();
            let log = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "round {round}: {log}");
        }
        assert_complete(&machine);
        assert_eq!(machine.number("SELECT count(*) FROM site_logs"), 4);
    }
}

#[test]
fn a_held_lock_ends_with_75_and_names_its_holder() {
    let (machine, holder) = Machine::locked();
    let pid = format!("(pid {})", std::process::id());
    machine.cts("migrate").env("CTS_LOCK_TIMEOUT", "300ms").status(75).says(&[
        "the lock is held by",
        &pid,
        "CTS_LOCK_TIMEOUT",
        "nothing was changed",
    ]);
    holder.execute_batch("ROLLBACK").unwrap();
    machine.cts("migrate").success().says(&["index idx_site_logs_time on site_logs was missing"]);
}

#[test]
fn the_service_reports_the_lock_it_waits_for_and_then_starts() {
    let (machine, holder) = Machine::locked();
    let service = machine.serve().env("CTS_LOCK_TIMEOUT", "1ms").start();
    service.until(&format!("(pid {})", std::process::id()));
    let answer = service.get("/api/health/database");
    assert_eq!((answer.code, answer.json()["status"].as_str()), (503, Some("initializing")));
    assert_eq!(service.get("/readyz").code, 503);
    assert_eq!(service.get("/livez").code, 200);
    holder.execute_batch("ROLLBACK").unwrap();
    service.until_ready().until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn a_signal_ends_the_wait_for_the_lock_at_once() {
    let (machine, _holder) = Machine::locked();
    let command = machine.cts("migrate").start();
    command.until("waiting for the write lock").signal(Signal::TERM);
    assert_eq!(command.end().0, Some(75));
    let service = machine.serve().start();
    service.until("waiting for the write lock").signal(Signal::TERM);
    assert_eq!(service.end().0, Some(0));
}

#[test]
fn a_start_succeeds_beside_a_program_that_writes_continuously() {
    let machine = Machine::migrated();
    machine.sql("DROP INDEX idx_site_logs_time");
    let conn = machine.open();
    let until = Instant::now() + Duration::from_secs(2);
    let writer = thread::spawn(move || {
        while Instant::now() < until {
            conn.execute_batch(
                "BEGIN IMMEDIATE; INSERT INTO site_logs (level, category, message) \
                 VALUES ('info', 'test', 'x'); COMMIT",
            )
            .unwrap();
        }
    });
    machine.cts("migrate").success();
    writer.join().unwrap();
    machine.cts("verify").success();
}

#[test]
fn the_service_waits_for_the_lock_even_with_nothing_to_migrate() {
    let machine = Machine::migrated();
    let holder = machine.open();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let service = machine.serve().start();
    service.until(&format!("(pid {})", std::process::id()));
    assert!(!service.log().contains("Ready"), "{}", service.log());
    holder.execute_batch("ROLLBACK").unwrap();
    service.until_ready();
}

#[test]
fn a_program_that_locks_the_whole_database_is_named_and_waited_for() {
    let machine = Machine::migrated();
    let holder = machine.open();
    holder
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; UPDATE users SET id = id; COMMIT",
        )
        .unwrap();
    let pid = format!("(pid {})", std::process::id());
    machine.cts("migrate").env("CTS_LOCK_TIMEOUT", "600ms").status(75).says(&["held by", &pid]);
    let start = Instant::now();
    machine.cts("--check").status(2).says(&["held by", &pid]);
    machine.cts("--check --deep").status(2).says(&["held by", &pid]);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let service = machine.serve().start();
    service.until("waiting for the write lock").until(&pid).signal(Signal::TERM);
    assert_eq!(service.end().0, Some(0));
}

#[test]
fn an_interrupted_first_run_is_not_reported_healthy() {
    let machine = Machine::new();
    std::fs::write(machine.db(), "").unwrap();
    // Killed when it is about to delete the journal, which commits the transaction.
    let strace = std::process::Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", "inject=unlink:signal=KILL:when=1"])
        .args([env!("CARGO_BIN_EXE_cts"), "migrate"])
        .env("SQLITE_DB_PATH", machine.db())
        .stderr(Stdio::null())
        .status()
        .expect("strace (Debian package strace)");
    assert!(!strace.success());
    assert!(machine.path("cts.db-journal").exists());
    let before = machine.files();
    machine.cts("--check").status(2).says(&["was interrupted", "cts migrate"]);
    machine.cts("status").status(65).says(&["was interrupted"]);
    assert_eq!(machine.files(), before);
    machine.cts("migrate").success().says(&["92 applied"]);
    assert_complete(&machine);
}
