//! A restore that is killed, interrupted, or not alone: the database at the path is the old or the new one, and the next
//! start says which.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{assert_tidy, backed_up, backup_of, files, kept, users};
use crate::support::harness::{Machine, for_each};
use crate::support::kills::{KillSweep, kill_after};
use crate::support::scenario::{copy, side_file};

/// What is at the path after a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Before,
    Restored,
    Nothing,
}

/// A database with and without a WAL that was left, and no database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    AtRest,
    WithWal,
    Damaged,
    Absent,
}

impl Place {
    fn make(self, from: &Machine, to: &Machine) {
        match self {
            Place::Absent => {}
            Place::AtRest => copy(&from.db(), &to.db()),
            Place::WithWal | Place::Damaged => {
                copy(&from.db(), &to.db());
                let conn = to.open();
                conn.execute_batch(
                    "PRAGMA wal_autocheckpoint = 0;
                     INSERT INTO users (username, password_hash) VALUES ('in the wal', 'x');",
                )
                .unwrap();
                let (left, db) = (Machine::new(), to.db());
                for suffix in ["", "-wal", "-shm"] {
                    fs::copy(side_file(&db, suffix), side_file(&left.db(), suffix)).unwrap();
                }
                drop(conn);
                for suffix in ["", "-wal", "-shm"] {
                    fs::copy(side_file(&left.db(), suffix), side_file(&db, suffix)).unwrap();
                }
                if self == Place::Damaged {
                    let mut bytes = fs::read(&db).unwrap();
                    let page = bytes.len() / 2 / 4096 * 4096;
                    bytes[page..page + 8192].fill(0x5a);
                    fs::write(&db, &bytes).unwrap();
                }
            }
        }
    }

    /// What is at the path, of which nothing but the file itself was examined before.
    fn found(self, machine: &Machine) -> Found {
        let db = machine.db();
        if !db.exists() {
            return Found::Nothing;
        }
        if users(&db) == ["saved"] {
            // No side file of the database before was left to it at any moment.
            for suffix in ["-wal", "-shm", "-journal"] {
                assert!(!side_file(&db, suffix).exists(), "{suffix} beside the restored one");
            }
            return Found::Restored;
        }
        if self == Place::WithWal {
            let other = Machine::new();
            copy(&db, &other.db());
            assert_eq!(super::users_of(&other.open()), ["saved", "later", "in the wal"]);
        }
        Found::Before
    }
}

fn sweep(place: Place) {
    let origin = backed_up();
    let backup = backup_of(&origin);
    let words = format!("restore {}", backup.display());
    let duration = {
        let machine = Machine::new();
        place.make(&origin, &machine);
        let start = Instant::now();
        machine.cts(&words).success();
        start.elapsed()
    };
    let sweep = KillSweep::<Found>::over(duration);
    for_each(sweep.moments(), |(_, delay)| {
        let machine = Machine::new();
        place.make(&origin, &machine);
        let is_killed = kill_after(delay, machine.cts(&words));
        let found = place.found(&machine);
        let is_recorded = side_file(&machine.db(), ".restore-intent").exists();
        let expected = match found {
            Found::Before => "the database from before it is in place",
            Found::Restored => "the restored database is in place",
            Found::Nothing => "no database is in place",
        };
        if is_recorded {
            // An inspection says it, and changes nothing.
            machine.cts("status").run().says(&[expected]);
            assert_eq!(place.found(&machine), found);
        }
        let done = machine.cts("migrate").run();
        match (place, found, is_recorded) {
            (_, Found::Nothing, true) => {
                assert_eq!(done.0.status.code(), Some(65), "{}", done.err());
                done.says(&[expected, "run it again"]);
                machine.cts(&words).success();
            }
            (Place::Damaged, Found::Before, _) => {
                assert!(machine.db().exists());
                machine.cts(&words).success();
            }
            (_, _, true) => {
                assert_eq!(done.0.status.code(), Some(0), "{}", done.err());
                done.says(&["was interrupted", expected]);
            }
            (_, _, false) => assert_eq!(done.0.status.code(), Some(0), "{}", done.err()),
        }
        assert_tidy(&machine);
        if found == Found::Restored && place != Place::Absent {
            assert_eq!(kept(&machine).len(), 1);
        }
        if place == Place::WithWal {
            let old = ["saved", "later", "in the wal"];
            let now = match kept(&machine).first() {
                Some(kept) => users(kept),
                None => users(&machine.db()),
            };
            assert_eq!(now, old);
        }
        sweep.record(is_killed, found);
    });
    let seen = sweep.found(&format!("{place:?}"));
    assert!(seen.contains(&Found::Restored), "{seen:?}");
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_the_old_database_or_the_new_one() {
    for place in [Place::AtRest, Place::WithWal, Place::Damaged, Place::Absent] {
        sweep(place);
    }
}

#[test]
#[ignore = "sweep"]
fn an_interrupted_restore_leaves_the_old_database_and_nothing_beside_it() {
    let origin = backed_up();
    let words = format!("restore {}", backup_of(&origin).display());
    let start = Instant::now();
    origin.cts(&words).success();
    let duration = start.elapsed();
    let origin = backed_up();
    let words = format!("restore {}", backup_of(&origin).display());
    let mut interrupted = 0;
    for moment in 0..40 {
        let machine = Machine::new();
        copy(&origin.db(), &machine.db());
        let service = machine.cts(&words).start();
        thread::sleep(duration * moment / 40);
        service.signal(Signal::TERM);
        let (code, log) = service.end();
        match code {
            Some(0) => assert_eq!(users(&machine.db()), ["saved"], "{log}"),
            // Before it handles signals, the default action ends it.
            None => assert_eq!(users(&machine.db()), ["saved", "later"]),
            Some(75) => {
                assert_eq!(users(&machine.db()), ["saved", "later"], "{log}");
                assert!(log.contains("nothing was changed"), "{log}");
                interrupted += 1;
            }
            other => panic!("{other:?}: {log}"),
        }
        assert_tidy(&machine);
    }
    eprintln!("{interrupted} of 40 interrupted");
    assert!(interrupted > 2);
}

#[test]
fn of_two_restores_at_once_each_ends_well_or_is_told_to_try_again() {
    let machine = backed_up();
    let words = format!("restore {}", backup_of(&machine).display());
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let mut run = machine.cts(&words);
            run.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<_> =
        runs.into_iter().map(|run| run.wait_with_output().unwrap().status.code()).collect();
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 75))), "{codes:?}");
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert_eq!(users(&machine.db()), ["saved"]);
    let done = codes.iter().filter(|code| **code == Some(0)).count();
    assert_eq!(kept(&machine).len(), done);
    assert_tidy(&machine);
}

