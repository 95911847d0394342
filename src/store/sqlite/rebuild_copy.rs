//! A copy of the database next to it, made before its tables are rebuilt: page by page, on a
//! connection of its own that reads what was there before the open transaction.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::damage::find_damage;
use super::error::from_sqlite;
use super::file::{self, SIDE_FILES, folder_of, side_file};
use super::file_error::{cannot_create, cannot_write};
use super::permissions::create_new;
use crate::error::{Error, Kind, Result};
use crate::store::{DamageScope, RebuildCopy};
use crate::system::clock::UtcTime;
use crate::system::file_handle::FileHandle;
use crate::system::version::VERSION;

/// Pages that are copied in one step: 4 MiB.
const PAGES_PER_STEP: i32 = 1024;
/// The end of the copy's name until it is complete.
const PARTIAL: &str = ".partial";

/// Makes a copy, checks it, and gives it its name, `cts.db.before-3.1.0-<time>`. The caller holds the
/// write lock, so that no other process is making one.
///
/// # Errors
/// The copy cannot be written, is damaged although the database is not, or another file was put in its
/// place. It was removed.
pub fn next_to(path: &Path, group: bool) -> Result<RebuildCopy> {
    let partial = side_file(path, &format!(".before-{VERSION}{PARTIAL}"));
    // One that a killed process has left.
    remove_with_side_files(&partial);
    let made = copy(path, &partial, group).and_then(|copied| publish(path, &partial, copied));
    if made.is_err() {
        remove_with_side_files(&partial);
    }
    made
}

fn remove_with_side_files(path: &Path) {
    let _ = fs::remove_file(path);
    for suffix in SIDE_FILES {
        let _ = fs::remove_file(side_file(path, suffix));
    }
}

/// A complete copy that does not have its name yet. The descriptor tells it from another file that was
/// put in its place.
struct Copied {
    file: File,
    /// What to tell about its owner, if it was given to another.
    owner: Option<String>,
}

/// Gives the copy its name, which no other file has.
fn publish(path: &Path, partial: &Path, copied: Copied) -> Result<RebuildCopy> {
    let complete = move_to_free_name(path, partial)?;
    let failed = |e: io::Error| cannot_create(&complete, "the backup", &e);
    let found = FileHandle::open(&complete).and_then(|handle| handle.metadata()).map_err(failed)?;
    let own = copied.file.metadata().map_err(failed)?;
    if (found.dev(), found.ino()) != (own.dev(), own.ino()) {
        return Err(replaced(&complete));
    }
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(RebuildCopy::in_file(complete, copied.owner))
}

/// Renames the copy to the first name that no file has. Returns that name.
fn move_to_free_name(path: &Path, partial: &Path) -> Result<PathBuf> {
    let time = UtcTime::now().for_file_name();
    let name = side_file(path, &format!(".before-{VERSION}-{time}"));
    let mut number = 1;
    loop {
        let complete = match number {
            1 => name.clone(),
            _ => side_file(&name, &format!("-{number}")),
        };
        let renamed = match renameat_with(CWD, partial, CWD, &complete, RenameFlags::NOREPLACE) {
            // The file system does not have this kind of rename.
            Err(Errno::INVAL | Errno::NOSYS) if !complete.exists() => {
                fs::rename(partial, &complete)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST.into()),
            other => other.map_err(io::Error::from),
        };
        match renamed {
            Ok(()) => return Ok(complete),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(e) => return Err(cannot_create(&complete, "the backup", &e)),
        }
    }
}

fn replaced(path: &Path) -> Error {
    Error::new(Kind::Io, "the backup was replaced by another file while it was made")
        .at(path.display())
        .remedy("find out who may write to that folder, and run it again")
}

fn copy(path: &Path, to: &Path, group: bool) -> Result<Copied> {
    let size_bytes = fs::metadata(path).ok().map(|metadata| metadata.len());
    let (file, owner) = create_new(to, group).map_err(|e| cannot_create(to, "the backup", &e))?;
    let source = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut target = open(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    rusqlite::backup::Backup::new(&source, &mut target)
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
    let target_bytes = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let target_bytes: u64 =
        target.query_row(target_bytes, [], |row| row.get(0)).map_err(|e| from_sqlite(to, &e))?;
    target.close().map_err(|(_, e)| from_sqlite(to, &e))?;
    file.sync_all().map_err(|e| cannot_write(to, size_bytes, &e))?;
    match file.metadata() {
        Ok(metadata) if metadata.len() == target_bytes => Ok(Copied { file, owner }),
        Ok(_) => Err(replaced(to)),
        Err(e) => Err(cannot_write(to, size_bytes, &e)),
    }
}

/// Opens a file with SQLite, which is to follow no link that was put in its place.
fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    Connection::open_with_flags(file::path_to_open(path)?, flags).map_err(|e| from_sqlite(path, &e))
}

/// The first line of `quick_check`. `None` if it finds no damage.
fn first_damage(conn: &Connection, path: &Path) -> Result<Option<String>> {
    Ok(find_damage(conn, path, DamageScope::Pages)?.pages.into_iter().next())
}
