//! `cts backup --verify`: what is refused, in which words, and what is recorded.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rusqlite::Connection;

use super::{backup, beside, fill, manifest, names, refuses, verify};
use crate::support::harness::{Machine, is_root, mode};
use crate::support::older_databases::Old;

#[test]
fn a_sound_backup_is_restored_for_a_trial_and_its_manifest_says_so() {
    let machine = Machine::migrated();
    fill(&machine, 3);
    machine.cts("backup").success();
    let folder = machine.path("backups");
    let name = names(&folder).into_iter().find(|name| name.ends_with(".db")).unwrap();
    let file = folder.join(&name);
    let (data, made) = (fs::read(&file).unwrap(), names(&folder));
    // By its name, in the folder of backups.
    let done = verify(&machine, name.as_ref()).success();
    done.says(&[
        "site_logs                            2100",
        "24 tables with ",
        "is sound: restored for a trial in",
    ]);
    assert!(fs::read(&file).unwrap() == data);
    assert_eq!((names(&folder), mode(&beside(&file, ".json"))), (made, 0o600));
    let drill = &manifest(&file)["drill"];
    assert!(drill["failure"].is_null() && drill["restoreSeconds"].as_f64().unwrap() > 0.0);
    // It is of use where the database and its folder are lost.
    let elsewhere = machine.path("gone/cts.db");
    let mut run = machine.cts("backup --verify").db(&elsewhere);
    run.command.arg(&file);
    run.success();
    assert!(!machine.path("gone").exists());
}

#[test]
fn what_is_no_backup_is_refused_in_one_sentence() {
    let machine = Machine::migrated();
    let file = backup(&machine, "b", "x.db", "");
    let path = |name: &str| machine.path(&format!("b/{name}"));
    let whole = fs::read(&file).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(path(name), bytes).unwrap();
    write("empty.db", b"");
    write("text.db", b"Dear diary, today I backed up nothing at all.");
    write("cut.db", &whole[..whole.len() - 1]);
    write("cts-20261127T203045Z.db.partial", &whole);
    write("pg.dump", b"PGDMP\x01\x0e\x00\x04\x08");
    fs::create_dir(path("folder")).unwrap();
    symlink("lost.db", path("dangling.db")).unwrap();
    for (name, sql) in [("foreign.db", "CREATE TABLE t (x)"), ("void.db", "VACUUM")] {
        Connection::open(path(name)).unwrap().execute_batch(sql).unwrap();
    }
    for (name, what) in [
        ("empty.db", "the file is empty"),
        ("text.db", "is no backup: it is neither a SQLite database nor what"),
        ("x.db.json", "is no backup"),
        ("x.db.sha256", "is no backup"),
        ("cut.db", "it is cut off"),
        ("cts-20261127T203045Z.db.partial", "is a part of a backup that was not completed"),
        ("pg.dump", "is a backup of a PostgreSQL database, and cts is configured for SQLite"),
        ("folder", "is a directory, not a file"),
        ("dangling.db", "there is no such file"),
        ("nowhere.db", "there is no such file"),
        ("foreign.db", "is another program's database (it holds t, and no table of CTS)"),
        ("void.db", "holds no table of CTS"),
    ] {
        refuses(&machine, &path(name), &[&format!("b/{name}: "), what]);
    }
    machine.cts("backup --verify").status(64);
}

#[test]
fn a_backup_of_a_newer_cts_is_refused_and_not_recorded_as_bad() {
    let machine = Machine::migrated();
    let sum = "a".repeat(64);
    machine.sql(&format!(
        "INSERT INTO migrations (name, checksum, version) VALUES ('072_later.sql', '{sum}', '3.2.0')"
    ));
    let file = machine.path("newer.db");
    Connection::open(machine.db())
        .unwrap()
        .execute("VACUUM INTO ?1", [file.to_str().unwrap()])
        .unwrap();
    refuses(&machine, &file, &["newer.db: ", "072_later.sql", "cts 3.2.0", "cts 3.1.0"]);
}

