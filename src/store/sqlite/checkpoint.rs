//! Checkpoints the WAL in the background, so that no trading program has to do it during a commit, and
//! the WAL stays short.
//!
//! A passive checkpoint copies as many frames as it can and blocks nobody. Once one has copied all
//! frames, the next writer resets the WAL (it writes from its start again), provided that nobody reads
//! the WAL at that moment; but while programs write constantly there is always a newer frame. So a long
//! WAL is checkpointed several times in a row, each time in a moment because few frames are new, until
//! a checkpoint finds no frame that the one before it had not. If the WAL grows further all the same,
//! writers are blocked for a moment by a restarting checkpoint (`wal_reset` decides when and for how
//! long): it takes the write lock, copies what is left, and waits for the readers of the WAL.
//! (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files")
//!
//! A database that Litestream replicates is checkpointed by Litestream (`litestream` tells why). Here its
//! WAL is only written to the disk, and emptied once it is long and Litestream does not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::archive_capture::ArchiveCapture;
use super::archive_thread::{ArchiveThread, SharedCapture};
use super::connect::connect;
use super::error::{from_sqlite, is_busy};
use super::file::{FileIdentity, side_file};
use super::file_error::unreadable;
use super::kept_open::keep_open;
use super::litestream;
use super::overwrite::OverwriteWatch;
use super::running_copy;
use super::storage::overwritten;
use super::wal_file::frame_bytes;
use super::wal_hold::WalHold;
use super::wal_index::WalIndexHeader;
use super::wal_reset::{REMAINDER_BYTES_MAX, RESET_BYTES, ResetPolicy, TRUNCATE_BYTES};
use super::wal_writes;
use super::watched_wal::WatchError;
use crate::error::{Error, Kind, Result};
use crate::store::archive::ArchiveSink;
use crate::store::{Upkeep, UpkeepTurn, WaitPolicy};

/// Size of the frames in the WAL from which on the next writer should reset it, in bytes: about the
/// length at which SQLite checkpoints by itself.
const LONG_BYTES: u64 = 4 << 20;
/// How often a long WAL is checkpointed in a row. At four hundred commits a second, half of the
/// attempts found no new frame.
const ATTEMPTS: usize = 8;
/// How often a checkpoint is tried while another connection runs one, and the pause between.
const CONTENDED_ATTEMPTS: usize = 20;
const CONTENDED_PAUSE: Duration = Duration::from_millis(5);
/// How long the write lock is waited for. This blocks nobody.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two attempts to take a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(1);
/// Pause after a turn that found a short WAL.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a turn that found a long WAL. Each turn copies a page once, however often it was
/// written: a shorter pause copies more pages in all, a longer one more at a time.
const BUSY_PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked in the wal-index, between two turns, whether much was written since: [`LONG_BYTES`], after which
/// the next turn begins. A program that writes as fast as it can was measured to write 250 MiB a second.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// The same while the last look found new frames.
const SHORT_LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How often a part is cut off the file of a WAL that the archive holds and that has become long: programs wait some 20 ms for it.
const CUT_INTERVAL: Duration = Duration::from_secs(2);
/// How long a WAL that was left to Litestream is left to it before Litestream is looked for again.
const LITESTREAM_INTERVAL: Duration = Duration::from_secs(5);

/// A connection that does nothing but checkpoint.
pub struct Checkpointer {
    conn: Connection,
    /// Another one for the archive, which holds the write lock while the first one copies.
    writer: Option<Connection>,
    path: PathBuf,
    /// The file that was opened.
    identity: Option<FileIdentity>,
    /// Size of a page.
    page_bytes: u64,
    reset: ResetPolicy,
    watch: OverwriteWatch,
    /// When the next turn is due at the latest.
    due: Instant,
    /// When the file of a WAL that the archive holds may be cut again.
    next_cut: Instant,
    /// What the wal-index said at the beginning of the last turn, and at the last look.
    at_turn: WalIndexHeader,
    at_look: WalIndexHeader,
    /// Shared with the store, which reports it: set where the file was overwritten in place.
    overwritten: Overwritten,
    /// Shared with the store too: since when readers keep more of the WAL from being copied.
    hold: WalHold,
    /// What is committed goes to the archive, if there is one.
    archive: Option<ArchiveThread>,
}

/// Why the file is no longer the database that was opened, once it was overwritten in place.
pub type Overwritten = Arc<OnceLock<String>>;

