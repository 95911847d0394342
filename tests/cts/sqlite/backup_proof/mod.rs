//! Backups that are proved: verified by hand, restored for a trial, and corrupted in every way.

mod compressed;
mod corruptions;
mod drill;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::harness::{Done, Machine, Run};

/// The path of a companion of a backup.
fn beside(backup: &Path, ending: &str) -> PathBuf {
    format!("{}{ending}", backup.display()).into()
}

fn manifest(backup: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(beside(backup, ".json")).unwrap()).unwrap()
}

/// Makes a backup in a folder of the machine.
fn backup(machine: &Machine, folder: &str, name: &str, flags: &str) -> PathBuf {
    fs::create_dir_all(machine.path(folder)).unwrap();
    let file = machine.path(folder).join(name);
    let mut run = machine.cts(&format!("backup {flags}"));
    run.command.arg(&file);
    run.success();
    file
}

fn verify(machine: &Machine, file: &Path) -> Run {
    let mut run = machine.cts("backup --verify");
    run.command.arg(file);
    run
}

/// Expects that a file is refused in one sentence that has these parts, and that nothing is left of the attempt.
fn refuses(machine: &Machine, file: &Path, parts: &[&str]) -> Done {
    let before = file.parent().map(names);
    let done = verify(machine, file).status(65).says(parts);
    assert_eq!(done.err().lines().count(), 1, "{}", done.err());
    assert!(done.err().contains(". Try: "), "{}", done.err());
    assert_eq!(file.parent().map(names), before);
    done
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Rows that fill some hundred pages, with an index, and other ones for another seed.
fn fill(machine: &Machine, seed: u32) {
    machine.sql(&format!(
        "DELETE FROM site_logs;
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO site_logs (level, category, message)
         SELECT 'info', 'trade ' || (i * {seed} % 97), hex(randomblob(20 + i * {seed} % 60)) FROM n;
         PRAGMA wal_checkpoint(TRUNCATE);",
        rows = 1500 + 200 * seed,
    ));
}
