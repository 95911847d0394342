//! Copies a database into a file, with SQLite's backup API in steps, while programs write.
//!
//! In WAL mode all steps are in one read transaction, so that the copy is that of one moment and is never begun anew
//! because programs write, and no writer is held up. In another journal mode a read transaction would keep every writer
//! waiting: the lock is held for a step only, and the copy begins anew when a program has written between two steps, which
//! is not tried without end. (sqlite.org/backup.html)

use std::fs::File;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;

use super::at_rest::{RestingState, connect_at_rest, connect_exclusive};
use super::connect::{connect, interrupt_when};
use super::error::from_sqlite;
use super::failed_call::last_errno;
use super::file_error::{cannot_write, disk_full};
use super::open_here::is_open_here;
use super::running_copy::{RunningCopy, refuse_long_wal};
use crate::error::{Error, Kind, Result};
use crate::store::wait::WaitClock;
use crate::store::{LongWork, Progress, WaitPolicy, WaitReason};

/// Bytes that are copied in a step.
const STEP_BYTES: u64 = 1 << 20;
/// How long a step may hold up writers, where it does.
const STEP_TIME: Duration = Duration::from_millis(5);
/// Pages of a step that may hold up writers.
const STEP_PAGES: std::ops::RangeInclusive<i32> = 4..=2048;
/// How often a copy begins anew because programs write.
const RESTARTS_MAX: u32 = 20;
/// Pause before a lock is tried again.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// Bytes after which the disk is told to write what has been copied: at the end little is left to sync, which would hold
/// up the commits of programs on the same disk.
const FLUSH_BYTES: u64 = 8 << 20;
/// Steps between two looks at the length of the WAL.
const STEPS_PER_LOOK: u32 = 16;

/// A copy of the database at `path` into the empty file at `to`.
pub struct Copy<'c> {
    /// The database.
    pub path: &'c Path,
    /// The file.
    pub to: &'c Path,
    /// The same file, open.
    pub file: &'c File,
    /// What ends the work.
    pub wait: &'c WaitPolicy<'c>,
}

/// How the database is read.
struct CopyOrigin {
    conn: Connection,
    /// Its state, if it was opened without locks because no process had it open.
    at_rest: Option<RestingState>,
    journal_mode: String,
    page_bytes: u64,
}

impl Copy<'_> {
    /// Makes it.
    ///
    /// # Errors
    /// The database cannot be read or the file not written; or `wait` was cancelled. What is in the file is of no use then.
    pub fn make(&self) -> Result<()> {
        let state = if is_open_here(self.path) { None } else { RestingState::of(self.path) };
        if let Some(state) = state {
            self.copy(&self.open(Some(state))?)?;
            if RestingState::of(self.path) == Some(state) {
                return Ok(());
            }
            // Another process has opened it meanwhile.
            self.file.set_len(0).map_err(|e| cannot_write(self.to, None, &e))?;
        }
        self.copy(&self.open(None)?)
    }

    fn open(&self, at_rest: Option<RestingState>) -> Result<CopyOrigin> {
        let mut conn = match at_rest {
            Some(state) => connect_at_rest(self.path, state)?,
            None => connect(self.path, OpenFlags::SQLITE_OPEN_READ_ONLY, self.wait)?,
        };
        let failed = |e: rusqlite::Error| from_sqlite(self.path, &e);
        interrupt_when(&mut conn, self.wait.cancelled).map_err(failed)?;
        let journal_mode = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0));
        let page_bytes = conn.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0));
        let (journal_mode, page_bytes) =
            (journal_mode.map_err(failed)?, page_bytes.map_err(failed)?);
        Ok(CopyOrigin { conn, at_rest, journal_mode, page_bytes: page_bytes.into() })
    }

    fn copy(&self, source: &CopyOrigin) -> Result<()> {
        let holds_up_writers = source.at_rest.is_none() && source.journal_mode != "wal";
        let mut running = None;
        if !holds_up_writers {
            let begin = "BEGIN; SELECT count(*) FROM sqlite_schema;";
            source.conn.execute_batch(begin).map_err(|e| from_sqlite(self.path, &e))?;
            running = RunningCopy::announce(self.path);
        }
        let mut target = connect_exclusive(self.to)?;
        // The file is worth nothing before it is complete and synced.
        target
            .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            .map_err(|e| self.failed(&e, 0))?;
        let backup = Backup::new(&source.conn, &mut target).map_err(|e| self.failed(&e, 0))?;
        let steps = Steps { copy: self, source, backup: &backup, holds_up_writers };
        let size_bytes = steps.run()?;
        drop((backup, running));
        target.close().map_err(|(_, e)| self.failed(&e, size_bytes))?;
        // What was reserved beyond the end is given back.
        self.file.set_len(size_bytes).map_err(|e| cannot_write(self.to, Some(size_bytes), &e))
    }

    /// An error of the backup API, which is one of the file that is written where it is of writing.
    fn failed(&self, cause: &rusqlite::Error, size_bytes: u64) -> Error {
        let errno = last_errno();
        match (cause.sqlite_error_code(), errno) {
            (Some(ErrorCode::DiskFull), _) => disk_full(self.to, None, Some(size_bytes)),
            (
                Some(ErrorCode::SystemIoFailure),
                Some(errno @ (Errno::DQUOT | Errno::FBIG | Errno::NOSPC)),
            ) => cannot_write(self.to, Some(size_bytes), &errno.into()),
            (Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase), _) => {
                from_sqlite(self.path, cause)
            }
            _ => from_sqlite(self.to, cause),
        }
    }
}

