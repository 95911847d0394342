//! Old backups are deleted by rule, each only if cts can prove that it made it: whatever differs in one point survives, with
//! every byte of it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::harness::{Done, Machine, Run};
use crate::support::manifest;

/// Keeps one backup of a month: the one before is deleted by the next.
fn backup(machine: &Machine) -> Run {
    machine.cts("backup").env("CTS_BACKUP_KEEP", "monthly=1")
}

/// A machine with one backup, and the path of its file.
fn with_backup() -> (Machine, PathBuf) {
    let machine = Machine::migrated();
    backup(&machine).success();
    let file = only(&machine.path("backups"));
    (machine, file)
}

/// The only file of a backup in a folder.
fn only(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = entries.filter(|path| path.extension().is_some_and(|kind| kind == "db"));
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

fn manifest_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.json", file.display()))
}

fn digest_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.sha256", file.display()))
}

/// Changes a manifest.
fn edit(file: &Path, change: impl FnOnce(&mut Value)) {
    manifest::edit(&manifest_of(file), change);
}

/// The content of every file below a folder, whatever leads to it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap_or_default())).collect()
}

/// Makes the next backup and expects that nothing of what was in the folder has changed, but for the name of the last success.
fn expect_untouched(name: &str, machine: &Machine) -> Done {
    let folder = machine.path("backups");
    let mut before = contents(&folder);
    before.remove(&folder.join("last-success"));
    let done = backup(machine).success();
    let after = contents(&folder);
    for (path, bytes) in before {
        assert_eq!(after.get(&path), Some(&bytes), "{name}: {}", path.display());
    }
    assert!(after.len() > 4, "{name}: {:?}", after.keys());
    done
}

#[test]
fn one_that_no_rule_keeps_is_deleted_with_its_companions() {
    let (machine, first) = with_backup();
    let done = backup(&machine).success();
    let said = format!("were deleted: {}", first.file_name().unwrap().display());
    done.says(&["Backups that no rule keeps (daily=0,weekly=0,monthly=1)", &said]);
    let second = only(&machine.path("backups"));
    let left: Vec<PathBuf> = contents(&machine.path("backups")).into_keys().collect();
    let last = machine.path("backups/last-success");
    assert_eq!(left, [second.clone(), manifest_of(&second), digest_of(&second), last.clone()]);
    assert_eq!(fs::read_to_string(last).unwrap().trim_end(), second.file_name().unwrap());
    assert!(!first.exists());
}

#[test]
fn one_whose_bytes_were_changed_survives() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change, bool); 4] = [
        ("a flipped bit", |bytes| bytes[5000] ^= 1, true),
        ("a page of zeros", |bytes| bytes[4096..8192].fill(0), true),
        ("truncated", |bytes| bytes.truncate(4096), false),
        ("appended", |bytes| bytes.push(0), false),
    ];
    for (name, change, is_said) in changes {
        let (machine, first) = with_backup();
        let mut bytes = fs::read(&first).unwrap();
        change(&mut bytes);
        fs::write(&first, bytes).unwrap();
        let done = expect_untouched(name, &machine);
        assert_eq!(done.err().contains("is no longer what cts made"), is_said, "{}", done.err());
    }
}

#[test]
fn one_whose_manifest_tells_something_else_survives() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 9] = [
        ("of another file", |manifest| manifest["file"] = json!("cts-20200101T000000Z.db")),
        ("of another database", |manifest| manifest["database"]["id"] = json!("0".repeat(32))),
        ("of another type", |manifest| manifest["database"]["type"] = json!("postgresql")),
        ("kept by a person", |manifest| manifest["keptBy"] = json!("hand")),
        ("of another form", |manifest| manifest["format"] = json!(2)),
        ("another digest", |manifest| manifest["sha256"] = json!("0".repeat(64))),
        ("another size", |manifest| manifest["sizeBytes"] = json!(1)),
        ("no time", |manifest| manifest["madeAt"] = json!("yesterday")),
        ("no manifest at all", |manifest| *manifest = json!([])),
    ];
    for (name, change) in changes {
        let (machine, first) = with_backup();
        edit(&first, change);
        expect_untouched(name, &machine);
    }
    let (machine, first) = with_backup();
    fs::remove_file(manifest_of(&first)).unwrap();
    expect_untouched("without a manifest", &machine);
    let (machine, first) = with_backup();
    fs::write(manifest_of(&first), "{").unwrap();
    expect_untouched("half a manifest", &machine);
    // A manifest that was changed without its checksum, even in what no rule looks at, proves nothing; and its number does
    // not make it the newest.
    let (machine, first) = with_backup();
    let text = fs::read_to_string(manifest_of(&first)).unwrap();
    let changed = text.replace("\"serial\": 1,", &format!("\"serial\": {},", u64::MAX));
    assert_ne!(changed, text);
    fs::write(manifest_of(&first), changed).unwrap();
    expect_untouched("a number that was changed", &machine);
    machine.cts("backups").success().says(&[".json was changed"]);
    let (machine, first) = with_backup();
    fs::write(format!("{}-wal", first.display()), "a page of a program that has it open").unwrap();
    expect_untouched("one that a program has written to", &machine);
}

