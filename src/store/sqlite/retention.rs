//! Retention on SQLite: short reads by rowid, and short write transactions that delete rows by their ids.
//!
//! A program that finds the write lock taken tries again after 1, 3, 8, 18 ms and so on (`sqliteDefaultBusyCallback` in
//! SQLite's main.c), so how long it waits depends on how long the lock is held, and on the pause that follows: both are
//! decided above. The lock itself is never waited for here.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

use super::beside::OpenBeside;
use super::catalog::text;
use super::error::{is_busy, is_statement_fault};
use super::file::side_file;
use super::lock::until_unlocked;
use super::storage::free_bytes;
use super::wal_hold::known_hold;
use super::{DatabaseFile, Sqlite, litestream, running_copy};
use crate::error::{Error, Kind, Result};
use crate::store::retention::{
    CATEGORY, DeletedBatch, OpenRetention, PROGRAM_ROWS, PROGRAM_TIMES, PrunableRow, PrunableRows,
    PruneRule, RetentionStore, SETTING_KEYS, StoredSetting, WalkSlice,
};
use crate::store::schema::SQLITE;
use crate::store::sql::{insert_site_log, literal};
use crate::store::time_text::{parse_day, parse_moment};
use crate::store::{Moment, SiteLogEntry, WaitPolicy};
use crate::system::size::Bytes;

/// How long the lock is waited for when a record is written.
const RECORD_LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the write lock should be held.
const BATCH_GOAL: Duration = Duration::from_millis(5);
/// Length of the WAL from which on nothing is deleted, in bytes. Upkeep resets it long before (`wal_reset`), if it can.
const WAL_BYTES_MAX: u64 = 128 << 20;
/// Free bytes on the disk below which it must not become longer.
const FREE_BYTES_MIN: u64 = 256 << 20;
/// How long it is waited until it is reset, and the pause between two looks: beside a program that writes all the time it is
/// that long for some seconds.
const WAL_TIMEOUT: Duration = Duration::from_secs(20);
const WAL_PAUSE: Duration = Duration::from_millis(50);
/// Length from which on it is checkpointed, where no upkeep does it: about that at which SQLite does it by itself.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// Rows that are deleted between two readings of the clock.
const ROWS_PER_CLOCK: usize = 16;
/// Cache of the connection in KiB: the pages of the indexes of one table from which rows are deleted.
const CACHE_KIB: u32 = 8 << 10;
const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// A SQLite database that is open for retention.
struct SqliteRetention {
    sqlite: Sqlite,
    cancelled: Arc<AtomicBool>,
    /// Whether it checkpoints what it wrote: nobody else may do it.
    checkpoints: bool,
}

impl OpenRetention for DatabaseFile {
    fn open_retention(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>> {
        let OpenBeside { store: sqlite, has_upkeep } = self.open_beside(wait)?;
        let settings = format!("PRAGMA cache_size = -{CACHE_KIB}");
        sqlite.conn.execute_batch(&settings).map_err(|e| sqlite.error(&e))?;
        sqlite.conn.busy_timeout(Duration::ZERO).map_err(|e| sqlite.error(&e))?;
        // A commit that checkpoints takes long.
        sqlite.leave_checkpoints_to_upkeep()?;
        let is_replicated = litestream::replicates(&sqlite.conn).map_err(|e| sqlite.error(&e))?;
        let checkpoints = !has_upkeep && !is_replicated;
        let cancelled = Arc::clone(wait.cancelled);
        Ok(Box::new(SqliteRetention { sqlite, cancelled, checkpoints }))
    }

    fn read_retention(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>> {
        let sqlite = self.open_existing(wait)?;
        let cancelled = Arc::clone(wait.cancelled);
        Ok(Box::new(SqliteRetention { sqlite, cancelled, checkpoints: false }))
    }
}

impl SqliteRetention {
    fn read<T>(&mut self, read: impl Fn(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.sqlite.read(|own| read(&own.conn).map_err(|e| own.error(&e)))
    }

    fn wal_bytes(&self) -> u64 {
        fs::metadata(side_file(&self.sqlite.path, "-wal")).map_or(0, |wal| wal.len())
    }

    /// Whether the WAL is long and a read has kept it for long, or it would fill the disk. Beside programs that write all the
    /// time it is long now and again, and that is no reason to delete nothing.
    fn is_wal_stuck(&self, bytes: u64) -> bool {
        let path = &self.sqlite.path;
        bytes > WAL_BYTES_MAX
            && (bytes >= running_copy::wal_bytes_max(path)
                || known_hold(path).is_some()
                || free_bytes(path).is_some_and(|free| free < FREE_BYTES_MIN))
    }

    /// Copies the WAL into the file where it is long, as far as that blocks nobody. The next one tries again where it fails.
    fn checkpoint_long_wal(&self) {
        // Litestream may have been started since.
        let is_replicated = || litestream::replicates(&self.sqlite.conn).unwrap_or(true);
        if self.checkpoints && self.wal_bytes() >= CHECKPOINT_BYTES && !is_replicated() {
            let sql = "PRAGMA wal_checkpoint(PASSIVE)";
            let _ = self.sqlite.conn.query_row(sql, [], |_| Ok(()));
        }
    }

    /// Takes the write lock; `None` where another program holds it.
    fn try_lock(&self) -> Result<Option<Rollback<'_>>> {
        self.sqlite.refuse_replaced()?;
        match self.sqlite.conn.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => Ok(Some(Rollback(&self.sqlite.conn))),
            Err(e) if is_busy(&e) => Ok(None),
            Err(e) => Err(self.sqlite.error(&e)),
        }
    }
}

/// An open transaction, which is rolled back unless it was committed.
struct Rollback<'c>(&'c Connection);

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // If this fails, the transaction ends with its connection, uncommitted.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

