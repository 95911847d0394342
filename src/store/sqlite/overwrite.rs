//! Notices a database file that another program overwrites in place (`cp backup cts.db`) while it is open.
//!
//! While a database is in WAL mode and open, only checkpoints write to its file, and they write nothing but
//! page images of the WAL. So a page may differ from what it was at the last turn only if a frame that was not
//! copied at that time holds it. Some pages are remembered from turn to turn; a changed one that no such
//! frame holds was written by no checkpoint. It is judged only where the WAL tells all frames since then:
//!
//! - no transaction was committed, and all frames had been copied: no page may differ;
//! - the WAL is still the same generation (same salts);
//! - all frames had been copied, and all transactions since then are in the present generation. Others may
//!   have been added to the one before, while a read kept it from being reset, and copied by the checkpoint
//!   of another program. The counter of transactions in the wal-index tells how many there were.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use super::file::side_file;
use super::wal_file::number;
use super::wal_index::WalIndex;
use crate::system::file_handle::open_regular;

const WAL_HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;
/// Pages that are remembered: those written last, of which an older copy lacks the newest content.
const PAGES_MAX: usize = 64;
/// Frames that are searched for the pages written last.
const SEARCHED_FRAMES_MAX: u64 = 512;

/// Watches the file of a database from one checkpoint to the next.
pub struct OverwriteWatch {
    /// Never closed: to close a descriptor of the file would release the locks that SQLite holds on it in
    /// this process. (sqlite.org/howtocorrupt.html, 2.2)
    file: &'static File,
    wal_path: PathBuf,
    index: Option<WalIndex>,
    page_bytes: u64,
    last: Option<WatchedState>,
}

/// The state of the file and the WAL at the end of a turn.
struct WatchedState {
    stamp: Stamp,
    wal: WalState,
    /// SHA-256 of remembered pages.
    pages: BTreeMap<u32, [u8; 32]>,
}

/// What changes with each write to the file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size_bytes: u64,
}

/// How far the WAL is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct WalState {
    /// The random numbers of the generation; `None` while the WAL is empty.
    salts: Option<[u8; 8]>,
    total: u64,
    copied: u64,
    /// Changes when another connection commits.
    data_version: i64,
    /// Counts the transactions of all generations; `None` where the wal-index cannot be read.
    transactions: Option<u32>,
}

impl OverwriteWatch {
    /// Begins to watch a database that a connection of this process has read.
    ///
    /// # Errors
    /// The file, or its wal-index, cannot be opened.
    pub fn new(path: &Path, page_bytes: u64) -> io::Result<OverwriteWatch> {
        let file = open_regular(path, OpenOptions::new().read(true))?;
        Ok(OverwriteWatch {
            file: Box::leak(Box::new(file)),
            wal_path: side_file(path, "-wal"),
            index: WalIndex::open(path)?,
            page_bytes,
            last: None,
        })
    }