/// A record that is of no use keeps no database from being used.
#[test]
fn a_record_that_is_foreign_cut_off_or_old_keeps_no_database_from_being_used() {
    let old = r#"{"format":1,"backup":"/gone/cts-20200101T000000Z.db","begunAt":"2020-01-01T00:00:00.000Z",
                  "pid":1,"kept":"/gone/cts.db.before-restore-20200101T000000Z","isComplete":false}"#;
    let complete = old.replace("false", "true");
    let newer = old.replace("\"format\":1", "\"format\":2");
    for (text, says, is_removed) in [
        (old, "the database from before it is in place", true),
        (&complete, "the restored database is in place", true),
        ("", "is no record of a restore that this cts can read", false),
        (&old[..50], "is no record of a restore that this cts can read", false),
        (&newer, "is no record of a restore that this cts can read", false),
        ("[1, 2]", "is no record of a restore that this cts can read", false),
    ] {
        let machine = backed_up();
        let record = side_file(&machine.db(), ".restore-intent");
        fs::write(&record, text).unwrap();
        for words in ["--check", "status", "verify"] {
            machine.cts(words).success().says(&[says]);
            assert!(record.exists(), "{words}");
        }
        machine.cts("doctor").run().says(&[says]);
        machine.cts("migrate").success().says(&[says]);
        assert_eq!(record.exists(), !is_removed, "{text}");
        assert_eq!(users(&machine.db()), ["saved", "later"]);
        machine.cts("restore latest").success();
        assert_tidy(&machine);
    }
}

#[test]
fn a_start_waits_for_a_restore_that_runs_and_a_look_says_that_it_runs() {
    let machine = backed_up();
    let intent = r#"{"format":1,"backup":"/x.db","begunAt":"2026-01-01T00:00:00.000Z","pid":1,"kept":null,
                     "isComplete":false}"#;
    fs::write(side_file(&machine.db(), ".restore-intent"), intent).unwrap();
    // What a restore holds while it runs.
    let folder = fs::File::open(machine.db().parent().unwrap()).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    machine.cts("--check").status(2).says(&["a restore is running"]);
    machine.cts("migrate").env("CTS_LOCK_TIMEOUT", "300ms").status(75);
    let service = machine.serve().start();
    service.address();
    thread::sleep(Duration::from_millis(300));
    assert!(!service.log().contains("Application Ready"), "{}", service.log());
    drop(folder);
    service.until_ready();
    service.stop();
    let names = files(machine.db().parent().unwrap(), |name| name.contains("restor"));
    assert_eq!(names.len(), 0, "{names:?}");
}
