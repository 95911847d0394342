//! The free pages of a SQLite file, given back by `incremental_vacuum`.
//!
//! A page costs about 0.03 ms of the write lock, since the last page of the file is moved into the free one, and whatever
//! refers to it is changed (sqlite.org/fileformat2.html, 1.8 "Pointer Map or Ptrmap Pages"). The statement yields after
//! each page, so that a step ends when its time is over, however slow the disk is.

use std::fs;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::is_busy;
use super::file::side_file;
use super::lock::until_unlocked;
use super::running_copy;
use super::{DatabaseFile, Sqlite};
use crate::error::Result;
use crate::store::{FreePages, GiveBack, GivenBack, KeptFree, OpenFreePages, WaitPolicy};

/// Makes the file, while it is empty, one whose free pages can be given back.
pub const MAKE_SHRINKABLE: &str = "PRAGMA auto_vacuum = INCREMENTAL";
/// What `PRAGMA auto_vacuum` says of such a file.
const INCREMENTAL: u32 = 2;

/// Part of the file that is kept free for new rows: a twentieth.
const KEPT_PART: u64 = 20;
/// Bytes that are kept free at least.
const KEPT_BYTES_MIN: u64 = 1 << 20;
/// How many times more must be free before any page is given back.
const BEGIN_FACTOR: u64 = 2;
/// How long pages are moved in a step, at most and at least; the commit comes after it.
const MOVE_TIME_MAX: Duration = Duration::from_millis(5);
const MOVE_TIME_MIN: Duration = Duration::from_micros(250);
/// How long a step should hold the write lock.
const LOCK_TIME_GOAL: Duration = Duration::from_millis(8);
/// Length of the WAL from which on nothing is given back, in bytes. Upkeep resets it before, if it can.
const WAL_BYTES_MAX: u64 = 96 << 20;
/// Cache of the connection in KiB: the pages that are moved are read once.
const CACHE_KIB: u32 = 512;

impl OpenFreePages for DatabaseFile {
    fn open_free_pages(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn GiveBack>>> {
        let store = self.open_beside(wait)?.store;
        let found = free_pages(&store.conn).map_err(|e| store.error(&e))?;
        if !found.can_be_given_back {
            return Ok(None);
        }
        let settings = format!("PRAGMA cache_size = -{CACHE_KIB}");
        store.conn.execute_batch(&settings).map_err(|e| store.error(&e))?;
        Ok(Some(Box::new(ShrinkableFile { store, move_time: MOVE_TIME_MAX, has_begun: false })))
    }
}

/// The free pages of a file.
///
/// # Errors
/// It cannot be read.
pub fn free_pages(conn: &Connection) -> rusqlite::Result<FreePages> {
    let sql = "SELECT freelist_count * page_size, page_count * page_size, auto_vacuum = ?1 \
               FROM pragma_freelist_count, pragma_page_count, pragma_page_size, pragma_auto_vacuum";
    conn.query_row(sql, [INCREMENTAL], |row| {
        Ok(FreePages {
            free_bytes: row.get(0)?,
            total_bytes: row.get(1)?,
            can_be_given_back: row.get(2)?,
        })
    })
}

/// A file whose free pages can be given back.
struct ShrinkableFile {
    store: Sqlite,
    /// How long pages are moved in the next step.
    move_time: Duration,
    /// Whether enough was free to begin, and is not given back yet.
    has_begun: bool,
}

impl ShrinkableFile {
    /// Bytes that can be given back now.
    fn surplus_bytes(&mut self, found: FreePages, kept: KeptFree) -> u64 {
        if kept == KeptFree::Nothing {
            return found.free_bytes;
        }
        let used_bytes = found.total_bytes.saturating_sub(found.free_bytes);
        let kept_bytes = (used_bytes / KEPT_PART).max(KEPT_BYTES_MIN);
        self.has_begun |= found.free_bytes > kept_bytes * BEGIN_FACTOR;
        let surplus = found.free_bytes.saturating_sub(kept_bytes);
        self.has_begun &= surplus > 0;
        if self.has_begun { surplus } else { 0 }
    }

    fn free_pages(&self) -> Result<FreePages> {
        free_pages(&self.store.conn).map_err(|e| self.store.error(&e))
    }

    /// Takes the write lock. Returns whether another program held it.
    fn begin(&mut self, wait: &WaitPolicy<'_>) -> Result<bool> {
        let conn = &self.store.conn;
        let at_once = conn.busy_timeout(Duration::ZERO);
        match at_once.and_then(|()| conn.execute_batch("BEGIN IMMEDIATE")) {
            Ok(()) => Ok(false),
            Err(e) if is_busy(&e) => {
                let begin = || conn.execute_batch("BEGIN IMMEDIATE");
                until_unlocked(&self.store.path, wait, begin).map(|()| true)
            }
            Err(e) => Err(self.store.error(&e)),
        }
    }

