//! Measures the file and the tables of a database that programs write. A read transaction keeps the WAL from being
//! reset, so rows are counted by ranges of rowids, each in a transaction of its own that is ended after some
//! milliseconds; what cannot be counted so is estimated, or not known.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row};

use super::catalog::text;
use super::connect::{connect, interrupted_when};
use super::database::DatabaseFile;
use super::error::{from_sqlite, is_interrupted};
use super::file::{self, side_file};
use super::file_error::unreadable;
use super::open_here::is_open_here;
use crate::error::{Error, Kind, Result};
use crate::store::schema::SQLITE;
use crate::store::sql::{EXCEPTIONS_TABLE, quoted};
use crate::store::{
    Database, DatabaseSizes, Measure, MeasuredTables, OTHER_TABLES_MAX, TableFigures, WaitPolicy,
};

/// Two calls of stat(2).
const SIZES_INTERVAL: Duration = Duration::from_secs(10);
/// How long a lock is waited for when the connection is opened.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// After so long a range is given up: the longest read transaction.
const RANGE_TIMEOUT: Duration = Duration::from_millis(15);
/// How long a range should take, by which the next one is made longer or shorter.
const RANGE_GOAL: Duration = Duration::from_millis(5);
/// Rows of the first range of a table, and of the shortest and the longest one.
const RANGE_ROWS_FIRST: u64 = 2_000;
const RANGE_ROWS_MIN: u64 = 50;
const RANGE_ROWS_MAX: u64 = 100_000;
/// Pause between two ranges: the processor is that of the trading programs for four fifths of the time.
const RANGE_PAUSE: Duration = Duration::from_millis(20);
/// How long the rows of one table are counted, and those of all; then they are estimated.
const TABLE_BUDGET: Duration = Duration::from_millis(1_000);
const BUDGET: Duration = Duration::from_secs(5);
/// Bytes of the name of a table that is measured, at most; every answer holds the names.
const NAME_BYTES_MAX: usize = 200;
/// Cache of the connection in KiB. The pages that it reads are read once.
const CACHE_KIB: u32 = 256;

impl Measure for DatabaseFile {
    fn sizes_interval(&self) -> Duration {
        SIZES_INTERVAL
    }

    fn measure_sizes(&self, _: &Arc<AtomicBool>) -> Result<DatabaseSizes> {
        let path = file::resolve(&self.path)?;
        let wal = side_file(&path, "-wal");
        let wal_bytes = match size(&wal) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
            found => found,
        };
        Ok(DatabaseSizes {
            database_bytes: Some(size(&path).map_err(|e| unreadable(&path, &e))?),
            wal_bytes: Some(wal_bytes.map_err(|e| unreadable(&wal, &e))?),
            certificate_ends_at: None,
        })
    }

    fn measure_tables(&self, stopping: &Arc<AtomicBool>) -> Result<MeasuredTables> {
        let path = file::resolve(&self.path)?;
        // Opening another file than the one that the service has open would read it with the WAL of that one.
        if !is_open_here(&path) {
            let what = "is not the file that this process has open";
            return Err(Error::new(Kind::Io, what).at(self.identity().location));
        }
        let wait = WaitPolicy::silent(LOCK_TIMEOUT, stopping);
        let mut conn = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, &wait)?;
        measure(&mut conn, stopping).map_err(|e| from_sqlite(&path, &e))
    }
}

fn size(path: &Path) -> std::io::Result<u64> {
    fs::metadata(path).map(|found| found.len())
}

/// A table, and how its rows can be counted.
struct CountedTable {
    name: String,
    is_ours: bool,
    /// A name of its rowid that none of its columns has.
    rowid: Option<&'static str>,
}