    /// A page that was changed by no checkpoint since the last turn. Called before each checkpoint.
    ///
    /// # Errors
    /// A file cannot be read, or the database cannot.
    pub fn overwritten_page(&self, conn: &Connection) -> Result<Option<u32>, WatchError> {
        let Some(last) = &self.last else { return Ok(None) };
        if self.stamp()? == last.stamp {
            return Ok(None);
        }
        let mut changed = Vec::new();
        for (page, before) in &last.pages {
            match self.digest(*page)? {
                Some(now) if now == *before => {}
                now => changed.push((*page, now.is_none())),
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        // Read after the pages, so that it has all frames that may have been copied into them.
        let Some(wal) = self.wal_state(conn)? else { return Ok(None) };
        if wal.data_version == last.wal.data_version && last.wal.copied == last.wal.total {
            return Ok(changed.first().map(|(page, _)| *page));
        }
        let Some(written) = self.pages_written(&last.wal, &wal)? else { return Ok(None) };
        // The end of a file may be cut off by a checkpoint, without a frame for its pages.
        let is_unexplained = |(page, is_gone): &&(u32, bool)| !is_gone && !written.contains(page);
        Ok(changed.iter().find(is_unexplained).map(|(page, _)| *page))
    }

    /// Remembers the state after a checkpoint. Returns a page of which the file does not hold what was copied
    /// into it.
    ///
    /// # Errors
    /// A file cannot be read, or the database cannot. Nothing is judged in the next turn.
    pub fn observe(&mut self, conn: &Connection) -> Result<Option<u32>, WatchError> {
        let last = self.last.take();
        let (stamp, wal) = (self.stamp()?, self.wal_state(conn)?);
        let Some(wal) = wal else { return Ok(None) };
        if let Some(last) = last.as_ref().filter(|last| last.stamp == stamp && last.wal == wal) {
            let pages = last.pages.clone();
            self.last = Some(WatchedState { stamp, wal, pages });
            return Ok(None);
        }
        let copied = self.pages_copied_last(&wal)?;
        let mut numbers: BTreeSet<u32> = copied.keys().copied().collect();
        let known = last.into_iter().flat_map(|last| last.pages.into_keys());
        let count = u32::try_from(stamp.size_bytes / self.page_bytes).unwrap_or(u32::MAX);
        let step = (count / 16).max(1) as usize;
        for page in [1, count].into_iter().chain(known).chain((1..count).step_by(step)) {
            if numbers.len() < PAGES_MAX && page > 0 {
                numbers.insert(page);
            }
        }
        let mut pages = BTreeMap::new();
        for page in numbers {
            if let Some(digest) = self.digest(page)? {
                pages.insert(page, digest);
            }
        }
        let unlike = match self.wal_state(conn)? {
            Some(now) if now.salts == wal.salts => {
                self.page_unlike_copied(&copied, &pages, &now)?
            }
            _ => None,
        };
        self.last = Some(WatchedState { stamp, wal, pages });
        Ok(unlike)
    }

    /// A page of which the file does not hold the image that was copied last. A checkpoint copies a page only
    /// if its last frame in the WAL may be copied, and if it is not after the end of the database
    /// (`walCheckpoint` in wal.c), so that others are not judged.
    fn page_unlike_copied(
        &self,
        copied: &BTreeMap<u32, u64>,
        pages: &BTreeMap<u32, [u8; 32]>,
        state: &WalState,
    ) -> io::Result<Option<u32>> {
        let Some(wal) = self.open_wal()? else { return Ok(None) };
        for (page, frame) in copied {
            let Some(found) = pages.get(page) else { continue };
            if self.image_digest(&wal, *frame)? == *found {
                continue;
            }
            // Read once more, in case that a checkpoint was writing the page.
            if self.was_copied(&wal, *page, *frame, state)?
                && self.digest(*page)? == Some(*found)
                && self.salts()? == state.salts
            {
                return Ok(Some(*page));
            }
        }
        Ok(None)
    }

    /// Whether this frame of the page is its last one, and the page was never after the end of the database
    /// since.
    fn was_copied(&self, wal: &File, page: u32, frame: u64, state: &WalState) -> io::Result<bool> {
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

    fn stamp(&self) -> io::Result<Stamp> {
        let found = self.file.metadata()?;
        let modified = (found.mtime(), found.mtime_nsec());
        Ok(Stamp { modified, size_bytes: found.len() })
    }

    /// The digest of a page; `None` if the file is too short for it.
    fn digest(&self, page: u32) -> io::Result<Option<[u8; 32]>> {
        let mut bytes = vec![0; usize::try_from(self.page_bytes).unwrap_or_default()];
        match self.file.read_exact_at(&mut bytes, u64::from(page - 1) * self.page_bytes) {
            Ok(()) => Ok(Some(Sha256::digest(&bytes).into())),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The state of the WAL; `None` where it is reset at this moment.
    fn wal_state(&self, conn: &Connection) -> Result<Option<WalState>, WatchError> {
        let salts = self.salts()?;
        let data_version = conn.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        let (total, copied) = conn.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })?;
        let frames = |count: i64| u64::try_from(count).unwrap_or(0);
        let (total, copied) = (frames(total), frames(copied));
        let header = self.index.as_ref().map(WalIndex::header).transpose()?.flatten();
        // A transaction that was committed since the frames were counted is in the next state.
        let transactions = header.filter(|header| header.frames == total).map(|h| h.transactions);
        let state = WalState { salts, total, copied, data_version, transactions };
        Ok((self.salts()? == salts).then_some(state))
    }

    /// The pages that checkpoints may have written from one state to a later one. `None` where the WAL no
    /// longer has all frames since then.
    fn pages_written(&self, last: &WalState, now: &WalState) -> io::Result<Option<BTreeSet<u32>>> {
        if last.salts.is_none() || now.salts.is_none() {
            return Ok(None);
        }
        if last.salts == now.salts {
            return Ok(Some(self.frames_from(last.copied, now)?.pages));
        }
        let (Some(before), Some(present)) = (last.transactions, now.transactions) else {
            return Ok(None);
        };
        let frames = self.frames_from(0, now)?;
        let has_all = last.copied == last.total && frames.commits == present.wrapping_sub(before);
        Ok(has_all.then_some(frames.pages))
    }

    fn open_wal(&self) -> io::Result<Option<File>> {
        match open_regular(&self.wal_path, OpenOptions::new().read(true)) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }

    fn salts(&self) -> io::Result<Option<[u8; 8]>> {
        let Some(wal) = self.open_wal()? else { return Ok(None) };
        let mut salts = [0; 8];
        match wal.read_exact_at(&mut salts, 16) {
            Ok(()) => Ok(Some(salts)),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The frames of this generation from a frame on, committed or not.
    fn frames_from(&self, first: u64, state: &WalState) -> io::Result<WrittenFrames> {
        let mut frames = WrittenFrames::default();
        let Some(wal) = self.open_wal()? else { return Ok(frames) };
        for frame in first.. {
            let Some(header) = self.frame_header(&wal, frame, state)? else { break };
            frames.pages.insert(header.page);
            let is_commit = frame < state.total && header.pages_after_commit.is_some();
            frames.commits += u32::from(is_commit);
        }
        Ok(frames)
    }

    /// The pages of the last frames that were copied, each with its last one of them.
    fn pages_copied_last(&self, state: &WalState) -> io::Result<BTreeMap<u32, u64>> {
        let mut pages = BTreeMap::new();
        let Some(wal) = self.open_wal()? else { return Ok(pages) };
        let oldest = state.copied.saturating_sub(SEARCHED_FRAMES_MAX);
        for frame in (oldest..state.copied).rev() {
            if pages.len() == PAGES_MAX / 2 {
                break;
            }
            if let Some(header) = self.frame_header(&wal, frame, state)? {
                pages.entry(header.page).or_insert(frame);
            }
        }
        Ok(pages)
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
        match wal.read_exact_at(&mut header, self.offset_of(frame)) {
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
    fn image_digest(&self, wal: &File, frame: u64) -> io::Result<[u8; 32]> {
        let mut bytes = vec![0; usize::try_from(self.page_bytes).unwrap_or_default()];
        wal.read_exact_at(&mut bytes, self.offset_of(frame) + FRAME_HEADER_BYTES)?;
        Ok(Sha256::digest(&bytes).into())
    }

    fn offset_of(&self, frame: u64) -> u64 {
        WAL_HEADER_BYTES + frame * (FRAME_HEADER_BYTES + self.page_bytes)
    }
}

/// What the header of a frame says.
struct WatchedFrame {
    page: u32,
    /// Size of the database in pages, where the frame ends a transaction.
    pages_after_commit: Option<u32>,
}

/// What a run of frames has written.
#[derive(Default)]
struct WrittenFrames {
    pages: BTreeSet<u32>,
    /// Transactions that were committed.
    commits: u32,
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
