//! Captures every committed change from the WAL while programs write: read transactions that overlap keep the WAL from being
//! written from its start again before its frames have been read.
//!
//! Two connections take turns. The next read transaction begins before the last one ends, and between the two the frames up to
//! the published end are read and saved:
//!
//! - While a transaction holds a mark above 0, no writer begins the WAL anew (`walRestartLog` and `walCheckpoint` in
//!   wal.c need the locks of all marks but 0), so that all frames are there.
//! - A transaction holds mark 0 where all frames were in the database file when it began. The WAL may be begun anew once,
//!   and no more: nothing is copied while that mark is held, and a WAL is begun anew only when all of it was copied.
//!
//! What is committed is said by the wal-index alone: a frame that ends a transaction may be there before it is published, and
//! may never be. SQLite before 3.50.4 publishes frames without salts after ROLLBACK TO, so that salts and checksums of
//! frames are not asked either.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags, Row};

use super::connect::connect;
use super::error::from_sqlite;
use super::file::side_file;
use super::file_error::unreadable;
use super::wal_file::{frame_bytes, frame_offset, image_offset, number};
use super::wal_index::{WalIndex, WalIndexHeader};
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::store::archive::{CapturePlace, CommittedPages, WalPosition};
use crate::system::clock::unix_milliseconds;
use crate::system::file_handle::open_regular;

/// Where the checksums stand in the header of a frame.
const SUMS_AT: u64 = 16;
/// The salts in the wal-index of a database without a WAL.
const NO_SALTS: [u8; 8] = [0; 8];
/// How often the WAL is read until its end does not move to another generation meanwhile.
const ATTEMPTS: usize = 10;
/// How often a read transaction is begun until no program commits meanwhile.
const READER_ATTEMPTS: usize = 50;

/// Where the images of captured pages are.
enum Images {
    /// In frames of the WAL, as long as it is held.
    Frames(File, Vec<u32>, Arc<AtomicBool>),
    /// In memory, one after the other.
    Memory(Vec<u8>),
}

/// What was committed between two positions: the last image of each page.
pub struct CapturedPages {
    images: Images,
    page_bytes: u32,
    numbers: Vec<u32>,
    pages: u32,
    commits: u64,
    found_at: i64,
    place: CapturePlace,
}

impl CapturedPages {
    /// Size of all images in bytes.
    pub fn bytes(&self) -> u64 {
        self.numbers.len() as u64 * u64::from(self.page_bytes)
    }

    /// Reads all images into memory, so that the WAL need not be held for them.
    ///
    /// # Errors
    /// The WAL cannot be read.
    fn into_memory(mut self) -> io::Result<CapturedPages> {
        let page_bytes = self.page_bytes as usize;
        let mut images = vec![0; self.numbers.len() * page_bytes];
        for (place, image) in images.chunks_exact_mut(page_bytes).enumerate() {
            self.read(place, image)?;
        }
        self.images = Images::Memory(images);
        Ok(self)
    }
}

impl CommittedPages for CapturedPages {
    fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    fn pages(&self) -> u32 {
        self.pages
    }

    fn commits(&self) -> u64 {
        self.commits
    }

    fn found_at(&self) -> i64 {
        self.found_at
    }

    fn place(&self) -> CapturePlace {
        self.place
    }

    fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    fn read(&self, place: usize, image: &mut [u8]) -> io::Result<()> {
        let none = || io::Error::new(ErrorKind::InvalidInput, "there is no such page");
        match &self.images {
            Images::Frames(wal, frames, is_held) => {
                let frame = u64::from(*frames.get(place).ok_or_else(none)?);
                wal.read_exact_at(image, image_offset(frame, u64::from(self.page_bytes)))?;
                // Asked after it was read: it was held until then.
                match is_held.load(Ordering::SeqCst) {
                    true => Ok(()),
                    false => Err(io::Error::other("the WAL was let go of before it was read")),
                }
            }
            Images::Memory(images) => {
                let size = self.page_bytes as usize;
                let found = images.get(place * size..).and_then(|rest| rest.get(..size));
                image.copy_from_slice(found.ok_or_else(none)?);
                Ok(())
            }
        }
    }
}

/// Why the changes since the last position are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureGap {
    /// The WAL was begun anew, or lost its end, while nothing kept it.
    Restarted,
    /// The WAL could not be held again after it had been let go of.
    NotHeld,
}

/// What was published when it was looked.
#[derive(Clone, Copy)]
struct PublishedEnd {
    header: WalIndexHeader,
    /// Before it was looked, and after.
    began: Instant,
    found_at: i64,
}

/// What a capture has found.
pub enum Captured {
    /// Nothing was committed.
    Nothing(CapturePlace),
    /// This was committed. The WAL is held until [`WalCapture::let_go`] says that it is saved.
    Pages(CapturedPages),
    /// What was committed is not known. The capture is of no use any more.
    Gap(CaptureGap),
}