/// Frames of the WAL after a checkpoint.
struct WalFrames {
    /// Frames in the WAL when the checkpoint began.
    total: i64,
    /// Frames of them whose pages are in the database file.
    copied: i64,
    /// Whether a lock kept the checkpoint from doing all that its mode asks for.
    is_blocked: bool,
}

impl Checkpointer {
    /// Opens its connection. Where the file is overwritten in place, `overwritten` is set; `hold` is kept up to date.
    ///
    /// # Errors
    /// The database cannot be opened, or what ends the waiting for a lock.
    pub fn open(
        path: &Path,
        overwritten: Overwritten,
        hold: WalHold,
        archive: Option<Box<dyn ArchiveSink>>,
        wait: &WaitPolicy<'_>,
    ) -> Result<Checkpointer> {
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        let open_writer = || connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait);
        let writer = archive.as_ref().map(|_| open_writer()).transpose()?;
        let page_bytes = conn
            .query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0))
            .map_err(|e| from_sqlite(path, &e))?;
        let watch = OverwriteWatch::new(path, u64::from(page_bytes));
        Ok(Checkpointer {
            watch: watch.map_err(|e| unreadable(path, &e))?,
            overwritten,
            hold,
            archive: archive.map(|sink| ArchiveThread::start(path, sink)).transpose()?,
            conn,
            writer,
            path: path.to_path_buf(),
            identity: FileIdentity::of(path),
            page_bytes: u64::from(page_bytes),
            reset: ResetPolicy::new(),
            due: Instant::now(),
            next_cut: Instant::now(),
            at_turn: WalIndexHeader::default(),
            at_look: WalIndexHeader::default(),
        })
    }

    /// Whether the file at the path is the one that was opened. If not, the WAL may belong to the other one.
    ///
    /// # Errors
    /// The file system does not say which file it is.
    fn is_in_place(&self) -> Result<bool> {
        let present = FileIdentity::read(&self.path).map_err(|e| unreadable(&self.path, &e))?;
        Ok(present == self.identity)
    }

    /// Compares the file with what it was before, and remembers it as it is. Returns whether it was overwritten in
    /// place at any time. What a program committed since then belongs to the database before, so that nothing
    /// more is checkpointed.
    fn is_overwritten(&mut self) -> Result<bool> {
        if self.overwritten.get().is_none() {
            let page = self.watch.observe(&self.conn);
            self.report_overwritten(self.unless_busy(page)?.flatten());
        }
        Ok(self.overwritten.get().is_some())
    }

    fn report_overwritten(&self, page: Option<u32>) {
        if let Some(page) = page {
            // The first report stays.
            let _ = self.overwritten.set(overwritten(&self.path, page));
        }
    }

    /// `None` where another connection held a lock.
    fn unless_busy<T>(&self, watched: Result<T, WatchError>) -> Result<Option<T>> {
        match watched {
            Ok(value) => Ok(Some(value)),
            Err(WatchError::Database(e)) if is_busy(&e) => Ok(None),
            Err(WatchError::Database(e)) => Err(from_sqlite(&self.path, &e)),
            Err(WatchError::File(e)) => Err(unreadable(&self.path, &e)),
        }
    }

    /// Runs one checkpoint. `None` if another connection runs one all the time.
    fn checkpoint(&self, mode: &str) -> Result<Option<WalFrames>> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        for _ in 0..CONTENDED_ATTEMPTS {
            let frames = self.conn.query_row(&sql, [], |row| {
                Ok(WalFrames { is_blocked: row.get(0)?, total: row.get(1)?, copied: row.get(2)? })
            });
            match frames {
                // Both numbers are -1 if another connection is running a checkpoint, which blocks this
                // one, and without a WAL.
                Ok(frames) if frames.total >= 0 || !frames.is_blocked => return Ok(Some(frames)),
                Ok(_) => {}
                Err(e) if is_busy(&e) => {}
                Err(e) => return Err(from_sqlite(&self.path, &e)),
            }
            thread::sleep(CONTENDED_PAUSE);
        }
        Ok(None)
    }

    fn bytes(&self, frames: i64) -> u64 {
        u64::try_from(frames).unwrap_or(0) * frame_bytes(self.page_bytes)
    }

    /// Checkpoints without blocking anybody until the next writer can reset the WAL, as far as that is
    /// possible. Returns the frames after the last checkpoint, and whether the next writer can.
    fn checkpoint_passively(&self) -> Result<Option<(WalFrames, bool)>> {
        // While the archive holds the WAL, only a barrier lets the next writer reset it.
        let is_held = self.archive_holds_wal();
        let attempts = if is_held { 1 } else { ATTEMPTS };
        let (mut total_before, mut attempt) = (0, 0);
        loop {
            attempt += 1;
            let Some(frames) = self.checkpoint("PASSIVE")? else { return Ok(None) };
            let size_bytes = self.bytes(frames.total);
            if size_bytes < LONG_BYTES {
                return Ok(Some((frames, true)));
            }
            let is_copied = frames.copied == frames.total;
            if is_copied && frames.total == total_before {
                return Ok(Some((frames, true)));
            }
            // Reads that overlap keep the last frames of such a WAL from being copied for good.
            if attempt == attempts || (!is_copied && size_bytes >= RESET_BYTES) {
                return Ok(Some((frames, false)));
            }
            total_before = frames.total;
        }
    }

    /// Writes to the disk what is in the database and in the WAL, that twice: it need not be written while writers wait, nor
    /// what they have written during the first time.
    fn sync_files(&self) -> Result<()> {
        let wal = side_file(&self.path, "-wal");
        let synced = keep_open(&self.path).and_then(|file| file.sync_data());
        synced.map_err(|e| unreadable(&self.path, &e))?;
        (0..2).try_for_each(|_| wal_writes::sync(&wal)).map_err(|e| unreadable(&wal, &e))
    }

    fn wal_file_bytes(&self) -> u64 {
        fs::metadata(side_file(&self.path, "-wal")).map_or(0, |wal| wal.len())
    }

    /// Whether writers must be blocked to reset the WAL, and may be now.
    fn must_reset(&self, frames: &WalFrames, is_resettable: bool) -> bool {
        !is_resettable
            && self.bytes(frames.total) >= RESET_BYTES
            && self.bytes(frames.total - frames.copied) <= REMAINDER_BYTES_MAX
            && self.reset.is_due(Instant::now())
            // The reset would have to wait for the end of the copy.
            && !running_copy::is_running(&self.path)
    }

    /// Blocks writers until the WAL can be reset, for as long as `wal_reset` allows. Other programs read
    /// meanwhile. The write lock is released at once when the time is over, when `stopping` is set, and
    /// after an error.
    fn reset_wal(&mut self, mode: &str, stopping: &Arc<AtomicBool>) -> Result<()> {
        wait_for_locks(&mut self.conn, &self.path, LOCK_TIMEOUT, stopping)?;
        // A program that holds the write lock for long is no reader that does not end.
        if self.with_write_lock(|| ())?.is_none() {
            return Ok(());
        }
        wait_for_locks(&mut self.conn, &self.path, self.reset.block_max(), stopping)?;
        let began = Instant::now();
        match self.checkpoint(mode)? {
            Some(frames) if !frames.is_blocked => {
                self.reset.succeeded(began.elapsed(), Instant::now());
            }
            Some(_) if !stopping.load(Ordering::Relaxed) => self.reset.failed(Instant::now()),
            _ => {}
        }
        Ok(())
    }

    fn capture(&self) -> Option<&SharedCapture> {
        self.archive.as_ref().map(ArchiveThread::capture)
    }

    fn archive_holds_wal(&self) -> bool {
        self.capture().is_some_and(|capture| capture.hold().holds_wal())
    }

    fn do_not_archive(&self, why: &str) {
        if let Some(capture) = self.capture() {
            capture.hold().leave(Error::new(Kind::Config, why).at(self.path.display()));
        }
    }

    /// Has the next writer begin the WAL anew although the archive holds it: with the write lock, what is committed is captured,
    /// the rest of the WAL is copied, and the readers of the WAL are waited for.
    fn pass_barrier(&mut self, stopping: &Arc<AtomicBool>) -> Result<()> {
        let Some(capture) = self.capture().cloned() else { return Ok(()) };
        // From here to the end its thread waits.
        let mut capture = capture.hold();
        if capture.is_moment_read() || !capture.prepare_barrier() {
            return Ok(());
        }
        // Less is left to copy while writers wait.
        self.checkpoint("PASSIVE")?;
        self.pass_barrier_of(&mut capture, stopping)
    }

    fn pass_barrier_of(
        &mut self,
        archive: &mut ArchiveCapture,
        stopping: &Arc<AtomicBool>,
    ) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        wait_for_locks(writer, &self.path, LOCK_TIMEOUT, stopping)?;
        let Some(writer) = &self.writer else { return Ok(()) };
        let failed = |e: rusqlite::Error| from_sqlite(&self.path, &e);
        match writer.execute_batch("BEGIN IMMEDIATE") {
            Err(e) if is_busy(&e) => return Ok(()),
            begun => begun.map_err(failed)?,
        }
        let began = Instant::now();
        let deadline = began + self.reset.block_max();
        let copies = || {
            while Instant::now() < deadline && !stopping.load(Ordering::Relaxed) {
                let frames = self.checkpoint("PASSIVE")?;
                if frames.is_some_and(|frames| frames.copied == frames.total) {
                    return Ok(());
                }
                thread::sleep(LOCK_PAUSE);
            }
            Ok(())
        };
        let passed = archive.pass_barrier(copies);
        let is_free =
            passed.as_ref().is_ok_and(|passed| *passed) && self.readers_end(deadline, stopping);
        writer.execute_batch("ROLLBACK").map_err(failed)?;
        passed?;
        match is_free {
            true => self.reset.succeeded(began.elapsed(), Instant::now()),
            false => self.reset.failed(Instant::now()),
        }
        Ok(())
    }

    /// Waits until no program reads the WAL. Called with the write lock, and when all of the WAL is copied, so that those that begin now
    /// read the database file alone.
    fn readers_end(&self, deadline: Instant, stopping: &Arc<AtomicBool>) -> bool {
        // Where the file system does not tell, the time for them is not known either.
        while self.watch.has_readers_elsewhere().unwrap_or(false) {
            if Instant::now() >= deadline || stopping.load(Ordering::Relaxed) {
                return false;
            }
            thread::sleep(LOCK_PAUSE);
        }
        true
    }

    /// Runs `work` with the write lock, and releases it; `None` where another program holds it.
    fn with_write_lock<T>(&self, work: impl FnOnce() -> T) -> Result<Option<T>> {
        let failed = |e: rusqlite::Error| from_sqlite(&self.path, &e);
        match self.conn.execute_batch("BEGIN IMMEDIATE") {
            Err(e) if is_busy(&e) => return Ok(None),
            begun => begun.map_err(failed)?,
        }
        let done = work();
        self.conn.execute_batch("ROLLBACK").map_err(failed)?;
        Ok(Some(done))
    }

    /// What is done where Litestream replicates the database: the commits up to now are written to the disk,
    /// and a WAL that is long because Litestream does not run is emptied.
    ///
    /// # Errors
    /// The WAL cannot be written to the disk, or not be emptied.
    fn turn_beside_litestream(&mut self, stopping: &Arc<AtomicBool>) -> Result<Option<WalFrames>> {
        // Its own read transaction keeps the WAL most of the time.
        self.hold.note(None, Instant::now());
        let wal = side_file(&self.path, "-wal");
        wal_writes::sync(&wal).map_err(|e| unreadable(&wal, &e))?;
        let frames = self.checkpoint("NOOP")?;
        let is_long = frames.as_ref().is_some_and(|f| self.bytes(f.total) >= RESET_BYTES);
        if is_long && !running_copy::is_running(&self.path) && self.reset.is_due(Instant::now()) {
            match litestream::may_have_open(&self.path) {
                true => self.reset.postpone(LITESTREAM_INTERVAL, Instant::now()),
                // Emptied, so that Litestream finds no frame of its last position there.
                false => self.reset_wal("TRUNCATE", stopping)?,
            }
        }
        Ok(frames)
    }

    /// What is done otherwise.
    ///
    /// # Errors
    /// A checkpoint fails, or the WAL cannot be written.
    fn turn_alone(&mut self, stopping: &Arc<AtomicBool>) -> Result<Option<WalFrames>> {
        let Some((frames, is_resettable)) = self.checkpoint_passively()? else { return Ok(None) };
        let now = Instant::now();
        self.reset.observe(frames.copied, frames.total, now);
        self.hold.note(self.reset.held_since(), now);
        if self.archive_holds_wal() {
            let is_free = self.reset.is_due(now) && !running_copy::is_running(&self.path);
            if self.bytes(frames.total) >= RESET_BYTES && is_free {
                self.sync_files()?;
                self.pass_barrier(stopping)?;
            }
            if self.wal_file_bytes() >= TRUNCATE_BYTES && now >= self.next_cut {
                self.next_cut = now + CUT_INTERVAL;
                self.cut_wal(stopping)?;
            }
            return Ok(Some(frames));
        }
        if self.must_reset(&frames, is_resettable) {
            self.sync_files()?;
            self.reset_wal("RESTART", stopping)?;
        }
        if self.wal_file_bytes() >= TRUNCATE_BYTES {
            self.shorten_wal(stopping)?;
        }
        Ok(Some(frames))
    }

    /// Shortens the file of a WAL that could not be reset for long: in parts while programs write, which wait for it, and at
    /// once where none has written since the last turn.
    fn shorten_wal(&mut self, stopping: &Arc<AtomicBool>) -> Result<()> {
        if self.at_look.transactions == self.at_turn.transactions {
            let is_free =
                self.reset.is_due(Instant::now()) && !running_copy::is_running(&self.path);
            return if is_free { self.reset_wal("TRUNCATE", stopping) } else { Ok(()) };
        }
        self.cut_wal(stopping)
    }

    /// Cuts a part off the end of the file of the WAL that no frame is in any more.
    fn cut_wal(&mut self, stopping: &Arc<AtomicBool>) -> Result<()> {
        wait_for_locks(&mut self.conn, &self.path, LOCK_TIMEOUT, stopping)?;
        let wal = side_file(&self.path, "-wal");
        let cut = || match self.watch.wal_index_header()? {
            Some(index) => wal_writes::cut(&wal, index.frames, self.page_bytes),
            None => Ok(()),
        };
        self.with_write_lock(cut)?.unwrap_or(Ok(())).map_err(|e| unreadable(&wal, &e))
    }

    /// Whether so much was written since the last turn that the next one is due.
    ///
    /// # Errors
    /// The wal-index cannot be read.
    fn has_grown(&mut self) -> Result<bool> {
        let index = side_file(&self.path, "-shm");
        let header = self.watch.wal_index_header().map_err(|e| unreadable(&index, &e))?;
        let Some(header) = header else { return Ok(false) };
        self.at_look = header;
        // A WAL that was reset has fewer frames.
        let new = header.frames.checked_sub(self.at_turn.frames).unwrap_or(header.frames);
        Ok(new * frame_bytes(self.page_bytes) >= LONG_BYTES)
    }
}

