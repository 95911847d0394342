//! Checkpoints the WAL in the background, so that no trading program has to stop for it in
//! the middle of a commit, and the WAL stays short.
//!
//! A passive checkpoint copies what it can and disturbs nobody. Once one has copied all there
//! is, the next writer begins the WAL anew by itself, provided that nobody reads it at that
//! moment; but under constant writing there is always a newer frame. So a long WAL is copied
//! again and again, each time in a moment because little is new, until one finds nothing that
//! the one before had not. Should that fail for long, a restarting checkpoint makes the next
//! writer begin anew. It alone holds writers up: while it copies, syncs, and waits for readers.
//! (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files")

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::connect::connect;
use super::error::{error, is_busy};
use super::file;
use crate::error::Result;
use crate::store::{Upkeep, WaitPolicy};

/// Frames, of a page each, from which on a writer should begin the WAL anew: 4 MiB, as many as
/// SQLite lets pile up by itself.
const LONG: i64 = 1000;
/// How often a long WAL is copied at once. Half of the attempts found nothing new, at four
/// hundred commits a second.
const ATTEMPTS: usize = 8;
/// Frames from which on writers are held up for it: 64 MiB.
const TOO_LONG: i64 = 16_384;
/// How long writers may be held up while readers of the old WAL finish.
const HOLD_UP: Duration = Duration::from_millis(10);
/// Until the next turn, where little was written.
const IDLE: Duration = Duration::from_secs(1);
/// Until the next turn after a long WAL. Each turn copies a page once, however often it was
/// written: a shorter pause copies more, a longer one takes longer at a time.
const BUSY: Duration = Duration::from_millis(250);

/// A connection that does nothing but checkpoint.
pub struct Checkpointer {
    conn: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Checkpointer {
    /// Opens its connection.
    pub fn open(path: &Path, wait: &WaitPolicy<'_>) -> Result<Checkpointer> {
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
        conn.busy_timeout(HOLD_UP).map_err(|e| error(path, &e))?;
        Ok(Checkpointer { conn, path: path.to_path_buf(), identity: file::identity(path) })
    }

    /// Frames in the WAL when it began, and how many of them are in the database when it ends;
    /// none where somebody else is at it.
    fn checkpoint(&self, mode: &str) -> Result<(i64, i64)> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        match self.conn.query_row(&sql, [], |row| Ok((row.get(1)?, row.get(2)?))) {
            Err(e) if is_busy(&e) => Ok((0, 0)),
            other => other.map_err(|e| error(&self.path, &e)),
        }
    }

    /// Returns how long the WAL was.
    fn copy_all(&self) -> Result<i64> {
        let mut before = 0;
        for _ in 0..ATTEMPTS {
            let (frames, copied) = self.checkpoint("PASSIVE")?;
            if frames < LONG || (frames == before && copied == frames) {
                return Ok(frames);
            }
            before = frames;
        }
        if before > TOO_LONG {
            self.checkpoint("RESTART")?;
        }
        Ok(before)
    }
}

impl Upkeep for Checkpointer {
    fn turn(&mut self) -> Result<Duration> {
        if file::identity(&self.path) != self.identity {
            // The WAL may belong to the file that is there now.
            return Ok(IDLE);
        }
        Ok(if self.copy_all()? < LONG { IDLE } else { BUSY })
    }
}