/// The capture of a database.
pub struct WalCapture {
    path: PathBuf,
    page_bytes: u32,
    readers: [Connection; 2],
    /// Which of them has the older read transaction.
    holder: usize,
    /// The position behind the pages that are being saved.
    saving: Option<WalPosition>,
    /// Shared with what was captured; false before the read transactions end with this.
    is_held: Arc<AtomicBool>,
    index: WalIndex,
    position: WalPosition,
}

impl WalCapture {
    /// Begins to hold the WAL of a database. Goes on behind `position`, if the WAL still has it; else with the first frame of the
    /// WAL.
    ///
    /// # Errors
    /// The database cannot be opened or read.
    pub fn start(
        path: &Path,
        position: Option<WalPosition>,
        wait: &WaitPolicy<'_>,
    ) -> Result<(WalCapture, Result<(), CaptureGap>)> {
        let open = || {
            let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, wait)?;
            let settings = "PRAGMA wal_autocheckpoint = 0";
            conn.query_row(settings, [], |_| Ok(())).map_err(|e| from_sqlite(path, &e))?;
            Ok(conn)
        };
        let readers = [open()?, open()?];
        begin(&readers[0]).map_err(|e| from_sqlite(path, &e))?;
        let page_bytes = readers[0].query_row("PRAGMA page_size", [], |row| row.get(0));
        let page_bytes = page_bytes.map_err(|e| from_sqlite(path, &e))?;
        let shm = side_file(path, "-shm");
        let index = WalIndex::open(path).map_err(|e| unreadable(&shm, &e))?;
        let index = index.ok_or_else(|| {
            Error::new(Kind::Data, "the database is not in WAL mode").at(path.display())
        })?;
        let nowhere = WalPosition { salts: NO_SALTS, frames: 0, sums: [0; 8] };
        let mut capture = WalCapture {
            path: path.to_path_buf(),
            page_bytes,
            readers,
            holder: 0,
            saving: None,
            is_held: Arc::new(AtomicBool::new(true)),
            index,
            position: nowhere,
        };
        let (header, is_kept) = capture.header_and_whether_kept()?;
        let known = match position {
            Some(known) if capture.goes_on_behind(&known, &header, is_kept)? => Some(known),
            _ => None,
        };
        capture.position = match known {
            Some(known) => known,
            None if is_kept => WalPosition { salts: header.salts, ..nowhere },
            // All of it is in the database file.
            None => capture.end_of(&header)?,
        };
        let gap = known.map(|_| ()).ok_or(CaptureGap::Restarted);
        Ok((capture, gap))
    }

    /// Size of a page in bytes.
    pub fn page_bytes(&self) -> u32 {
        self.page_bytes
    }

    /// Length of the frames in the WAL, in bytes.
    ///
    /// # Errors
    /// The wal-index cannot be read.
    pub fn wal_bytes(&self) -> Result<u64> {
        Ok(self.header()?.frames * frame_bytes(u64::from(self.page_bytes)))
    }

    /// Finds what was committed since the last call that was let go.
    ///
    /// # Errors
    /// The database cannot be read. The WAL is still held.
    pub fn capture(&mut self) -> Result<Captured> {
        self.capture_beside(None).map(|(captured, _)| captured)
    }

    /// The same. Begins a read transaction of another connection too; returns whether what that sees is the database after
    /// what was found.
    ///
    /// # Errors
    /// As [`WalCapture::capture`].
    pub fn capture_beside(&mut self, reader: Option<&Connection>) -> Result<(Captured, bool)> {
        let (next, began) = (1 - self.holder, Instant::now());
        self.end(next)?;
        begin(&self.readers[next]).map_err(|e| from_sqlite(&self.path, &e))?;
        // Later than the transaction that holds what is read next time.
        let until = reader.map(|reader| self.begin_at_end(reader)).transpose()?.flatten();
        let (found, position) = match self.read(until)? {
            Ok(found) => found,
            Err(gap) => return Ok((Captured::Gap(gap), false)),
        };
        let is_seen = until.is_some_and(|PublishedEnd { header, .. }| {
            (header.salts, header.frames) == (position.salts, position.frames)
        });
        self.saving = Some(position);
        let captured = match found {
            Some(found) => Captured::Pages(found),
            None => {
                self.let_go()?;
                Captured::Nothing(CapturePlace { began, position })
            }
        };
        Ok((captured, is_seen))
    }

    /// Begins a read transaction, and returns what was published both before and after it began. `None` where programs
    /// committed all the time.
    fn begin_at_end(&self, reader: &Connection) -> Result<Option<PublishedEnd>> {
        let failed = |e: rusqlite::Error| from_sqlite(&self.path, &e);
        for _ in 0..READER_ATTEMPTS {
            let end = self.published_end()?;
            begin(reader).map_err(failed)?;
            if self.header()? == end.header {
                return Ok(Some(end));
            }
            reader.execute_batch("ROLLBACK").map_err(failed)?;
        }
        Ok(None)
    }

    fn published_end(&self) -> Result<PublishedEnd> {
        let (began, header) = (Instant::now(), self.header()?);
        // Not before: what was committed meanwhile is restored as of this time.
        Ok(PublishedEnd { header, began, found_at: unix_milliseconds() })
    }

    /// Lets go of what was captured last, since it is saved.
    ///
    /// # Errors
    /// The older read transaction cannot be ended.
    pub fn let_go(&mut self) -> Result<()> {
        if let Some(position) = self.saving.take() {
            self.position = position;
            self.end(self.holder)?;
            self.holder = 1 - self.holder;
        }
        Ok(())
    }

    /// Captures the rest and holds mark 0, so that the next writer begins the WAL anew. Called with the write lock of another
    /// connection and when nothing is being saved; `checkpoint` copies the WAL into the file. What this returns need not be held.
    /// `None` where more than `bytes_max` was left.
    ///
    /// # Errors
    /// The database cannot be read. The WAL is still held.
    pub fn pass_barrier(
        &mut self,
        bytes_max: u64,
        checkpoint: impl FnOnce(),
    ) -> Result<Option<Captured>> {
        let began = Instant::now();
        let (found, position) = match self.read(None)? {
            Ok(found) => found,
            Err(gap) => return Ok(Some(Captured::Gap(gap))),
        };
        if found.as_ref().is_some_and(|found| found.bytes() > bytes_max) {
            return Ok(None);
        }
        let found = found.map(CapturedPages::into_memory).transpose().map_err(self.failed())?;
        // Nobody appends to the WAL or begins it anew while the write lock is held.
        self.end(1 - self.holder)?;
        self.end(self.holder)?;
        checkpoint();
        if begin(&self.readers[self.holder]).is_err() {
            return Ok(Some(Captured::Gap(CaptureGap::NotHeld)));
        }
        self.position = position;
        let nothing = Captured::Nothing(CapturePlace { began, position });
        Ok(Some(found.map_or(nothing, Captured::Pages)))
    }

    /// Ends the read transaction of a connection, if it has one.
    fn end(&self, reader: usize) -> Result<()> {
        let conn = &self.readers[reader];
        match conn.is_autocommit() {
            true => Ok(()),
            false => conn.execute_batch("ROLLBACK").map_err(|e| from_sqlite(&self.path, &e)),
        }
    }

    fn header(&self) -> Result<WalIndexHeader> {
        let shm = side_file(&self.path, "-shm");
        for _ in 0..ATTEMPTS {
            if let Some(header) = self.index.header().map_err(|e| unreadable(&shm, &e))? {
                return Ok(header);
            }
            std::thread::yield_now();
        }
        let what = "programs write it all the time, so that it cannot be read";
        Err(Error::new(Kind::TryAgain, what).at(shm.display()))
    }

    fn wal(&self) -> PathBuf {
        side_file(&self.path, "-wal")
    }

    fn failed(&self) -> impl Fn(io::Error) -> Error + use<> {
        let wal = self.wal();
        move |e| unreadable(&wal, &e)
    }

    fn open_wal(&self) -> io::Result<File> {
        open_regular(&self.wal(), OpenOptions::new().read(true))
    }

    /// The position behind the last frame that is published.
    fn end_of(&self, header: &WalIndexHeader) -> Result<WalPosition> {
        let mut position = WalPosition { salts: header.salts, frames: header.frames, sums: [0; 8] };
        if header.frames > 0 {
            let wal = self.open_wal().map_err(self.failed())?;
            position.sums = self.sums_of(&wal, header.frames - 1).map_err(self.failed())?;
        }
        Ok(position)
    }

    /// What the wal-index says, and whether the read transaction that is open keeps all frames of that generation. One with mark 0 does
    /// not where all of them are in the database file already: the next writer may begin the WAL anew. Where there is more, it
    /// keeps the rest from being copied, and a higher mark keeps all.
    fn header_and_whether_kept(&self) -> Result<(WalIndexHeader, bool)> {
        let frames = |row: &Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        for _ in 0..ATTEMPTS {
            let header = self.header()?;
            let (total, copied) = self.readers[1]
                .query_row("PRAGMA wal_checkpoint(NOOP)", [], frames)
                .map_err(|e| from_sqlite(&self.path, &e))?;
            if self.header()?.salts == header.salts {
                return Ok((header, copied < total));
            }
        }
        Err(self.moves())
    }

    /// Whether the WAL still has a position, and what was committed behind it.
    fn goes_on_behind(
        &self,
        position: &WalPosition,
        header: &WalIndexHeader,
        is_kept: bool,
    ) -> Result<bool> {
        // The wal-index of a database without a WAL has no salts, whatever was committed before that was removed.
        let is_generation = position.salts == header.salts && position.salts != NO_SALTS;
        let is_there = is_kept || position.frames == header.frames;
        Ok(is_generation && is_there && self.has(position, header)?)
    }

    /// Whether the WAL has the frames before a position of its generation.
    fn has(&self, position: &WalPosition, header: &WalIndexHeader) -> Result<bool> {
        if position.frames > header.frames {
            return Ok(false);
        }
        let Some(last) = position.frames.checked_sub(1) else { return Ok(true) };
        let wal = self.open_wal().map_err(self.failed())?;
        match self.sums_of(&wal, last) {
            // It was cut.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
            sums => Ok(sums.map_err(self.failed())? == position.sums),
        }
    }

    fn sums_of(&self, wal: &File, frame: u64) -> io::Result<[u8; 8]> {
        let mut sums = [0; 8];
        wal.read_exact_at(&mut sums, frame_offset(frame, u64::from(self.page_bytes)) + SUMS_AT)?;
        Ok(sums)
    }

    /// What was published since the position, up to an end or to the present one, and where that is. Called while a read
    /// transaction holds the WAL.
    fn read(
        &self,
        until: Option<PublishedEnd>,
    ) -> Result<Result<(Option<CapturedPages>, WalPosition), CaptureGap>> {
        let mut until = until;
        for _ in 0..ATTEMPTS {
            let end = until.take().map_or_else(|| self.published_end(), Ok)?;
            let header = end.header;
            let is_same = header.salts == self.position.salts;
            if is_same && !self.has(&self.position, &header)? {
                // Unless it was begun anew only now.
                match self.header()?.salts == header.salts {
                    true => return Ok(Err(CaptureGap::Restarted)),
                    false => continue,
                }
            }
            if is_same && header.frames == self.position.frames {
                return Ok(Ok((None, self.position)));
            }
            let first = if is_same { self.position.frames } else { 0 };
            if header.frames == 0 {
                let position = WalPosition { salts: header.salts, frames: 0, sums: [0; 8] };
                return Ok(Ok((None, position)));
            }
            let found = self.read_frames(first, &end);
            let now = self.header()?;
            let is_unmoved = now.salts == header.salts && now.frames >= header.frames;
            if is_unmoved && let Some(found) = found? {
                let position = found.place.position;
                return Ok(Ok((Some(found), position)));
            }
        }
        Err(self.moves())
    }

    fn moves(&self) -> Error {
        let what = "its frames are not those that the wal-index tells of";
        Error::new(Kind::TryAgain, what).at(self.wal().display())
    }

    /// The frames from one on; `None` where the last one ends no transaction.
    fn read_frames(&self, first: u64, end: &PublishedEnd) -> Result<Option<CapturedPages>> {
        let PublishedEnd { header, began, found_at } = *end;
        let wal = self.open_wal().map_err(self.failed())?;
        let (mut pages_and_frames, mut commits, mut is_commit) = (Vec::new(), 0, false);
        let mut bytes = [0; 8];
        for frame in first..header.frames {
            let offset = frame_offset(frame, u64::from(self.page_bytes));
            wal.read_exact_at(&mut bytes, offset).map_err(self.failed())?;
            // Frames are counted with 32 bits in the wal-index.
            pages_and_frames.push((number(&bytes, 0), u32::try_from(frame).unwrap_or(u32::MAX)));
            is_commit = number(&bytes, 4) > 0;
            commits += u64::from(is_commit);
        }
        if !is_commit {
            return Ok(None);
        }
        let pages = number(&bytes, 4);
        // Of each page the last frame; those behind the end were cut off again.
        pages_and_frames.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
        pages_and_frames.dedup_by_key(|(page, _)| *page);
        pages_and_frames.retain(|(page, _)| (1..=pages).contains(page));
        let (numbers, frames) = pages_and_frames.into_iter().unzip();
        let place = CapturePlace { began, position: self.end_of(&header)? };
        let images = Images::Frames(wal, frames, Arc::clone(&self.is_held));
        let page_bytes = self.page_bytes;
        Ok(Some(CapturedPages { images, page_bytes, numbers, pages, commits, found_at, place }))
    }
}

impl Drop for WalCapture {
    fn drop(&mut self) {
        self.is_held.store(false, Ordering::SeqCst);
    }
}

/// Begins a read transaction: BEGIN alone takes no mark.
fn begin(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch("BEGIN")?;
    conn.query_row("SELECT count(*) FROM (SELECT 1 FROM sqlite_schema LIMIT 1)", [], |_| Ok(()))
}

#[cfg(test)]
mod tests;
