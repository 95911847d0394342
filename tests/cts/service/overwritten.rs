//! A database that is overwritten in place while the service runs is noticed, and nothing of the one before
//! is written into the new one. What trading programs and their checkpoints do is never taken for it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::support::harness::{Machine, Service, await_within};
use crate::support::random::Random;

const HEALTH: &str = "/api/health/database";
const NOTICED: &str = "was overwritten in place while it was open";

fn insert(conn: &Connection, rows: usize) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
               INSERT INTO site_logs (level, category, message) SELECT 'info', 'test', 'row ' || i FROM n";
    conn.execute(sql, [rows]).unwrap();
}

/// A service whose database has rows that the backup beside it lacks.
fn served(machine: &Machine) -> Service {
    machine.cts("migrate").success();
    fs::copy(machine.db(), machine.path("backup.db")).unwrap();
    // Retention writes the time now and then, behind a read that a test holds open too.
    let service = machine.serve().env("CTS_RETENTION", "0").start();
    service.until_ready();
    let conn = Connection::open(machine.db()).unwrap();
    insert(&conn, 300);
    // Two turns of the upkeep.
    for _ in 0..2 {
        insert(&conn, 1);
        await_within(Duration::from_secs(60), "the WAL is copied", || {
            let frames =
                |at| conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], move |row| row.get(at));
            let (total, copied): (i64, i64) = (frames(1).unwrap(), frames(2).unwrap());
            total == copied
        });
    }
    service
}

/// Writes the content of one file into another, as `cp` does.
fn overwrite(from: &Path, to: &Path) -> Vec<u8> {
    let content = fs::read(from).unwrap();
    fs::write(to, &content).unwrap();
    content
}

#[test]
fn a_file_that_is_overwritten_in_place_is_noticed() {
    let machine = Machine::new();
    let service = served(&machine);
    let content = overwrite(&machine.path("backup.db"), &machine.db());
    await_within(Duration::from_secs(60), "it is noticed", || {
        let answer = service.get(HEALTH);
        answer.code == 503 && answer.body.contains(NOTICED)
    });
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(NOTICED) && log.contains("cts.db-wal"), "{log}");
    assert!(fs::read(machine.db()).unwrap() == content, "pages were mixed");
}

#[test]
fn a_file_that_is_overwritten_just_before_the_stop_is_left_as_it_is() {
    let machine = Machine::new();
    let service = served(&machine);
    let content = overwrite(&machine.path("backup.db"), &machine.db());
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(fs::read(machine.db()).unwrap() == content, "pages were mixed: {log}");
}

#[test]
fn a_larger_database_that_is_put_there_just_before_the_stop_is_left_as_it_is() {
    let machine = Machine::new();
    let service = served(&machine);
    let larger = machine.path("backup.db");
    insert(&Connection::open(&larger).unwrap(), 3000);
    // Most often it is not copied yet.
    insert(&Connection::open(machine.db()).unwrap(), 1);
    let content = overwrite(&larger, &machine.db());
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(fs::read(machine.db()).unwrap() == content, "pages were mixed: {log}");
}

#[test]
fn a_file_that_is_overwritten_beside_a_program_that_writes_is_noticed() {
    let machine = Machine::new();
    let service = served(&machine);
    let conn = Connection::open(machine.db()).unwrap();
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    insert(&conn, 1);
    overwrite(&machine.path("backup.db"), &machine.db());
    await_within(Duration::from_secs(60), "it is noticed", || {
        // It may meet damage that the mixture has made.
        let _ = conn
            .execute("INSERT INTO site_logs (level, category, message) VALUES ('i', 't', 'x')", []);
        service.get(HEALTH).body.contains(NOTICED)
    });
}

/// A read keeps the WAL from being reset, so that the next transaction is added to it; another program
/// copies that one, and the WAL is reset before the service looks again.
#[test]
fn what_was_copied_before_a_reset_of_the_wal_is_not_taken_for_it() {
    let machine = Machine::new();
    let service = served(&machine);
    let open = || {
        let conn = Connection::open(machine.db()).unwrap();
        conn.busy_timeout(Duration::from_secs(30)).unwrap();
        conn.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
        conn
    };
    let (writer, reader, other) = (open(), open(), open());
    let is_copied = || {
        let frames = |row: &rusqlite::Row| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (total, copied) = other.query_row("PRAGMA wal_checkpoint(NOOP)", [], frames).unwrap();
        total == copied
    };
    for turn in 0..6 {
        let settings = format!("UPDATE system_settings SET updated_at = 'turn {turn}'");
        writer.execute_batch(&settings).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
        await_within(Duration::from_secs(60), "the service has copied the WAL", is_copied);
        // The rest of its turn takes less.
        std::thread::sleep(Duration::from_millis(300));
        writer.execute_batch(&settings.replace("turn", "later in turn")).unwrap();
        reader.execute_batch("COMMIT").unwrap();
        other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        insert(&writer, 1);
        await_within(Duration::from_secs(60), "the service has looked again", is_copied);
    }
    let answer = service.get(HEALTH);
    assert_eq!(answer.code, 200, "{}", answer.body);
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains(NOTICED), "{log}");
    machine.cts("--check --deep").success();
}

#[test]
fn checkpoints_of_programs_are_not_taken_for_it() {
    let machine = Machine::new();
    let service = served(&machine);
    let mut random = Random(0x5851_f42d_4c95_7f2d);
    let first = Connection::open(machine.db()).unwrap();
    first.execute_batch("PRAGMA wal_autocheckpoint = 8").unwrap();
    let mut turns = 0;
    let mut modified = fs::metadata(machine.db()).unwrap().modified().unwrap();
    while turns < 400 {
        let conn = Connection::open(machine.db()).unwrap();
        conn.busy_timeout(Duration::from_secs(30)).unwrap();
        insert(&conn, 1 + random.below(200));
        let sql = match random.below(8) {
            0 => "PRAGMA wal_checkpoint(TRUNCATE)",
            1 => "PRAGMA wal_checkpoint(RESTART)",
            2 => "PRAGMA wal_checkpoint(PASSIVE)",
            3 => "DELETE FROM site_logs WHERE id % 3 = 0",
            4 => "UPDATE site_logs SET message = message || '.' WHERE id % 5 = 0",
            5 if random.below(5) == 0 => "DELETE FROM site_logs; VACUUM",
            _ => "SELECT 1",
        };
        conn.execute_batch(sql).unwrap();
        insert(&first, 1);
        let now = fs::metadata(machine.db()).unwrap().modified().unwrap();
        turns += usize::from(std::mem::replace(&mut modified, now) != now);
    }
    let answer = service.get(HEALTH);
    assert_eq!(answer.code, 200, "{}", answer.body);
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains(NOTICED), "{log}");
    machine.cts("--check --deep").success();
}
