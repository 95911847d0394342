//! The WAL while reads overlap, so that it is never free by itself, and while a read does not end.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::harness::{Machine, await_that};

/// Reads overlap if each lasts so long and begins at once after the one before it, in two programs.
const READ: Duration = Duration::from_millis(30);

fn wal(machine: &Machine) -> PathBuf {
    machine.path("cts.db-wal")
}

fn wal_bytes(machine: &Machine) -> u64 {
    fs::metadata(wal(machine)).map_or(0, |wal| wal.len())
}

/// The random numbers in the header of the WAL, which change when it is reset
/// (sqlite.org/fileformat2.html, 4.1).
fn salts(machine: &Machine) -> Option<Vec<u8>> {
    fs::read(wal(machine)).ok()?.get(16..24).map(<[u8]>::to_vec)
}

fn begin_read(machine: &Machine) -> Connection {
    let reader = machine.open();
    reader.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
    reader
}

/// Ends the threads of a test also when it fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Writes a row of this many bytes.
fn write(program: &Connection, bytes: u32) {
    let sql = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', zeroblob(?1))";
    program.execute(sql, [bytes]).unwrap();
}

#[test]
fn a_wal_that_overlapping_reads_keep_is_reset_under_load() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let is_over = AtomicBool::new(false);
    let overlap = || {
        let reader = machine.open();
        while !is_over.load(Ordering::Relaxed) {
            reader.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
            thread::sleep(READ);
            reader.execute_batch("COMMIT").unwrap();
        }
    };
    thread::scope(|scope| {
        let _ends = Ends(&is_over);
        scope.spawn(overlap);
        thread::sleep(READ / 2);
        scope.spawn(overlap);
        let program = machine.open();
        while wal_bytes(&machine) < 33 << 20 {
            write(&program, 1 << 20);
        }
        let before = salts(&machine);
        scope.spawn(|| {
            // So often that every checkpoint finds new frames.
            let program = machine.open();
            while !is_over.load(Ordering::Relaxed) {
                write(&program, 4096);
                thread::sleep(Duration::from_millis(1));
            }
        });
        await_that("the WAL is reset", || salts(&machine) != before);
    });
    assert_eq!(service.get("/api/health/database").json()["status"], "healthy");
    assert!(!service.log().contains("✗"), "{}", service.log());
    assert_eq!(service.stop().0, Some(0));
    machine.cts("--check --deep").success();
}

#[test]
fn a_read_that_does_not_end_is_named_where_it_makes_the_wal_long() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let reader = begin_read(&machine);
    let program = machine.open();
    while wal_bytes(&machine) < 256 << 20 {
        write(&program, 16 << 20);
    }
    let named = format!("(pid {}, running since 20", std::process::id());
    let parts = [" MiB long, because reads keep it from being reset: ", &named, "end their read"];
    let answer = service.until_status("degraded");
    assert_eq!(answer.code, 200);
    for part in parts {
        assert!(answer.body.contains(part), "{part:?} is missing in {}", answer.body);
        service.until(part);
    }
    machine.cts("--check").status(1).says(&parts);
    machine.cts(&format!("--check --url http://{}", service.address())).status(1).says(&parts);
    machine.cts("doctor").run().says(&parts);
    assert_eq!(service.get("/readyz").code, 200);
    assert!(!service.log().contains("✗"), "{}", service.log());
    drop(reader);
    service.until("✓ the WAL is short again").until_status("healthy");
    assert!(wal_bytes(&machine) < 64 << 20);
    machine.cts("--check").success();
    assert_eq!(service.stop().0, Some(0));
}

/// A minute passes.
#[test]
#[ignore = "sweep"]
fn a_read_that_keeps_the_wal_for_a_minute_is_named_however_short_the_wal_is() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let reader = begin_read(&machine);
    let program = machine.open();
    write(&program, 100);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(55) {
        assert_eq!(service.get("/api/health/database").json()["status"], "healthy");
        machine.cts("--check").success();
        thread::sleep(Duration::from_secs(5));
    }
    let named = format!("(pid {}, running since 20", std::process::id());
    let kept = " long, because reads keep it from being reset, for more than a minute by now: ";
    let parts = [kept, &named, "end their read transactions"];
    let answer = service.until_status("degraded");
    for part in parts {
        assert!(answer.body.contains(part), "{part:?} is missing in {}", answer.body);
        service.until(part);
    }
    machine.cts("--check").status(1).says(&parts);
    machine.cts("status").run().says(&parts);
    machine.cts(&format!("--check --url http://{}", service.address())).status(1).says(&parts);
    machine.cts("doctor").run().says(&parts);
    assert!(service.get("/api/admin/overview").body.contains(&named));
    drop(reader);
    service.until("✓ the WAL is short again").until_status("healthy");
    machine.cts("--check").success();
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn a_stop_does_not_wait_for_a_reader() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let program = machine.open();
    let _reader = begin_read(&machine);
    while wal_bytes(&machine) < 64 << 20 {
        write(&program, 16 << 20);
    }
    assert_eq!(service.stop().0, Some(0));
    // The write lock is free, and nothing is lost.
    write(&program, 1);
    machine.cts("--check --deep").success();
}
