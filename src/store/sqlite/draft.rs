//! Creates a new database in memory, and puts it at its path in one step: it is written to a file
//! without a name, synced, and then linked. If the process is killed or the disk is full, nothing is
//! left; if many processes start at once, one of them wins and the others find a complete database.
//! The disk writes about twice the size of the database, where a transaction in the file takes eight
//! times.
//!
//! On a file system without unnamed files (`O_TMPFILE`), an empty file is created and migrated in
//! place, from the same SQL.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use rusqlite::{Connection, MAIN_DB};
use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, Mode, OFlags, fallocate, linkat, open};
use rustix::io::Errno;

use super::connect::interrupt_when;
use super::error::from_sqlite;
use super::file::{self, FileContent, folder_of};
use super::file_error::{cannot_create, cannot_write};
use super::file_system::refuse_network;
use super::free_pages::MAKE_SHRINKABLE;
use super::storage::{NEW_DATABASE_BYTES, side_files_bytes};
use super::{FileAccess, Sqlite, permissions};
use crate::error::{Result, StateLeft};
use crate::store::{Store, WaitPolicy};
use crate::system::new_file;

/// Creates the database if there is no file at the path: `build` fills it in memory, and it gets the
/// path when it is complete. Not if a file is at the path already or another process is faster; if the
/// file system has no unnamed files, an empty file is created.
///
/// # Errors
/// If no database may be at the path, the folder or the file cannot be created or written, or `build`
/// fails. No file is at the path then; the folder may have been created.
pub fn create_aside(
    path: &Path,
    access: FileAccess,
    wait: &WaitPolicy<'_>,
    build: &mut dyn FnMut(&mut dyn Store) -> Result<()>,
) -> Result<Creation> {
    let path = file::resolve(path)?;
    refuse_network(&path, access.allow_network)?;
    if file::inspect(&path)? != FileContent::Missing {
        return Ok(Creation::default());
    }
    let mut messages = permissions::create_folder(&path, access.group)?;
    if let Some(file) = create_unnamed(&path, access.group)? {
        let owner = new_file::give_to_folder_owner(&file, &path);
        if build_in(file, &path, access, wait, build)? {
            messages.extend(owner.map(|note| format!("{}: {note}", path.display())));
            return Ok(Creation { is_complete: true, messages });
        }
    }
    messages.extend(permissions::create_file(&path, access.group)?);
    Ok(Creation { is_complete: false, messages })
}

/// Refuses a path at which no database can be created: its folder, or the one in which that would be created,
/// cannot be written, or the disk has no room. The room is proved by a file without a name, which is gone
/// at once.
///
/// # Errors
/// Those of [`create_aside`].
pub fn prove_creatable(path: &Path, access: FileAccess) -> Result<()> {
    refuse_network(path, access.allow_network)?;
    let folder = folder_of(path);
    if !folder.exists() {
        let object = format!("the folder {}", folder.display());
        let refuse = |e: &io::Error| cannot_create(path, &object, e);
        let existing = folder.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
        if !existing.is_dir() {
            return Err(refuse(&io::ErrorKind::NotADirectory.into()));
        }
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        return rustix::fs::access(existing, wanted).map_err(|e| refuse(&e.into()));
    }
    let Some(file) = create_unnamed(path, access.group)? else {
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        let refuse = |e: Errno| cannot_create(path, "the file", &e.into());
        return rustix::fs::access(folder, wanted).map_err(refuse);
    };
    let needed = NEW_DATABASE_BYTES / 2 + side_files_bytes();
    match fallocate(&file, FallocateFlags::empty(), 0, needed) {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(e) => Err(cannot_write(path, Some(needed), &e.into())),
    }
}

/// What was created, if anything.
#[derive(Debug, Default)]
pub struct Creation {
    /// Whether it is a complete database, made by `build`.
    pub is_complete: bool,
    /// What a person should know about its owner, one sentence each.
    pub messages: Vec<String>,
}

/// Builds the database in memory and publishes it. Returns whether it is at the path: not if another
/// process was faster.
fn build_in(
    file: File,
    path: &Path,
    access: FileAccess,
    wait: &WaitPolicy<'_>,
    build: &mut dyn FnMut(&mut dyn Store) -> Result<()>,
) -> Result<bool> {
    let path = path.to_path_buf();
    let failed = |e: rusqlite::Error| from_sqlite(&path, &e);
    let mut conn = Connection::open_in_memory().map_err(failed)?;
    conn.execute_batch(MAKE_SHRINKABLE).map_err(failed)?;
    interrupt_when(&mut conn, wait.cancelled).map_err(failed)?;
    let mut store = Sqlite::new(conn, path, access);
    build(&mut store)?;
    publish(&mut store, file).map_err(|error| error.leaving(StateLeft::Unchanged))
}

/// Writes the database to the unnamed file and links that to its path.
fn publish(store: &mut Sqlite, mut file: File) -> Result<bool> {
    let path = &store.path;
    let data = store.conn.serialize(MAIN_DB).map_err(|e| from_sqlite(path, &e))?;
    let mut bytes = data.to_vec();
    file::set_wal(&mut bytes);
    let needed = bytes.len() as u64 + side_files_bytes();
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| cannot_write(path, Some(needed), &e))?;
    link(&file, path)
}

/// Creates a file without a name in the folder of the path. `None` if the file system has none.
fn create_unnamed(path: &Path, group: bool) -> Result<Option<File>> {
    let mode = Mode::from_raw_mode(permissions::file_mode(group));
    match open(folder_of(path), OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => {
            let file = File::from(fd);
            new_file::complete_file_mode(&file, permissions::file_mode(group))
                .map_err(|e| cannot_create(path, "the file", &e))?;
            Ok(Some(file))
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(e) => Err(cannot_create(path, "the file", &e.into())),
    }
}

/// Gives the unnamed file its path. Returns whether it has it: another process may have been faster,
/// and without `/proc` it cannot be done.
fn link(file: &File, path: &Path) -> Result<bool> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => File::open(folder_of(path))
            .and_then(|folder| folder.sync_all())
            .map(|()| true)
            .map_err(|e| cannot_create(path, "the file", &e)),
        Err(Errno::EXIST | Errno::NOENT | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(cannot_create(path, "the file", &io::Error::from(e))),
    }
}
