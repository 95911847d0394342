//! A copy of the database next to it, made before its tables are rebuilt: page by page, on a
//! connection of its own that reads what was there before the open transaction.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::error::from_sqlite;
use super::file::side_file;
use super::file_error::{cannot_create, cannot_write};
use super::permissions::{complete_file_mode, file_mode};
use crate::error::{Error, Kind, Result};
use crate::system::version::VERSION;

/// Pages that are copied in one step: 4 MiB.
const PAGES_PER_STEP: i32 = 1024;
/// The end of the copy's name until it is complete.
const PARTIAL: &str = ".partial";

/// Makes a copy, checks it, and gives it its name, `cts.db.before-3.1.0-<time>`. Returns its path. The
/// caller holds the write lock, so that no other process is making one.
///
/// # Errors
/// The copy cannot be written, or is damaged although the database is not. It was removed.
pub fn next_to(path: &Path, group: bool) -> Result<PathBuf> {
    let partial = side_file(path, &format!(".before-{VERSION}{PARTIAL}"));
    let complete = free_name(path);
    // One that a killed process has left.
    remove_with_side_files(&partial);
    let made = copy(path, &partial, group).and_then(|()| {
        fs::rename(&partial, &complete).map_err(|e| cannot_create(&complete, "the backup", &e))
    });
    if made.is_err() {
        remove_with_side_files(&partial);
    }
    made?;
    if let Some(folder) = complete.parent().and_then(|folder| File::open(folder).ok()) {
        folder.sync_all().map_err(|e| cannot_create(&complete, "the backup", &e))?;
    }
    Ok(complete)
}

fn remove_with_side_files(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(side_file(path, suffix));
    }
}

/// The first name for the copy that no file has.
fn free_name(path: &Path) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let time: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let names = (1..).map(|number| match number {
        1 => format!(".before-{VERSION}-{time}"),
        _ => format!(".before-{VERSION}-{time}-{number}"),
    });
    let mut paths = names.map(|suffix| side_file(path, &suffix));
    paths.find(|path| !path.exists()).unwrap_or_else(|| side_file(path, ".before"))
}

fn copy(path: &Path, to: &Path, group: bool) -> Result<()> {
    let size_bytes = fs::metadata(path).ok().map(|metadata| metadata.len());
    let created = OpenOptions::new().write(true).create_new(true).mode(file_mode(group)).open(to);
    let file = created.map_err(|e| cannot_create(to, "the backup", &e))?;
    complete_file_mode(&file, to, group)?;
    let source = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|e| from_sqlite(path, &e))?;
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|e| from_sqlite(to, &e))?;
    Backup::new(&source, &mut target)
        .and_then(|backup| backup.run_to_completion(PAGES_PER_STEP, Duration::ZERO, None))
        .map_err(|e| from_sqlite(to, &e))?;
    let target_damage = first_damage(&target, to)?;
    // Damaged indexes, which are about to be rebuilt, are in the copy as they are in the database.
    if let Some(damage) = &target_damage
        && first_damage(&source, path)? != target_damage
    {
        return Err(Error::new(Kind::Io, format!("the backup is damaged: {damage}"))
            .at(to.display())
            .remedy("check the disk (`dmesg`, `df`)"));
    }
    target.close().map_err(|(_, e)| from_sqlite(to, &e))?;
    file.sync_all().map_err(|e| cannot_write(to, size_bytes, &e))
}

/// The first line of `quick_check`. `None` if it finds no damage.
fn first_damage(conn: &Connection, path: &Path) -> Result<Option<String>> {
    let line: String = conn
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|e| from_sqlite(path, &e))?;
    Ok((line != "ok").then_some(line))
}
