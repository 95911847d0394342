//! What is no backup that can be restored is refused in one sentence, and nothing is touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;

use super::{assert_tidy, backed_up, backup_of, refused, users};
use crate::support::older_databases::Old;
use crate::support::random::Random;

fn restore(path: &Path) -> String {
    format!("restore {}", path.display())
}

#[test]
fn what_is_no_backup_is_refused_and_nothing_is_touched() {
    let machine = backed_up();
    let outside = tempfile::TempDir::new().unwrap();
    let path = |name: &str| outside.path().join(name);
    let good = fs::read(backup_of(&machine)).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("text"), "this is no database, and it is long enough to be one".repeat(99))
        .unwrap();
    fs::write(path("cut off"), &good[..good.len() / 2]).unwrap();
    fs::write(path("header only"), &good[..100]).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() - 5000..].fill(0xa5);
    fs::write(path("damaged"), &flipped).unwrap();
    fs::write(path("compressed"), [&[0x28, 0xb5, 0x2f, 0xfd][..], &good[..5000]].concat()).unwrap();
    fs::create_dir(path("folder")).unwrap();
    Command::new("mkfifo").arg(path("pipe")).status().unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    Connection::open(path("other")).unwrap().execute_batch("CREATE TABLE notes (x)").unwrap();
    Connection::open(path("marked"))
        .unwrap()
        .execute_batch("PRAGMA application_id = 7; CREATE TABLE notes (x)")
        .unwrap();
    for name in [
        "empty",
        "text",
        "header only",
        "damaged",
        "compressed",
        "folder",
        "pipe",
        "dangling",
        "other",
        "marked",
        "missing",
    ] {
        let file = path(name);
        let link = path("a-link");
        let _ = fs::remove_file(&link);
        symlink(&file, &link).unwrap();
        for given in [file.as_path(), link.as_path()] {
            let mut run = machine.cts("restore");
            run.command.arg(given);
            let before = machine.files();
            let done = run.status(65);
            assert_eq!(machine.files(), before, "{name}");
            assert_eq!(done.err().lines().count(), 1, "{name}: {}", done.err());
        }
    }
    let mut run = machine.cts("restore");
    run.command.arg(path("cut off"));
    run.status(65);
    assert_eq!(users(&machine.db()), ["saved", "later"]);
}

#[test]
fn a_bit_that_was_flipped_is_found_before_anything_is_touched() {
    let machine = backed_up();
    let backup = backup_of(&machine);
    let good = fs::read(&backup).unwrap();
    let mut random = Random(7);
    for _ in 0..20 {
        let (at, bit) = (random.below(good.len()), random.below(8));
        let mut bytes = good.clone();
        bytes[at] ^= 1 << bit;
        fs::write(&backup, &bytes).unwrap();
        refused(&machine, &restore(&backup), 65, &["SHA-256"]);
    }
    fs::write(&backup, &good).unwrap();
    machine.cts(&restore(&backup)).success();
    assert_tidy(&machine);
}

#[test]
fn a_backup_of_a_newer_cts_is_refused_by_the_migration_that_this_one_does_not_know() {
    let machine = backed_up();
    let newer = machine.path("newer.db");
    fs::copy(backup_of(&machine), &newer).unwrap();
    Connection::open(&newer)
        .unwrap()
        .execute_batch(
            "PRAGMA journal_mode = DELETE;
             INSERT INTO migrations (name, checksum, executed_at, execution_time_ms)
             SELECT '072_of_tomorrow.sql', checksum, executed_at, 1 FROM migrations LIMIT 1;",
        )
        .unwrap();
    refused(&machine, &restore(&newer), 65, &["072_of_tomorrow.sql", "newer"]);
    refused(&machine, &(restore(&newer) + " --dry-run"), 65, &["072_of_tomorrow.sql"]);
    assert_eq!(users(&machine.db()), ["saved", "later"]);
}

#[test]
fn the_copy_from_before_an_adoption_is_restored_and_adopted_again() {
    let machine = crate::support::harness::Machine::new();
    Old::Unified.make(&machine.db());
    machine.cts("migrate").success();
    let copy = super::files(machine.db().parent().unwrap(), |name| {
        name.starts_with("cts.db.before-3.1.0")
    });
    machine.sql("DELETE FROM site_logs");
    machine.cts(&restore(&copy[0])).success();
    assert!(machine.number("SELECT count(*) FROM site_logs") > 1);
    machine.cts("verify").success();
    assert_tidy(&machine);
    // The copy of the adoption in the prepared database is not left.
    let copies = super::files(machine.db().parent().unwrap(), |name| name.contains("before-3.1.0"));
    assert_eq!(copies, copy);
}

#[test]
fn a_compressed_backup_is_restored() {
    let machine = backed_up();
    let backup = machine.path("x.db.zst");
    let compressed = zstd(&backup_of(&machine), &backup);
    if !compressed {
        crate::support::not_tried("there is no program zstd");
        return;
    }
    machine.cts(&(restore(&backup) + " --dry-run")).success();
    machine.cts(&restore(&backup)).success();
    assert_eq!(users(&machine.db()), ["saved"]);
    assert_tidy(&machine);
}

fn zstd(from: &Path, to: &Path) -> bool {
    Command::new("zstd").arg("-q").arg(from).arg("-o").arg(to).status().is_ok_and(|s| s.success())
}