/// Makes the next statement of a connection wait so long for all locks together that it needs.
fn wait_for_locks(
    conn: &mut Connection,
    path: &Path,
    time: Duration,
    stopping: &Arc<AtomicBool>,
) -> Result<()> {
    let (deadline, stopping) = (Instant::now() + time, Arc::clone(stopping));
    let keep_waiting = move |_| {
        thread::sleep(LOCK_PAUSE);
        Instant::now() < deadline && !stopping.load(Ordering::Relaxed)
    };
    conn.busy_handler(Some(keep_waiting)).map_err(|e| from_sqlite(path, &e))
}

impl Drop for Checkpointer {
    /// Compares the file once more, for the store empties the WAL when it is closed after this.
    fn drop(&mut self) {
        drop(self.archive.take());
        // What cannot be read now is met by the store.
        let _ = self.is_overwritten();
    }
}

impl Upkeep for Checkpointer {
    fn turn(&mut self, stopping: &Arc<AtomicBool>) -> Result<UpkeepTurn> {
        let transactions_before = self.at_look.transactions;
        if !self.has_grown()? && Instant::now() < self.due {
            let is_written = self.at_look.transactions != transactions_before;
            let pause = if is_written { SHORT_LOOK_PAUSE } else { LOOK_PAUSE };
            return Ok(UpkeepTurn { pause, was_tried: false });
        }
        let at_begin = self.at_look;
        if !self.is_in_place()? || self.is_overwritten()? {
            self.do_not_archive("the file of the database is another one");
            return Ok(UpkeepTurn { pause: IDLE_PAUSE, was_tried: false });
        }
        let is_replicated = litestream::replicates(&self.conn);
        let frames = match self.unless_busy(is_replicated.map_err(WatchError::Database))? {
            Some(true) => {
                self.do_not_archive(
                    "Litestream replicates this database, and holds its WAL itself",
                );
                self.turn_beside_litestream(stopping)?
            }
            Some(false) => {
                if let Some(capture) = self.capture() {
                    capture.hold().allow();
                }
                self.turn_alone(stopping)?
            }
            None => None,
        };
        let Some(frames) = frames else {
            return Ok(UpkeepTurn { pause: BUSY_PAUSE, was_tried: false });
        };
        self.is_overwritten()?;
        let is_long = self.bytes(frames.total) >= LONG_BYTES;
        self.due = Instant::now() + if is_long { BUSY_PAUSE } else { IDLE_PAUSE };
        self.at_turn = at_begin;
        Ok(UpkeepTurn { pause: SHORT_LOOK_PAUSE, was_tried: true })
    }
}

#[cfg(test)]
mod tests;
