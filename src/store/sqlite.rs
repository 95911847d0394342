//! The SQLite backend: one file, opened with care, in WAL mode. The only file of the
//! binary, with `sqlite/schema.rs`, that knows rusqlite.

pub mod file;
mod schema;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionState};

use super::{Backend, Damage, Effect, Holder, Look, Note, Patience, Place, Store, Tx, interrupted};
use crate::catalog::{Catalog, Column, is_cts};
use crate::error::{Error, Kind, Result};
use crate::migration::{Applied, Migration, Statement};
use crate::schema::{SQLITE, Schema, VERSION};
use file::{APPLICATION_ID, Found};

/// How long SQLite itself waits for a lock before it says so; longer waits are [`Patience`].
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);
/// SQLite asks after this many of its instructions whether to stop: about a millisecond.
const INSTRUCTIONS_BETWEEN_LOOKS: i32 = 10_000;
/// Pages a connection may keep while it proves that it can write: so few that what it writes
/// reaches the disk (it spills) before it is undone.
const PROBE_CACHE_PAGES: u32 = 4;
/// What is written and undone: several times the cache.
const PROBE_BYTES: u32 = 64 << 10;

/// How a file may be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Let programs of the file's group in.
    pub group: bool,
    /// Open it on a network file system all the same.
    pub allow_network: bool,
}

/// An open SQLite database.
pub struct Sqlite {
    conn: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    access: Access,
    /// The catalogue as it was at this `schema_version`.
    known: Option<(i64, Catalog)>,
}

impl Sqlite {
    /// Opens the database for writing, and creates the file where there is none. Refuses
    /// what is not ours and leaves it byte for byte as it was. `stop` ends long work.
    pub fn open(path: &Path, access: Access, stop: &Arc<AtomicBool>) -> Result<Sqlite> {
        let path = file::resolve(path)?;
        file::refuse_network(&path, access.allow_network)?;
        match file::inspect(&path)? {
            Found::Missing => file::create(&path, access.group)?,
            Found::Empty | Found::Database(None | Some(APPLICATION_ID)) => {}
            Found::Database(Some(0)) => recognise(&peek(&path)?, &path)?,
            Found::Database(Some(id)) => return Err(foreign(&path, id)),
        }
        if let Some(why) = file::place(&path, None).read_only {
            return Err(read_only(&path, &why));
        }
        let store = Sqlite::with(path, access, OpenFlags::SQLITE_OPEN_READ_WRITE, stop)?;
        if store
            .conn
            .is_readonly("main")
            .map_err(|e| store.error(&e))?
        {
            return Err(read_only(&store.path, "SQLite can read but not write it"));
        }
        recognise(&store.conn, &store.path)?;
        Ok(store)
    }

    /// Opens the database for a look that changes no byte of it; `None` where there is none.
    pub fn open_read_only(
        path: &Path,
        access: Access,
        stop: &Arc<AtomicBool>,
    ) -> Result<Option<Sqlite>> {
        let path = file::resolve(path)?;
        file::refuse_network(&path, access.allow_network)?;
        match file::inspect(&path)? {
            Found::Missing | Found::Empty => return Ok(None),
            Found::Database(None) => {
                let what = format!(
                    "{}: its last write was cut off, and is not rolled back yet",
                    path.display()
                );
                return Err(Error::new(Kind::Data, what)
                    .remedy("start cts (or `cts migrate`), which completes it"));
            }
            Found::Database(Some(APPLICATION_ID)) => {}
            Found::Database(Some(0)) => recognise(&peek(&path)?, &path)?,
            Found::Database(Some(id)) => return Err(foreign(&path, id)),
        }
        let store = Sqlite::with(path, access, OpenFlags::SQLITE_OPEN_READ_ONLY, stop)?;
        recognise(&store.conn, &store.path)?;
        Ok(Some(store))
    }

