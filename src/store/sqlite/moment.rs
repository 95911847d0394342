//! The database as it was after a capture, and whether one that was restored to that moment is the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};

use super::connect::{connect, interrupt_when};
use super::damage::find_damage;
use super::error::{from_sqlite, is_uncheckable};
use super::file::side_file;
use crate::error::{Error, Kind, Result};
use crate::store::archive::{DatabaseMoment, MomentComparison};
use crate::store::sql::quoted;
use crate::store::{DamageScope, WaitPolicy};

/// How long the live database is read: so long the WAL is kept.
const READ_TIME_MAX: Duration = Duration::from_secs(30);
/// By how much the WAL may become longer meanwhile, in bytes.
const WAL_GROWTH_MAX: u64 = 64 << 20;
/// Rows that are read between two looks at the clock and the WAL.
const ROWS_BETWEEN_LOOKS: u64 = 1024;
/// All tables with pages in the file, those of SQLite too.
const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
/// The definitions of everything, and what the header says of the application.
const DEFINITIONS: &str = "SELECT type, name, tbl_name, sql, \
    (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version) \
    FROM sqlite_schema ORDER BY rowid";

/// Number and digest of the rows of a table, in their order in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RowsDigest {
    rows: u64,
    sha256: [u8; 32],
}

/// The connection that reads the live database.
struct MomentReader {
    conn: Connection,
    /// Dropped after it.
    open: OpenMark,
}

/// Says that a transaction is open until it is dropped.
struct OpenMark(Arc<AtomicBool>);

impl Drop for OpenMark {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The database, held by a read transaction until it is read.
pub struct SqliteMoment {
    path: PathBuf,
    reader: Option<MomentReader>,
    definitions: Option<RowsDigest>,
    /// All tables, in order, with what was read.
    tables: Vec<(String, Option<RowsDigest>)>,
}

impl SqliteMoment {
    /// Opens the connection, which has no transaction yet.
    ///
    /// # Errors
    /// The database cannot be opened, or what ends the waiting for a lock.
    pub fn open(path: &Path, wait: &WaitPolicy<'_>) -> Result<SqliteMoment> {
        let reader = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        let settings = "PRAGMA wal_autocheckpoint = 0";
        reader.query_row(settings, [], |_| Ok(())).map_err(|e| from_sqlite(path, &e))?;
        let open = OpenMark(Arc::new(AtomicBool::new(true)));
        let (path, reader) = (path.to_path_buf(), Some(MomentReader { conn: reader, open }));
        Ok(SqliteMoment { path, reader, definitions: None, tables: Vec::new() })
    }

    /// The connection; `None` once it was read.
    pub fn reader(&self) -> Option<&Connection> {
        self.reader.as_ref().map(|reader| &reader.conn)
    }

    /// Whether its transaction keeps the WAL, now and later; `None` once it was read.
    pub fn keeps_wal(&self) -> Option<Arc<AtomicBool>> {
        self.reader.as_ref().map(|reader| Arc::clone(&reader.open.0))
    }
}

impl DatabaseMoment for SqliteMoment {
    fn read(&mut self, wait: &WaitPolicy<'_>) -> Result<()> {
        let Some(mut reader) = self.reader.take() else { return Ok(()) };
        let conn = &mut reader.conn;
        let failed = |e: rusqlite::Error| stopped_or(wait, from_sqlite(&self.path, &e));
        interrupt_when(conn, wait.cancelled).map_err(failed)?;
        let limit = ReadLimit::of(&self.path, wait.cancelled);
        self.definitions = rows_digest(conn, DEFINITIONS, &limit).map_err(failed)?;
        for table in tables(conn).map_err(failed)? {
            let digest = table_digest(conn, &table, &limit).map_err(failed)?;
            self.tables.push((table, digest));
        }
        Ok(())
    }

    fn compare(&self, restored: &Path, wait: &WaitPolicy<'_>) -> Result<MomentComparison> {
        let mut conn = connect(restored, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        let failed = |e: rusqlite::Error| stopped_or(wait, from_sqlite(restored, &e));
        interrupt_when(&mut conn, wait.cancelled).map_err(failed)?;
        let damage = find_damage(&conn, restored, DamageScope::Everything)
            .map_err(|error| stopped_or(wait, error))?;
        let fault = |what: String| Error::new(Kind::Data, what);
        if let Some(line) = damage.pages.first() {
            return Err(fault(format!("the restored database is damaged: {line}")));
        }
        let all = tables(&conn).map_err(failed)?;
        if !all.iter().eq(self.tables.iter().map(|(table, _)| table)) {
            return Err(fault("the restored database has other tables than the live one".into()));
        }
        let limit = ReadLimit::none(wait.cancelled);
        let definitions = rows_digest(&conn, DEFINITIONS, &limit).map_err(failed)?;
        if self.definitions.is_some() && self.definitions != definitions {
            return Err(fault(
                "the restored database has other definitions than the live one".into(),
            ));
        }
        let mut comparison = MomentComparison { tables: all.len(), compared: 0, rows: 0 };
        for (table, live) in &self.tables {
            let Some(live) = live else { continue };
            let restored = table_digest(&conn, table, &limit).map_err(failed)?;
            if restored != Some(*live) {
                let rows = restored.map_or("rows that cannot be read".into(), |restored| {
                    format!("{} rows", restored.rows)
                });
                return Err(fault(format!(
                    "table {table} of the restored database has {rows} that differ from the {} of the live one",
                    live.rows
                )));
            }
            comparison.compared += 1;
            comparison.rows += live.rows;
        }
        Ok(comparison)
    }
}

/// The error of what was cancelled, or this one.
fn stopped_or(wait: &WaitPolicy<'_>, error: Error) -> Error {
    wait.check_cancelled().err().unwrap_or(error)
}

/// When the reading of a live database ends.
struct ReadLimit {
    deadline: Option<Instant>,
    wal: PathBuf,
    wal_bytes_max: u64,
    cancelled: Arc<AtomicBool>,
}

impl ReadLimit {
    fn of(path: &Path, cancelled: &Arc<AtomicBool>) -> ReadLimit {
        let wal = side_file(path, "-wal");
        ReadLimit {
            deadline: Some(Instant::now() + READ_TIME_MAX),
            wal_bytes_max: length(&wal).saturating_add(WAL_GROWTH_MAX),
            wal,
            cancelled: Arc::clone(cancelled),
        }
    }

