//! What is copied: databases in every state that `cts backup` meets.

use std::fs;
use std::os::unix::fs::FileExt;
use std::process::Command;

use rusqlite::Connection;

use super::{backups, expect_complete, logged, manifest, names, parts};
use crate::support::disk::unmount;
use crate::support::harness::{Machine, is_root};
use crate::support::older_databases::Old;
use crate::support::scenario::copy;

#[test]
fn what_was_just_committed_is_in_the_copy_and_what_was_not_is_not() {
    let machine = Machine::migrated();
    let before = logged(&machine);
    let program = machine.open();
    let insert = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', 'y')";
    program.execute_batch(insert).unwrap();
    program.execute_batch(&format!("BEGIN IMMEDIATE; {insert}")).unwrap();
    machine.cts("backup").success();
    expect_complete(&backups(&machine)[0], before + 1);
    program.execute_batch("COMMIT").unwrap();
    assert_eq!(logged(&machine), before + 2);
}

#[test]
fn the_wal_of_a_killed_program_is_in_the_copy_and_stays_where_it_is() {
    for with_shm in [true, false] {
        let source = Machine::migrated();
        let conn = source.open();
        conn.execute_batch(
            "PRAGMA wal_autocheckpoint = 0;
             INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', 'y')",
        )
        .unwrap();
        let machine = Machine::new();
        copy(&source.db(), &machine.db());
        let shm = machine.path("cts.db-shm");
        match with_shm {
            true => drop(fs::copy(source.path("cts.db-shm"), shm).unwrap()),
            false => drop(fs::remove_file(shm)),
        }
        let before = machine.files();
        machine.cts("backup").env("CTS_BACKUP_DIR", machine.path("backups")).success();
        let mut after = machine.files();
        after.remove(&machine.path("backups"));
        assert_eq!(after, before);
        expect_complete(&backups(&machine)[0], logged(&source));
    }
}

#[test]
fn a_database_of_an_older_cts_is_backed_up_before_it_is_adopted_and_is_adopted_from_the_copy() {
    for old in Old::ALL {
        let machine = Machine::new();
        old.make(&machine.db());
        let before = machine.files();
        if old == Old::Empty {
            // A ledger alone holds nothing.
            machine.cts("backup").run();
            continue;
        }
        machine.cts("backup").success();
        let backup = backups(&machine).remove(0);
        let mut after = machine.files();
        after.remove(&machine.path("backups"));
        assert_eq!(after, before, "{old:?}");
        assert_eq!(manifest(&backup)["migrations"], serde_json::json!([]), "{old:?}");
        let restored = Machine::new();
        fs::copy(&backup, restored.db()).unwrap();
        restored.cts("migrate").success();
        restored.cts("--check --deep").success();
        // The adopted database is another one, or has the same id: its rules never delete the backup from before.
        let id = |backup| manifest(backup)["database"]["id"].clone();
        machine.cts("migrate").success();
        machine.cts("backup").success();
        let all = backups(&machine);
        assert_eq!(all.len(), 2, "{old:?}");
        if old == Old::Master {
            assert_ne!(id(&all[0]), id(&all[1]));
        }
    }
}

#[test]
fn a_database_in_rollback_mode_is_copied_at_rest_and_while_a_program_has_it_open() {
    let machine = Machine::migrated();
    machine.sql("PRAGMA journal_mode = DELETE");
    let (first, second) = (machine.path("first.db"), machine.path("second.db"));
    machine.cts(&format!("backup {}", first.display())).success();
    let program = machine.open();
    program.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
    machine.cts(&format!("backup {}", second.display())).success();
    drop(program);
    for backup in [first, second] {
        expect_complete(&backup, logged(&machine));
    }
    let writer = machine.open();
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    machine
        .cts("backup")
        .env("CTS_LOCK_TIMEOUT", "1s")
        .status(75)
        .says(&["cts.db", "CTS_LOCK_TIMEOUT"]);
    assert!(!machine.path("backups").exists() || backups(&machine).is_empty());
}

#[test]
fn a_program_that_writes_without_a_pause_in_rollback_mode_is_never_kept_waiting_for_a_copy() {
    let machine = Machine::migrated();
    machine.sql(
        "PRAGMA journal_mode = DELETE;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO site_logs (level, category, message) SELECT 'info', 'x', hex(zeroblob(200)) FROM n",
    );
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let program = machine.open();
            program.execute_batch("PRAGMA synchronous = OFF").unwrap();
            let mut many = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) && many < 100_000 {
                program.execute_batch("UPDATE system_settings SET value = value + 1").unwrap();
                many += 1;
            }
        });
        let done = machine.cts("backup").run();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(done.0.status.code(), Some(75), "{}", done.err());
        done.says(&["its journal mode is delete", "20 times", "cts migrate"]);
    });
    assert_eq!(names(&machine.path("backups")), [""; 0]);
    machine.cts("backup").success();
    expect_complete(&backups(&machine)[0], logged(&machine));
}