    fn with(
        path: PathBuf,
        access: Access,
        flags: OpenFlags,
        stop: &Arc<AtomicBool>,
    ) -> Result<Sqlite> {
        let mut conn = connect(&path, flags)?;
        let stop = Arc::clone(stop);
        let is_stopped = move || stop.load(Ordering::Relaxed);
        conn.progress_handler(INSTRUCTIONS_BETWEEN_LOOKS, Some(is_stopped))
            .map_err(|e| error(&path, &e))?;
        let identity = file::identity(&path);
        Ok(Sqlite {
            conn,
            path,
            identity,
            access,
            known: None,
        })
    }

    fn error(&self, cause: &rusqlite::Error) -> Error {
        error(&self.path, cause)
    }

    fn ask_journal_mode(&self, sql: &str) -> Result<Option<String>> {
        match self.conn.query_row(sql, [], |row| row.get::<_, String>(0)) {
            Ok(mode) => Ok(Some(mode)),
            // Answered at once whatever the busy timeout says.
            Err(e) if is_busy(&e) => {
                std::thread::sleep(Duration::from_millis(5));
                Ok(None)
            }
            Err(e) => Err(self.error(&e)),
        }
    }

    fn use_wal(&self, patience: &Patience<'_>) -> Result<Option<String>> {
        let until_answered =
            |sql| patience.until_free(|| self.ask_journal_mode(sql), || file::holder(&self.path));
        if until_answered("PRAGMA journal_mode")? == "wal" {
            return Ok(None);
        }
        match until_answered("PRAGMA journal_mode = WAL")?.as_str() {
            "wal" => Ok(Some("journal mode is WAL".into())),
            other => Err(Error::new(
                Kind::Io,
                format!(
                    "{}: the journal mode stays {other}, WAL was refused",
                    self.path.display()
                ),
            )
            .remedy("put the database on a local file system that supports shared memory")),
        }
    }
}

fn read_only(path: &Path, why: &str) -> Error {
    Error::new(Kind::Permission, format!("{}: {why}", path.display())).remedy(
        "run as the owner of the file, and look whether its disk is mounted read-only (`findmnt`)",
    )
}

/// The cts, if there is one, that holds the write lock of the database at the path.
pub fn migrating(path: &Path) -> Option<Holder> {
    file::holder(&file::resolve(path).ok()?).filter(|holder| holder.program == "cts")
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let prepared = |conn: Connection| {
        conn.busy_timeout(BUSY_TIMEOUT)?;
        conn.execute_batch("PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;")?;
        // The first statement that reads the file, and so the first to find a fault.
        conn.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
        Ok(conn)
    };
    let opened = retry_while_busy(|| Connection::open_with_flags(path, flags).and_then(prepared));
    let is_read_only = flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY);
    match opened {
        // WAL needs its shared memory file, which cannot be made in a read-only folder.
        Err(e) if is_read_only && is_unopenable(&e) && !has_wal(path) => connect_immutable(path),
        other => other.map_err(|e| error(path, &e)),
    }
}

