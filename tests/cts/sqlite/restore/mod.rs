//! `cts restore` of a SQLite database: the backup is proved, the database before is kept, and what is at the path is the
//! one or the other, whatever happens.

mod choice;
mod kills;
mod openers;
mod places;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::support::harness::{Done, Machine};
use crate::support::scenario::side_file;

/// A machine with a backup of a database that a user was added to since.
fn backed_up() -> Machine {
    let machine = Machine::migrated();
    machine.sql("INSERT INTO users (username, password_hash) VALUES ('saved', 'x')");
    machine.cts("backup").success();
    machine.sql("INSERT INTO users (username, password_hash) VALUES ('later', 'x')");
    machine
}

/// The only backup in the folder.
fn backup_of(machine: &Machine) -> PathBuf {
    let found = files(&machine.path("backups"), |name| name.ends_with(".db"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.into_iter().next().unwrap()
}

/// The databases from before a restore that are kept, in order.
fn kept(machine: &Machine) -> Vec<PathBuf> {
    let is_kept = |name: &str| name.starts_with("cts.db.before-restore-");
    let is_side_file = |name: &str| name.ends_with("-wal") || name.ends_with("-shm");
    files(machine.db().parent().unwrap(), |name| is_kept(name) && !is_side_file(name))
}

fn files(folder: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let mut found: Vec<PathBuf> = entries.filter(|path| is_wanted(&name(path))).collect();
    found.sort();
    found
}

/// The names of the users in a file, which is read without its WAL and without creating anything.
fn users(path: &Path) -> Vec<String> {
    let uri = format!("file:{}?immutable=1", path.display());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    users_of(&Connection::open_with_flags(uri, flags).unwrap())
}

fn users_of(conn: &Connection) -> Vec<String> {
    let mut statement = conn.prepare("SELECT username FROM users ORDER BY id").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Expects a sound database without side files, and nothing of the restore left beside it.
fn assert_tidy(machine: &Machine) {
    for suffix in ["-wal", "-shm", "-journal", ".restoring", ".restore-intent"] {
        assert!(!side_file(&machine.db(), suffix).exists(), "{suffix}");
    }
    let of_restore = |name: &str| name.contains(".restor") || name.contains("cts-drill");
    assert_eq!(files(machine.db().parent().unwrap(), of_restore), Vec::<PathBuf>::new());
    machine.cts("--check --deep").success().says(&["CTS OK"]);
}

/// Runs a restore and expects this refusal, in one line, and that nothing was changed.
fn refused(machine: &Machine, words: &str, code: i32, says: &[&str]) -> Done {
    let before = machine.files();
    let done = machine.cts(words).status(code);
    assert_eq!(machine.files(), before, "{words}");
    let errors: Vec<String> =
        done.err().lines().filter(|line| line.contains('✗')).map(str::to_string).collect();
    assert_eq!(errors.len(), 1, "{words}: {}", done.err());
    done.says(says)
}

#[test]
fn a_restore_puts_the_backup_in_place_and_keeps_the_database_before() {
    let machine = backed_up();
    let done = machine.cts("restore latest").success();
    let rows = machine.number("SELECT count(*) FROM users");
    assert_eq!(rows, 1);
    assert!(
        done.out()
            .lines()
            .any(|line| { line.split_whitespace().collect::<Vec<_>>() == ["users", "1", "rows"] })
    );
    done.says(&["24 tables, ", "systemctl start cts", "delete it when you are satisfied"]);
    let kept = kept(&machine);
    assert_eq!(users(&kept[0]), ["saved", "later"]);
    assert_eq!(kept.len(), 1);
    for file in [machine.db(), kept[0].clone()] {
        assert_eq!(crate::support::harness::mode(&file), 0o600);
    }
    let rows = machine.texts("SELECT message FROM site_logs WHERE message LIKE 'restored by%'");
    let backup = backup_of(&machine);
    assert!(
        rows[0].contains(backup.to_str().unwrap()) && rows[0].contains("is kept as"),
        "{rows:?}"
    );
    assert!(rows[0].contains(kept[0].to_str().unwrap()), "{rows:?}");
    assert_tidy(&machine);
    // And back again.
    let undo = format!("restore {}", kept[0].display());
    machine.cts(&undo).success();
    assert_eq!(users(&machine.db()), ["saved", "later"]);
    assert_tidy(&machine);
}

#[test]
fn a_dry_run_prints_the_steps_and_changes_nothing() {
    let machine = backed_up();
    let before = machine.files();
    let done = machine.cts("restore latest --dry-run").success();
    assert_eq!(machine.files(), before);
    let backup = backup_of(&machine);
    done.says(&[
        backup.to_str().unwrap(),
        "24 tables with",
        "KiB",
        "1. lock programs out of",
        "4. keep the database that is there now as",
        "5. put the new database in its place",
    ]);
}

#[test]
fn a_restored_database_is_as_open_as_the_setting_says() {
    let machine = backed_up();
    machine.cts("restore latest").env("CTS_GROUP_ACCESS", "1").success();
    assert_eq!(crate::support::harness::mode(&machine.db()), 0o660);
}

#[test]
fn what_a_killed_program_left_in_the_wal_is_in_the_database_that_is_kept() {
    let machine = backed_up();
    let (conn, elsewhere) = (machine.open(), Machine::new());
    conn.execute_batch(
        "PRAGMA wal_autocheckpoint = 0;
         INSERT INTO users (username, password_hash) VALUES ('in the wal', 'x');",
    )
    .unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::copy(side_file(&machine.db(), suffix), side_file(&elsewhere.db(), suffix)).unwrap();
    }
    let words = format!("restore {}", backup_of(&machine).display());
    elsewhere.cts(&words).success();
    assert_eq!(users(&kept(&elsewhere)[0]), ["saved", "later", "in the wal"]);
    assert_eq!(users(&elsewhere.db()), ["saved"]);
    assert_tidy(&elsewhere);
}

#[test]
fn a_hot_journal_is_rolled_back_before_its_database_is_kept() {
    let machine = backed_up();
    let elsewhere = Machine::new();
    let conn = machine.open();
    conn.execute_batch(
        "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN;
         UPDATE users SET password_hash = 'half';
         INSERT INTO site_logs (level, category, message)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
         SELECT 'info', 'x', hex(randomblob(90)) FROM n;",
    )
    .unwrap();
    for suffix in ["", "-journal"] {
        fs::copy(side_file(&machine.db(), suffix), side_file(&elsewhere.db(), suffix)).unwrap();
    }
    drop(conn);
    let words = format!("restore {}", backup_of(&machine).display());
    elsewhere.cts(&words).success();
    assert_eq!(users(&kept(&elsewhere)[0]), ["saved", "later"]);
    assert_eq!(users(&elsewhere.db()), ["saved"]);
    assert_tidy(&elsewhere);
}

#[test]
fn a_damaged_database_is_kept_with_its_wal_byte_for_byte() {
    let machine = backed_up();
    let (conn, elsewhere) = (machine.open(), Machine::new());
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; DELETE FROM users WHERE id = 2;").unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(side_file(&machine.db(), suffix), side_file(&elsewhere.db(), suffix)).unwrap();
    }
    let mut bytes = fs::read(elsewhere.db()).unwrap();
    let page = bytes.len() / 2 / 4096 * 4096;
    bytes[page..page + 8192].fill(0x5a);
    fs::write(elsewhere.db(), &bytes).unwrap();
    let wal = fs::read(side_file(&elsewhere.db(), "-wal")).unwrap();
    let words = format!("restore {}", backup_of(&machine).display());
    elsewhere.cts(&words).success();
    let kept = kept(&elsewhere);
    assert!(fs::read(&kept[0]).unwrap() == bytes);
    assert!(fs::read(side_file(&kept[0], "-wal")).unwrap() == wal);
    assert_eq!(users(&elsewhere.db()), ["saved"]);
    assert_tidy(&elsewhere);
}

#[test]
fn a_wal_that_does_not_belong_to_the_file_is_kept_with_it() {
    let machine = backed_up();
    let other = Machine::migrated();
    other.sql("PRAGMA journal_mode = WAL");
    let conn = other.open();
    conn.execute_batch(
        "PRAGMA wal_autocheckpoint = 0;
         UPDATE migrations SET execution_time_ms = execution_time_ms + 1;",
    )
    .unwrap();
    let wal = fs::read(side_file(&other.db(), "-wal")).unwrap();
    fs::write(side_file(&machine.db(), "-wal"), &wal).unwrap();
    let file = fs::read(machine.db()).unwrap();
    machine.cts("migrate").status(65).says(&["does not belong to this file"]);
    machine.cts("restore latest").success();
    let kept = kept(&machine);
    assert!(fs::read(&kept[0]).unwrap() == file);
    assert!(fs::read(side_file(&kept[0], "-wal")).unwrap() == wal);
    assert_eq!(users(&machine.db()), ["saved"]);
    assert_tidy(&machine);
}
