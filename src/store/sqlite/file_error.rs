//! What an error of the file system means for a database: its kind, its sentence and the remedy.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use super::storage::{NEW_DATABASE_BYTES, file_size_limit, free_bytes, needed_bytes};
use crate::error::{Cause, Error, Kind};
use crate::store::AS_ITS_OWNER;

/// The error of a file that cannot be read.
pub fn unreadable(path: &Path, cause: &io::Error) -> Error {
    let (kind, remedy) = match cause.kind() {
        ErrorKind::PermissionDenied => (Kind::Permission, AS_ITS_OWNER),
        ErrorKind::NotADirectory => {
            (Kind::Config, "set SQLITE_DB_PATH (or --db) to a file that is in a folder")
        }
        ErrorKind::InvalidFilename => {
            (Kind::Config, "set SQLITE_DB_PATH (or --db) to a path with shorter names")
        }
        _ => (Kind::Io, "check the disk (`dmesg`, `smartctl`)"),
    };
    Error::new(kind, "cannot be read").at(path.display()).caused_by(cause).remedy(remedy)
}

/// The error of an `object`, such as "the file", that cannot be created at the path.
pub fn cannot_create(path: &Path, object: &str, cause: &io::Error) -> Error {
    let kind = match cause.kind() {
        ErrorKind::PermissionDenied => Kind::Permission,
        _ if is_disk_fault(cause) => return cannot_write(path, Some(NEW_DATABASE_BYTES), cause),
        _ => Kind::CannotCreate,
    };
    Error::new(kind, format!("cannot create {object}")).at(path.display()).caused_by(cause).remedy(
        "set SQLITE_DB_PATH (or --db) to a file that this user may write, such as $HOME/cts.db, or run as a user who may write there",
    )
}

/// A full or failing disk may work again after a restart, unlike a wrong path.
fn is_disk_fault(cause: &io::Error) -> bool {
    is_out_of_space(cause) || cause.raw_os_error() == Some(Errno::IO.raw_os_error())
}

fn is_out_of_space(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The error of a failed write, of which `needed` is the number of bytes if that is known.
pub fn cannot_write(path: &Path, needed: Option<u64>, cause: &io::Error) -> Error {
    if cause.kind() == ErrorKind::FileTooLarge {
        return beyond_file_size_limit(path, &cause.to_string(), needed);
    }
    if is_out_of_space(cause) {
        return disk_full(path, Some(cause), needed);
    }
    Error::new(Kind::Io, "cannot be written")
        .at(path.display())
        .caused_by(cause)
        .remedy("check the disk (`dmesg`, `df`), then run it again")
}

/// The error of a disk that is full.
pub fn disk_full(path: &Path, cause: Option<&io::Error>, needed: Option<u64>) -> Error {
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    let free = match free_bytes(path) {
        Some(free) => format!("{} KiB are free there", free >> 10),
        None => "its file system does not say how much is free".to_string(),
    };
    let what = format!("the disk is full{cause} ({free}{})", need(path, needed));
    Error::new(Kind::Io, what)
        .at(path.display())
        .caused_by(Cause::DiskFull)
        .remedy("free some space on that disk and run it again")
}

/// The error of a write that would make a file larger than this process may.
pub fn beyond_file_size_limit(path: &Path, cause: &str, needed: Option<u64>) -> Error {
    let limit = match file_size_limit() {
        Some(limit) => format!("{} KiB", limit >> 10),
        None => "their limit".to_string(),
    };
    let what = format!("{cause}; files may not grow beyond {limit} here{}", need(path, needed));
    Error::new(Kind::Io, what)
        .at(path.display())
        .remedy("raise the limit on the size of files (`ulimit -f`, LimitFSIZE=) and run it again")
}

/// The number of bytes that are needed, for a sentence; empty where it is not known.
fn need(path: &Path, needed: Option<u64>) -> String {
    let needed = needed.or_else(|| needed_bytes(path));
    needed.map(|bytes| format!(", about {} KiB are needed", bytes >> 10)).unwrap_or_default()
}