#[test]
fn a_file_under_a_name_that_is_not_its_own_survives() {
    let (machine, first) = with_backup();
    // A copy under another name with a manifest copied along, as it is and with that name.
    let folder = machine.path("backups");
    for (name, is_edited) in [("cts-20200101T000000Z.db", false), ("mine.db", true)] {
        let copy = folder.join(name);
        fs::copy(&first, &copy).unwrap();
        fs::copy(manifest_of(&first), manifest_of(&copy)).unwrap();
        if is_edited {
            edit(&copy, |manifest| manifest["file"] = json!(name));
        }
    }
    let copies = ["cts-20200101T000000Z.db", "mine.db"].map(|name| folder.join(name));
    let bytes = fs::read(&first).unwrap();
    backup(&machine).success();
    for copy in copies {
        assert_eq!(fs::read(&copy).unwrap(), bytes, "{}", copy.display());
        assert!(manifest_of(&copy).exists(), "{}", copy.display());
    }
    assert!(!first.exists());
}

#[test]
fn a_link_a_folder_and_the_other_name_of_a_file_survive() {
    let (machine, first) = with_backup();
    let target = machine.path("precious.db");
    fs::rename(&first, &target).unwrap();
    symlink(&target, &first).unwrap();
    expect_untouched("a symbolic link", &machine);
    assert!(target.exists() && first.is_symlink());

    let (machine, first) = with_backup();
    fs::remove_file(&first).unwrap();
    fs::create_dir(&first).unwrap();
    fs::write(first.join("precious"), "x").unwrap();
    expect_untouched("a folder", &machine);
    assert!(first.join("precious").exists());

    // A hard link is another name of the same bytes: the one of the backup goes, the other stays.
    let (machine, first) = with_backup();
    let other = machine.path("other.db");
    fs::hard_link(&first, &other).unwrap();
    let bytes = fs::read(&first).unwrap();
    backup(&machine).success();
    assert!(!first.exists() && fs::read(&other).unwrap() == bytes);
}

#[test]
fn backups_of_another_database_in_the_same_folder_survive() {
    let (machine, _) = with_backup();
    let other = Machine::migrated();
    let folder = machine.path("backups");
    for _ in 0..2 {
        let run = other.cts("backup").env("CTS_BACKUP_KEEP", "monthly=1");
        run.env("CTS_BACKUP_DIR", &folder).success();
    }
    // One of each database.
    let files =
        contents(&folder).into_keys().filter(|path| path.extension().is_some_and(|e| e == "db"));
    assert_eq!(files.count(), 2);
}

#[test]
fn backups_of_the_database_that_was_at_the_path_before_survive() {
    let (machine, first) = with_backup();
    let bytes = fs::read(&first).unwrap();
    for name in ["cts.db", "cts.db-wal", "cts.db-shm"] {
        let _ = fs::remove_file(machine.path(name));
    }
    fs::rename(machine.path("backups"), machine.path("aside")).unwrap();
    machine.cts("migrate").success();
    fs::rename(machine.path("aside"), machine.path("backups")).unwrap();
    for _ in 0..2 {
        backup(&machine).success();
    }
    assert_eq!(fs::read(&first).unwrap(), bytes);
}

#[test]
fn a_clone_of_the_database_deletes_none_of_the_original() {
    let (machine, first) = with_backup();
    fs::copy(machine.db(), machine.path("clone.db")).unwrap();
    let of_clone = || backup(&machine).db(&machine.path("clone.db"));
    of_clone().success();
    of_clone().success();
    assert!(first.exists());
    // Not even when the original is gone: its backups are all that is left of it then.
    fs::remove_file(machine.db()).unwrap();
    of_clone().success();
    assert!(first.exists());
    // Nor are they taken for those of the clone, or the other way round.
    let latest = |db: &Path| machine.cts("restore latest --dry-run").db(db).success();
    latest(&machine.db()).says(&[first.file_name().unwrap().to_str().unwrap()]);
    assert!(!latest(&machine.path("clone.db")).out().contains(first.to_str().unwrap()));
}

