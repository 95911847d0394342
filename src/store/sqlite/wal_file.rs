//! The WAL of a database as its file holds it: the frames that SQLite's recovery would accept, and
//! after them what is left of the generation before. Nothing is changed, and SQLite is not asked.
//!
//! (sqlite.org/fileformat2.html, 4 "The Write-Ahead Log")

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::system::file_handle::open_regular;

const HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The magic number, of which the lowest bit says that checksums are of big-endian words.
const MAGIC: u32 = 0x377f_0682;
/// The version of the format.
const VERSION: u32 = 3_007_000;
/// Frames at the end that are checked, where the others are not.
const LAST_FRAMES_CHECKED: usize = 64;
/// Frames of which the header is read to find those of the generation before.
const SEARCHED_FRAMES_MAX: usize = 20_000;
/// Frames of the generation before that are read, up to its last one.
const PREVIOUS_FRAMES_MAX: usize = 1000;

/// Size of a frame with a page of this size, in bytes.
pub const fn frame_bytes(page_bytes: u64) -> u64 {
    FRAME_HEADER_BYTES as u64 + page_bytes
}

/// The offset in the file of a frame, which are counted from 0 on.
pub const fn frame_offset(frame: u64, page_bytes: u64) -> u64 {
    HEADER_BYTES + frame * frame_bytes(page_bytes)
}

/// The offset in the file of the page image in a frame.
pub const fn image_offset(frame: u64, page_bytes: u64) -> u64 {
    frame_offset(frame, page_bytes) + FRAME_HEADER_BYTES as u64
}

/// A WAL with at least one committed transaction.
pub struct WalFile {
    file: File,
    /// Size of a page in bytes.
    pub page_bytes: usize,
    /// Size of the database in pages after the last committed transaction.
    pub pages: u32,
    /// The two random numbers that all frames of this generation carry.
    pub salts: [u8; 8],
    /// The page of each committed frame, in the order in which they were written.
    pub frames: Vec<u32>,
    /// The last committed frame of each page.
    pub last_frames: HashMap<u32, usize>,
    /// The frame that holds the last image of a page from the generation before this one, whose images
    /// were all copied into the database file before this generation began. Only pages that this
    /// generation has not written, and not those of the last transaction found, which may never
    /// have been committed.
    pub previous: HashMap<u32, usize>,
}

/// The cumulative checksum of a WAL. (sqlite.org/fileformat2.html, 4.2)
#[derive(Clone, Copy)]
struct Checksum {
    big_endian: bool,
    sums: (u32, u32),
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let word = |bytes: [u8; 4]| match self.big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        };
        let (mut first, mut second) = self.sums;
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(word([e, f, g, h])).wrapping_add(first);
        }
        self.sums = (first, second);
    }
}

