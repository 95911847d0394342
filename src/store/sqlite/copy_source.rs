//! A SQLite database as the source of a copy: one read transaction on one connection, held for the whole copy while other
//! programs go on writing. Nothing of the database is changed, and no side file that it did not have is left.
//!
//! The connection takes locks, unlike one at rest: a program may begin to write at any moment. It may write, though it
//! never does (`query_only`), where no other process has the database open: SQLite removes the side files that it creates
//! for WAL mode only when the last connection that may write is closed. A file that this user cannot write, and that
//! nobody has open, is read without locks, and has to be the same at the end.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, fcntl_lock};

use super::at_rest::{RestingState, connect_at_rest};
use super::catalog::{self, text};
use super::connect::{connect, find_database, interrupt_when};
use super::copy_reader;
use super::damage::find_damage;
use super::database::identity;
use super::error::from_sqlite;
use super::file::{FileIdentity, side_file};
use super::inspect::{find_obstacles, has_more_rows, snapshot};
use super::lock::until_unlocked;
use super::overwrite::OverwriteWatch;
use super::recognition::refuse_foreign;
use super::restore::refuse_running;
use super::storage::overwritten;
use super::write_access::write_obstacle;
use super::{DatabaseFile, Sqlite, copy_types, counters, hot_journal, rebuild};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::schema::SQLITE;
use crate::store::sql::EXCEPTIONS_TABLE;
use crate::store::{
    CopiedTable, CopySource, Damage, DamageScope, Field, Forecast, Inspect, Obstacle, OpenDatabase,
    ReadRows, Snapshot, ValueType, WaitPolicy,
};
use cts_schema::catalog::{Catalog, Column, CounterFault, Object, Table};

/// The tables of the owner: neither those of SQLite, nor those in which a virtual table keeps its rows, nor those of
/// Litestream.
const OTHER_TABLES: &str = "SELECT name FROM pragma_table_list \
    WHERE schema = 'main' AND type IN ('table', 'virtual') \
    AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' \
    ORDER BY name";

/// Whether a database that no process has open is read with locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// With those of a reader. SQLite needs shared memory for them, which it creates beside the file, or recovers.
    Shared,
    /// Without, so that nothing beside the file is changed.
    NoneAtRest,
}

/// The database, with its read transaction.
pub struct FileSource {
    /// Of the connection without a transaction that the file is watched by; closed first.
    proof: StillInPlace,
    store: Sqlite,
    /// Dropped last.
    _created: Option<CreatedSharedMemory>,
}

/// What proves that nobody has overwritten the file.
enum StillInPlace {
    /// In WAL mode: no page was changed by anything but a checkpoint.
    Watched(Box<WatchedFile>),
    /// In rollback mode, where the read transaction keeps writers out: the file was not written.
    Unwritten(WriteStamp),
    /// Read without locks: nobody has written or opened it.
    Resting(RestingState),
}

struct WatchedFile {
    conn: Connection,
    watch: OverwriteWatch,
}

#[derive(PartialEq, Eq)]
struct WriteStamp {
    modified: Option<SystemTime>,
    size_bytes: u64,
}

impl WriteStamp {
    fn of(path: &Path) -> Option<WriteStamp> {
        let found = fs::metadata(path).ok()?;
        Some(WriteStamp { modified: found.modified().ok(), size_bytes: found.len() })
    }
}

