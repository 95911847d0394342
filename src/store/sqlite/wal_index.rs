//! The header of the wal-index (the `-shm` file) of a database that this process has open, read without SQLite.
//!
//! (sqlite.org/walformat.html, 2.1 "The WAL-Index Header"; `WalIndexHdr` in wal.c)

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::file::side_file;
use super::kept_open::keep_open;

/// Size of one of the two copies of the header, in bytes.
const HEADER_BYTES: usize = 48;
/// Offset of `iChange`.
const TRANSACTIONS_AT: usize = 8;
/// Offset of `mxFrame`.
const FRAMES_AT: usize = 16;
/// Offset of `aSalt`.
const SALTS_AT: usize = 32;
/// The bytes that readers of the WAL lock: those of the marks 1 to 4. (`UNIX_SHM_BASE` in os_unix.c, `WAL_READ_LOCK` in wal.c)
const READER_LOCKS: std::ops::Range<u64> = 124..128;
/// How often a header is read while a program writes it.
const ATTEMPTS: usize = 10;

/// The open file.
pub struct WalIndex {
    file: &'static File,
}

/// What the header says of the last committed transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalIndexHeader {
    /// Counts transactions, from one generation of the WAL to the next too.
    pub transactions: u32,
    /// Frames of this generation up to the end of the transaction.
    pub frames: u64,
    /// The random numbers of this generation, as they stand in the header of the WAL.
    pub salts: [u8; 8],
}

impl WalIndex {
    /// Opens it. `None` where there is none, since no connection has used the WAL.
    ///
    /// # Errors
    /// It cannot be opened, or is not a regular file.
    pub fn open(database: &Path) -> io::Result<Option<WalIndex>> {
        match keep_open(&side_file(database, "-shm")) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            file => Ok(Some(WalIndex { file: file? })),
        }
    }

    /// Whether another process reads the WAL, by its locks. Those of this process are not seen.
    ///
    /// # Errors
    /// The file system does not tell.
    pub fn has_readers_elsewhere(&self) -> io::Result<bool> {
        let lock = Flock {
            start: READER_LOCKS.start,
            length: READER_LOCKS.end - READER_LOCKS.start,
            pid: None,
            typ: FlockType::WriteLock,
            offset_type: FlockOffsetType::Set,
        };
        Ok(fcntl_getlk(self.file, &lock)?.is_some())
    }

    /// Reads the header. `None` where its two copies differ at each attempt, as they do while a program
    /// commits.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn header(&self) -> io::Result<Option<WalIndexHeader>> {
        let mut copies = [0; 2 * HEADER_BYTES];
        for _ in 0..ATTEMPTS {
            self.file.read_exact_at(&mut copies, 0)?;
            let (first, second) = copies.split_at(HEADER_BYTES);
            if first == second {
                let [transactions, frames] = [TRANSACTIONS_AT, FRAMES_AT].map(|at| word(first, at));
                let salts = first.get(SALTS_AT..).and_then(|rest| rest.first_chunk());
                let salts = salts.copied().unwrap_or_default();
                let frames = u64::from(frames);
                return Ok(Some(WalIndexHeader { transactions, frames, salts }));
            }
        }
        Ok(None)
    }
}

/// The number at an offset, in the byte order of the machine; 0 where there is none.
fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    word.map_or(0, |word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn transactions_are_counted_across_generations_of_the_wal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cts.db");
        assert!(WalIndex::open(&path).unwrap().is_none());
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)").unwrap();
        let index = WalIndex::open(&path).unwrap().unwrap();
        let read = || index.header().unwrap().unwrap();
        let first = read();
        assert!(first.frames > 0);
        for turn in 1..=6 {
            conn.execute_batch("INSERT INTO t VALUES (1)").unwrap();
            assert_eq!(read().transactions, first.transactions + turn);
            let mode = ["PASSIVE", "RESTART", "TRUNCATE"][turn as usize % 3];
            let checkpoint = format!("PRAGMA wal_checkpoint({mode})");
            conn.query_row(&checkpoint, [], |_| Ok(())).unwrap();
            assert_eq!(read().transactions, first.transactions + turn);
        }
        assert_eq!(read().frames, 1);
    }
}