/// The big-endian number at an offset; 0 where there is none.
pub fn number(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

/// The header of a frame.
struct FrameHeader {
    page: u32,
    /// Size of the database in pages after the transaction, if this is the last frame of one.
    commit: Option<u32>,
    salts: [u8; 8],
    sums: (u32, u32),
}

impl FrameHeader {
    fn parse(bytes: &[u8]) -> FrameHeader {
        let mut salts = [0; 8];
        salts.copy_from_slice(&bytes[8..16]);
        let commit = Some(number(bytes, 4)).filter(|pages| *pages > 0);
        let sums = (number(bytes, 16), number(bytes, 20));
        FrameHeader { page: number(bytes, 0), commit, salts, sums }
    }

    /// Whether the frame follows the one with the checksum, which it is added to.
    fn follows(&self, checksum: &mut Checksum, frame: &[u8]) -> bool {
        checksum.add(&frame[..8]);
        checksum.add(&frame[FRAME_HEADER_BYTES..]);
        self.page > 0 && self.sums == checksum.sums
    }
}

impl WalFile {
    /// Reads a WAL. `None` if there is none, or none with a committed transaction.
    ///
    /// Without `checked`, the checksums are not computed, which is what takes time: frames of
    /// transactions that were never committed may then seem valid.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path, checked: bool) -> io::Result<Option<WalFile>> {
        let file = match open_regular(path, OpenOptions::new().read(true)) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut header = [0; HEADER_BYTES as usize];
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let Some((page_bytes, checksum)) = read_header(&mut reader, &mut header)? else {
            return Ok(None);
        };
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        let mut committed = match checked {
            true => read_frames(&mut reader, page_bytes, &salts, checksum)?,
            false => read_frame_headers(&file, page_bytes, &salts, checksum.big_endian)?,
        };
        let Some(pages) = committed.pages else { return Ok(None) };
        committed.pages_of_frames.truncate(committed.complete);
        let end = committed.seen;
        let last_frames = committed.last_frames();
        let mut wal = WalFile {
            page_bytes,
            pages,
            salts,
            frames: committed.pages_of_frames,
            last_frames,
            previous: HashMap::new(),
            file,
        };
        wal.previous = wal.read_previous(end, checksum.big_endian)?;
        Ok(Some(wal))
    }

    /// The page image in a frame.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_image(&self, frame: usize, image: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(image, image_offset(frame as u64, self.page_bytes as u64))
    }

    fn offset_of(&self, frame: usize) -> u64 {
        frame_offset(frame as u64, self.page_bytes as u64)
    }

    /// Finds the last frames of the generation before, which begins at frame number `start` or later. Of
    /// a generation that is followed at once by another, the first salt is one less.
    /// (`walRestartHdr` in wal.c)
    fn read_previous(&self, start: usize, big_endian: bool) -> io::Result<HashMap<u32, usize>> {
        let first_salt = number(&self.salts, 0).wrapping_sub(1);
        let is_previous = |salts: &[u8; 8]| number(salts, 0) == first_salt;
        let Some((start, end)) = self.find_run(start, is_previous)? else {
            return Ok(HashMap::new());
        };
        let start = start.max(end.saturating_sub(PREVIOUS_FRAMES_MAX));
        let mut frame = vec![0; FRAME_HEADER_BYTES + self.page_bytes];
        self.file.read_exact_at(&mut frame, self.offset_of(start))?;
        let mut checksum = Checksum { big_endian, sums: FrameHeader::parse(&frame).sums };
        let mut found = Frames::default();
        for position in start + 1..end {
            self.file.read_exact_at(&mut frame, self.offset_of(position))?;
            let header = FrameHeader::parse(&frame);
            if !header.follows(&mut checksum, &frame) {
                break;
            }
            found.add(&header);
        }
        let size = found.pages.unwrap_or(0);
        let mut previous = found.last_frames_before_the_last_transaction();
        previous.retain(|page, _| *page <= size && !self.last_frames.contains_key(page));
        previous.values_mut().for_each(|frame| *frame += start + 1);
        Ok(previous)
    }

    /// The first frames in a row, from frame number `start` on, that have the same salts, of which
    /// `is_wanted`: the number of the first one, and of the one after the last. `None` if none is found
    /// among a limited number, or the last one is not known: with `PRAGMA journal_size_limit`, SQLite cuts
    /// the file at a number of bytes, which is hardly ever the end of a frame.
    fn find_run(
        &self,
        start: usize,
        is_wanted: impl Fn(&[u8; 8]) -> bool,
    ) -> io::Result<Option<(usize, usize)>> {
        let mut run: Option<(usize, [u8; 8])> = None;
        let mut header = [0; FRAME_HEADER_BYTES];
        let whole = (FRAME_HEADER_BYTES + self.page_bytes) as u64;
        let bytes = self.file.metadata()?.len().saturating_sub(HEADER_BYTES);
        let frames = usize::try_from(bytes / whole).unwrap_or(usize::MAX);
        for position in start..frames.min(start + SEARCHED_FRAMES_MAX) {
            self.file.read_exact_at(&mut header, self.offset_of(position))?;
            let salts = FrameHeader::parse(&header).salts;
            match run {
                Some((first, wanted)) if salts != wanted => return Ok(Some((first, position))),
                None if is_wanted(&salts) => run = Some((position, salts)),
                _ => {}
            }
        }
        let is_complete = frames <= start + SEARCHED_FRAMES_MAX && bytes % whole == 0;
        Ok(run.filter(|_| is_complete).map(|(first, _)| (first, frames)))
    }
}

