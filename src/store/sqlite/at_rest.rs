//! Reads a database that no process has open, and changes nothing beside it: no side file is created,
//! none is deleted, and a WAL that a killed process has left is read through but not checkpointed.
//!
//! SQLite takes no locks for that, so that other processes can open the database meanwhile. Its
//! [`RestingState`] before and after tells whether one has.

use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::connect::with_common_flags;
use super::error::from_sqlite;
use super::file::{attributes, journal_pages, path_to_open, side_file};
use super::lock::ROLLBACK_LOCKS;
use super::temporary;
use crate::error::Result;
use crate::store::WaitPolicy;
use crate::system::file_handle::open_regular;

/// The state of the files of a database that no process has open. As long as it stays the same,
/// nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestingState {
    file: FileStamp,
    wal: Option<FileStamp>,
}

/// What changes about a file with each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    inode: u64,
    size_bytes: u64,
    modified: (i64, i64),
}

impl FileStamp {
    fn of(metadata: &Metadata) -> FileStamp {
        FileStamp {
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl RestingState {
    /// The state now. `None` if a process has the database open, if a journal is beside it, or if it cannot be
    /// read.
    ///
    /// No connection of this process may hold locks on the database: the file is opened and closed,
    /// which would release them (fcntl(2)).
    pub fn of(path: &Path) -> Option<RestingState> {
        if journal_pages(path).ok()?.is_some() {
            return None;
        }
        let file = FileStamp::of(&attributes(path).ok()??);
        let wal = attributes(&side_file(path, "-wal")).ok()?;
        (!is_locked(path)?).then_some(RestingState { file, wal: wal.as_ref().map(FileStamp::of) })
    }

    /// Whether there is a WAL with content.
    pub fn has_wal(&self) -> bool {
        self.wal.is_some_and(|wal| wal.size_bytes > 0)
    }
}

/// Whether another process has locked the database file: in WAL mode each connection holds a lock on it
/// for as long as it is open, in rollback mode during each transaction. `None` if that cannot be seen.
pub fn is_locked(path: &Path) -> Option<bool> {
    let bytes = Flock {
        start: *ROLLBACK_LOCKS.start(),
        length: ROLLBACK_LOCKS.end() - ROLLBACK_LOCKS.start() + 1,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let file = open_regular(path, OpenOptions::new().read(true)).ok()?;
    Some(fcntl_getlk(file, &bytes).ok()?.is_some())
}

/// How a database was opened at rest.
pub struct AtRest {
    /// The state when it was opened.
    state: RestingState,
    /// How long to wait for locks if it has to be opened again, with them.
    pub timeout: Duration,
    /// Cancels the work.
    pub cancelled: Arc<AtomicBool>,
}

impl AtRest {
    /// Opened in this state, and again with the waiting of `wait`.
    pub fn new(state: RestingState, wait: &WaitPolicy<'_>) -> AtRest {
        let timeout = wait.timeout.unwrap_or(Duration::MAX);
        AtRest { state, timeout, cancelled: Arc::clone(wait.cancelled) }
    }

    /// Whether nothing was written since, and no process has opened the database.
    pub fn holds(&self, path: &Path) -> bool {
        RestingState::of(path) == Some(self.state)
    }
}

/// Opens a database at rest, without locks: its file alone or, with a WAL, the file through it.
///
/// # Errors
/// SQLite cannot open or read it. Nothing was changed.
pub fn connect_at_rest(path: &Path, state: RestingState) -> Result<Connection> {
    match state.has_wal() {
        true => connect_through_wal(path),
        false => connect_immutable(path),
    }
}

/// Opens a file to read it alone, without its WAL and without locks.
///
/// # Errors
/// As [`connect_at_rest`].
pub fn connect_immutable(path: &Path) -> Result<Connection> {
    open(&path_to_open(path)?, "immutable=1").map_err(|e| from_sqlite(path, &e))
}

/// Opens a database to read it through its WAL, without locks. The VFS `unix-none` has no shared memory,
/// and with `locking_mode = EXCLUSIVE` the index of the WAL is in the memory of this connection
/// (sqlite.org/wal.html, "Use of WAL Without Shared-Memory"). The WAL stays when it is closed.
///
/// # Errors
/// As [`connect_at_rest`].
pub fn connect_through_wal(path: &Path) -> Result<Connection> {
    open(&path_to_open(path)?, "vfs=unix-none")
        .and_then(|conn| {
            conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            conn.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
            Ok(conn)
        })
        .map_err(|e| from_sqlite(path, &e))
}

/// Opens a file to write it, of which no other process knows yet: without locks, which not every file system has.
///
/// # Errors
/// SQLite cannot open it. Nothing was changed.
pub fn connect_exclusive(path: &Path) -> Result<Connection> {
    open_with(&path_to_open(path)?, "vfs=unix-none", OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|e| from_sqlite(path, &e))
}

fn open(path: &Path, parameter: &str) -> rusqlite::Result<Connection> {
    open_with(path, parameter, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

fn open_with(path: &Path, parameter: &str, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = with_common_flags(access | OpenFlags::SQLITE_OPEN_URI);
    let conn = Connection::open_with_flags(uri(path) + "?" + parameter, flags)?;
    conn.execute_batch("PRAGMA trusted_schema = OFF")?;
    temporary::ensure_folder(&conn, path);
    Ok(conn)
}

/// The URI of a file for SQLite (sqlite.org/uri.html).
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            b if b.is_ascii_alphanumeric() => uri.push(char::from(*b)),
            b => uri.push_str(&format!("%{b:02X}")),
        }
    }
    uri
}
