//! A copy that is being made of a database in WAL mode keeps the WAL from being reset, for as long as it takes. The upkeep
//! of every process has to know: to hold writers up for a reset would be in vain, and no person has to look why the WAL
//! becomes long. A copy is announced by a shared lock of flock(2) on the WAL file, on which SQLite has none. It ends with
//! its process.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::file::side_file;
use super::storage::free_bytes;
use crate::error::{Error, Kind, Result};
use crate::system::file_handle::open_regular;
use crate::system::size::Bytes;

/// How often the lock is tried, which another process holds for a moment when it asks for copies.
const ATTEMPTS: u32 = 20;
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(1);
/// Size of the WAL, in bytes, up to which a copy goes on, of a database that is smaller.
const WAL_BYTES_MAX: u64 = 1 << 30;
/// Free bytes on the disk of the database below which a copy gives up that makes the WAL grow: health is worse from 16 MiB
/// on (`health::verdict`).
const FREE_BYTES_MIN: u64 = 64 << 20;

/// A copy that is being made, of which every process knows as long as this exists.
pub struct RunningCopy(#[expect(dead_code, reason = "closing it releases the lock")] File);

impl RunningCopy {
    /// Announces a copy of the database at the path. `None` where that is not possible: the upkeep takes its read
    /// transaction for that of another program then.
    pub fn announce(path: &Path) -> Option<RunningCopy> {
        let wal = open_wal(path)?;
        for _ in 0..ATTEMPTS {
            match flock(&wal, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Some(RunningCopy(wal)),
                Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
                Err(_) => return None,
            }
        }
        None
    }
}

fn open_wal(path: &Path) -> Option<File> {
    open_regular(&side_file(path, "-wal"), OpenOptions::new().read(true)).ok()
}

/// Whether a copy of the database is being made, by this process or another.
pub fn is_running(path: &Path) -> bool {
    let Some(wal) = open_wal(path) else { return false };
    flock(&wal, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
}

/// Size of the WAL, in bytes, up to which a copy of the database goes on: as large as the database, so that a copy at least
/// as fast as programs write ends, and 1 GiB of a small one.
pub fn wal_bytes_max(path: &Path) -> u64 {
    fs::metadata(path).map_or(WAL_BYTES_MAX, |file| file.len().max(WAL_BYTES_MAX))
}

/// Refuses to go on with a copy for which the WAL has become so long that it would fill the disk.
///
/// # Errors
/// The sizes, and what to do.
pub fn refuse_long_wal(path: &Path) -> Result<()> {
    let wal_bytes = fs::metadata(side_file(path, "-wal")).map_or(0, |wal| wal.len());
    let is_disk_short = || free_bytes(path).is_some_and(|free| free < FREE_BYTES_MIN);
    if wal_bytes < wal_bytes_max(path) && !(wal_bytes >= FREE_BYTES_MIN && is_disk_short()) {
        return Ok(());
    }
    let what = format!(
        "the copy was given up, because programs have written {} to the WAL, which cannot be reset while it is made",
        Bytes(wal_bytes)
    );
    Err(Error::new(Kind::TryAgain, what).at(path.display()).remedy(
        "make the backup on a faster disk (CTS_BACKUP_DIR), or when programs write less; free some space on the disk of the database (`df`)",
    ))
}
