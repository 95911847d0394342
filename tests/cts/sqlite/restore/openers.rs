//! Programs that have the database open: each is named and keeps it, and one that opens it during a restore sees the
//! one database or the other, and loses nothing that it wrote.

use std::fs::{self, File};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rusqlite::Connection;

use super::{assert_tidy, backed_up, backup_of, kept, refused, users_of};
use crate::support::scenario::side_file;

fn own_pid() -> String {
    format!("(pid {})", std::process::id())
}

#[test]
fn a_program_that_has_the_database_open_is_named_and_keeps_it() {
    let machine = backed_up();
    let pid = own_pid();
    let words = "restore latest";
    let conn = machine.open();
    // A connection that has only been opened, one that reads, and one that writes.
    refused(&machine, words, 75, &["it is open in", &pid, "nothing was changed", "ps -fp"]);
    conn.execute_batch("BEGIN; SELECT * FROM users").unwrap();
    refused(&machine, words, 75, &["it is open in", &pid]);
    conn.execute_batch("COMMIT; BEGIN IMMEDIATE; UPDATE users SET email = id").unwrap();
    refused(&machine, words, 75, &["it is open in", &pid]);
    refused(&machine, "restore latest --dry-run", 75, &["it is open in", &pid]);
    conn.execute_batch("ROLLBACK").unwrap();
    drop(conn);
    // No lock is held, and only the file shows it.
    for suffix in ["", "-wal"] {
        let path = side_file(&machine.db(), suffix);
        let file = File::options().create(true).append(true).open(&path).unwrap();
        refused(&machine, words, 75, &["it is open in", &pid]);
        drop(file);
        if suffix == "-wal" {
            fs::remove_file(path).unwrap();
        }
    }
    machine.cts(words).success();
    assert_tidy(&machine);
}

#[test]
fn the_running_service_is_named_with_the_way_to_stop_it() {
    let machine = backed_up();
    let service = machine.serve().start();
    service.until_ready();
    let pid = format!("cts (pid {}, the service)", service.child.id());
    machine.cts("restore latest").status(75).says(&[
        &pid,
        "stop it first (`systemctl stop cts`)",
        "nothing was changed",
    ]);
    service.stop();
    machine.cts("restore latest").success();
    assert_tidy(&machine);
}

/// Programs that open the database at any moment, write to it and close it: a write that was acknowledged is in the database
/// that was kept or in the restored one, and each sees a whole one.
#[test]
fn programs_that_open_the_database_meanwhile_lose_nothing() {
    let machine = backed_up();
    let backup = backup_of(&machine);
    let (stop, written) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let restores = thread::scope(|scope| {
        for program in 0..2 {
            let (machine, stop, written) = (&machine, &stop, &written);
            scope.spawn(move || {
                for turn in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("program {program} turn {turn}");
                    let insert = "INSERT INTO users (username, password_hash) VALUES (?1, 'x')";
                    let done = Connection::open(machine.db()).and_then(|conn| {
                        conn.busy_timeout(std::time::Duration::from_millis(5))?;
                        let seen = conn.query_row("SELECT count(*) FROM users", [], |row| {
                            row.get::<_, i64>(0)
                        })?;
                        assert!(seen > 0, "an empty database was seen");
                        conn.execute(insert, [&name])
                    });
                    match done {
                        Ok(_) => written.lock().unwrap().push(name),
                        Err(rusqlite::Error::SqliteFailure(e, _)) => assert!(
                            matches!(
                                e.code,
                                rusqlite::ErrorCode::DatabaseBusy
                                    | rusqlite::ErrorCode::DatabaseLocked
                            ),
                            "{e}"
                        ),
                        Err(e) => panic!("{e}"),
                    }
                    thread::sleep(std::time::Duration::from_millis(turn % 9 * 20));
                }
            });
        }
        let words = format!("restore {}", backup.display());
        let codes: Vec<_> =
            (0..12).map(|_| machine.cts(&words).run()).map(|done| done.0.status.code()).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(codes.iter().all(|code| matches!(code, Some(0 | 75))), "{codes:?}");
        codes.iter().filter(|code| **code == Some(0)).count()
    });
    eprintln!("{restores} of 12 restores, {} writes", written.lock().unwrap().len());
    assert!(restores > 0);
    let mut found = users_of(&machine.open());
    for kept in kept(&machine) {
        found.extend(users_of(&Connection::open(kept).unwrap()));
    }
    let lost: Vec<String> =
        written.into_inner().unwrap().into_iter().filter(|name| !found.contains(name)).collect();
    assert_eq!(lost, Vec::<String>::new());
    assert_tidy(&machine);
}