#[test]
fn a_copy_is_that_of_one_moment_while_rows_are_deleted_and_the_file_is_vacuumed_or_replaced() {
    let machine = Machine::migrated();
    const FILL: &str = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO site_logs (level, category, message) SELECT 'info', 'x', hex(zeroblob(400)) FROM n";
    machine.sql(FILL);
    let base = logged(&machine) - 20_000;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let program = machine.open();
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                program
                    .execute_batch("DELETE FROM site_logs WHERE category = 'x'; VACUUM")
                    .unwrap();
                program.execute_batch(FILL).unwrap();
            }
        });
        for number in 0..8 {
            let file = machine.path(&format!("copy-{number}.db"));
            machine.cts(&format!("backup {}", file.display())).success();
            let rows = manifest(&file)["tables"]["site_logs"].as_i64().unwrap();
            assert!([base, base + 20_000].contains(&rows), "{rows}");
            expect_complete(&file, rows);
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // Another file is put in its place while it is copied: the copy is of the one or of the other.
    let other = Machine::migrated();
    for number in 0..4 {
        let file = machine.path(&format!("moved-{number}.db"));
        let next = machine.path("next.db");
        fs::copy(if number % 2 == 0 { other.db() } else { machine.path("copy-0.db") }, &next)
            .unwrap();
        std::thread::scope(|scope| {
            let run = scope.spawn(|| machine.cts(&format!("backup {}", file.display())).run());
            fs::rename(&next, machine.db()).unwrap();
            let done = run.join().unwrap();
            if done.0.status.success() {
                expect_complete(&file, manifest(&file)["tables"]["site_logs"].as_i64().unwrap());
            } else {
                assert!(!file.exists() && done.err().contains(". Try: "), "{}", done.err());
            }
        });
    }
}

#[test]
fn a_damaged_database_is_said_to_be_damaged_and_is_not_made_a_backup_of() {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    let before = names(&machine.path("backups"));
    machine.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         INSERT INTO site_logs (level, category, message) SELECT 'info', 'x', hex(zeroblob(200)) FROM n",
    );
    let page = machine.number("SELECT rootpage FROM sqlite_schema WHERE name = 'site_logs'");
    let file = fs::OpenOptions::new().write(true).open(machine.db()).unwrap();
    file.write_at(&[0xff; 200], (page as u64 - 1) * 4096).unwrap();
    machine.cts("backup").status(65).says(&[
        &format!("{}: the database is damaged", machine.db().display()),
        "no backup was made of it, and those made before are as they were",
        "keep a copy of the file, its -wal and its -shm as they are",
    ]);
    assert_eq!(names(&machine.path("backups")), before);
    let file = fs::OpenOptions::new().write(true).open(machine.db()).unwrap();
    file.set_len(8192).unwrap();
    machine.cts("backup").status(65).says(&["damaged", "backup"]);
    file.set_len(0).unwrap();
    machine.cts("backup").status(65);
    assert_eq!(names(&machine.path("backups")), before);
}

#[test]
fn without_a_database_nothing_is_created() {
    let machine = Machine::new();
    machine.cts("backup").status(65).says(&["there is no database", "cts migrate"]);
    machine
        .cts("backup")
        .db(&machine.path("none/cts.db"))
        .status(65)
        .says(&["there is no database"]);
    fs::write(machine.db(), "").unwrap();
    machine.cts("backup").status(65);
    fs::write(machine.db(), "a text, not a database\n".repeat(100)).unwrap();
    machine.cts("backup").status(65).says(&["is not a SQLite database"]);
    let foreign = Connection::open(machine.path("foreign.db")).unwrap();
    foreign.execute_batch("CREATE TABLE notes (text)").unwrap();
    drop(foreign);
    machine.cts("backup").db(&machine.path("foreign.db")).status(65);
    assert_eq!(names(&machine.path("")), ["cts.db", "foreign.db"]);
}

#[test]
fn a_database_on_read_only_media_is_copied_to_another_disk() {
    if !is_root() {
        crate::support::not_tried("only root can mount");
        return;
    }
    let machine = Machine::migrated();
    let elsewhere = Machine::new();
    let folder = machine.path("");
    let run = |words: &[&str]| Command::new("mount").args(words).arg(&folder).status().unwrap();
    assert!(
        Command::new("mount").arg("--bind").args([&folder, &folder]).status().unwrap().success()
    );
    assert!(run(&["-o", "remount,bind,ro"]).success());
    let into = machine.cts("backup").env("CTS_BACKUP_DIR", elsewhere.path("kept")).run();
    let beside = machine.cts("backup").run();
    unmount(&folder);
    assert_eq!(into.0.status.code(), Some(0), "{}", into.err());
    assert_eq!(parts(&elsewhere.path("kept")).len(), 3);
    assert_eq!(beside.0.status.code(), Some(77), "{}", beside.err());
    beside.says(&["Read-only file system"]);
}
