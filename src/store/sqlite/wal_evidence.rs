//! What the files beside each other show of whether a WAL was written for the database file, without
//! reading what is in the database: the images that checkpoints must have left in the file, and when the
//! files were created and written. All but the first kind is suspicion only: a copy of both files made
//! by tar, rsync or cp may have any times.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};

use super::file::side_file;
use super::page_source::PageSource;
use super::wal_file::WalFile;
use crate::system::file_handle::open_regular;

/// Pages of the file that are compared with images that a checkpoint has copied.
const COMPARED_MAX: usize = 512;
/// Images in the WAL that are compared with the file, where it is not known which of them were copied.
const IMAGES_MAX: usize = 4000;
/// Offsets in the `-shm` of the number of valid frames, of the salts, and of the number of frames
/// that are copied. (sqlite.org/walformat.html, 2 "The WAL-Index File Format")
const SHM_BYTES: usize = 136;
const SHM_SALTS_AT: usize = 32;
const SHM_COPIED_AT: usize = 96;

/// The first page that is not as the last checkpoint of the generation before must have left it. All of
/// that generation was in the file and synced before the WAL was begun anew.
///
/// # Errors
/// A file cannot be read.
pub fn page_unlike_checkpoint(wal: &WalFile, file: &PageSource<'_>) -> io::Result<Option<u32>> {
    let mut pages: Vec<(u32, usize)> = wal.previous.iter().map(|(p, f)| (*p, *f)).collect();
    pages.sort_unstable();
    pages.truncate(COMPARED_MAX);
    for (page, frame) in pages {
        if page <= file.file_pages && !is_image(wal, file, page, frame)? {
            return Ok(Some(page));
        }
    }
    Ok(None)
}

/// The first page of which the shared memory says that its image was copied from this WAL into the
/// file, and that is another. A copy of the files made while programs wrote may be like that.
///
/// # Errors
/// A file cannot be read.
pub fn page_unlike_copied(
    path: &Path,
    wal: &WalFile,
    file: &PageSource<'_>,
) -> io::Result<Option<u32>> {
    let copied = copied_frames(path, wal).unwrap_or(0);
    let is_copied = |(_, frame): &(&u32, &usize)| **frame < copied;
    for (page, frame) in wal.last_frames.iter().filter(is_copied).take(COMPARED_MAX) {
        if *page <= file.file_pages && !is_image(wal, file, *page, *frame)? {
            return Ok(Some(*page));
        }
    }
    Ok(None)
}

/// The number of frames that are copied into the file, as the shared memory of this WAL says.
fn copied_frames(path: &Path, wal: &WalFile) -> Option<usize> {
    let mut bytes = [0; SHM_BYTES];
    let shm = open_regular(&side_file(path, "-shm"), OpenOptions::new().read(true));
    shm.ok()?.read_exact(&mut bytes).ok()?;
    let copied = bytes.get(SHM_COPIED_AT..)?.first_chunk::<4>()?;
    let is_of_wal = bytes.get(SHM_SALTS_AT..)?.starts_with(&wal.salts);
    is_of_wal.then_some(u32::from_ne_bytes(*copied) as usize)
}

fn is_image(wal: &WalFile, file: &PageSource<'_>, page: u32, frame: usize) -> io::Result<bool> {
    let (mut found, mut image) = (vec![0; file.page_bytes], vec![0; file.page_bytes]);
    file.read(page, &mut found)?;
    wal.read_image(frame, &mut image)?;
    Ok(found == image)
}

/// Times of a file. `None` where the file system does not keep one.
struct Times {
    born: Option<SystemTime>,
    modified: SystemTime,
    changed: SystemTime,
}

impl Times {
    fn of(path: &Path) -> Option<Times> {
        let wanted = StatxFlags::BTIME | StatxFlags::BASIC_STATS;
        let found: Statx = statx(CWD, path, AtFlags::empty(), wanted).ok()?;
        let time = |time: rustix::fs::StatxTimestamp| {
            let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
            SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(time.tv_nsec.into())
        };
        let has_birth = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Some(Times {
            born: has_birth.then(|| time(found.stx_btime)),
            modified: time(found.stx_mtime),
            changed: time(found.stx_ctime),
        })
    }
}

/// Whether the times of the files are not those of a database and its WAL that SQLite alone has written: the
/// file was created after its WAL, was moved or restored after both were written last, or was written
/// after the WAL and by no checkpoint of it.
///
/// # Errors
/// A file cannot be read.
pub fn has_unusual_times(path: &Path, wal: &WalFile, file: &PageSource<'_>) -> io::Result<bool> {
    let times = (Times::of(path), Times::of(&side_file(path, "-wal")));
    let (Some(of_file), Some(of_wal)) = times else { return Ok(true) };
    if of_file.born > of_wal.born && of_wal.born.is_some()
        || of_file.changed > of_file.modified.max(of_wal.modified)
    {
        return Ok(true);
    }
    Ok(of_file.modified > of_wal.modified && !has_copied_page(wal, file)?)
}

/// Whether a checkpoint has copied a page of the WAL into the file. It copies the pages in the order of
/// their numbers; which image of a page it took depends on who was reading.
fn has_copied_page(wal: &WalFile, file: &PageSource<'_>) -> io::Result<bool> {
    let mut frames: Vec<(u32, usize)> = wal.frames.iter().copied().zip(0..).collect();
    frames.sort_unstable();
    let is_in_file = |(page, _): &(u32, usize)| *page <= file.file_pages;
    for (page, frame) in frames.into_iter().filter(is_in_file).take(IMAGES_MAX) {
        if is_image(wal, file, page, frame)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the WAL was created since this machine was started, so that no frame of it was lost in a power
/// failure. `None` where that is not known.
pub fn is_of_this_boot(path: &Path) -> Option<bool> {
    let born = Times::of(&side_file(path, "-wal"))?.born?;
    let statistics = fs::read_to_string("/proc/stat").ok()?;
    let booted = statistics.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted = Duration::from_secs(booted.trim().parse().ok()?);
    Some(born > SystemTime::UNIX_EPOCH + booted)
}
