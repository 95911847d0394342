//! Where a SQLite database is stored: the space on its disk, whether the file can be written, and
//! whether it is still the one that was opened. A figure that cannot be read is `None`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, StatVfs, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

use super::file::{FileIdentity, folder_of};
use crate::store::StorageStatus;

/// Bytes on the disk that a new database needs, its journal included: twice its measured size.
pub const NEW_DATABASE_BYTES: u64 = 2 << 20;

/// Bytes on the disk that the shared memory and one page of the WAL need.
pub const SIDE_FILES_BYTES: u64 = 64 << 10;

/// How many times the bytes that a run needs are so many that the disk cannot have been full.
const PLENTY: u64 = 8;

/// What the file system says of the disk, the rights and, given the file that was `opened`, whether it
/// is still the one at the path.
pub fn storage_status(path: &Path, opened: Option<FileIdentity>) -> StorageStatus {
    let mut status = StorageStatus {
        replaced: opened.and_then(|opened| replacement(path, opened)),
        ..StorageStatus::default()
    };
    if let Some(disk) = disk(path) {
        // A file system without figures has 0 of 0 blocks, which is not a full one.
        if disk.f_blocks > 0 {
            status.free_bytes = Some(disk.f_bavail.saturating_mul(disk.f_frsize));
            status.total_bytes = Some(disk.f_blocks.saturating_mul(disk.f_frsize));
        }
        if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
            status.read_only = Some(format!("{} is mounted read-only", folder_of(path).display()));
            return status;
        }
    }
    match missing_right(path) {
        Some(missing) if missing.is_of_others => status.not_ours = Some(missing.reason),
        Some(missing) => status.read_only = Some(missing.reason),
        None => {}
    }
    status
}

fn disk(path: &Path) -> Option<StatVfs> {
    rustix::fs::statvfs(if path.exists() { path } else { folder_of(path) }).ok()
}

/// Why this user cannot write the file or its folder.
struct MissingRight {
    reason: String,
    /// Whether it belongs to another user, who may be able to.
    is_of_others: bool,
}

fn missing_right(path: &Path) -> Option<MissingRight> {
    let existing = [path, folder_of(path)].into_iter().filter(|p| p.exists());
    let refused = |p| rustix::fs::access(p, Access::WRITE_OK).err().map(|errno| (p, errno));
    let (refused, errno) = existing.filter_map(refused).next()?;
    let is_of_others = |metadata: fs::Metadata| metadata.uid() != geteuid().as_raw();
    Some(MissingRight {
        reason: format!("{} cannot be written: {}", refused.display(), io::Error::from(errno)),
        is_of_others: errno == Errno::ACCESS && fs::metadata(refused).is_ok_and(is_of_others),
    })
}

/// Why the file at the path is not the one that was opened.
fn replacement(path: &Path, opened: FileIdentity) -> Option<String> {
    match FileIdentity::of(path) {
        None => Some(format!("{} was deleted while it was open", path.display())),
        Some(now) if now != opened => {
            Some(format!("{} was replaced by another file while it was open", path.display()))
        }
        Some(_) => None,
    }
}

/// Free bytes on the disk of the database. `None` if its file system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    storage_status(path, None).free_bytes
}

/// Whether the disk has no space left for the side files of a database.
pub fn is_full(path: &Path) -> bool {
    free_bytes(path).is_some_and(|free| free < SIDE_FILES_BYTES)
}

/// Whether there are far more bytes free than a run may need.
pub fn has_plenty(path: &Path) -> bool {
    match (free_bytes(path), needed_bytes(path)) {
        (Some(free), Some(needed)) => {
            file_size_limit().is_none() && free > needed.saturating_mul(PLENTY)
        }
        _ => false,
    }
}

/// Estimate of the bytes that a run may write: a new database, and for indexes that are created again
/// at most the size of the file. `None` if that size cannot be read.
pub fn needed_bytes(path: &Path) -> Option<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Some(NEW_DATABASE_BYTES + metadata.len()),
        Err(e) if e.kind() == ErrorKind::NotFound => Some(NEW_DATABASE_BYTES),
        Err(_) => None,
    }
}

/// The size in bytes above which this process may not extend a file. `None` if there is no limit.
pub fn file_size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}