fn measure(conn: &mut Connection, stopping: &Arc<AtomicBool>) -> rusqlite::Result<MeasuredTables> {
    conn.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB}"))?;
    let (tables, omitted) = tables(conn)?;
    let mut counter = RowCounter { conn, stopping, spent: Duration::ZERO };
    let mut measured = Vec::with_capacity(tables.len());
    for table in tables {
        // A table that went meanwhile, or cannot be read, says nothing of the others.
        let (rows, is_exact) = counter.count(&table).unwrap_or_default();
        let CountedTable { name, is_ours, .. } = table;
        measured.push(TableFigures { name, rows, is_exact, size_bytes: None, is_ours });
    }
    Ok(MeasuredTables { tables: measured, omitted })
}

/// The tables to measure, those of cts first, and how many others are left out. Virtual tables and the tables that
/// they keep their content in are none: what reading them costs depends on their module.
fn tables(conn: &Connection) -> rusqlite::Result<(Vec<CountedTable>, usize)> {
    let is_ours =
        |name: &str| SQLITE.expected.tables.iter().any(|t| t.name.eq_ignore_ascii_case(name));
    // A name that is no UTF-8 is shown with replacement characters, and cannot be counted by.
    let name = |row: &Row<'_>| row.get_ref(0).map(|name| text(name).unwrap_or_default());
    let mut statement = conn.prepare(
        "SELECT name, wr FROM pragma_table_list \
         WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
    )?;
    let found = statement.query_map([], |row| Ok((name(row)?, row.get(1)?)))?;
    let mut found: Vec<(String, bool)> = found.collect::<rusqlite::Result<_>>()?;
    // The table in which cts keeps its own records is neither of its 24 nor another program's.
    found.retain(|(name, _)| !name.eq_ignore_ascii_case(EXCEPTIONS_TABLE));
    let all = found.len();
    found.dedup_by(|a, b| a.0 == b.0);
    found.retain(|(name, _)| name.len() <= NAME_BYTES_MAX);
    found.sort_by_key(|(name, _)| !is_ours(name));
    let ours = found.iter().filter(|(name, _)| is_ours(name)).count();
    found.truncate(ours + OTHER_TABLES_MAX);
    let omitted = all - found.len();
    let table = |(name, without_rowid): (String, bool)| {
        let rowid = if without_rowid { None } else { rowid_name(conn, &name)? };
        Ok(CountedTable { is_ours: is_ours(&name), name, rowid })
    };
    Ok((found.into_iter().map(table).collect::<rusqlite::Result<_>>()?, omitted))
}

/// The name by which the rowid of a table can be read. (sqlite.org/rowidtable.html)
fn rowid_name(conn: &Connection, table: &str) -> rusqlite::Result<Option<&'static str>> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_xinfo(?1) WHERE name = ?2 COLLATE NOCASE)";
    for name in ["rowid", "_rowid_", "oid"] {
        if !conn.query_row(sql, [table, name], |row| row.get::<_, bool>(0))? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Counts rows within the budgets.
struct RowCounter<'c> {
    conn: &'c mut Connection,
    stopping: &'c Arc<AtomicBool>,
    /// The time that was spent on reading.
    spent: Duration,
}

/// The rows of one range.
struct CountedRange {
    rows: u64,
    /// The highest rowid of them; `None` where there is none.
    last: Option<i64>,
}