impl RetentionStore for SqliteRetention {
    fn read_settings(&mut self) -> Result<Vec<StoredSetting>> {
        let keys: Vec<String> = SETTING_KEYS.iter().map(|key| literal(key)).collect();
        let sql = format!(
            "SELECT t.key, t.value, t.category FROM system_settings t WHERE t.key IN ({}) ORDER BY t.key, t.id",
            keys.join(", ")
        );
        self.read(|conn| {
            let mut statement = conn.prepare(&sql)?;
            let rows = statement.query_map([], |row| {
                let value = setting_text(row.get_ref(1)?);
                Ok(StoredSetting { key: row.get(0)?, value, category: text(row.get_ref(2)?) })
            })?;
            rows.collect()
        })
    }

    fn record(&mut self, records: &[StoredSetting], entry: Option<&SiteLogEntry>) -> Result<()> {
        self.sqlite.refuse_replaced()?;
        let wait = WaitPolicy::silent(RECORD_LOCK_TIMEOUT, &self.cancelled);
        let conn = &self.sqlite.conn;
        until_unlocked(&self.sqlite.path, &wait, || conn.execute_batch("BEGIN IMMEDIATE"))?;
        let transaction = Rollback(conn);
        let write = || {
            for StoredSetting { key, value, .. } in records {
                write_record(conn, key, value)?;
            }
            if let Some(entry) = entry {
                conn.execute_batch(&insert_site_log("site_logs", entry))?;
            }
            conn.execute_batch("COMMIT")
        };
        let written = write().map_err(|e| self.sqlite.error(&e));
        drop(transaction);
        written
    }

    fn newest_time(&mut self, until: Moment) -> Result<Option<Moment>> {
        let mut newest: Option<Moment> = None;
        for (table, column, rows) in PROGRAM_TIMES {
            let sql = format!(
                "SELECT {column} FROM {table} t WHERE {rows} ORDER BY t.id DESC LIMIT {PROGRAM_ROWS}"
            );
            let found = self.read(|conn| {
                let mut statement = match conn.prepare(&sql) {
                    Err(e) if is_statement_fault(&e) => return Ok(None),
                    statement => statement?,
                };
                let times = statement.query_map([], |row| Ok(time_of(row.get_ref(0)?)))?;
                let times = times.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten();
                Ok(times.filter(|at| at.0 <= until.0).max_by_key(|at| at.0))
            })?;
            newest = newest.into_iter().chain(found).max_by_key(|at| at.0);
        }
        Ok(newest)
    }

    fn refusal(&mut self, table: &'static str) -> Result<Option<Error>> {
        let referring = self.read(|conn| referring_tables(conn, table))?;
        Ok(referring.first().map(|other| {
            let what = format!("table {other} refers to rows of {table}, so that none is deleted");
            Error::new(Kind::Data, what)
                .at(self.sqlite.path.display())
                .remedy("drop that foreign key, or delete old rows yourself")
        }))
    }

