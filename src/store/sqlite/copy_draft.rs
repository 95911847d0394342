//! A copy into a new SQLite file: it is prepared beside its place under a name of its own, and renamed when it is complete.
//! A copy that was killed leaves the prepared file, which the next one to the same place removes.
//!
//! Nobody else uses the prepared file, and nothing of it has to last before it is renamed: it is written without journal on
//! the disk and synced once at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::at_rest::connect_exclusive;
use super::connect::interrupt_when;
use super::draft::prove_creatable;
use super::error::from_sqlite;
use super::file::{self, FileIdentity, SIDE_FILES, folder_of, side_file};
use super::file_error::{cannot_create, cannot_write};
use super::permissions::{create_folder, create_new};
use super::restore::refuse_running;
use super::restore_intent::{remove_if_there, sync_folder};
use super::transaction::SqliteTx;
use super::{DatabaseFile, FileAccess};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{CopyDraft, CopyTarget, Restore, WaitPolicy};
use crate::system::file_handle::open_regular;

/// What the name of the prepared file ends with.
const PREPARED: &str = ".copying";
/// The settings of the connection that writes it. With the journal in memory a statement or a savepoint can be rolled back;
/// pages that are new have none in it, and all of them are new. Indexes are sorted in the memory of the cache.
const SETTINGS: &str = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA foreign_keys = OFF; PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; \
                        PRAGMA cache_size = -8192";

/// A database that is prepared as the copy of another.
pub struct PreparedCopy {
    /// Where it will be.
    path: PathBuf,
    access: FileAccess,
    prepared: PathBuf,
    /// The prepared file, locked (flock(2)) until the copy has ended.
    file: File,
    conn: Option<Connection>,
    is_in_place: bool,
    /// Removed after the file, if the copy fails.
    folders: CreatedFolders,
}

impl PreparedCopy {
    /// Creates the prepared file, and its folder.
    ///
    /// # Errors
    /// As [`prove_free`], or another copy to the same place is running.
    pub fn begin(database: &DatabaseFile) -> Result<PreparedCopy> {
        let path = prove_free(database)?;
        let access = database.access;
        let folders = CreatedFolders::of(&path);
        create_folder(&path, access.group)?;
        let prepared = side_file(&path, PREPARED);
        remove_left_over(&prepared)?;
        let (file, _) = create_new(&prepared, access.group).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => copied_by_another(&path),
            _ => cannot_create(&prepared, "the file", &e),
        })?;
        // Another copy may have taken it for a file that was left, in the moment before it was locked.
        if !lock(&file, &prepared)? {
            return Err(copied_by_another(&path));
        }
        let is_in_place = false;
        Ok(PreparedCopy { path, access, prepared, file, conn: None, is_in_place, folders })
    }

    fn connect(&self, wait: &WaitPolicy<'_>) -> Result<Connection> {
        let mut conn = connect_exclusive(&self.prepared)?;
        conn.execute_batch(SETTINGS)
            .and_then(|()| interrupt_when(&mut conn, wait.cancelled))
            .and_then(|()| conn.execute_batch("BEGIN IMMEDIATE"))
            .map_err(|e| from_sqlite(&self.prepared, &e))?;
        Ok(conn)
    }

    /// Makes the file one in WAL mode, and lasting.
    fn complete(&self) -> io::Result<()> {
        let mut header = [0; file::HEADER_START_BYTES];
        self.file.read_exact_at(&mut header, 0)?;
        file::set_wal(&mut header);
        self.file.write_all_at(&header, 0)?;
        self.file.sync_all()
    }

    fn remove(&mut self) {
        drop(self.conn.take());
        // What cannot be removed now is removed by the next copy.
        let _ = remove_with_side_files(&self.prepared);
    }
}

impl CopyDraft for PreparedCopy {
    fn begin<'d>(&'d mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopyTarget + 'd>> {
        let conn = self.connect(wait)?;
        Ok(Box::new(SqliteTx {
            conn: self.conn.insert(conn),
            path: &self.prepared,
            group: self.access.group,
            known: None,
            mismatched_before: Vec::new(),
        }))
    }

    fn put_in_place(mut self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()> {
        wait.check_cancelled()?;
        if let Some(conn) = self.conn.take() {
            conn.close().map_err(|(_, e)| from_sqlite(&self.prepared, &e))?;
        }
        self.complete().map_err(|e| cannot_write(&self.prepared, None, &e))?;
        refuse_occupied(&self.path)?;
        rename_to_free_path(&self.prepared, &self.path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => occupied(&self.path),
            _ => cannot_create(&self.path, "the copy", &e).leaving(StateLeft::Unchanged),
        })?;
        self.is_in_place = true;
        self.folders.keep();
        sync_folder(&self.path).map_err(|e| {
            cannot_write(folder_of(&self.path), None, &e).note("the copy is in its place")
        })
    }
}

