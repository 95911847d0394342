//! The recipe for restic in docs/off-box.md: a backup of the service is copied off the machine by the commands of the example
//! unit, the machine is lost, and the copy restores.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::harness::{Machine, await_that};
use crate::support::project::source;

/// The commands of the unit, with these paths in place of its own.
fn unit_commands(folder: &Path) -> Vec<Vec<String>> {
    let unit = fs::read_to_string(source("systemd/cts-offsite.service")).unwrap();
    let commands = unit.lines().filter_map(|line| line.strip_prefix("ExecStart="));
    let words = |command: &str| {
        let words = command.split_whitespace();
        words.map(|word| word.replace("/data/backups", folder.to_str().unwrap())).collect()
    };
    commands.map(words).collect()
}

fn restic(machine: &Machine, words: &[&str]) -> Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("RESTIC_REPOSITORY", machine.path("repository"));
    command.env("RESTIC_PASSWORD", "a password").env("RESTIC_CACHE_DIR", machine.path("cache"));
    let done = command.output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{words:?}: {said}");
    done
}

#[test]
fn a_backup_that_restic_has_copied_is_restored_after_the_machine_is_lost() {
    if Command::new("restic").arg("version").output().is_err() {
        crate::support::not_tried("restic is not installed (tests/run.sh installs it)");
        return;
    }
    let (elsewhere, box_one) = (Machine::new(), Machine::new());
    restic(&elsewhere, &["restic", "init"]);
    let service = box_one.serve().env("CTS_BACKUP_EVERY", "1s").start();
    service.until_ready();
    box_one.sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')");
    let folder = box_one.path("backups");
    let last = || fs::read_to_string(folder.join("last-success")).unwrap_or_default();
    await_that("the first backup", || !last().is_empty());
    let first = last();
    await_that("the next backup, which has the row", || last() != first);
    service.stop();
    let name = last().trim_end().to_string();
    fs::write(folder.join("cts-20990101T000000Z.db.partial"), "left by a killed process").unwrap();
    // What the .path unit starts.
    for command in unit_commands(&folder) {
        restic(&elsewhere, &command.iter().map(String::as_str).collect::<Vec<_>>());
    }
    restic(&elsewhere, &["restic", "check", "--read-data"]);
    let inside = folder.clone();
    drop(box_one);

    let target = elsewhere.path("restored");
    let words = ["restic", "restore", "latest", "--tag", "cts", "--target"];
    restic(&elsewhere, &[&words[..], &[target.to_str().unwrap()]].concat());
    let restored: PathBuf = target.join(inside.strip_prefix("/").unwrap());
    assert!(!restored.join("cts-20990101T000000Z.db.partial").exists());
    let backup = restored.join(&name);
    let digest = Command::new("sha256sum")
        .args(["--check", "--strict", &format!("{name}.sha256")])
        .current_dir(&restored)
        .output()
        .unwrap();
    assert!(digest.status.success(), "{}", String::from_utf8_lossy(&digest.stderr));
    elsewhere.cts(&format!("backup --verify {}", backup.display())).success();
    let copy = rusqlite::Connection::open(&backup).unwrap();
    let kept: i64 = copy
        .query_row("SELECT count(*) FROM site_logs WHERE message = 'kept'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}
