//! Where a SQLite database is stored: the space on its disk, whether the file can be written, and
//! whether it is still the one that was opened. A figure that cannot be read is `None`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::StatVfs;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::file::{FileIdentity, folder_of, side_file};
use super::write_access::write_obstacle_on;
use crate::error::{Error, Kind};
use crate::store::StorageStatus;
use crate::system::users;

/// Bytes on the disk that a new database needs, its journal included: twice its measured size.
pub const NEW_DATABASE_BYTES: u64 = 2 << 20;

/// Bytes on the disk that the first frames of the WAL need.
const WAL_START_BYTES: u64 = 32 << 10;

/// Bytes of the shared memory as it is created. Where a page of memory is larger, as in some kernels for ARM, it is one
/// page: no less can be mapped. (`unixShmRegionPerMap` in os_unix.c)
const SHARED_MEMORY_BYTES: u64 = 32 << 10;

/// A disk with more free bytes than this many times those that a run needs was not full.
const PLENTY_FACTOR: u64 = 8;

/// What the file system says of the disk, the permissions and, given the file that was `opened`,
/// whether it is still the one at the path.
pub fn storage_status(path: &Path, opened: Option<FileIdentity>) -> StorageStatus {
    let present = FileIdentity::read(path);
    let mut status = StorageStatus {
        unanswered: present.as_ref().err().map(|cause| unanswered(path, cause)),
        replaced: match (opened, present) {
            (Some(opened), Ok(present)) => replacement(path, opened, present),
            _ => None,
        },
        ..StorageStatus::default()
    };
    let disk = match disk(path) {
        Err(Errno::IO) if status.unanswered.is_none() => {
            status.unanswered = Some(unanswered(path, &Errno::IO.into()));
            None
        }
        answer => answer.ok(),
    };
    // A file system without figures has 0 of 0 blocks, which is not a full one.
    if let Some(disk) = disk.as_ref().filter(|disk| disk.f_blocks > 0) {
        status.free_bytes = Some(disk.f_bavail.saturating_mul(disk.f_frsize));
        status.total_bytes = Some(disk.f_blocks.saturating_mul(disk.f_frsize));
    }
    // File systems that make inodes as they need them, such as Btrfs, have 0 of 0.
    if let Some(disk) = disk.as_ref().filter(|disk| disk.f_files > 0) {
        status.free_inodes = Some(disk.f_favail);
        status.total_inodes = Some(disk.f_files);
        status.inodes_needed = ["-wal", "-shm"]
            .iter()
            .filter(|suffix| matches!(side_file(path, suffix).try_exists(), Ok(false)))
            .count() as u64;
    }
    if let Some(obstacle) = write_obstacle_on(disk.as_ref(), path) {
        let reason = format!("{}: {}", path.display(), obstacle.reason());
        status.write_remedy = Some(obstacle.remedy());
        if obstacle.is_of_other_user {
            status.not_ours = Some(reason);
        } else {
            status.read_only = Some(reason);
        }
    }
    status
}

/// What statvfs(3) says of the disk of the database, or of its folder where there is none.
///
/// # Errors
/// That of the system call.
pub fn disk(path: &Path) -> rustix::io::Result<StatVfs> {
    match rustix::fs::statvfs(path) {
        Err(Errno::NOENT) => rustix::fs::statvfs(folder_of(path)),
        answer => answer,
    }
}

/// The error of a file system that does not say what is at the path, or what its disk has left.
fn unanswered(path: &Path, cause: &io::Error) -> Error {
    let (kind, remedy) = match cause.kind() {
        ErrorKind::PermissionDenied => (
            Kind::Permission,
            users::as_owner_of(path).unwrap_or_else(|| {
                "check the permissions of its folders (`namei -l` on the path)".into()
            }),
        ),
        _ => (Kind::Io, "check the disk (`dmesg`, `smartctl`)".into()),
    };
    let what = "its file system does not answer";
    Error::new(kind, what).at(path.display()).caused_by(cause).remedy(remedy)
}

/// Why the file that is at the path now, if there is one, is not the one that was opened.
fn replacement(path: &Path, opened: FileIdentity, present: Option<FileIdentity>) -> Option<String> {
    match present {
        None => Some(format!(
            "{} was deleted while it was open: stop every program that has it open, put it back, or move its -wal and -shm away and restore a backup, and start cts again",
            path.display()
        )),
        Some(now) if now != opened => Some(format!(
            "{} was replaced by another file while it was open: {}",
            path.display(),
            way_back(path)
        )),
        Some(_) => None,
    }
}

/// What to do where another file is at the path, beside the WAL of the one before.
pub fn way_back(path: &Path) -> String {
    let (wal, shm) = (side_file(path, "-wal"), side_file(path, "-shm"));
    format!(
        "stop every program that has it open, move {} and {} away, which belong to the file before, unless they came with the new one, and start cts again",
        wal.display(),
        shm.display()
    )
}

/// Why the database cannot be used, and what to do, where a page of its file was written by no checkpoint.
pub fn overwritten(path: &Path, page: u32) -> String {
    let (wal, shm) = (side_file(path, "-wal"), side_file(path, "-shm"));
    let path = path.display();
    format!(
        "{path} was overwritten in place while it was open (page {page} was written by no checkpoint): stop every program that has it open, copy the wanted database there once more, since pages of the one before may have been mixed into it, move {} and {} away, which belong to the one before, and start cts again",
        wal.display(),
        shm.display()
    )
}

/// Free bytes on the disk of the database. `None` if its file system does not say.
pub fn free_bytes(path: &Path) -> Option<u64> {
    storage_status(path, None).free_bytes
}

/// Whether no further file can be created on the disk of the database.
pub fn has_no_inode(path: &Path) -> bool {
    storage_status(path, None).free_inodes == Some(0)
}

/// Bytes on the disk that the shared memory and the first frames of the WAL need.
pub fn side_files_bytes() -> u64 {
    SHARED_MEMORY_BYTES.max(rustix::param::page_size() as u64) + WAL_START_BYTES
}

/// Whether the disk has no space left for the side files of a database.
pub fn is_full(path: &Path) -> bool {
    free_bytes(path).is_some_and(|free| free < side_files_bytes())
}

/// Whether there are far more bytes free than a run may need.
pub fn has_plenty(path: &Path) -> bool {
    match (free_bytes(path), needed_bytes(path)) {
        (Some(free), Some(needed)) => {
            file_size_limit().is_none() && free > needed.saturating_mul(PLENTY_FACTOR)
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