/// Frames that follow each other.
#[derive(Default)]
struct Frames {
    pages_of_frames: Vec<u32>,
    /// How many were seen, and how many of them belong to complete transactions; of all but the
    /// last one.
    seen: usize,
    complete: usize,
    complete_before: usize,
    pages: Option<u32>,
}

impl Frames {
    fn add(&mut self, header: &FrameHeader) {
        self.pages_of_frames.push(header.page);
        self.seen += 1;
        if let Some(pages) = header.commit {
            self.complete_before = self.complete;
            self.complete = self.seen;
            self.pages = Some(pages);
        }
    }

    fn last_frames(&self) -> HashMap<u32, usize> {
        let complete = self.pages_of_frames.iter().take(self.complete);
        complete.enumerate().map(|(frame, page)| (*page, frame)).collect()
    }

    fn last_frames_before_the_last_transaction(&self) -> HashMap<u32, usize> {
        let mut frames = self.last_frames();
        frames.retain(|_, frame| *frame < self.complete_before);
        frames
    }
}

/// Reads the header. `None` where recovery would take the WAL for empty. Otherwise the size of a page,
/// and the checksum that the first frame goes on from.
fn read_header(reader: &mut impl Read, header: &mut [u8]) -> io::Result<Option<(usize, Checksum)>> {
    if !fill(reader, header)? {
        return Ok(None);
    }
    let (magic, page_bytes) = (number(header, 0), number(header, 8));
    let mut checksum = Checksum { big_endian: magic & 1 == 1, sums: (0, 0) };
    checksum.add(&header[..24]);
    let is_valid = magic & !1 == MAGIC
        && number(header, 4) == VERSION
        && page_bytes.is_power_of_two()
        && (512..=65536).contains(&page_bytes)
        && checksum.sums == (number(header, 24), number(header, 28));
    Ok(is_valid.then_some((page_bytes as usize, checksum)))
}

/// Reads the frames that recovery would accept.
fn read_frames(
    reader: &mut impl Read,
    page_bytes: usize,
    salts: &[u8; 8],
    mut checksum: Checksum,
) -> io::Result<Frames> {
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let mut frames = Frames::default();
    while fill(reader, &mut frame)? {
        let header = FrameHeader::parse(&frame);
        if header.salts != *salts || !header.follows(&mut checksum, &frame) {
            break;
        }
        frames.add(&header);
    }
    Ok(frames)
}

/// Reads the headers of the frames with these salts, and checks the last ones: a process that is killed
/// may have written the header of a frame without the page.
fn read_frame_headers(
    file: &File,
    page_bytes: usize,
    salts: &[u8; 8],
    big_endian: bool,
) -> io::Result<Frames> {
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let frame_bytes = frame.len();
    let offset_of = |position: usize| HEADER_BYTES + position as u64 * frame_bytes as u64;
    let mut headers: Vec<FrameHeader> = Vec::new();
    let mut bytes = [0; FRAME_HEADER_BYTES];
    while let Some(header) = read_at(file, &mut bytes, offset_of(headers.len()))?
        .then(|| FrameHeader::parse(&bytes))
        .filter(|header| header.salts == *salts && header.page > 0)
    {
        headers.push(header);
    }
    let checked = headers.len().saturating_sub(LAST_FRAMES_CHECKED).max(1);
    let mut frames = Frames::default();
    let mut sums = (0, 0);
    for (position, header) in headers.iter().enumerate() {
        if position >= checked {
            let mut checksum = Checksum { big_endian, sums };
            if !read_at(file, &mut frame, offset_of(position))?
                || !header.follows(&mut checksum, &frame)
            {
                break;
            }
        }
        frames.add(header);
        sums = header.sums;
    }
    Ok(frames)
}

/// Reads at an offset. `false` where the file ends before the buffer is full.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Fills the buffer. `false` where the file ends before.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}