impl Drop for PreparedCopy {
    fn drop(&mut self) {
        if !self.is_in_place {
            self.remove();
        }
    }
}

/// Proves that a new database can be created at the place, where nothing is yet. Returns its resolved path.
///
/// # Errors
/// [`Kind::CannotCreate`] if a file is there, or a side file of one; or the folder cannot be written, is on a network file
/// system, or a restore is under way.
pub fn prove_free(database: &DatabaseFile) -> Result<PathBuf> {
    let path = file::resolve(&database.path)?;
    refuse_occupied(&path)?;
    refuse_running(database)?;
    if let Some(found) = database.interrupted_restore() {
        return Err(Error::new(Kind::Data, found).remedy("end that restore first"));
    }
    prove_creatable(&path, database.access)?;
    Ok(path)
}

fn refuse_occupied(path: &Path) -> Result<()> {
    if file::attributes(path)?.is_some() {
        return Err(occupied(path));
    }
    for suffix in SIDE_FILES {
        let beside = side_file(path, suffix);
        if file::attributes(&beside)?.is_some() {
            let what =
                "there is no database beside it, and SQLite would take it for a part of the copy";
            return Err(Error::new(Kind::CannotCreate, what)
                .at(beside.display())
                .leaving(StateLeft::Unchanged)
                .remedy("move it away, or name a path where nothing is (SQLITE_DB_PATH or --db)"));
        }
    }
    Ok(())
}

fn occupied(path: &Path) -> Error {
    Error::new(Kind::CannotCreate, "there is a file of this name already")
        .at(path.display())
        .leaving(StateLeft::Unchanged)
        .remedy("name a path where nothing is (SQLITE_DB_PATH or --db), or move it away with its -wal and -shm")
}

fn copied_by_another(path: &Path) -> Error {
    Error::new(Kind::TryAgain, "another cts copies a database to this path")
        .at(path.display())
        .leaving(StateLeft::Unchanged)
        .remedy("try again when it has ended (`ps -C cts`)")
}

/// Removes the file that a killed copy has left.
fn remove_left_over(prepared: &Path) -> Result<()> {
    let file = match open_regular(prepared, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cannot_create(prepared, "the file", &e)),
    };
    // Locked while it is removed.
    match lock(&file, prepared)? {
        true => remove_with_side_files(prepared).map_err(|e| cannot_write(prepared, None, &e)),
        false => Err(copied_by_another(prepared)),
    }
}

/// Locks a file until it is closed. Returns whether this process alone has the lock, and the file is at the path.
fn lock(file: &File, path: &Path) -> Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(false),
        Err(e) => return Err(cannot_create(path, "the file", &e.into())),
    }
    let found = file.metadata().map_err(|e| cannot_create(path, "the file", &e))?;
    let locked = FileIdentity { device: found.dev(), inode: found.ino() };
    Ok(FileIdentity::of(path) == Some(locked))
}

fn remove_with_side_files(prepared: &Path) -> io::Result<()> {
    for suffix in SIDE_FILES {
        remove_if_there(&side_file(prepared, suffix))?;
    }
    remove_if_there(prepared)
}

/// Renames a file to a path where none is.
fn rename_to_free_path(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => renamed.map_err(io::Error::from),
    }
}

/// The folders that are created for a copy, removed unless it is put in its place.
struct CreatedFolders(Vec<PathBuf>);

impl CreatedFolders {
    fn of(path: &Path) -> CreatedFolders {
        let missing = folder_of(path).ancestors().take_while(|folder| !folder.exists());
        CreatedFolders(missing.map(Path::to_path_buf).collect())
    }

    fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for CreatedFolders {
    fn drop(&mut self) {
        for folder in &self.0 {
            // One in which somebody has put something stays.
            let _ = fs::remove_dir(folder);
        }
    }
}
