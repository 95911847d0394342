//! The errors of files of backups.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::error::{Cause, Error, Kind};

/// The error of a file or folder of backups with which something could not be done: `what` is "cannot be read".
pub fn failed(path: &Path, what: &str, cause: &io::Error) -> Error {
    let error = |kind| Error::new(kind, what).at(path.display());
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            let text = format!("{what}: {cause}");
            Error::new(Kind::Io, text).at(path.display()).caused_by(Cause::DiskFull).remedy(
                "free some space on that disk, or set CTS_BACKUP_DIR to a folder on another",
            )
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => error(Kind::Permission)
            .caused_by(cause)
            .remedy("check the permissions of the path (`namei -l`) and the mount (`findmnt -T`)"),
        _ => error(Kind::Io)
            .caused_by(cause)
            .remedy("check the disk and its mount (`dmesg`, `findmnt`)"),
    }
}
