//! Opens a SQLite database with care: what is not ours is refused and left as it is, a look
//! leaves no trace, and a moment in which others have it locked is waited out.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::error::{error, is_busy, is_unopenable};
use super::file::{self, APPLICATION_ID, FileContent};
use super::{FileAccess, Sqlite};
use crate::error::{Error, Kind, Result};
use crate::store::{AS_ITS_OWNER, Holder, WaitPolicy};
use cts_schema::catalog::is_cts_database;

/// How long SQLite itself waits for a lock before it says so; longer waits are [`WaitPolicy`].
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// SQLite asks after this many of its instructions whether to stop: about a millisecond.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 10_000;

impl Sqlite {
    /// Opens the database for writing, and creates the file where there is none. Refuses
    /// what is not ours and leaves it byte for byte as it was.
    pub fn open(path: &Path, access: FileAccess, wait: &WaitPolicy<'_>) -> Result<Sqlite> {
        let path = file::resolve(path)?;
        file::refuse_network(&path, access.allow_network)?;
        match file::inspect(&path)? {
            FileContent::Missing => file::create(&path, access.group)?,
            FileContent::Empty | FileContent::Database(None | Some(APPLICATION_ID)) => {}
            FileContent::Database(Some(0)) => match peek(&path, wait) {
                Ok(conn) => recognise(&conn, &path)?,
                Err(_) if file::journal_pages(&path).is_some() => refuse_foreign_draft(&path)?,
                Err(error) => return Err(error),
            },
            FileContent::Database(Some(id)) => return Err(foreign(&path, id)),
        }
        if let Some(why) = file::storage_status(&path, None).unwritable() {
            return Err(read_only(&path, why));
        }
        let store = Sqlite::with(path, access, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        if store.conn.is_readonly("main").map_err(|e| store.error(&e))? {
            return Err(read_only(&store.path, "SQLite can read but not write it"));
        }
        recognise(&store.conn, &store.path)?;
        store.keep_wal(has_wal(&store.path))?;
        Ok(store)
    }

    /// Whether the WAL stays as it is when the connection is dropped. What is refused, for
    /// damage for example, keeps the WAL that it had.
    pub(super) fn keep_wal(&self, keep: bool) -> Result<()> {
        self.conn
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep)
            .map(|_| ())
            .map_err(|e| error(&self.path, &e))
    }