    fn none(cancelled: &Arc<AtomicBool>) -> ReadLimit {
        let (wal, cancelled) = (PathBuf::new(), Arc::clone(cancelled));
        ReadLimit { deadline: None, wal, wal_bytes_max: u64::MAX, cancelled }
    }

    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || self.deadline.is_some() && length(&self.wal) > self.wal_bytes_max
            || self.cancelled.load(Ordering::Relaxed)
    }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |file| file.len())
}

fn tables(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    conn.prepare(TABLES)?.query_map([], |row| row.get(0))?.collect()
}

/// `None` where the table was not read to its end, or needs what only another program has: a function, or a collation.
fn table_digest(
    conn: &Connection,
    table: &str,
    limit: &ReadLimit,
) -> rusqlite::Result<Option<RowsDigest>> {
    // An index could have another order of rows that are equal in it.
    match rows_digest(conn, &format!("SELECT * FROM {} NOT INDEXED", quoted(table)), limit) {
        Err(e) if is_uncheckable(&e) => Ok(None),
        digest => digest,
    }
}

/// `None` where the rows were not read to their end.
fn rows_digest(
    conn: &Connection,
    sql: &str,
    limit: &ReadLimit,
) -> rusqlite::Result<Option<RowsDigest>> {
    if limit.is_over() {
        return Ok(None);
    }
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let (mut sha256, mut count, mut rows) = (Sha256::new(), 0, statement.query([])?);
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            add_value(&mut sha256, row.get_ref(column)?);
        }
        count += 1;
        if count % ROWS_BETWEEN_LOOKS == 0 && limit.is_over() {
            return Ok(None);
        }
    }
    Ok(Some(RowsDigest { rows: count, sha256: sha256.finalize().into() }))
}

/// Adds a value as a letter for its type and its bytes, a text or bytes with its length, so that no two rows have one form.
fn add_value(sha256: &mut Sha256, value: ValueRef<'_>) {
    let (letter, bytes): (u8, &[u8]) = match &value {
        ValueRef::Null => (b'0', &[]),
        ValueRef::Integer(number) => (b'i', &number.to_be_bytes()),
        ValueRef::Real(number) => (b'r', &number.to_bits().to_be_bytes()),
        ValueRef::Text(text) => (b's', text),
        ValueRef::Blob(bytes) => (b'x', bytes),
    };
    sha256.update([letter]);
    sha256.update((bytes.len() as u64).to_be_bytes());
    sha256.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_until_a_value_a_row_or_a_definition_differs() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let live = Connection::open(path("live.db")).unwrap();
        live.execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE t (id INTEGER PRIMARY KEY, x); CREATE TABLE empty (y);
             INSERT INTO t VALUES (1, 1), (2, '1'), (3, x'31'), (4, NULL), (5, 1.0)",
        )
        .unwrap();
        let cancelled = Arc::default();
        let wait = WaitPolicy::silent(Duration::from_secs(1), &cancelled);
        let mut moment = SqliteMoment::open(&path("live.db"), &wait).unwrap();
        moment.reader().unwrap().execute_batch("BEGIN; SELECT * FROM t").unwrap();
        live.execute("VACUUM INTO ?1", [path("copy.db").to_str().unwrap()]).unwrap();
        live.execute("DELETE FROM t", []).unwrap();
        let keeps_wal = moment.keeps_wal().unwrap();
        assert!(keeps_wal.load(Ordering::Relaxed));
        moment.read(&wait).unwrap();
        assert!(!keeps_wal.load(Ordering::Relaxed));
        let compared = moment.compare(&path("copy.db"), &wait).unwrap();
        assert_eq!(compared, MomentComparison { tables: 2, compared: 2, rows: 5 });
        for change in [
            "UPDATE t SET x = '1' WHERE id = 1",
            "DELETE FROM t WHERE id = 4",
            "INSERT INTO empty VALUES (1)",
            "CREATE INDEX i ON t (x)",
            "CREATE TABLE more (z)",
            "PRAGMA user_version = 7",
        ] {
            let changed = path("changed.db");
            fs::copy(path("copy.db"), &changed).unwrap();
            Connection::open(&changed).unwrap().execute_batch(change).unwrap();
            let error = moment.compare(&changed, &wait).unwrap_err();
            assert_eq!(error.kind, Kind::Data, "{change}");
        }
    }
}
