//! The WAL of an open database, as the watch over its file reads it: how far it is, and which pages its
//! frames hold. (sqlite.org/fileformat2.html, 4)

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::file::side_file;
use super::wal_file::{frame_offset, image_offset, number};
use super::wal_index::{WalIndex, WalIndexHeader};
use crate::system::file_handle::open_regular;

/// Frames that are searched for the pages written last.
const SEARCHED_FRAMES_MAX: u64 = 512;
/// Frames that are remembered while they are not copied: 64 MiB of pages of 4 KiB, twice the length at which the upkeep
/// resets the WAL. More of them are there only while a long read keeps it.
const PENDING_FRAMES_MAX: u64 = 16 << 10;

/// The WAL of an open database.
pub struct WatchedWal {
    path: PathBuf,
    index: Option<WalIndex>,
    pub page_bytes: u64,
}

/// How far the WAL is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WalState {
    /// The random numbers of the generation; `None` while the WAL is empty.
    pub salts: Option<[u8; 8]>,
    pub total: u64,
    pub copied: u64,
    /// Changes when another connection commits.
    pub data_version: i64,
    /// Counts the transactions of all generations; `None` where the wal-index cannot be read.
    pub transactions: Option<u32>,
}

/// Frames that checkpoints may have copied into the file.
#[derive(Default)]
pub struct CheckpointedFrames {
    pages: BTreeSet<u32>,
    /// Transactions that were committed.
    commits: u32,
    /// Size of the database after the transaction that made it shortest, in pages.
    shortest: Option<u32>,
}

impl CheckpointedFrames {
    /// Whether a frame holds the page.
    pub fn hold(&self, page: u32) -> bool {
        self.pages.contains(&page)
    }

    /// Whether a checkpoint may have cut off the end of the file before the page. It cuts the file to the size
    /// of the database after the last transaction. (`walCheckpoint` in wal.c)
    pub fn may_cut_off(&self, page: u32) -> bool {
        self.shortest.is_some_and(|pages| page > pages)
    }
}

/// Why the file could not be watched.
#[derive(Debug)]
pub enum WatchError {
    /// A file could not be read.
    File(io::Error),
    /// The database could not be read.
    Database(rusqlite::Error),
}

impl From<io::Error> for WatchError {
    fn from(error: io::Error) -> WatchError {
        WatchError::File(error)
    }
}

impl From<rusqlite::Error> for WatchError {
    fn from(error: rusqlite::Error) -> WatchError {
        WatchError::Database(error)
    }
}

impl WatchedWal {
    /// The WAL of a database that a connection of this process has read.
    ///
    /// # Errors
    /// The wal-index cannot be opened.
    pub fn new(database: &Path, page_bytes: u64) -> io::Result<WatchedWal> {
        let (path, index) = (side_file(database, "-wal"), WalIndex::open(database)?);
        Ok(WatchedWal { path, index, page_bytes })
    }

    /// The state of the WAL; `None` where it is reset at this moment.
    ///
    /// # Errors
    /// The WAL cannot be read, or the database cannot.
    pub fn state(&self, conn: &Connection) -> Result<Option<WalState>, WatchError> {
        let salts = self.salts()?;
        let data_version = conn.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        let (total, copied) = conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        let frames = |count: i64| u64::try_from(count).unwrap_or(0);
        // Read last: what is committed while the others are read counts as not copied.
        let header = self.index_header()?;
        let state = WalState {
            salts,
            total: header.as_ref().map_or(frames(total), |header| header.frames),
            copied: frames(copied),
            data_version,
            transactions: header.map(|header| header.transactions),
        };
        Ok((self.salts()? == salts && state.copied <= state.total).then_some(state))
    }