impl FileSource {
    /// Opens the database, and begins the transaction.
    ///
    /// # Errors
    /// There is none, it is another program's, it cannot be read, a restore replaces it; or what ends the waiting for a
    /// lock. Nothing is changed.
    pub fn open(
        database: &DatabaseFile,
        locking: Locking,
        wait: &WaitPolicy<'_>,
    ) -> Result<FileSource> {
        refuse_running(database)?;
        let path = find_database(&database.path, database.access, wait)?
            .ok_or_else(|| identity(&database.path).absent_error())?;
        let resting = RestingState::of(&path);
        let is_unlocked = locking == Locking::NoneAtRest || write_obstacle(&path).is_some();
        let unlocked = resting.filter(|_| is_unlocked);
        let (mut store, created) = match (unlocked, resting) {
            (Some(state), _) => (open_unlocked(&path, database, state, wait)?, None),
            (None, Some(state)) => {
                let created = CreatedSharedMemory::beside(&path, state);
                (open_at_rest_with_locks(&path, database, state, wait)?, created)
            }
            (None, None) => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
                (Sqlite::open_with(path.clone(), database.access, flags, wait)?, None)
            }
        };
        store.link = Some(database.path.clone());
        refuse_foreign(&store.conn, &path)?;
        hot_journal::prove(&mut store.conn, &path, wait)?;
        begin(&store.conn, &path, wait)?;
        let proof = match unlocked {
            Some(state) => StillInPlace::Resting(state),
            None => StillInPlace::begin(&store.conn, &path, wait)?,
        };
        Ok(FileSource { proof, store, _created: created })
    }

    fn error(&self, cause: &rusqlite::Error) -> Error {
        self.explained(self.store.error(cause))
    }

    /// An error that reading has met, or that another program has written a database that is read without locks.
    fn explained(&self, error: Error) -> Error {
        match &self.proof {
            StillInPlace::Resting(state) if RestingState::of(&self.store.path) != Some(*state) => {
                self.written_meanwhile()
            }
            _ => error,
        }
    }

    fn written_meanwhile(&self) -> Error {
        let what = "was opened or written by another program while it was copied, and this user cannot lock it";
        try_again(&self.store.path, what)
            .remedy("run it as the owner of the file, or when no program has it open")
    }
}

/// An error of a source that is not what it was.
fn try_again(path: &Path, what: &str) -> Error {
    Error::new(Kind::TryAgain, what).at(path.display()).leaving(StateLeft::Unchanged)
}

fn open_unlocked(
    path: &Path,
    database: &DatabaseFile,
    state: RestingState,
    wait: &WaitPolicy<'_>,
) -> Result<Sqlite> {
    let mut conn = connect_at_rest(path, state)?;
    interrupt_when(&mut conn, wait.cancelled).map_err(|e| from_sqlite(path, &e))?;
    let identity = FileIdentity::of(path);
    Ok(Sqlite { identity, ..Sqlite::new(conn, path.to_path_buf(), database.access) })
}

/// A WAL that a killed process has left is not copied into the file.
fn open_at_rest_with_locks(
    path: &Path,
    database: &DatabaseFile,
    state: RestingState,
    wait: &WaitPolicy<'_>,
) -> Result<Sqlite> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let store = Sqlite::open_with(path.to_path_buf(), database.access, flags, wait)?;
    store.keep_wal(state.has_wal())?;
    store.conn.execute_batch("PRAGMA query_only = ON").map_err(|e| store.error(&e))?;
    Ok(store)
}

fn begin(conn: &Connection, path: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
    conn.execute_batch("BEGIN").map_err(|e| from_sqlite(path, &e))?;
    // The first reading makes the snapshot.
    let read = || conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    until_unlocked(path, wait, read)
}

impl StillInPlace {
    fn begin(conn: &Connection, path: &Path, wait: &WaitPolicy<'_>) -> Result<StillInPlace> {
        let failed = |e: rusqlite::Error| from_sqlite(path, &e);
        let mode = conn.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
        if mode.map_err(failed)? != "wal" {
            let stamp = WriteStamp::of(path).ok_or_else(|| replaced(path))?;
            return Ok(StillInPlace::Unwritten(stamp));
        }
        let page_bytes = conn.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0));
        let watcher = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, wait)?;
        let watch = OverwriteWatch::new(path, page_bytes.map_err(failed)?.into())
            .map_err(|e| super::file_error::unreadable(path, &e))?;
        let mut watched = WatchedFile { conn: watcher, watch };
        // What cannot be watched now is compared at the end as far as it can be.
        let _ = watched.watch.observe(&watched.conn);
        Ok(StillInPlace::Watched(Box::new(watched)))
    }
}

fn replaced(path: &Path) -> Error {
    try_again(path, "was deleted or replaced by another file while it was copied")
        .remedy("run it again, when the file at that path is the wanted one")
}

/// The shared memory of a database that has none, though it has a WAL. SQLite leaves it beside a WAL that is kept.
struct CreatedSharedMemory {
    database: PathBuf,
}

impl CreatedSharedMemory {
    fn beside(path: &Path, state: RestingState) -> Option<CreatedSharedMemory> {
        let is_created = state.has_wal() && !side_file(path, "-shm").exists();
        is_created.then(|| CreatedSharedMemory { database: path.to_path_buf() })
    }
}

