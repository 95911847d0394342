//! A copy of the database beside it, before its tables are given another shape: page by page, on
//! a connection of its own that reads what is there before the transaction under way.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

use super::error::error;
use super::file;
use crate::error::{Error, Kind, Result};
use crate::system::version::VERSION;

/// Pages at a time: 4 MiB.
const PAGES: i32 = 1024;
/// What a copy is called until it is whole.
const PARTIAL: &str = ".partial";

/// Makes the copy, proves it, and only then gives it its name: `cts.db.before-3.1.0-<time>`.
pub fn beside(path: &Path, group: bool) -> Result<String> {
    // What a kill left; the lock is ours, so nobody is at it.
    let partial = file::beside(path, &format!(".before-{VERSION}{PARTIAL}"));
    let whole = name(path);
    remove(&partial);
    let made = copy(path, &partial, group).and_then(|()| {
        fs::rename(&partial, &whole).map_err(|e| file::cannot_create(&whole, "the backup", &e))
    });
    if made.is_err() {
        // A copy that is not whole is of no use.
        remove(&partial);
    }
    made?;
    if let Some(folder) = whole.parent().and_then(|folder| File::open(folder).ok()) {
        folder.sync_all().map_err(|e| file::cannot_create(&whole, "the backup", &e))?;
    }
    Ok(whole.display().to_string())
}

fn remove(partial: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(file::beside(partial, suffix));
    }
}

/// The first name that is free.
fn name(path: &Path) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let time: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let names = (1..).map(|number| match number {
        1 => format!(".before-{VERSION}-{time}"),
        _ => format!(".before-{VERSION}-{time}-{number}"),
    });
    let mut paths = names.map(|suffix| file::beside(path, &suffix));
    paths.find(|path| !path.exists()).unwrap_or_else(|| file::beside(path, ".before"))
}

fn copy(path: &Path, to: &Path, group: bool) -> Result<()> {
    let size = fs::metadata(path).map_or(0, |file| file.len());
    let made = OpenOptions::new().write(true).create_new(true).mode(file::mode(group)).open(to);
    let file = made.map_err(|e| file::cannot_create(to, "the backup", &e))?;
    file::set_mode(&file, to, group)?;
    let from = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|e| error(path, &e))?;
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|e| error(to, &e))?;
    Backup::new(&from, &mut target)
        .and_then(|backup| backup.run_to_completion(PAGES, Duration::ZERO, None))
        .map_err(|e| error(to, &e))?;
    let check = |conn: &Connection, path: &Path| -> Result<String> {
        let said = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
        said.map_err(|e| error(path, &e))
    };
    // An index that is to be built anew is in the copy as it is.
    let said = check(&target, to)?;
    let is_whole = said == "ok" || said == check(&from, path)?;
    target.close().map_err(|(_, e)| error(to, &e))?;
    if !is_whole {
        let what = format!("the backup is not whole: {said}");
        return Err(Error::new(Kind::Io, what)
            .at(to.display())
            .remedy("look at the disk (`dmesg`, `df`)"));
    }
    file.sync_all().map_err(|e| file::cannot_write(to, size, &e))
}