    /// What the wal-index says; `None` where a program commits at this moment, and without a wal-index.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn index_header(&self) -> io::Result<Option<WalIndexHeader>> {
        Ok(self.index.as_ref().map(WalIndex::header).transpose()?.flatten())
    }

    /// Whether another process reads the WAL.
    ///
    /// # Errors
    /// The file system does not tell.
    pub fn has_readers_elsewhere(&self) -> io::Result<bool> {
        self.index.as_ref().map_or(Ok(false), WalIndex::has_readers_elsewhere)
    }

    /// Opens the file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self) -> io::Result<Option<File>> {
        match open_regular(&self.path, OpenOptions::new().read(true)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }

    /// The random numbers of its generation; `None` while it is empty.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn salts(&self) -> io::Result<Option<[u8; 8]>> {
        let Some(wal) = self.open()? else { return Ok(None) };
        let mut salts = [0; 8];
        match wal.read_exact_at(&mut salts, 16) {
            Ok(()) => Ok(Some(salts)),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The frames that were added from one state to a later one, and those of the first that were not copied, if
    /// they are in the same generation. `None` where the WAL no longer has all of them.
    ///
    /// # Errors
    /// The WAL cannot be read.
    pub fn frames_since(
        &self,
        last: &WalState,
        now: &WalState,
    ) -> io::Result<Option<CheckpointedFrames>> {
        if last.salts.is_some() && last.salts == now.salts {
            return Ok(Some(self.frames_from(last.copied, now)?));
        }
        if now.data_version == last.data_version {
            return Ok(Some(CheckpointedFrames::default()));
        }
        if last.salts.is_none() || now.salts.is_none() {
            return Ok(None);
        }
        let (Some(before), Some(present)) = (last.transactions, now.transactions) else {
            return Ok(None);
        };
        let frames = self.frames_from(0, now)?;
        let has_all = frames.commits == present.wrapping_sub(before);
        Ok(has_all.then_some(frames))
    }

    /// The frames that are not copied. `None` if there are more than [`PENDING_FRAMES_MAX`].
    ///
    /// # Errors
    /// The WAL cannot be read.
    pub fn pending_frames(&self, state: &WalState) -> io::Result<Option<CheckpointedFrames>> {
        let is_few = state.total - state.copied <= PENDING_FRAMES_MAX;
        is_few.then(|| self.frames_from(state.copied, state)).transpose()
    }

    /// The frames of this generation from a frame on, committed or not.
    fn frames_from(&self, first: u64, state: &WalState) -> io::Result<CheckpointedFrames> {
        let mut frames = CheckpointedFrames::default();
        let Some(wal) = self.open()? else { return Ok(frames) };
        for frame in first.. {
            let Some(header) = self.frame_header(&wal, frame, state)? else { break };
            frames.pages.insert(header.page);
            let is_commit = frame < state.total && header.pages_after_commit.is_some();
            frames.commits += u32::from(is_commit);
            let sizes = frames.shortest.into_iter().chain(header.pages_after_commit);
            frames.shortest = sizes.min();
        }
        Ok(frames)
    }

    /// The pages of the last frames that were copied, each with its last one of them: as many as `max`, from
    /// the last [`SEARCHED_FRAMES_MAX`] frames.
    ///
    /// # Errors
    /// The WAL cannot be read.
    pub fn pages_copied_last(
        &self,
        state: &WalState,
        max: usize,
    ) -> io::Result<BTreeMap<u32, u64>> {
        let mut pages = BTreeMap::new();
        let Some(wal) = self.open()? else { return Ok(pages) };
        let oldest = state.copied.saturating_sub(SEARCHED_FRAMES_MAX);
        for frame in (oldest..state.copied).rev() {
            if pages.len() == max {
                break;
            }
            if let Some(header) = self.frame_header(&wal, frame, state)? {
                pages.entry(header.page).or_insert(frame);
            }
        }
        Ok(pages)
    }

    /// Whether this frame of the page is its last one, and the page was never after the end of the database
    /// since.
    ///
    /// # Errors
    /// The WAL cannot be read.
    pub fn was_copied(
        &self,
        wal: &File,
        page: u32,
        frame: u64,
        state: &WalState,
    ) -> io::Result<bool> {
        let mut next = frame;
        while let Some(header) = self.frame_header(wal, next, state)? {
            if header.pages_after_commit.is_some_and(|pages| page > pages)
                || (header.page == page && next > frame)
            {
                return Ok(false);
            }
            next += 1;
        }
        Ok(true)
    }

    /// The header of a frame; `None` after the last one of the generation. SQLite before 3.50.4 may write
    /// frames without salts after ROLLBACK TO, so that those of committed frames are not compared.
    fn frame_header(
        &self,
        wal: &File,
        frame: u64,
        state: &WalState,
    ) -> io::Result<Option<WatchedFrame>> {
        let mut header = [0; 16];
        match wal.read_exact_at(&mut header, frame_offset(frame, self.page_bytes)) {
            Ok(())
                if frame < state.total || state.salts.is_some_and(|salts| header[8..] == salts) =>
            {
                let (page, pages) = (number(&header, 0), number(&header, 4));
                let pages_after_commit = Some(pages).filter(|pages| *pages > 0);
                Ok(Some(WatchedFrame { page, pages_after_commit }).filter(|frame| frame.page > 0))
            }
            Ok(()) => Ok(None),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The digest of the page image in a frame.
    ///
    /// # Errors
    /// The WAL cannot be read.
    pub fn image_digest(&self, wal: &File, frame: u64) -> io::Result<[u8; 32]> {
        let mut bytes = vec![0; usize::try_from(self.page_bytes).unwrap_or_default()];
        wal.read_exact_at(&mut bytes, image_offset(frame, self.page_bytes))?;
        Ok(Sha256::digest(&bytes).into())
    }
}

/// What the header of a frame says.
struct WatchedFrame {
    page: u32,
    /// Size of the database in pages, where the frame ends a transaction.
    pages_after_commit: Option<u32>,
}