impl Drop for CreatedSharedMemory {
    /// Removes it as SQLite does, under a lock of the whole file, which nobody gets who is not alone.
    fn drop(&mut self) {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        if let Ok(file) = crate::system::file_handle::open_regular(&self.database, options)
            && fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            // The next program that opens the database makes it anew.
            let _ = fs::remove_file(side_file(&self.database, "-shm"));
        }
    }
}

impl Drop for FileSource {
    fn drop(&mut self) {
        if self.store.storage_status().replaced.is_some() {
            // The WAL at the path may be that of another file now.
            let _ = self.store.keep_wal(true);
        }
    }
}

impl Inspect for FileSource {
    fn inspect(&mut self) -> Result<Snapshot> {
        let read = snapshot(&self.store.conn, &mut self.store.known);
        read.map_err(|e| self.explained(e.at(&self.store.path)))
    }

    fn find_counter_faults(&mut self, catalog: &Catalog) -> Result<Vec<CounterFault>> {
        counters::find_faults(&self.store.conn, catalog).map_err(|e| self.error(&e))
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        find_obstacles(&self.store.conn, missing).map_err(|e| self.error(&e))
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        find_damage(&self.store.conn, &self.store.path, scope).map_err(|e| self.explained(e))
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        has_more_rows(&self.store.conn, table, than).map_err(|e| self.error(&e))
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        rebuild::forecast(&self.store.conn, expected)
            .map_err(|e| self.explained(e.at(&self.store.path)))
    }
}

impl ReadRows for FileSource {
    fn read_rows(
        &mut self,
        table: &CopiedTable,
        on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<()>,
    ) -> Result<()> {
        copy_reader::read_rows(&self.store.conn, &self.store.path, table, on_row)
            .map_err(|e| self.explained(e))
    }

    fn count_rows(&mut self, table: &str) -> Result<u64> {
        copy_reader::count_rows(&self.store.conn, &self.store.path, table)
            .map_err(|e| self.explained(e))
    }
}

impl CopySource for FileSource {
    fn other_tables(&mut self) -> Result<Vec<String>> {
        let read = || {
            let mut statement = self.store.conn.prepare(OTHER_TABLES)?;
            let names = statement.query_map([], |row| row.get_ref(0).map(text))?;
            names.collect::<rusqlite::Result<Vec<_>>>()
        };
        let names = read().map_err(|e| self.error(&e))?;
        let is_ours = |name: &String| {
            let mut tables = SQLITE.expected.tables.iter().map(|table| &*table.name);
            tables.any(|table| table.eq_ignore_ascii_case(name))
                || name.eq_ignore_ascii_case(EXCEPTIONS_TABLE)
        };
        Ok(names.into_iter().flatten().filter(|name| !is_ours(name)).collect())
    }

    fn other_table(&mut self, name: &str) -> Result<Table> {
        let named = Table::named(name.to_string());
        catalog::read_table(&self.store.conn, &named)
            .map_err(|e| self.explained(e.at(&self.store.path)))
    }

    fn value_type(&mut self, table: &str, column: &Column) -> Result<ValueType> {
        copy_types::value_type(&self.store.conn, table, column).map_err(|e| self.error(&e))
    }

    fn prove_in_place(&mut self) -> Result<()> {
        if let Some(why) = self.store.storage_status().replaced {
            return Err(try_again(&self.store.path, &why));
        }
        let path = &self.store.path;
        match &mut self.proof {
            StillInPlace::Resting(state) if RestingState::of(path) != Some(*state) => {
                Err(self.written_meanwhile())
            }
            StillInPlace::Unwritten(stamp) if WriteStamp::of(path).as_ref() != Some(&*stamp) => {
                Err(replaced(path))
            }
            StillInPlace::Resting(_) | StillInPlace::Unwritten(_) => Ok(()),
            StillInPlace::Watched(watched) => match watched.watch.observe(&watched.conn) {
                Ok(Some(page)) => Err(try_again(path, &overwritten(path, page))),
                // What cannot be told is no proof of the opposite: the copy is compared with what was read.
                Ok(None) | Err(_) => Ok(()),
            },
        }
    }
}
