//! The errors of files and folders of backups.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use crate::error::{Cause, Error, Kind};
use crate::system::errno::{errno_of, meaning};
use crate::system::users;

/// What to do where a disk has no room for a backup.
pub const NO_ROOM: &str =
    "free some space on that disk, or set CTS_BACKUP_DIR to a folder on another";

/// The error of a file or folder of backups with which something could not be done: `what` is "cannot be read".
pub fn failed(path: &Path, what: &str, cause: &io::Error) -> Error {
    if matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        return Error::new(Kind::Io, format!("{what}: {cause}"))
            .at(path.display())
            .caused_by(Cause::DiskFull)
            .remedy(NO_ROOM);
    }
    let (kind, remedy) = errno_of(cause).and_then(meaning_of_backup).unwrap_or((
        Kind::Io,
        "check the disk and its mount (`dmesg`, `findmnt`), then run it again",
    ));
    let as_owner = match errno_of(cause) {
        Some(Errno::ACCESS) => users::as_owner_of(path).map(|run| format!("{remedy}, or {run}")),
        _ => None,
    };
    let remedy = as_owner.unwrap_or_else(|| remedy.to_string());
    Error::new(kind, what).at(path.display()).caused_by(cause).remedy(remedy)
}

/// What an error number means for a backup.
fn meaning_of_backup(errno: Errno) -> Option<(Kind, &'static str)> {
    Some(match errno {
        Errno::NOENT => (
            Kind::CannotCreate,
            "create the folder, or mount the file system that it is on (`findmnt`), or name another place",
        ),
        Errno::NOTDIR => {
            (Kind::CannotCreate, "name a file in a folder, or set CTS_BACKUP_DIR to a folder")
        }
        Errno::NAMETOOLONG => (Kind::CannotCreate, "give the backup a shorter name"),
        Errno::FBIG => (
            Kind::Io,
            "raise the limit on the size of files (`ulimit -f`, LimitFSIZE=), or use a file system that takes files so large",
        ),
        errno => return meaning(errno),
    })
}