    fn read_slice(&mut self, rule: &PruneRule, after: i64, limit: usize) -> Result<WalkSlice> {
        let rows = rule.rows;
        let sql = format!(
            "SELECT t.id, {}, {} FROM {} t WHERE t.id > ?1 ORDER BY t.id LIMIT ?2",
            rows.time_column(),
            rows.mark(),
            rows.table()
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.read(|conn| {
            let mut slice = WalkSlice::default();
            let mut statement = conn.prepare(&sql)?;
            let mut found = statement.query(params![after, limit])?;
            while let Some(row) = found.next()? {
                let (row, is_readable) = prunable_row(rows, row)?;
                slice.add(rule, row, is_readable);
            }
            Ok(slice)
        })
    }

    fn delete(
        &mut self,
        rows: PrunableRows,
        batch: &[PrunableRow],
        time: Duration,
    ) -> Result<Option<DeletedBatch>> {
        let sql = format!(
            "DELETE FROM {} AS t WHERE t.id = ?1 AND {} IS ?2 AND {} IS ?3",
            rows.table(),
            rows.time_column(),
            rows.mark()
        );
        let mut statement = self.sqlite.conn.prepare(&sql).map_err(|e| self.sqlite.error(&e))?;
        let Some(transaction) = self.try_lock()? else { return Ok(None) };
        let start = Instant::now();
        let mut delete = || {
            let mut done = DeletedBatch::default();
            for row in batch {
                if done.tried % ROWS_PER_CLOCK == 0 && start.elapsed() >= time {
                    break;
                }
                done.tried += 1;
                let deleted = statement.execute(params![row.id, row.written, row.mark])?;
                done.deleted += u64::try_from(deleted).unwrap_or_default();
            }
            transaction.0.execute_batch("COMMIT")?;
            Ok(done)
        };
        let done: rusqlite::Result<DeletedBatch> = delete();
        let lock_held = start.elapsed();
        drop(transaction);
        self.checkpoint_long_wal();
        match done {
            Ok(done) => Ok(Some(DeletedBatch { lock_held, ..done })),
            Err(e) => Err(self.sqlite.error(&e)),
        }
    }

    fn batch_goal(&self) -> Duration {
        BATCH_GOAL
    }

    fn used_bytes(&mut self) -> Result<u64> {
        let sql = "SELECT (page_count - freelist_count) * page_size \
                   FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        self.read(|conn| conn.query_row(sql, [], |row| row.get(0)))
    }

    fn refuse_long_wal(&self) -> Result<()> {
        let path = &self.sqlite.path;
        // Litestream resets it itself, at the latest at 500 MB (truncate-page-n).
        let is_replicated = || litestream::replicates(&self.sqlite.conn).unwrap_or_default();
        let is_cancelled = || self.cancelled.load(Ordering::Relaxed);
        let start = Instant::now();
        let bytes = loop {
            let bytes = self.wal_bytes();
            if !self.is_wal_stuck(bytes) || is_replicated() || is_cancelled() {
                return Ok(());
            }
            if start.elapsed() >= WAL_TIMEOUT {
                break bytes;
            }
            self.checkpoint_long_wal();
            thread::sleep(WAL_PAUSE);
        };
        let what = format!(
            "the WAL is {} long, and what is deleted makes it longer: nothing is deleted until it is reset",
            Bytes(bytes)
        );
        let remedy = "have `cts serve` run, which resets it, and end programs that read for long (`cts doctor` names them)";
        Err(Error::new(Kind::Blocked, what).at(path.display()).remedy(remedy))
    }
}

/// Updates the row of a record, or inserts it. A database of an older CTS may have no unique index on the key.
fn write_record(conn: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    let now = "strftime('%Y-%m-%d %H:%M:%f', 'now')";
    let update =
        format!("UPDATE system_settings SET value = ?2, updated_at = {now} WHERE key = ?1");
    if conn.execute(&update, [key, value])? == 0 {
        let insert = "INSERT INTO system_settings (key, value, category, value_type) VALUES (?1, ?2, ?3, 'string')";
        conn.execute(insert, [key, value, CATEGORY])?;
    }
    Ok(())
}

/// The tables that are not of cts and have a foreign key to this one.
fn referring_tables(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT l.name FROM pragma_table_list l, pragma_foreign_key_list(l.name) f \
               WHERE l.schema = 'main' AND l.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE ORDER BY 1";
    let mut statement = conn.prepare(sql)?;
    let names = statement.query_map([table], |row| row.get::<_, String>(0))?;
    let mut names = names.collect::<rusqlite::Result<Vec<_>>>()?;
    let is_ours = |name: &String| SQLITE.expected.tables.iter().any(|t| t.name == name.as_str());
    names.retain(|name| !is_ours(name));
    Ok(names)
}

/// The value of a setting as a text.
fn setting_text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => format!("{number:?}"),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => {
            let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("x'{}'", digits.concat())
        }
    }
}

/// The time of a value. A number is no time.
fn time_of(value: ValueRef<'_>) -> Option<Moment> {
    match value {
        ValueRef::Text(text) => parse_moment(text).ok(),
        _ => None,
    }
}

/// A row of [`RetentionStore::read_slice`], and whether its time can be read. A number is no time.
fn prunable_row(rows: PrunableRows, row: &Row<'_>) -> rusqlite::Result<(PrunableRow, bool)> {
    let text = match row.get_ref(1)? {
        ValueRef::Text(text) => text,
        _ => &[],
    };
    let at = match rows {
        // Of a day, its end.
        PrunableRows::Days => {
            parse_day(text).map(|day| Moment((i64::from(day.0) + 1) * MICROSECONDS_PER_DAY))
        }
        _ => parse_moment(text),
    };
    let is_readable = at.is_ok();
    let row = PrunableRow {
        id: row.get(0)?,
        at: at.unwrap_or(Moment(0)),
        // A text that is a time is ASCII.
        written: String::from_utf8_lossy(text).into_owned(),
        mark: row.get(2)?,
    };
    Ok((row, is_readable))
}
