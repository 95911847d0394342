//! `cts backup` of a SQLite database.

mod faults;
mod places;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::harness::Machine;

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The names in a folder of backups, without the note of the last success that is for other programs.
fn parts(folder: &Path) -> Vec<String> {
    let mut names = names(folder);
    names.retain(|name| name != "last-success");
    names
}

/// The data files of the default folder of backups, in the order of their names.
fn backups(machine: &Machine) -> Vec<PathBuf> {
    let folder = machine.path("backups");
    let data = |name: &String| name.ends_with(".db");
    names(&folder).into_iter().filter(data).map(|name| folder.join(name)).collect()
}

fn manifest(backup: &Path) -> Value {
    let path = format!("{}.json", backup.display());
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Expects that a backup is complete: its SHA-256 is that of the file beside it, and the database in it is sound and has
/// this number of rows in `site_logs`.
fn expect_complete(backup: &Path, site_logs: i64) {
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "--status"])
        .arg(format!("{}.sha256", backup.display()))
        .current_dir(backup.parent().unwrap())
        .status();
    assert!(check.unwrap().success(), "{}", backup.display());
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join("cts.db");
    fs::copy(backup, &path).unwrap();
    let conn = rusqlite::Connection::open(&path).unwrap();
    let text = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    let rows: i64 = conn.query_row("SELECT count(*) FROM site_logs", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, site_logs);
    assert_eq!(manifest(backup)["tables"]["site_logs"], site_logs);
}

/// The number of rows in `site_logs`.
fn logged(machine: &Machine) -> i64 {
    machine.number("SELECT count(*) FROM site_logs")
}
