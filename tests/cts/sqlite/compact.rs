//! The file becomes smaller: bit by bit while programs write, and at once by a rebuild that takes its place.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rusqlite::Connection;

use crate::support::disk::Disk;
use crate::support::harness::{Machine, Run, await_that, for_each};
use crate::support::kills::{KillSweep, kill_after};
use crate::support::scenario::{copy, side_file};

/// A database of which most is free, made with or without `auto_vacuum`.
fn mostly_free(auto_vacuum: &str) -> Machine {
    let machine = Machine::migrated();
    fill(&machine.open(), auto_vacuum);
    machine
}

fn fill(conn: &Connection, auto_vacuum: &str) {
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
        INSERT INTO site_logs (level, category, message) SELECT 'info', 'x', hex(randomblob(1500)) FROM n;
        DELETE FROM site_logs WHERE id % 10;
        CREATE TABLE mine (a TEXT PRIMARY KEY, b) WITHOUT ROWID;
        INSERT INTO mine VALUES ('one', 1.5), ('two', x'00ff'), ('three', NULL);
        PRAGMA wal_checkpoint(TRUNCATE)";
    conn.execute_batch(&format!("PRAGMA auto_vacuum = {auto_vacuum}; VACUUM; {rows}")).unwrap();
}

/// Everything that the tables hold, but for what cts writes itself.
fn content(db: &Path) -> Vec<String> {
    let conn = Connection::open(db).unwrap();
    let sql = "SELECT id || message FROM site_logs WHERE category = 'x'
        UNION ALL SELECT a || quote(b) FROM mine UNION ALL SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY 1";
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn number(db: &Path, sql: &str) -> i64 {
    Connection::open(db).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Names in the folder of the database, without those of its backups and side files.
fn others(machine: &Machine) -> Vec<String> {
    let names = fs::read_dir(machine.path("")).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    let is_known =
        |name: &String| ["cts.db", "cts.db-wal", "cts.db-shm", "backups"].contains(&name.as_str());
    names.filter(|name| !is_known(name)).collect()
}

fn file_bytes(machine: &Machine) -> u64 {
    fs::metadata(machine.db()).unwrap().len()
}

#[test]
fn a_rebuilt_file_is_smaller_and_holds_the_same() {
    for (auto_vacuum, mode) in [("NONE", 0), ("FULL", 1), ("INCREMENTAL", 2)] {
        let machine = mostly_free(auto_vacuum);
        assert_eq!(number(&machine.db(), "PRAGMA auto_vacuum"), mode);
        let (bytes, before) = (file_bytes(&machine), content(&machine.db()));
        machine
            .cts("prune --compact --dry-run")
            .success()
            .says(&["would be rebuilt after a backup"]);
        assert_eq!(file_bytes(&machine), bytes);
        let done = machine.cts("prune --compact --json").success().json();
        assert!(
            file_bytes(&machine) < bytes / if mode == 1 { 1 } else { 4 },
            "{auto_vacuum}: {done}"
        );
        assert_eq!(done["compaction"]["afterBytes"], file_bytes(&machine));
        assert_eq!(content(&machine.db()), before);
        assert_eq!(number(&machine.db(), "PRAGMA auto_vacuum"), 2);
        assert_eq!(
            number(&machine.db(), "SELECT count(*) FROM site_logs WHERE message LIKE 'rebuilt %'"),
            1
        );
        assert!(others(&machine).is_empty(), "{:?}", others(&machine));
        machine.cts("--check --deep").success();
        machine.cts("verify").success();
        let backup = done["compaction"]["backup"].as_str().unwrap();
        assert!(Path::new(backup).exists());
    }
}

#[test]
fn a_database_that_a_program_has_open_is_not_rebuilt() {
    let machine = mostly_free("NONE");
    let program = machine.open();
    program.query_row("SELECT count(*) FROM users", [], |_| Ok(())).unwrap();
    let bytes = fs::read(machine.db()).unwrap();
    let named = format!("(pid {})", std::process::id());
    machine.cts("prune --compact").status(75).says(&[
        "it is open in ",
        &named,
        "nothing was changed",
    ]);
    assert!(fs::read(machine.db()).unwrap() == bytes && !machine.path("backups").exists());
    let service = machine.serve().start();
    service.until_ready();
    drop(program);
    machine.cts("prune --compact").status(75).says(&["the service", "systemctl stop cts"]);
    service.stop();
    machine.cts("prune --compact").success();
    assert!(others(&machine).is_empty());
}

#[test]
fn a_disk_without_room_for_the_new_file_is_told_with_figures() {
    let outer = Machine::new();
    let disk = Disk::mount(&outer);
    let db = disk.folder.join("cts.db");
    outer.cts("migrate").db(&db).success();
    fill(&Connection::open(&db).unwrap(), "NONE");
    let before = content(&db);
    disk.leave(16 << 20);
    outer.cts("prune --compact").db(&db).status(74).says(&[
        "the rebuilt database, beside the present one, needs about ",
        "are free there",
        "nothing was changed",
    ]);
    assert_eq!(content(&db), before);
    // Room for the rebuilt one, and none for the backup.
    disk.leave(19 << 20);
    outer.cts("prune --compact").db(&db).status(74).says(&["the backup needs about "]);
    assert_eq!(content(&db), before);
}

/// Each hundredth of the room that is needed at most, and some more.
#[test]
#[ignore = "sweep"]
fn a_disk_that_becomes_full_at_any_moment_leaves_the_database_as_it_was() {
    let origin = mostly_free("NONE");
    let expected = content(&origin.db());
    let outer = Machine::new();
    let disk = Disk::mount_with(&outer, "size=64m", 64 << 20);
    let db = disk.folder.join("cts.db");
    let mut done = [0, 0];
    for step in 0..=100 {
        for file in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(side_file(&db, file));
        }
        let _ = fs::remove_dir_all(disk.folder.join("backups"));
        disk.leave(64 << 20);
        copy(&origin.db(), &db);
        // The reserve that stays free is tried elsewhere: here the disk is filled while cts writes.
        disk.leave((15 << 20) + step * (300 << 10));
        let run = outer.cts("prune --compact").db(&db).run();
        let is_rebuilt = number(&db, "PRAGMA auto_vacuum") == 2;
        match run.0.status.code() {
            Some(0) => assert!(is_rebuilt),
            Some(74) => assert!(!is_rebuilt, "{}", run.err()),
            other => panic!("{other:?}: {}", run.err()),
        }
        done[usize::from(is_rebuilt)] += 1;
        assert_eq!(content(&db), expected);
        let left = fs::read_dir(&disk.folder).unwrap().flatten().map(|e| e.file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("cts.db.")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    eprintln!("{} refused, {} rebuilt", done[0], done[1]);
    assert!(done[0] > 10 && done[1] > 10, "{done:?}");
}

/// From the first, second and so on call for the new file on, the disk takes nothing more.
#[test]
#[ignore = "sweep"]
fn a_write_of_the_new_file_that_fails_leaves_the_database_as_it_was() {
    let origin = mostly_free("NONE");
    let expected = content(&origin.db());
    let machine = Machine::new();
    let calls = "pwrite64,write,fsync,fdatasync,ftruncate";
    let mut tried = 0;
    for (fault, mut from) in [("ENOSPC", 1), ("EIO", 1)] {
        loop {
            copy(&origin.db(), &machine.db());
            let prepared = side_file(&machine.db(), ".restoring");
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-o", "/dev/null"]);
            for file in [side_file(&prepared, ""), side_file(&prepared, "-wal")] {
                command.arg("-P").arg(file);
            }
            command.args(["-e", &format!("trace={calls}")]);
            command.args(["-e", &format!("inject={calls}:error={fault}:when={from}+")]);
            command.args([env!("CARGO_BIN_EXE_cts"), "prune", "--compact"]);
            command.env_clear().env("SQLITE_DB_PATH", machine.db()).stdin(Stdio::null());
            let done = Run { command }.run();
            let is_rebuilt = number(&machine.db(), "PRAGMA auto_vacuum") == 2;
            assert_eq!(content(&machine.db()), expected, "{fault} from call {from}");
            assert!(
                others(&machine).is_empty(),
                "{fault} from call {from}: {:?}",
                others(&machine)
            );
            match done.0.status.code() {
                Some(0) => break assert!(is_rebuilt),
                Some(74) => assert!(!is_rebuilt, "{fault} from call {from}: {}", done.err()),
                code => panic!("{fault} from call {from}: {code:?}: {}", done.err()),
            }
            for file in ["", "-wal", "-shm"] {
                let _ = fs::remove_file(side_file(&machine.db(), file));
            }
            tried += 1;
            // The pages of the copy are many and alike.
            from += if (20..400).contains(&from) { 37 } else { 1 };
        }
    }
    assert!(tried > 50, "{tried}");
}

#[test]
fn a_folder_behind_a_link_and_an_unusual_name_are_no_obstacle() {
    let machine = Machine::new();
    let folder = machine.path("real");
    fs::create_dir(&folder).unwrap();
    std::os::unix::fs::symlink(&folder, machine.path("link")).unwrap();
    let name = "the 'box' %20ü.db";
    let db = machine.path("link").join(name);
    machine.cts("migrate").db(&db).success();
    machine.cts("prune --compact").db(&db).success();
    machine.cts("--check --deep").db(&db).success();
    let names = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.file_name());
    let others: Vec<_> = names.filter(|found| found != name && found != "backups").collect();
    assert!(others.is_empty(), "{others:?}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Before,
    Rebuilt,
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_the_old_file_or_the_new_one() {
    let origin = mostly_free("NONE");
    let expected = content(&origin.db());
    let prepared = || {
        let machine = Machine::new();
        copy(&origin.db(), &machine.db());
        machine
    };
    let duration = {
        let machine = prepared();
        let start = Instant::now();
        machine.cts("prune --compact").success();
        start.elapsed()
    };
    let sweep = KillSweep::<Found>::at(100, duration);
    for_each(sweep.moments(), |(_, delay)| {
        let machine = prepared();
        let is_killed = kill_after(delay, machine.cts("prune --compact"));
        let found = match number(&machine.db(), "PRAGMA auto_vacuum") {
            2 => Found::Rebuilt,
            _ => Found::Before,
        };
        let at = Machine::new();
        copy(&machine.db(), &at.db());
        assert_eq!(content(&at.db()), expected);
        let is_recorded = side_file(&machine.db(), ".restore-intent").exists();
        let done = machine.cts("migrate").success();
        if is_recorded {
            let what = match found {
                Found::Before => "was interrupted: the database from before it is in place",
                Found::Rebuilt => "was interrupted: the rebuilt database is in place",
            };
            done.says(&[what, "cts prune --compact"]);
        }
        assert!(others(&machine).is_empty(), "{:?}", others(&machine));
        machine.cts("--check --deep").success();
        machine.cts("prune --compact").success();
        assert_eq!(content(&machine.db()), expected);
        sweep.record(is_killed, found);
    });
    let seen = sweep.found("compact");
    assert!(seen.contains(&Found::Rebuilt) && seen.contains(&Found::Before), "{seen:?}");
}

#[test]
fn the_service_gives_free_pages_back_while_programs_write() {
    let machine = mostly_free("INCREMENTAL");
    let bytes = file_bytes(&machine);
    let service = machine.serve().start();
    service.until_ready();
    let program = machine.open();
    let insert = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'y', 'z')";
    await_that("the file is smaller", || {
        program.execute_batch(insert).unwrap();
        file_bytes(&machine) < bytes / 2
    });
    service.until(" given back to the file system");
    drop(program);
    service.stop();
    let free = "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
    assert!(machine.number(free) > 0, "what programs soon need stays");
    machine.cts("--check --deep").success();
    machine.cts("doctor").run().says(&["are used for new rows; what programs do not soon need"]);
}

#[test]
fn a_new_file_can_give_its_pages_back() {
    let machine = Machine::migrated();
    assert_eq!(machine.number("PRAGMA auto_vacuum"), 2);
    // One that is begun in place, as on a file system without unnamed files.
    let machine = Machine::new();
    fs::write(machine.db(), "").unwrap();
    machine.cts("migrate").success();
    assert_eq!(machine.number("PRAGMA auto_vacuum"), 2);
}