    /// Opens the database for a look that changes no byte of it; `None` where there is none.
    pub fn open_read_only(
        path: &Path,
        access: FileAccess,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<Sqlite>> {
        let Some(path) = admitted(path, access, wait)? else { return Ok(None) };
        let store = Sqlite::with(path, access, OpenFlags::SQLITE_OPEN_READ_ONLY, wait)?;
        recognise(&store.conn, &store.path)?;
        Ok(Some(store))
    }

    /// Opens a database that is at rest for a look that makes no side file either. Nothing keeps
    /// writers away meanwhile: who looks asks [`rest`] before and after.
    pub fn open_at_rest(
        path: &Path,
        access: FileAccess,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<Sqlite>> {
        let Some(path) = admitted(path, access, wait)? else { return Ok(None) };
        let mut conn = connect_immutable(&path)?;
        watch(&mut conn, wait.cancelled).map_err(|e| error(&path, &e))?;
        recognise(&conn, &path)?;
        let identity = file::identity(&path);
        Ok(Some(Sqlite { conn, path, identity, access, settled: false, known: None }))
    }

    fn with(
        path: PathBuf,
        access: FileAccess,
        flags: OpenFlags,
        wait: &WaitPolicy<'_>,
    ) -> Result<Sqlite> {
        let mut conn = connect(&path, flags, wait)?;
        watch(&mut conn, wait.cancelled).map_err(|e| error(&path, &e))?;
        let identity = file::identity(&path);
        Ok(Sqlite { conn, path, identity, access, settled: false, known: None })
    }
}

/// Refuses what must not be looked into; `None` where there is no database.
fn admitted(path: &Path, access: FileAccess, wait: &WaitPolicy<'_>) -> Result<Option<PathBuf>> {
    let path = file::resolve(path)?;
    file::refuse_network(&path, access.allow_network)?;
    match file::inspect(&path)? {
        FileContent::Missing | FileContent::Empty => return Ok(None),
        FileContent::Database(None) => return Err(cut_off(&path)),
        FileContent::Database(Some(APPLICATION_ID)) => {}
        FileContent::Database(Some(0)) => recognise(&peek(&path, wait)?, &path)?,
        FileContent::Database(Some(id)) => return Err(foreign(&path, id)),
    }
    Ok(Some(path))
}

/// The state of a database whose file alone is all of it; `None` where something lies beside it.
/// As long as it stays the same, nobody has written.
pub fn rest(path: &Path) -> Option<(u64, i64, i64)> {
    let is_alone = ["-wal", "-journal"].iter().all(|suffix| !file::beside(path, suffix).exists());
    let meta = std::fs::metadata(path).ok().filter(|_| is_alone)?;
    Some((meta.len(), meta.mtime(), meta.mtime_nsec()))
}

/// Makes `stop` end long work of the connection.
pub fn watch(conn: &mut Connection, stop: &Arc<AtomicBool>) -> rusqlite::Result<()> {
    let stop = Arc::clone(stop);
    let is_stopped = move || stop.load(Ordering::Relaxed);
    conn.progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, Some(is_stopped))
}

fn read_only(path: &Path, why: &str) -> Error {
    Error::new(Kind::Permission, why).at(path.display()).remedy(
        "run as the owner of the file, and look whether its disk is mounted read-only (`findmnt`)",
    )
}

/// The cts, if there is one, that holds the write lock of the database at the path.
pub fn migrating(path: &Path) -> Option<Holder> {
    file::holder(&file::resolve(path).ok()?).filter(|holder| holder.program == "cts")
}

/// Opens a connection with the settings that all of ours have. We delete no row, and rebuild
/// tables whose rows others refer to, so foreign keys are off.
pub fn connect(path: &Path, flags: OpenFlags, wait: &WaitPolicy<'_>) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let prepared = |conn: Connection| {
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA trusted_schema = OFF;")?;
        // The first statement that reads the file, and so the first to find a fault.
        conn.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
        Ok(conn)
    };
    let opened = until_unlocked(path, wait, || {
        match Connection::open_with_flags(path, flags).and_then(prepared) {
            Err(e) if !is_busy(&e) => Ok(Err(e)),
            other => other.map(Ok),
        }
    })?;
    match opened {
        Err(e) if is_unopenable(&e) && flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) => {
            connect_without_side_files(path, &e)
        }
        other => other.map_err(|e| error(path, &e)),
    }
}

/// What cannot be opened read-only as usual: WAL needs its shared memory file, which cannot
/// be made in a folder that cannot be written; without a WAL the file alone is the whole
/// database. A journal has to be rolled back, which a look does not do.
fn connect_without_side_files(path: &Path, cause: &rusqlite::Error) -> Result<Connection> {
    if file::beside(path, "-journal").exists() {
        return Err(cut_off(path));
    }
    if !has_wal(path) {
        return connect_immutable(path);
    }
    let place = file::storage_status(path, None);
    let refusal = |kind, why| {
        let what = format!("{why}, and its WAL cannot be read without writing beside it");
        Error::new(kind, what).at(path.display())
    };
    Err(match (place.read_only, place.not_ours) {
        (Some(why), _) => {
            refusal(Kind::Io, why).remedy("mount the disk so that it can be written (`findmnt`)")
        }
        (_, Some(why)) => refusal(Kind::Permission, why).remedy(AS_ITS_OWNER),
        _ => error(path, cause),
    })
}

fn cut_off(path: &Path) -> Error {
    Error::new(Kind::Data, "its last write was cut off, and is not rolled back yet")
        .at(path.display())
        .remedy("start cts (or `cts migrate`), which completes it")
}

