//! Checkpoints the WAL in the background, so that no trading program has to do it during a commit, and
//! the WAL stays short.
//!
//! A passive checkpoint copies as many frames as it can and blocks nobody. Once one has copied all
//! frames, the next writer resets the WAL (it writes from its start again), provided that nobody reads
//! the WAL at that moment; but while programs write constantly there is always a newer frame. So a long
//! WAL is checkpointed several times in a row, each time in a moment because few frames are new, until
//! a checkpoint finds no frame that the one before it had not. If that fails for long, a restarting
//! checkpoint makes the next writer reset the WAL. Only that one blocks writers: while it copies,
//! syncs, and waits for readers.
//! (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files")

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::connect::connect;
use super::error::{from_sqlite, is_busy};
use super::file::FileIdentity;
use super::file_error::unreadable;
use crate::error::Result;
use crate::store::{Upkeep, UpkeepTurn, WaitPolicy};

/// Length of the WAL from which on the next writer should reset it, in frames of one page each: 4 MiB,
/// the length at which SQLite checkpoints by itself.
const RESET_FRAMES: i64 = 1000;
/// Length of the WAL from which on writers are blocked to reset it, in frames: 64 MiB.
const RESTART_FRAMES: i64 = 16_384;
/// How often a long WAL is checkpointed in a row. At four hundred commits a second, half of the
/// attempts found no new frame.
const ATTEMPTS: usize = 8;
/// How long writers may be blocked while readers of the old WAL finish.
const BLOCK_WRITERS_MAX: Duration = Duration::from_millis(10);
/// Pause after a turn that found a short WAL.
const IDLE_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a turn that found a long WAL. Each turn copies a page once, however often it was
/// written: a shorter pause copies more pages in all, a longer one more at a time.
const BUSY_PAUSE: Duration = Duration::from_millis(250);

/// A connection that does nothing but checkpoint.
pub struct Checkpointer {
    conn: Connection,
    path: PathBuf,
    /// The file that was opened.
    identity: Option<FileIdentity>,
}

/// Frames of the WAL after a checkpoint.
struct WalFrames {
    /// Frames in the WAL when the checkpoint began.
    total: i64,
    /// Frames of them whose pages are in the database file.
    copied: i64,
}

impl Checkpointer {
    /// Opens its connection.
    ///
    /// # Errors
    /// The database cannot be opened, or what ends the waiting for a lock.
    pub fn open(path: &Path, wait: &WaitPolicy<'_>) -> Result<Checkpointer> {
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        conn.busy_timeout(BLOCK_WRITERS_MAX).map_err(|e| from_sqlite(path, &e))?;
        Ok(Checkpointer { conn, path: path.to_path_buf(), identity: FileIdentity::of(path) })
    }

    /// Whether the file at the path is the one that was opened. If not, the WAL may belong to the other one.
    ///
    /// # Errors
    /// The file system does not say which file it is.
    fn is_in_place(&self) -> Result<bool> {
        let present = FileIdentity::read(&self.path).map_err(|e| unreadable(&self.path, &e))?;
        Ok(present == self.identity)
    }

    /// Runs one checkpoint. `None` if another connection is running one or blocks it.
    fn checkpoint(&self, mode: &str) -> Result<Option<WalFrames>> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let frames = self
            .conn
            .query_row(&sql, [], |row| Ok(WalFrames { total: row.get(1)?, copied: row.get(2)? }));
        match frames {
            // Both are -1 if another connection is running a checkpoint.
            Ok(frames) => Ok((frames.total >= 0).then_some(frames)),
            Err(e) if is_busy(&e) => Ok(None),
            Err(e) => Err(from_sqlite(&self.path, &e)),
        }
    }

    /// Checkpoints until the next writer can reset the WAL. Returns whether the WAL was long; `None` if
    /// another connection ran a checkpoint or blocked this one.
    fn checkpoint_all(&self) -> Result<Option<bool>> {
        let mut total_before = 0;
        for _ in 0..ATTEMPTS {
            let Some(frames) = self.checkpoint("PASSIVE")? else { return Ok(None) };
            if frames.total < RESET_FRAMES {
                return Ok(Some(false));
            }
            if frames.total == total_before && frames.copied == frames.total {
                return Ok(Some(true));
            }
            total_before = frames.total;
        }
        if total_before > RESTART_FRAMES {
            self.checkpoint("RESTART")?;
        }
        Ok(Some(true))
    }
}

impl Upkeep for Checkpointer {
    fn turn(&mut self) -> Result<UpkeepTurn> {
        if !self.is_in_place()? {
            return Ok(UpkeepTurn { pause: IDLE_PAUSE, was_tried: false });
        }
        let was_long = self.checkpoint_all()?;
        let pause = if was_long == Some(true) { BUSY_PAUSE } else { IDLE_PAUSE };
        Ok(UpkeepTurn { pause, was_tried: was_long.is_some() })
    }
}
