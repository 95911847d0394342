//! Opens a SQLite database. What is not a database of CTS is refused and left as it was, and opening
//! it to read changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::at_rest::{AtRest, RestingState, connect_at_rest, connect_immutable};
use super::error::{from_sqlite, is_busy, is_unopenable};
use super::file::{self, APPLICATION_ID, FileContent, FileIdentity, has_wal, side_file};
use super::file_system::refuse_network;
use super::free_pages::MAKE_SHRINKABLE;
use super::hot_journal;
use super::litestream;
use super::lock::until_unlocked;
use super::open_here::OpenHere;
use super::permissions;
use super::recognition::{refuse_foreign, refuse_foreign_id, refuse_foreign_interrupted};
use super::temporary;
use super::wal_match::refuse_mismatched_wal;
use super::write_access::{refuse_obstacle, write_obstacle};
use super::{FileAccess, Sqlite};
use crate::error::{Error, Kind, Result};
use crate::store::{WaitPolicy, as_its_owner};

/// How long SQLite itself waits for a lock before it reports SQLITE_BUSY; what is longer is left to
/// [`WaitPolicy`].
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// Instructions of SQLite's virtual machine, about a millisecond, between two checks whether the work
/// is cancelled.
const INSTRUCTIONS_BETWEEN_CHECKS: i32 = 10_000;
/// The same between two readings of the clock, where a query may take some milliseconds only.
const INSTRUCTIONS_BETWEEN_CLOCKS: i32 = 500;