impl RowCounter<'_> {
    /// The rows of a table, and whether all were counted.
    fn count(&mut self, table: &CountedTable) -> rusqlite::Result<(Option<u64>, bool)> {
        let Some(rowid) = table.rowid else { return self.count_at_once(&table.name) };
        let budget = (self.spent + TABLE_BUDGET).min(BUDGET);
        let name = quoted(&table.name);
        let sql = format!(
            "SELECT count(*), max(id) FROM (SELECT {rowid} AS id FROM {name} NOT INDEXED WHERE {rowid} > ?1 ORDER BY {rowid} LIMIT ?2)"
        );
        // No row of a table of AUTOINCREMENT or of the default has the least rowid of all.
        let (mut total, mut last, mut limit) = (0_u64, i64::MIN, RANGE_ROWS_FIRST);
        let mut first = None;
        loop {
            let start = Instant::now();
            let range = self.within_timeout(|conn| {
                conn.query_row(&sql, (last, limit), |row| {
                    Ok(CountedRange { rows: row.get(0)?, last: row.get(1)? })
                })
            })?;
            let took = start.elapsed();
            match range {
                // The disk is slow: fewer rows, or none at all.
                None if limit > RANGE_ROWS_MIN => limit = (limit / 4).max(RANGE_ROWS_MIN),
                None => return Ok((self.extrapolate(rowid, &name, total, first, last), false)),
                Some(CountedRange { rows, last: reached }) => {
                    total += rows;
                    if rows < limit {
                        return Ok((Some(total), true));
                    }
                    last = reached.unwrap_or(i64::MAX);
                    first = first.or(Some(last));
                    limit = next_limit(limit, took);
                }
            }
            if self.spent >= budget || self.stopping.load(Ordering::Relaxed) {
                return Ok((self.extrapolate(rowid, &name, total, first, last), false));
            }
            thread::sleep(RANGE_PAUSE);
        }
    }

    /// The rows of a table without rowid, if one short transaction can count them; else as many as ANALYZE found.
    fn count_at_once(&mut self, table: &str) -> rusqlite::Result<(Option<u64>, bool)> {
        let sql = format!("SELECT count(*) FROM {}", quoted(table));
        let counted = self.within_timeout(|conn| conn.query_row(&sql, [], |row| row.get(0)))?;
        if counted.is_some() {
            return Ok((counted, true));
        }
        // The first number is that of the rows. (sqlite.org/fileformat2.html, 2.6.4)
        let sql = "SELECT stat FROM sqlite_stat1 WHERE tbl = ?1 COLLATE NOCASE LIMIT 1";
        let found = self.conn.query_row(sql, [table], |row| row.get::<_, String>(0)).optional();
        let analysed = found.ok().flatten();
        let rows = analysed.and_then(|stat| stat.split(' ').next()?.parse().ok());
        Ok((rows, false))
    }

    /// The number of rows if those that were not reached lie as densely as those that were. `None` where none were.
    fn extrapolate(
        &mut self,
        rowid: &str,
        table: &str,
        counted: u64,
        first: Option<i64>,
        last: i64,
    ) -> Option<u64> {
        first?;
        // One query for both would read every row. (sqlite.org/optoverview.html, "The MIN/MAX Optimization")
        let least = format!("SELECT min({rowid}) FROM {table}");
        let highest = format!("SELECT max({rowid}) FROM {table}");
        let ends = self.within_timeout(|conn| {
            let end = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
            Ok((end(&least)?, end(&highest)?))
        });
        let (least, highest) = ends.ok().flatten()?;
        let span = |from: i64, to: i64| (i128::from(to) - i128::from(from) + 1).max(1) as f64;
        let share = span(least, last) / span(least, highest.max(last));
        Some((counted as f64 / share).round() as u64)
    }

    /// Runs a query that is given up after [`RANGE_TIMEOUT`]; `None` then. The time is added to what was spent.
    fn within_timeout<T>(
        &mut self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let start = Instant::now();
        let stopping = Arc::clone(self.stopping);
        let is_over = move || start.elapsed() >= RANGE_TIMEOUT || stopping.load(Ordering::Relaxed);
        let result = interrupted_when(self.conn, is_over, query);
        self.spent += start.elapsed();
        match result {
            Err(error) if is_interrupted(&error) => Ok(None),
            other => other.map(Some),
        }
    }
}

/// The rows of the next range, after one that took so long.
fn next_limit(limit: u64, took: Duration) -> u64 {
    let factor = RANGE_GOAL.as_secs_f64() / took.as_secs_f64().max(1e-6);
    let next = limit as f64 * factor.clamp(0.25, 4.0);
    (next as u64).clamp(RANGE_ROWS_MIN, RANGE_ROWS_MAX)
}
