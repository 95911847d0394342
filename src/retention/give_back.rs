//! Giving the pages of deleted rows back to the file system, bit by bit, while programs write.

use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::store::{Database, KeptFree, WaitPolicy};

/// The pause after a step, as a multiple of the time for which it held the write lock, and at least.
const PAUSE_FACTOR: u32 = 2;
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// How long it is waited until pages can be given back, where the WAL has become long.
const STALL_MAX: Duration = Duration::from_secs(5);
/// The pause where another program held the lock, or the WAL is long.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Gives back what programs do not soon need, for `time` at most. Returns how many bytes the database is shorter.
///
/// # Errors
/// Where the database cannot be opened or written. What was given back before remains so. That another program holds the
/// lock is none.
pub fn give_back(
    database: &dyn Database,
    kept: KeptFree,
    time: Duration,
    wait: &WaitPolicy<'_>,
) -> Result<u64> {
    let Some(mut file) = database.open_free_pages(wait)? else { return Ok(0) };
    let (start, mut freed_bytes, mut stalled_at) = (Instant::now(), 0, None);
    while start.elapsed() < time {
        let step = match file.give_back(kept, wait) {
            Err(Error { kind: Kind::TryAgain, .. }) => break,
            step => step?,
        };
        freed_bytes += step.freed_bytes;
        if step.left_bytes == 0 {
            break;
        }
        if step.freed_bytes == 0 {
            // The WAL has to be reset first.
            if stalled_at.get_or_insert_with(Instant::now).elapsed() >= STALL_MAX {
                break;
            }
            wait.pause(BUSY_PAUSE)?;
            continue;
        }
        stalled_at = None;
        let pause = if step.had_to_wait { BUSY_PAUSE } else { step.lock_held * PAUSE_FACTOR };
        wait.pause(pause.max(PAUSE_MIN))?;
    }
    Ok(freed_bytes)
}