/// Opens a file that may be another program's, if possible without leaving a side file.
fn peek(path: &Path) -> Result<Connection> {
    let is_at_rest = ["-wal", "-journal"]
        .iter()
        .all(|suffix| !file::beside(path, suffix).exists());
    if is_at_rest {
        connect_immutable(path)
    } else {
        connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
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

/// Opening reads the header, which another starter may have locked for the moment in which
/// it switches to WAL; that is answered without the busy timeout.
fn retry_while_busy<T>(mut open: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let mut tries = 0;
    loop {
        match open() {
            Err(e) if is_busy(&e) && tries < 100 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

fn has_wal(path: &Path) -> bool {
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

/// Refuses a database that another program made.
fn recognise(conn: &Connection, path: &Path) -> Result<()> {
    let (id, names, ledger) = identify(conn).map_err(|e| error(path, &e))?;
    let tables: Vec<&str> = names.iter().map(String::as_str).collect();
    match id {
        APPLICATION_ID => Ok(()),
        0 if tables.is_empty() || is_cts(&tables, ledger) => Ok(()),
        0 => {
            let some = tables
                .iter()
                .take(3)
                .copied()
                .collect::<Vec<_>>()
                .join(", ");
            let what = format!(
                "{}: is another program's database (it holds {some}, and no table of CTS); it was left as it is",
                path.display()
            );
            Err(Error::new(Kind::Data, what).remedy("set SQLITE_DB_PATH (or --db) to another file"))
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
    let names = names
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let columns: i64 = moment.query_row(
        "SELECT count(*) FROM pragma_table_xinfo('migrations') WHERE name IN ('name', 'executed_at')",
        [],
        |row| row.get(0),
    )?;
    Ok((id.cast_unsigned(), names, columns == 2))
}

fn foreign(path: &Path, id: u32) -> Error {
    let what = format!(
        "{}: is another program's database (its application id is 0x{id:08x}, ours is 0x{APPLICATION_ID:08x}); it was left as it is",
        path.display()
    );
    Error::new(Kind::Data, what).remedy("set SQLITE_DB_PATH (or --db) to another file")
}

impl Store for Sqlite {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    fn schema(&self) -> &'static Schema {
        &SQLITE
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn look(&mut self) -> Result<Look> {
        look(&self.conn, &mut self.known).map_err(|e| error(&self.path, &e))
    }

    fn lock<'s>(&'s mut self, patience: &Patience<'_>) -> Result<Box<dyn Tx + 's>> {
        patience.until_free(
            || match self.conn.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => Ok(Some(())),
                Err(e) if is_busy(&e) => Ok(None),
                Err(e) => Err(self.error(&e)),
            },
            || file::holder(&self.path),
        )?;
        Ok(Box::new(SqliteTx {
            conn: &self.conn,
            path: &self.path,
            known: None,
        }))
    }

    fn try_write(&mut self) -> Result<()> {
        let tried = self.conn.execute_batch(&format!(
            "PRAGMA cache_size = {PROBE_CACHE_PAGES}; BEGIN IMMEDIATE; \
             CREATE TABLE cts_write_probe (x); \
             INSERT INTO cts_write_probe VALUES (zeroblob({PROBE_BYTES}));"
        ));
        let undone = if self.conn.is_autocommit() {
            Ok(())
        } else {
            self.conn.execute_batch("ROLLBACK")
        };
        match tried.and(undone) {
            Err(e) if !is_busy(&e) => Err(self.error(&e)),
            _ => Ok(()),
        }
    }

    fn place(&self) -> Place {
        file::place(&self.path, self.identity)
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        find_damage(&self.conn, &self.path, deep)
    }

    fn settle(&mut self, patience: &Patience<'_>) -> Result<Vec<String>> {
        let mut said: Vec<String> = self.use_wal(patience)?.into_iter().collect();
        said.extend(file::tighten(&self.path, self.access.group));
        Ok(said)
    }

    fn note(&mut self, note: &Note) -> Result<()> {
        write_note(&self.conn, note).map_err(|e| self.error(&e))
    }

    fn close(self: Box<Self>) -> Result<()> {
        if has_wal(&self.path) {
            // Other readers may keep it from being emptied; that is no fault.
            match self
                .conn
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            {
                Err(e) if !is_busy(&e) => return Err(self.error(&e)),
                _ => {}
            }
        }
        let path = self.path;
        self.conn.close().map_err(|(_, e)| error(&path, &e))
    }
}

/// `BEGIN IMMEDIATE` until `COMMIT`; dropped before that, it rolls back.
struct SqliteTx<'s> {
    conn: &'s Connection,
    path: &'s Path,
    known: Option<(i64, Catalog)>,
}

impl SqliteTx<'_> {
    fn run(&self, sql: &str) -> Result<()> {
        self.conn
            .execute_batch(sql)
            .map_err(|e| error(self.path, &e))
    }
}

impl Drop for SqliteTx<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit() {
            // Cannot fail in a way that leaves anything: an open transaction dies with its
            // connection.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }
}

impl Tx for SqliteTx<'_> {
    fn look(&mut self) -> Result<Look> {
        look(self.conn, &mut self.known).map_err(|e| error(self.path, &e))
    }

    fn find_damage(&mut self) -> Result<Damage> {
        find_damage(self.conn, self.path, false)
    }

    fn execute(&mut self, statement: &Statement<'_>) -> Result<Effect> {
        match schema::execute(self.conn, statement) {
            Ok(true) => Ok(Effect::Applied),
            Ok(false) => Ok(Effect::Skipped),
            Err(e) => Err(error(self.path, &e)),
        }
    }

    fn add_column(&mut self, table: &str, column: &Column) -> Result<()> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        self.run(&format!(
            "ALTER TABLE {} ADD COLUMN {} {column}",
            quoted(table),
            quoted(&column.name)
        ))
    }

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        self.run("SAVEPOINT cts_attempt")?;
        let done = work(self);
        // Some errors (a full disk, an interrupt) have rolled everything back already.
        if done.is_err() && !self.conn.is_autocommit() {
            self.run("ROLLBACK TO cts_attempt; RELEASE cts_attempt")?;
            self.known = None;
        } else if done.is_ok() {
            self.run("RELEASE cts_attempt")?;
        }
        done
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        self.conn
            .execute(
                "INSERT INTO migrations (name, checksum, executed_at, execution_time_ms, version) \
                 VALUES (?1, ?2, strftime('%Y-%m-%d %H:%M:%f', 'now'), ?3, ?4)",
                (migration.name, migration.checksum, took, VERSION),
            )
            .map(|_| ())
            .map_err(|e| error(self.path, &e))
    }

    fn note(&mut self, note: &Note) -> Result<()> {
        write_note(self.conn, note).map_err(|e| error(self.path, &e))
    }

    fn commit(self: Box<Self>) -> Result<()> {
        self.run(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        // In rollback mode a commit waits for readers; they are short, but may be many.
        retry_while_busy(|| self.conn.execute_batch("COMMIT")).map_err(|e| error(self.path, &e))
    }
}

fn look(conn: &Connection, known: &mut Option<(i64, Catalog)>) -> rusqlite::Result<Look> {
    // Inside a migration the transaction is open already.
    let own =
        conn.transaction_state(Some("main"))? == TransactionState::None && conn.is_autocommit();
    if own {
        conn.execute_batch("BEGIN")?;
    }
    let found = (|| {
        let version: i64 = conn.query_row("PRAGMA schema_version", [], |row| row.get(0))?;
        if known.as_ref().is_none_or(|(at, _)| *at != version) {
            *known = Some((version, schema::read(conn, Some(SQLITE.expected))?));
        }
        let catalog = known
            .as_ref()
            .map(|(_, catalog)| catalog.clone())
            .unwrap_or_default();
        Ok(Look {
            ledger: ledger(conn, &catalog)?,
            catalog,
        })
    })();
    if own && !conn.is_autocommit() {
        conn.execute_batch("COMMIT")?;
    }
    found
}

/// Reads the ledger, whatever columns it has, and damaged rows too.
fn ledger(conn: &Connection, catalog: &Catalog) -> rusqlite::Result<Vec<Applied>> {
    let Some(table) = catalog.table("migrations") else {
        return Ok(Vec::new());
    };
    let column = |name: &str| {
        let is_there = table.columns.iter().any(|column| column.name == name);
        if is_there {
            name.to_string()
        } else {
            format!("NULL AS {name}")
        }
    };
    let columns = [
        "id",
        "name",
        "checksum",
        "executed_at",
        "execution_time_ms",
        "version",
    ]
    .map(column);
    let mut statement = conn.prepare(&format!(
        "SELECT {}, rowid FROM migrations ORDER BY rowid",
        columns.join(", ")
    ))?;
    let rows = statement.query_map([], |row| {
        Ok(Applied {
            id: integer(row, 0)?.or(integer(row, 6)?).unwrap_or_default(),
            name: words(row, 1)?.unwrap_or_default(),
            checksum: words(row, 2)?,
            executed_at: words(row, 3)?,
            execution_time_ms: integer(row, 4)?,
            version: words(row, 5)?,
        })
    })?;
    rows.collect()
}

fn integer(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<i64>> {
    Ok(match row.get_ref(at)? {
        ValueRef::Integer(value) => Some(value),
        _ => None,
    })
}

fn words(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(at)? {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

fn write_note(conn: &Connection, note: &Note) -> rusqlite::Result<()> {
    conn.execute(
        "INSERT INTO site_logs (level, category, message) VALUES (?1, 'database', ?2)",
        (note.level, &note.message),
    )
    .map(|_| ())
}

fn find_damage(conn: &Connection, path: &Path, deep: bool) -> Result<Damage> {
    let ask = |sql: &str, make: fn(&Row<'_>) -> rusqlite::Result<String>| {
        let rows = conn.prepare(sql).and_then(|mut statement| {
            let rows = statement.query_map([], make)?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        });
        match rows {
            Ok(rows) => Ok(rows.into_iter().filter(|line| line != "ok").collect()),
            Err(e)
                if matches!(
                    e.sqlite_error_code(),
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                ) =>
            {
                Ok(vec![e.to_string()])
            }
            Err(e) => Err(error(path, &e)),
        }
    };
    if !deep {
        return Ok(Damage {
            pages: ask("PRAGMA quick_check(20)", |row| row.get(0))?,
            orphans: Vec::new(),
        });
    }
    Ok(Damage {
        pages: ask("PRAGMA integrity_check(20)", |row| row.get(0))?,
        orphans: ask(
            "SELECT printf('%s: %d rows refer to rows of %s that are gone', \"table\", count(*), parent) \
             FROM pragma_foreign_key_check GROUP BY \"table\", parent",
            |row| row.get(0),
        )?,
    })
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn is_unopenable(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
    )
}

/// An error of SQLite with its kind and remedy, the path first.
fn error(path: &Path, cause: &rusqlite::Error) -> Error {
    use ErrorCode as Code;
    let text = match cause {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let (kind, remedy) = match cause.sqlite_error_code() {
        Some(Code::OperationInterrupted) => return interrupted().at(path.display()),
        Some(Code::DiskFull) => {
            let what = format!(
                "{}: the disk is full ({})",
                path.display(),
                file::room(path, None)
            );
            return Error::new(Kind::Io, what)
                .remedy("free some space on that disk and run it again");
        }
        Some(Code::SystemIoFailure) => (
            Kind::Io,
            "look at the disk (`dmesg`, `df`), then run it again",
        ),
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => (
            Kind::TryAgain,
            "run it again when the other program has finished",
        ),
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => (
            Kind::Data,
            "stop the trading programs, keep a copy of the file, and restore a backup (`cts --check --deep` tells what is damaged)",
        ),
        Some(Code::ReadOnly | Code::PermissionDenied | Code::AuthorizationForStatementDenied) => (
            Kind::Permission,
            "run as the owner of the file, and look whether its disk is mounted read-only",
        ),
        Some(Code::CannotOpen) => (
            Kind::Permission,
            "look at the rights of the file and its folder, or set SQLITE_DB_PATH (or --db) to another file",
        ),
        _ => (Kind::Data, ""),
    };
    let error = Error::new(kind, format!("{}: {text}", path.display()));
    if remedy.is_empty() {
        error
    } else {
        error.remedy(remedy)
    }
}