    /// Moves pages until the time is over, or so many bytes are given back.
    fn move_pages(&self, bytes_max: u64) -> rusqlite::Result<()> {
        let conn = &self.store.conn;
        let page_bytes: u64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let mut statement =
            conn.prepare(&format!("PRAGMA incremental_vacuum({})", bytes_max / page_bytes))?;
        let (start, mut pages) = (Instant::now(), statement.query([])?);
        while pages.next()?.is_some() && start.elapsed() < self.move_time {}
        Ok(())
    }

    /// Whether the WAL cannot be reset, so that to write more of it would only fill the disk.
    fn is_wal_kept(&self) -> bool {
        let wal = fs::metadata(side_file(&self.store.path, "-wal"));
        wal.is_ok_and(|wal| wal.len() >= WAL_BYTES_MAX)
            || running_copy::is_running(&self.store.path)
    }

    fn adapt(&mut self, lock_held: Duration) {
        let factor = LOCK_TIME_GOAL.as_secs_f64() / lock_held.as_secs_f64().max(1e-6);
        let next = self.move_time.mul_f64(factor.clamp(0.25, 1.25));
        self.move_time = next.clamp(MOVE_TIME_MIN, MOVE_TIME_MAX);
    }
}

impl GiveBack for ShrinkableFile {
    fn give_back(&mut self, kept: KeptFree, wait: &WaitPolicy<'_>) -> Result<GivenBack> {
        let before = self.free_pages()?;
        let surplus = self.surplus_bytes(before, kept);
        if surplus == 0 || self.is_wal_kept() {
            return Ok(GivenBack { left_bytes: surplus, ..GivenBack::default() });
        }
        self.store.refuse_replaced()?;
        let had_to_wait = self.begin(wait)?;
        let start = Instant::now();
        let moved = self.move_pages(surplus).and_then(|()| self.store.conn.execute_batch("COMMIT"));
        let lock_held = start.elapsed();
        if let Err(e) = moved {
            // What was moved is not committed.
            let _ = self.store.conn.execute_batch("ROLLBACK");
            return Err(self.store.error(&e));
        }
        self.adapt(lock_held);
        let after = self.free_pages()?;
        let left_bytes = self.surplus_bytes(after, kept);
        let freed_bytes = before.total_bytes.saturating_sub(after.total_bytes);
        Ok(GivenBack { freed_bytes, left_bytes, lock_held, had_to_wait })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::store::sqlite::FileAccess;
    use crate::store::sqlite::file::APPLICATION_ID;

    /// A file of 8 MiB, all but a part of which is free.
    fn mostly_free(path: &Path, auto_vacuum: &str) -> Connection {
        let conn = Connection::open(path).unwrap();
        let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
                    INSERT INTO users SELECT i, randomblob(4000) FROM n";
        let statements = format!(
            "PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA journal_mode = WAL; PRAGMA application_id = {APPLICATION_ID};
             CREATE TABLE users (id INTEGER PRIMARY KEY, x); {rows}; DELETE FROM users WHERE id % 8;"
        );
        conn.execute_batch(&statements).unwrap();
        conn
    }

    fn give_back_all(path: &Path, kept: KeptFree) -> Option<Vec<GivenBack>> {
        let (never, access) = (Arc::default(), FileAccess::default());
        let wait = WaitPolicy::silent(Duration::from_secs(5), &never);
        let database = DatabaseFile { path: path.into(), access };
        let mut file = database.open_free_pages(&wait).unwrap()?;
        let mut steps = Vec::new();
        loop {
            let step = file.give_back(kept, &wait).unwrap();
            steps.push(step);
            if step.left_bytes == 0 {
                return Some(steps);
            }
            assert!(step.freed_bytes > 0, "{steps:?}");
        }
    }

    #[test]
    fn free_pages_are_given_back_but_for_those_that_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cts.db");
        let conn = mostly_free(&path, "INCREMENTAL");
        let before = free_pages(&conn).unwrap();
        assert!(before.free_bytes > 5 << 20 && before.can_be_given_back, "{before:?}");
        let steps = give_back_all(&path, KeptFree::ForReuse).unwrap();
        let freed: u64 = steps.iter().map(|step| step.freed_bytes).sum();
        let after = free_pages(&conn).unwrap();
        assert_eq!(before.total_bytes - after.total_bytes, freed);
        assert!(after.free_bytes <= KEPT_BYTES_MIN && after.free_bytes > KEPT_BYTES_MIN / 2);
        assert!(steps.len() > 1, "one step holds the lock for a few milliseconds: {steps:?}");
        // Fewer than twice of what is kept are left to those who write.
        assert_eq!(give_back_all(&path, KeptFree::ForReuse).unwrap(), [GivenBack::default()]);
        give_back_all(&path, KeptFree::Nothing).unwrap();
        assert_eq!(free_pages(&conn).unwrap().free_bytes, 0);
        let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        let rows: u64 = conn.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
        assert_eq!((check.as_str(), rows), ("ok", 250));
    }

    #[test]
    fn a_file_that_was_made_without_keeps_its_free_pages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cts.db");
        let conn = mostly_free(&path, "NONE");
        assert!(!free_pages(&conn).unwrap().can_be_given_back);
        assert_eq!(give_back_all(&path, KeptFree::Nothing), None);
    }
}