/// The steps of a copy.
struct Steps<'s> {
    copy: &'s Copy<'s>,
    source: &'s CopyOrigin,
    backup: &'s Backup<'s, 's>,
    holds_up_writers: bool,
}

impl Steps<'_> {
    /// Copies all pages. Returns the size of the copy in bytes.
    fn run(&self) -> Result<u64> {
        let wait = self.copy.wait;
        let mut pages = i32::try_from(STEP_BYTES / self.source.page_bytes).unwrap_or(1).max(1);
        let (mut flushed, mut restarts, mut steps) = (0, 0, 0_u32);
        let (mut before, mut clock) = (None, WaitClock::start());
        loop {
            let start = Instant::now();
            let result = self.backup.step(pages);
            let (done, total) = self.bytes();
            match result.map_err(|e| self.copy.failed(&e, total))? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => {
                    self.await_lock(&mut clock)?;
                    continue;
                }
            }
            clock = WaitClock::start();
            if before.is_some_and(|before| done <= before) {
                restarts += 1;
                self.refuse_restarts(restarts)?;
                flushed = 0;
            }
            if before.is_none() {
                self.reserve(total)?;
            }
            before = Some(done);
            if self.holds_up_writers {
                pages = fitting_pages(pages, start.elapsed());
            }
            (wait.on_progress)(Progress::of_bytes(LongWork::Copying, done, total));
            flushed = self.flush(flushed, done);
            steps += 1;
            if steps.is_multiple_of(STEPS_PER_LOOK) {
                refuse_long_wal(self.copy.path)?;
            }
            wait.check_cancelled()?;
        }
        let (_, total) = self.bytes();
        (wait.on_progress)(Progress::of_bytes(LongWork::Copying, total, total));
        Ok(total)
    }

    /// Bytes that are copied, and all.
    fn bytes(&self) -> (u64, u64) {
        let progress = self.backup.progress();
        let bytes = |pages| u64::try_from(pages).unwrap_or(0) * self.source.page_bytes;
        let total = bytes(progress.pagecount);
        (total.saturating_sub(bytes(progress.remaining)), total)
    }

    /// Has the disk reserve the space of the copy, so that one that is full is met at once. Not every file system can.
    fn reserve(&self, size_bytes: u64) -> Result<()> {
        match fallocate(self.copy.file, FallocateFlags::KEEP_SIZE, 0, size_bytes) {
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                Err(cannot_write(self.copy.to, Some(size_bytes), &e.into()))
            }
            _ => Ok(()),
        }
    }

    /// Has the disk write what was copied since, without waiting for it. Returns up to where.
    fn flush(&self, flushed: u64, done: u64) -> u64 {
        match NonZeroU64::new(done.saturating_sub(flushed)) {
            Some(length) if length.get() >= FLUSH_BYTES => {
                // It is advice. Pages that are not clean are written and stay.
                let _ = fadvise(self.copy.file, flushed, Some(length), Advice::DontNeed);
                done
            }
            _ => flushed,
        }
    }

    fn await_lock(&self, clock: &mut WaitClock) -> Result<()> {
        let wait = self.copy.wait;
        if wait.timeout.is_some_and(|timeout| clock.waited() >= timeout) {
            return Err(Error::new(Kind::TryAgain, "a program keeps it locked")
                .at(self.copy.path.display())
                .remedy(wait.with_setting("let it finish (`fuser -v` on the file names it)")));
        }
        if clock.is_report_due() {
            (wait.on_wait)(&WaitReason::Lock(None), clock.waited());
        }
        wait.pause(LOCK_PAUSE)
    }

    fn refuse_restarts(&self, restarts: u32) -> Result<()> {
        if restarts <= RESTARTS_MAX {
            return Ok(());
        }
        let what = format!(
            "its journal mode is {}, and programs wrote to it {RESTARTS_MAX} times while it was copied, each time making the copy begin anew",
            self.source.journal_mode
        );
        Err(Error::new(Kind::TryAgain, what).at(self.copy.path.display()).remedy(
            "stop the programs for as long as the copy takes, or bring it to WAL mode (`cts migrate`), in which it is copied while they write",
        ))
    }
}

/// The pages of the next step, after one of so many that took so long.
fn fitting_pages(pages: i32, time: Duration) -> i32 {
    let fitting = f64::from(pages) * STEP_TIME.as_secs_f64() / time.as_secs_f64().max(1e-6);
    (fitting.min(f64::from(pages) * 2.0) as i32).clamp(*STEP_PAGES.start(), *STEP_PAGES.end())
}
