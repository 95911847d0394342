//! Checkpoints the WAL in the background, so that no trading program has to stop for it in
//! the middle of a commit, and the WAL stays short.
//!
//! A passive checkpoint copies what it can and disturbs nobody, but under constant writing
//! there is always a newer frame, so the WAL would grow for ever. Once it is long, a
//! restarting checkpoint, right after a passive one has left it little to copy, makes the
//! next writer begin at its start again. It holds writers up while it waits for readers, so
//! it waits only for moments. (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files")

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::{error, is_busy};
use super::file;
use super::open::connect;
use crate::error::Result;
use crate::store::{Patience, Upkeep};

/// Frames, of a page each, beyond which the WAL is begun anew: 16 MiB.
const LONG: i64 = 4096;
/// How long writers may be held up while readers of the old WAL finish.
const HOLD_UP: Duration = Duration::from_millis(10);

/// A connection that does nothing but checkpoint.
pub struct Checkpointer {
    conn: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Checkpointer {
    /// Opens its connection.
    pub fn open(path: &Path, patience: &Patience<'_>) -> Result<Checkpointer> {
        let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, patience)?;
        conn.busy_timeout(HOLD_UP).map_err(|e| error(path, &e))?;
        Ok(Checkpointer { conn, path: path.to_path_buf(), identity: file::identity(path) })
    }

    /// Frames in the WAL; 0 where somebody else is at it.
    fn checkpoint(&self, mode: &str) -> Result<i64> {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        match self.conn.query_row(&sql, [], |row| row.get(1)) {
            Err(e) if is_busy(&e) => Ok(0),
            other => other.map_err(|e| error(&self.path, &e)),
        }
    }
}

impl Upkeep for Checkpointer {
    fn turn(&mut self) -> Result<()> {
        if file::identity(&self.path) != self.identity {
            // The WAL may belong to the file that is there now.
            return Ok(());
        }
        if self.checkpoint("PASSIVE")? > LONG {
            self.checkpoint("RESTART")?;
        }
        Ok(())
    }
}