impl Sqlite {
    /// Opens the database for writing, and creates an empty file where there is none.
    ///
    /// # Errors
    /// What is at the path is not a database of CTS, or cannot be opened and written; then it is byte
    /// for byte as it was. Also what ends the waiting for a lock.
    pub fn open(configured: &Path, access: FileAccess, wait: &WaitPolicy<'_>) -> Result<Sqlite> {
        let path = file::resolve(configured)?;
        refuse_network(&path, access.allow_network)?;
        let content = file::inspect(&path)?;
        if let FileContent::Database(APPLICATION_ID | 0) = content {
            refuse_mismatched_wal(&path, wait)?;
        }
        match content {
            FileContent::Missing => drop(permissions::create_file(&path, access.group)?),
            FileContent::Empty | FileContent::Interrupted => {}
            FileContent::Database(APPLICATION_ID) => {}
            FileContent::Database(0) => match connect_to_recognise(&path, wait) {
                Ok(conn) => refuse_foreign(&conn, &path)?,
                Err(_) if file::journal_pages(&path)?.is_some() => {
                    // Not an error if it cannot be read: it is recognised again once it is open.
                    if let Ok(conn) = connect_immutable(&path) {
                        refuse_foreign_interrupted(&conn, &path)?;
                    }
                }
                Err(error) => return Err(error),
            },
            // The WAL may hold a newer id than the file.
            FileContent::Database(_) if has_wal(&path)? => {
                refuse_foreign(&connect_to_recognise(&path, wait)?, &path)?;
            }
            FileContent::Database(id) => refuse_foreign_id(&path, id)?,
        }
        refuse_obstacle(&path)?;
        hot_journal::keep(&path)?;
        let mut store = Sqlite::open_with(path, access, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        store.link = Some(configured.to_path_buf());
        store.open_here = OpenHere::note(&store.path);
        if store.conn.is_readonly("main").map_err(|e| store.error(&e))? {
            return Err(Error::new(Kind::Permission, "SQLite can read the file but not write it")
                .at(store.path.display())
                .remedy("check the permissions of the file and its folder (`ls -ld`)"));
        }
        if let FileContent::Missing | FileContent::Empty = content {
            // Executed, it would begin the file with a transaction of its own. What it sets for that transaction is set by
            // preparing it. (`PragTyp_AUTO_VACUUM` in pragma.c, `newDatabase` in btree.c)
            drop(store.conn.prepare(MAKE_SHRINKABLE).map_err(|e| store.error(&e))?);
        }
        refuse_foreign(&store.conn, &store.path)
            .inspect_err(|_| hot_journal::forget(&store.path))?;
        hot_journal::prove_and_forget(&mut store.conn, &store.path, wait)?;
        store.keep_wal(has_wal(&store.path)?)?;
        if litestream::replicates(&store.conn).map_err(|e| store.error(&e))? {
            store.leave_checkpoints_to_upkeep()?;
        }
        Ok(store)
    }

    /// Whether the WAL is kept when the connection is dropped. A database that is refused, for damage
    /// for example, keeps the WAL that it had.
    ///
    /// # Errors
    /// SQLite refuses the setting. The WAL is kept as before.
    pub(super) fn keep_wal(&self, keep: bool) -> Result<()> {
        self.conn
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
            .map(|_| ())
            .map_err(|e| from_sqlite(&self.path, &e))
    }

    /// Opens the database to read it, which changes no byte of it and, if no process has it open,
    /// nothing beside it. `None` if there is no database.
    ///
    /// # Errors
    /// What is at the path is not a database of CTS, or cannot be read; or what ends the waiting for a
    /// lock.
    pub fn open_read_only(
        path: &Path,
        access: FileAccess,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<Sqlite>> {
        let Some(path) = find_database(path, access, wait)? else { return Ok(None) };
        let mut store = match RestingState::of(&path) {
            Some(state) => Sqlite::open_at_rest(path, access, state, wait)?,
            None => Sqlite::open_with(path, access, OpenFlags::SQLITE_OPEN_READ_ONLY, wait)?,
        };
        store.read(|store| {
            refuse_foreign(&store.conn, &store.path)?;
            hot_journal::prove(&mut store.conn, &store.path, wait)
        })?;
        Ok(Some(store))
    }

    fn open_at_rest(
        path: PathBuf,
        access: FileAccess,
        state: RestingState,
        wait: &WaitPolicy<'_>,
    ) -> Result<Sqlite> {
        let mut conn = connect_at_rest(&path, state)?;
        interrupt_when(&mut conn, wait.cancelled).map_err(|e| from_sqlite(&path, &e))?;
        let identity = FileIdentity::of(&path);
        let at_rest = Some(AtRest::new(state, wait));
        Ok(Sqlite { identity, at_rest, ..Sqlite::new(conn, path, access) })
    }

    /// Reads, and reads again with locks if the database was opened at rest and another process has
    /// opened or written it meanwhile.
    ///
    /// # Errors
    /// The error of `read`, or of opening the database again.
    pub(super) fn read<T>(&mut self, mut read: impl FnMut(&mut Sqlite) -> Result<T>) -> Result<T> {
        let result = read(self);
        let Some(at_rest) = &self.at_rest else { return result };
        if at_rest.holds(&self.path) {
            return result;
        }
        let cancelled = Arc::clone(&at_rest.cancelled);
        let wait = WaitPolicy::silent(at_rest.timeout, &cancelled);
        let (path, access) = (self.path.clone(), self.access);
        *self = Sqlite::open_with(path, access, OpenFlags::SQLITE_OPEN_READ_ONLY, &wait)?;
        read(self)
    }

    /// Opens the database at a resolved path, of which nothing is proved.
    ///
    /// # Errors
    /// SQLite cannot open it; or what ends the waiting for a lock.
    pub(super) fn open_with(
        path: PathBuf,
        access: FileAccess,
        flags: OpenFlags,
        wait: &WaitPolicy<'_>,
    ) -> Result<Sqlite> {
        let mut conn = connect(&path, flags, wait)?;
        interrupt_when(&mut conn, wait.cancelled).map_err(|e| from_sqlite(&path, &e))?;
        let identity = FileIdentity::of(&path);
        Ok(Sqlite { identity, ..Sqlite::new(conn, path, access) })
    }
}

/// The resolved path of a database that can be opened to read it. `None` if there is no database.
///
/// # Errors
/// What is at the path is not a database of CTS, or cannot be read.
pub fn find_database(
    path: &Path,
    access: FileAccess,
    wait: &WaitPolicy<'_>,
) -> Result<Option<PathBuf>> {
    let path = file::resolve(path)?;
    refuse_network(&path, access.allow_network)?;
    let content = file::inspect(&path)?;
    if let FileContent::Database(APPLICATION_ID | 0) = content {
        refuse_mismatched_wal(&path, wait)?;
    }
    match content {
        FileContent::Missing | FileContent::Empty => return Ok(None),
        FileContent::Interrupted => return Err(not_rolled_back(&path)),
        FileContent::Database(APPLICATION_ID) => {}
        FileContent::Database(0) => refuse_foreign(&connect_to_recognise(&path, wait)?, &path)?,
        // The WAL may hold a newer id than the file.
        FileContent::Database(_) if has_wal(&path)? => {
            refuse_foreign(&connect_to_recognise(&path, wait)?, &path)?;
        }
        FileContent::Database(id) => refuse_foreign_id(&path, id)?,
    }
    Ok(Some(path))
}

/// The flags that every connection is opened with, besides `flags`. A symbolic link is resolved before,
/// not by SQLite.
pub fn with_common_flags(flags: OpenFlags) -> OpenFlags {
    flags
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE
        | OpenFlags::SQLITE_OPEN_NOFOLLOW
}

/// Makes SQLite end the connection's work once `cancelled` is set.
///
/// # Errors
/// SQLite refuses the handler.
pub fn interrupt_when(conn: &mut Connection, cancelled: &Arc<AtomicBool>) -> rusqlite::Result<()> {
    let cancelled = Arc::clone(cancelled);
    let is_cancelled = move || cancelled.load(Ordering::Relaxed);
    conn.progress_handler(INSTRUCTIONS_BETWEEN_CHECKS, Some(is_cancelled))
}

/// Runs a query that SQLite ends once `is_over`, with an error that [`is_interrupted`](super::error::is_interrupted).
/// Afterwards nothing ends the connection's work any more, also not what [`interrupt_when`] had set.
///
/// # Errors
/// That of the query, or SQLite refuses the handler.
pub fn interrupted_when<T>(
    conn: &mut Connection,
    is_over: impl FnMut() -> bool + Send + 'static,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    conn.progress_handler(INSTRUCTIONS_BETWEEN_CLOCKS, Some(is_over))?;
    let result = query(conn);
    conn.progress_handler(0, None::<fn() -> bool>)?;
    result
}

/// Opens a connection with the settings of all connections of cts. Foreign keys are off: cts deletes
/// no row, and rebuilds tables whose rows others refer to.
///
/// # Errors
/// The file cannot be opened or its schema not be read; or what ends the waiting for a lock.
pub fn connect(path: &Path, flags: OpenFlags, wait: &WaitPolicy<'_>) -> Result<Connection> {
    let to_open = file::path_to_open(path)?;
    let flags = with_common_flags(flags);
    let prepared = |conn: Connection| {
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;")?;
        temporary::ensure_folder(&conn, path);
        // The first statement that reads the file, and so the first to meet an error of it.
        conn.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
        Ok(conn)
    };
    let opened = until_unlocked(path, wait, || {
        match Connection::open_with_flags(&to_open, flags).and_then(prepared) {
            Err(e) if !is_busy(&e) => Ok(Err(e)),
            other => other.map(Ok),
        }
    })?;
    match opened {
        Err(e) if is_unopenable(&e) && flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) => {
            connect_without_side_files(path, &e)
        }
        other => other.map_err(|e| from_sqlite(path, &e)),
    }
}

/// Opens a database whose side files cannot be created. WAL mode needs a shared memory file, which
/// cannot be created in a read-only folder; without a WAL the file alone is the whole database. A
/// journal has to be rolled back, which a read-only connection does not do.
fn connect_without_side_files(path: &Path, cause: &rusqlite::Error) -> Result<Connection> {
    if side_file(path, "-journal").exists() {
        return Err(not_rolled_back(path));
    }
    if !has_wal(path)? {
        return connect_immutable(path);
    }
    let Some(obstacle) = write_obstacle(path) else { return Err(from_sqlite(path, cause)) };
    let what = format!(
        "{}, and its WAL cannot be read without creating a file next to it",
        obstacle.reason()
    );
    let (kind, remedy) = if obstacle.is_of_other_user {
        (Kind::Permission, as_its_owner(path))
    } else {
        (Kind::Io, obstacle.remedy())
    };
    Err(Error::new(kind, what).at(path.display()).remedy(remedy))
}

fn not_rolled_back(path: &Path) -> Error {
    Error::new(Kind::Data, "its last transaction was interrupted and is not rolled back yet")
        .at(path.display())
        .remedy("start cts (or run `cts migrate`), which rolls it back")
}

/// Opens a file that may be another program's, if possible without creating a side file.
fn connect_to_recognise(path: &Path, wait: &WaitPolicy<'_>) -> Result<Connection> {
    match RestingState::of(path) {
        Some(state) => connect_at_rest(path, state),
        None => connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, wait),
    }
}