/// Asks again as long as somebody else holds a lock. Some answers come at once whatever the
/// busy timeout says: those to a switch to WAL, and to whoever meets one.
pub fn until_unlocked<T>(
    path: &Path,
    wait: &WaitPolicy<'_>,
    mut ask: impl FnMut() -> rusqlite::Result<T>,
) -> Result<T> {
    let attempt = || match ask() {
        Ok(answer) => Ok(Some(answer)),
        Err(e) if is_busy(&e) => {
            std::thread::sleep(Duration::from_millis(5));
            Ok(None)
        }
        Err(e) => Err(error(path, &e)),
    };
    wait.until_unlocked(attempt, || file::holder(path))
}

/// Opens a file that may be another program's, if possible without leaving a side file.
fn peek(path: &Path, wait: &WaitPolicy<'_>) -> Result<Connection> {
    if rest(path).is_some() {
        connect_immutable(path)
    } else {
        connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, wait)
    }
}

/// Opens a database that has no WAL to read, so that its file alone is the whole of it.
fn connect_immutable(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    Connection::open_with_flags(immutable(path), flags).map_err(|e| error(path, &e))
}

/// Whether a WAL with something in it lies beside the database.
pub fn has_wal(path: &Path) -> bool {
    std::fs::metadata(file::beside(path, "-wal")).is_ok_and(|meta| meta.len() > 0)
}

fn immutable(path: &Path) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            b if b.is_ascii_alphanumeric() => uri.push(char::from(*b)),
            b => uri.push_str(&format!("%{b:02X}")),
        }
    }
    uri + "?immutable=1"
}

/// Refuses what is clearly another program's, where a write was cut off: its journal has to be
/// rolled back before the database can be read, which opening it for writing does. Until then the
/// file may hold anything, so that what is not clear is looked at after that.
fn refuse_foreign_draft(path: &Path) -> Result<()> {
    let seen = connect_immutable(path).ok().and_then(|conn| identify(&conn).ok());
    match seen {
        Some((id, names, ledger)) => judge(id, &names, ledger, path),
        None => Ok(()),
    }
}

/// Refuses a database that another program made.
fn recognise(conn: &Connection, path: &Path) -> Result<()> {
    let (id, names, ledger) = identify(conn).map_err(|e| error(path, &e))?;
    judge(id, &names, ledger, path)
}

fn judge(id: u32, names: &[String], ledger: bool, path: &Path) -> Result<()> {
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    match id {
        APPLICATION_ID => Ok(()),
        0 if tables.is_empty() || is_cts_database(&tables, ledger) => Ok(()),
        0 => {
            let some = tables.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let what = format!(
                "is another program's database (it holds {some}, and no table of CTS); it was left as it is"
            );
            Err(Error::new(Kind::Data, what)
                .at(path.display())
                .remedy("set SQLITE_DB_PATH (or --db) to another file"))
        }
        id => Err(foreign(path, id)),
    }
}

/// Application id, names of tables, and whether there is a ledger as CTS has it; all of one
/// moment, because another starter may just be making them.
fn identify(conn: &Connection) -> rusqlite::Result<(u32, Vec<String>, bool)> {
    let moment = conn.unchecked_transaction()?;
    let id: i32 = moment.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if id.cast_unsigned() == APPLICATION_ID {
        return Ok((APPLICATION_ID, Vec::new(), false));
    }
    let mut names = moment.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    )?;
    let names = names.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    let columns: i64 = moment.query_row(
        "SELECT count(*) FROM pragma_table_xinfo('migrations') WHERE name IN ('name', 'executed_at')",
        [],
        |row| row.get(0),
    )?;
    Ok((id.cast_unsigned(), names, columns == 2))
}

fn foreign(path: &Path, id: u32) -> Error {
    let what = format!(
        "is another program's database (its application id is 0x{id:08x}, ours is 0x{APPLICATION_ID:08x}); it was left as it is"
    );
    Error::new(Kind::Data, what)
        .at(path.display())
        .remedy("set SQLITE_DB_PATH (or --db) to another file")
}
