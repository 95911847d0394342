//! Compressed backups.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{backup, beside, fill, manifest, names, verify};
use crate::support::disk::Disk;
use crate::support::harness::{Machine, is_root, mode};

/// The names of backups and their companions, complete or not.
fn backup_files(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.starts_with("cts-")).collect()
}

#[test]
fn a_compressed_backup_is_smaller_and_proves_itself() {
    let machine = Machine::migrated();
    fill(&machine, 7);
    machine.cts("backup --compress").success();
    let folder = machine.path("backups");
    let made = backup_files(&folder);
    assert_eq!(made.len(), 3, "{made:?}");
    let file = folder.join(&made[0]);
    assert!(made[0].ends_with(".db.zst"), "{made:?}");
    assert_eq!(mode(&file), 0o600);
    let (size, manifest) = (fs::metadata(&file).unwrap().len(), manifest(&file));
    assert_eq!(manifest["sizeBytes"], size);
    assert!(manifest["uncompressedBytes"].as_u64().unwrap() > 2 * size, "{manifest}");
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "--status"])
        .arg(format!("{}.sha256", made[0]))
        .current_dir(&folder)
        .status();
    assert!(check.unwrap().success());
    let alone = machine.path("alone.zst");
    fs::copy(&file, &alone).unwrap();
    verify(&machine, &alone).success().says(&["24 tables with "]);
}

#[test]
fn the_setting_compresses_backups_of_the_folder_and_the_flag_any() {
    let machine = Machine::migrated();
    let compressing = |words: &str| machine.cts(words).env("CTS_BACKUP_COMPRESS", "1");
    compressing("backup").success();
    assert!(names(&machine.path("backups"))[0].ends_with(".db.zst"));
    let plain = machine.path("plain.db");
    let mut run = compressing("backup");
    run.command.arg(&plain);
    run.success();
    assert!(fs::read(&plain).unwrap().starts_with(b"SQLite format 3"));
    assert!(!beside(&plain, ".zst").exists());
    let file = backup(&machine, "b", "named.zst", "--compress");
    assert!(!fs::read(&file).unwrap().starts_with(b"SQLite format 3"));
    machine.cts("backup").env("CTS_BACKUP_COMPRESS", "2").status(78).says(&["CTS_BACKUP_COMPRESS"]);
}

/// The levels go from nothing to more than is needed, which is more than is ever used.
#[test]
fn a_disk_that_fills_while_it_is_compressed_leaves_no_backup() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let machine = Machine::migrated();
    fill(&machine, 7);
    let disk = Disk::mount_with(&machine, "size=64m", 64 << 20);
    let folder = disk.folder.join("backups");
    let mut outcomes = [0; 2];
    for level in 0..20_u64 {
        disk.leave(disk.size);
        disk.leave((level * 1301 % 1024 + level * 1536) << 10);
        let before = backup_files(&folder);
        let run = machine.cts("backup --compress").env("CTS_BACKUP_DIR", &folder);
        let done = run.run();
        match done.0.status.code() {
            Some(0) => {
                outcomes[0] += 1;
                assert_eq!(backup_files(&folder).len(), 3);
                fs::remove_dir_all(&folder).unwrap();
            }
            Some(74) => {
                outcomes[1] += 1;
                assert_eq!(backup_files(&folder), before, "{level}");
            }
            code => panic!("{level}: {code:?}: {}", done.err()),
        }
    }
    assert!(outcomes.iter().all(|count| *count > 2), "{outcomes:?}");
}
