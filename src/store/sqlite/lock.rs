//! The write lock of a SQLite database: waiting for it, and which process holds it.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use super::error::{from_sqlite, is_busy};
use super::file::{self, FileIdentity};
use crate::error::Result;
use crate::store::{Holder, WaitPolicy};
use crate::system::process;

/// The byte of the `-shm` file that holds the write lock in WAL mode.
/// (sqlite.org/walformat.html, "WAL Locks": `WAL_WRITE_LOCK`)
pub const WAL_WRITE_LOCK: RangeInclusive<u64> = 120..=120;
/// The bytes of the database file that hold the pending, reserved and shared locks in rollback mode.
/// (sqlite.org/src/file/src/os.h, `PENDING_BYTE`)
pub const ROLLBACK_LOCKS: RangeInclusive<u64> = 0x4000_0000..=0x4000_0000 + 511;

/// Pause between two attempts when SQLite reports at once that the database is locked.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Runs `attempt` until SQLite no longer reports that another process holds a lock. SQLite reports
/// some locks at once, whatever the busy timeout is: that of a change to WAL, and those met during one.
///
/// # Errors
/// What ends the waiting (see [`WaitPolicy::until_unlocked`]), or any other error of `attempt`.
pub fn until_unlocked<T>(
    path: &Path,
    wait: &WaitPolicy<'_>,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> Result<T> {
    let attempt = || match attempt() {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_busy(&e) => {
            std::thread::sleep(RETRY_PAUSE);
            Ok(None)
        }
        Err(e) => Err(from_sqlite(path, &e)),
    };
    wait.until_unlocked(attempt, || holder(path)).map_err(|error| error.at(path.display()))
}

/// The cts process that holds the write lock of the database at the path, if there is one.
pub fn migrating(path: &Path) -> Option<Holder> {
    holder(&file::resolve(path).ok()?).filter(|holder| holder.program == "cts")
}

/// The process that holds the write lock of the database, from `/proc/locks`. `None` if no other
/// process does or it cannot be seen.
pub fn holder(path: &Path) -> Option<Holder> {
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = locking_process(&locks, &file::side_file(path, "-shm"), &WAL_WRITE_LOCK)
        .or_else(|| locking_process(&locks, path, &ROLLBACK_LOCKS))?;
    let program = process::program(pid).unwrap_or_else(|| "a program".into());
    let age = process::started_at(pid).and_then(|start| start.elapsed().ok());
    let since = age.map(|age| format!("which has run for {} s", age.as_secs()));
    Some(Holder { pid, program, is_on_server: false, since })
}

/// The other process that has locked one of these bytes of a file.
fn locking_process(locks: &str, file: &Path, bytes: &RangeInclusive<u64>) -> Option<u32> {
    write_lock(locks, FileIdentity::of(file)?, bytes, std::process::id())
}

/// A lock in `/proc/locks`, as a line shows it (proc(5)).
pub struct LockLine {
    /// The process that holds it. `None` if it cannot be seen from here: the kernel shows 0 for a process
    /// of another PID namespace, and -1 for a lock of an open file description.
    pub pid: Option<u32>,
    /// Whether it excludes all others; else it is shared.
    pub is_write: bool,
    /// The locked bytes of the file.
    pub bytes: RangeInclusive<u64>,
    /// Major and minor number of the device.
    device: (u32, u32),
    inode: u64,
}

impl LockLine {
    fn parse(line: &str) -> Option<LockLine> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, "POSIX" | "OFDLCK", _, access @ ("READ" | "WRITE"), pid, file, start, end] =
            fields[..]
        else {
            return None;
        };
        let mut parts = file.split(':');
        let major = u32::from_str_radix(parts.next()?, 16).ok()?;
        let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
        let inode = parts.next()?.parse().ok()?;
        // The end is `EOF` for a lock of all bytes from the start.
        let bytes = start.parse().ok()?..=end.parse().unwrap_or(u64::MAX);
        let pid = pid.parse().ok().filter(|pid| *pid != 0);
        Some(LockLine { pid, is_write: access == "WRITE", bytes, device: (major, minor), inode })
    }

    /// Whether it covers one of these bytes.
    fn overlaps(&self, bytes: &RangeInclusive<u64>) -> bool {
        self.bytes.start() <= bytes.end() && self.bytes.end() >= bytes.start()
    }
}

/// The locks on some bytes of a file, in the text of `/proc/locks`.
pub fn locks_on(locks: &str, file: FileIdentity, bytes: &RangeInclusive<u64>) -> Vec<LockLine> {
    let device = (rustix::fs::major(file.device), rustix::fs::minor(file.device));
    let is_on_file = |lock: &LockLine| lock.inode == file.inode && lock.overlaps(bytes);
    let mut held: Vec<LockLine> =
        locks.lines().filter_map(LockLine::parse).filter(is_on_file).collect();
    // On some file systems (btrfs, overlayfs) the device is not the one that stat(2) gives.
    if held.iter().any(|lock| lock.device == device) {
        held.retain(|lock| lock.device == device);
    }
    held
}

/// The process, other than `own_pid`, that holds a write lock on one of these bytes of a file.
fn write_lock(
    locks: &str,
    file: FileIdentity,
    bytes: &RangeInclusive<u64>,
    own_pid: u32,
) -> Option<u32> {
    let writers = locks_on(locks, file, bytes).into_iter().filter(|lock| lock.is_write);
    writers.filter_map(|lock| lock.pid).find(|pid| *pid != own_pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  READ 41 fe:00:131 128 128
2: POSIX  ADVISORY  WRITE 42 fe:00:131 120 120
2: -> POSIX  ADVISORY  WRITE 43 fe:00:131 120 120
3: FLOCK  ADVISORY  WRITE 44 fe:00:131 0 EOF
4: POSIX  ADVISORY  WRITE 45 00:2a:132 0 EOF
";

    fn holder(inode: u64, own_pid: u32) -> Option<u32> {
        let device = rustix::fs::makedev(0xfe, 0);
        write_lock(LOCKS, FileIdentity { device, inode }, &WAL_WRITE_LOCK, own_pid)
    }

    #[test]
    fn the_holder_is_the_writer_of_that_byte_of_that_file() {
        assert_eq!(holder(131, 1), Some(42));
        assert_eq!(holder(131, 42), None);
        assert_eq!(holder(133, 1), None);
    }

    #[test]
    fn a_lock_to_the_end_of_a_file_on_another_device_number_is_seen() {
        assert_eq!(holder(132, 1), Some(45));
    }
}