/// Of the Debian package faketime; the dynamic linker replaces `$LIB`.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// A backup whose clock shows this time.
fn backup_at(time: &str, machine: &Machine, keep: &str) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cts"));
    command.arg("backup").env_clear().env("SQLITE_DB_PATH", machine.db());
    command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", format!("@{time}"));
    command.env("DONT_FAKE_MONOTONIC", "1").env("TZ", "UTC").env("CTS_BACKUP_KEEP", keep);
    Run { command }.success()
}

/// The serial numbers of the backups that are there.
fn serials(machine: &Machine) -> Vec<u64> {
    let files = contents(&machine.path("backups"));
    let manifests = files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "json"));
    let serial =
        |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).unwrap()["serial"].as_u64();
    let mut serials: Vec<u64> = manifests.map(|(_, bytes)| serial(bytes).unwrap()).collect();
    serials.sort_unstable();
    serials
}

#[test]
fn a_clock_that_is_set_by_a_year_deletes_nothing_that_should_stay() {
    let machine = Machine::migrated();
    let rules = "daily=7,weekly=4,monthly=6";
    for time in [
        "2026-11-25 03:00:00",
        "2026-11-26 03:00:00",
        "2026-11-27 03:00:00",
        // A year back, a year forward, and right again.
        "2025-11-28 03:00:00",
        "2027-11-29 03:00:00",
        "2026-11-28 03:00:00",
    ] {
        backup_at(time, &machine, rules);
    }
    assert_eq!(serials(&machine), [1, 2, 3, 4, 5, 6]);
    // The newest by number is kept although it is dated before others.
    backup_at("2024-01-01 03:00:00", &machine, "monthly=1");
    assert_eq!(serials(&machine), [7]);
}

#[test]
fn the_last_one_of_each_day_is_kept() {
    let machine = Machine::migrated();
    for time in
        ["2026-11-25 03:00:00", "2026-11-25 15:00:00", "2026-11-26 03:00:00", "2026-11-27 03:00:00"]
    {
        backup_at(time, &machine, "daily=2");
    }
    assert_eq!(serials(&machine), [3, 4]);
}

#[test]
fn the_listing_says_by_which_rule_each_is_kept_and_names_what_else_is_there() {
    let machine = Machine::migrated();
    for time in ["2026-11-25 03:00:00", "2026-11-26 03:00:00", "2026-11-27 03:00:00"] {
        backup_at(time, &machine, "daily=3");
    }
    let folder = machine.path("backups");
    let name = |day: &str| format!("cts-202611{day}T030000Z.db");
    fs::write(folder.join("cts-20200101T000000Z.db"), "x").unwrap();
    fs::write(folder.join("notes.txt"), "x").unwrap();
    fs::create_dir(folder.join("cts-20200102T000000Z.db")).unwrap();
    fs::write(digest_of(&folder.join(name("26"))), "x").unwrap();
    edit(&folder.join(name("27")), |manifest| manifest["keptBy"] = json!("hand"));
    let list = |words: &str| machine.cts(words).env("CTS_BACKUP_KEEP", "daily=2").success();
    list("backups").says(&[
        "3 backups",
        "kept as newest, daily, until about ",
        "kept until a person deletes it",
        &format!("{}.sha256 is not what its manifest says", name("26")),
        "other: cts-20200101T000000Z.db: has no manifest: it was not made here, and is never deleted",
        "other: cts-20200102T000000Z.db: a directory, which is not a backup",
        "other: notes.txt: is not a backup of cts",
        "schema 071_add_coordination_tables.sql",
    ]);
    let listing = list("backups --json").json();
    let kept = |at: usize| &listing["backups"][at]["kept"];
    assert_eq!(kept(0)["status"], "hand");
    assert_eq!(
        (&kept(1)["status"], &kept(1)["rules"]),
        (&json!("rules"), &json!(["newest", "daily"]))
    );
    assert_eq!(kept(2)["rules"], json!(["daily"]));
    assert!(kept(1)["until"].is_string() && listing["backups"][1]["ageSeconds"].is_u64());
    assert_eq!(listing["backups"][1]["faults"].as_array().unwrap().len(), 1);
    assert_eq!(listing["others"].as_array().unwrap().len(), 3);
    // What is said to be deleted next is deleted next, and nothing else.
    let next = machine.cts("backups --json").env("CTS_BACKUP_KEEP", "daily=1").success().json();
    assert_eq!(next["backups"][2]["kept"]["status"], "none");
    fs::remove_file(machine.db()).unwrap();
    list("backups").says(&["the database is not there, or cannot be read: nothing is deleted"]);
}
