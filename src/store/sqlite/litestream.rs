//! Litestream, a program that replicates a database by copying its WAL (docs/litestream.md).
//!
//! It remembers how far it has copied, and keeps the WAL from being reset by a read transaction, except
//! during its own checkpoints. While it does not run, nothing keeps the WAL. If another program copies all
//! frames into the database file then, and the next writer resets the WAL, the frame at which Litestream
//! stopped may still be there behind the new ones. Litestream takes that for a WAL that was reset exactly
//! there: the frames in between are missing in the replica, which is restored as a damaged database. It
//! notices a WAL file that was emptied, and begins with a snapshot. (`verify` in Litestream's db.go, 0.5.17)

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use rusqlite::Connection;

use super::file::{FileIdentity, side_file};
use super::lock::locks_on;
use crate::system::process;

/// What is said of a database that it replicates, after the path.
pub const LEFT_TO_IT: &str = "has the tables of Litestream: checkpoints are left to it";

/// Whether the database has the table that Litestream makes for each of its checkpoints to write into.
///
/// # Errors
/// The database cannot be read.
pub fn replicates(conn: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_litestream_seq')";
    conn.query_row(sql, [], |row| row.get(0))
}

/// The bytes of the `-shm` file that are locked. A process that has the file open holds the last one.
/// (sqlite.org/walformat.html, "WAL Locks"; `UNIX_SHM_DMS` in os_unix.c)
const SHARED_MEMORY_LOCKS: RangeInclusive<u64> = 120..=128;

/// Whether Litestream has the database open, or a program that cannot be seen from here. It is taken to have
/// it open where the locks of other processes cannot be read.
pub fn may_have_open(path: &Path) -> bool {
    let shared_memory = FileIdentity::of(&side_file(path, "-shm"));
    let (Some(file), Ok(locks)) = (shared_memory, fs::read_to_string("/proc/locks")) else {
        return true;
    };
    locks_on(&locks, file, &SHARED_MEMORY_LOCKS)
        .into_iter()
        .any(|lock| lock.pid.and_then(is_program).unwrap_or(true))
}

/// Whether a process is Litestream; `None` if it cannot be seen.
pub fn is_program(pid: u32) -> Option<bool> {
    process::program(pid).map(|program| program == "litestream")
}