#[test]
fn a_copy_whose_changes_are_in_a_wal_beside_it_is_not_complete() {
    let machine = Machine::migrated();
    let open = machine.open();
    open.execute_batch("PRAGMA wal_autocheckpoint = 0; INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', 'x')")
        .unwrap();
    for ending in ["", "-wal"] {
        fs::copy(beside(&machine.db(), ending), beside(&machine.path("copy.db"), ending)).unwrap();
    }
    refuses(
        &machine,
        &machine.path("copy.db"),
        &["copy.db: is not complete by itself: changes of it are in"],
    );
    // A backup with its SHA-256 is whole, whatever is beside it.
    let file = backup(&machine, "b", "x.db", "");
    fs::copy(beside(&machine.db(), "-wal"), beside(&file, "-wal")).unwrap();
    verify(&machine, &file).success();
}

#[test]
fn a_backup_of_an_older_cts_is_tried_by_adopting_it() {
    for old in Old::ALL {
        let machine = Machine::new();
        old.make(&machine.path("old.db"));
        let before = fs::read(machine.path("old.db")).unwrap();
        let done = verify(&machine, &machine.path("old.db")).success();
        done.says(&["of an older CTS, which a restore migrates"]);
        assert!(fs::read(machine.path("old.db")).unwrap() == before, "{old:?}");
    }
}

#[test]
fn a_damaged_companion_is_named_and_a_failure_is_recorded() {
    let machine = Machine::migrated();
    let file = backup(&machine, "b", "x.db", "");
    let change = |ending: &str, from: &str, to: &str| {
        let path = beside(&file, ending);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        text
    };
    let text = change(".json", "\"madeAt\": \"2", "\"madeAt\": \"1");
    refuses(&machine, &file, &["x.db.json: was changed since it was written", "is sound"]);
    fs::write(beside(&file, ".json"), &text).unwrap();
    let text = change(".sha256", "  x.db", "  y.db");
    refuses(&machine, &file, &["x.db.sha256: is not the line"]);
    fs::write(beside(&file, ".sha256"), "0".repeat(64)).unwrap();
    refuses(&machine, &file, &["its manifest has the same as the file", "x.db.sha256 away"]);
    // A pipe without a writer is not waited for.
    fs::remove_file(beside(&file, ".sha256")).unwrap();
    Command::new("mkfifo").arg(beside(&file, ".sha256")).status().unwrap();
    verify(&machine, &file).status(74).says(&["x.db.sha256: cannot be read", "a pipe"]);
    fs::remove_file(beside(&file, ".sha256")).unwrap();
    fs::write(beside(&file, ".sha256"), text).unwrap();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refuses(&machine, &file, &["it has ", " bytes, and was made with "]);
    let failure = manifest(&file)["drill"]["failure"].as_str().unwrap().to_string();
    assert!(failure.contains("bytes, and was made with"), "{failure}");
    // The right file put back is a backup again.
    fs::write(&file, whole).unwrap();
    verify(&machine, &file).success();
    assert!(manifest(&file)["drill"]["failure"].is_null());
}

#[test]
fn a_backup_on_a_medium_that_cannot_be_written_is_verified_in_the_folder_of_backups() {
    if !is_root() {
        return;
    }
    let machine = Machine::migrated();
    machine.cts("backup").success();
    let file = backup(&machine, "b", "x.db", "");
    for path in [
        machine.db(),
        machine.path("backups"),
        file.clone(),
        beside(&file, ".json"),
        beside(&file, ".sha256"),
    ] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    fs::set_permissions(machine.path("b"), fs::Permissions::from_mode(0o555)).unwrap();
    let mut run = machine.cts_as_nobody("backup --verify");
    run.command.arg(&file);
    let done = run.success().says(&["is sound", "the result of the drill cannot be recorded"]);
    drop(done);
}
