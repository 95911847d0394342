//! The cause of an error of SQLite that SQLite does not name: the type of a file, a missing right, inodes,
//! or the error number of the call that failed. What is found is said, and nothing is guessed.

use std::io;
use std::path::Path;

use rusqlite::{ErrorCode, ffi};
use rustix::io::Errno;

use super::error::extended_code;
use super::file::refuse_other_types;
use super::file_error::{disk_full, meaning};
use super::storage::has_no_inode;
use super::write_access::write_obstacle;
use crate::error::{Error, Kind};

/// The error number of this thread: that of the last call of the C library that failed. No call that
/// succeeds changes it (errno(3)), so that it is the cause of an error of SQLite that has just been returned.
pub fn last_errno() -> Option<Errno> {
    Errno::from_io_error(&io::Error::last_os_error())
}

/// Whether a file could not be read, for which SQLite reports damage: SQLITE_IOERR_CORRUPTFS becomes
/// SQLITE_CORRUPT before it is returned (`unixRead` in os_unix.c, `abort_due_to_error` in vdbe.c).
pub fn is_read_fault(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
        && matches!(last_errno(), Some(Errno::IO | Errno::NXIO))
}

/// The error for the operator, where more than the result code is known of its cause. It is asked for
/// before any other call is made.
pub fn explain(path: &Path, cause: &rusqlite::Error) -> Option<Error> {
    let (errno, is_read_fault) = (last_errno(), is_read_fault(cause));
    let code = cause.sqlite_error_code()?;
    if is_read_fault {
        return errno.map(|errno| failed("cannot be read", path, errno));
    }
    if code == ErrorCode::OutOfMemory || extended_code(cause) == Some(ffi::SQLITE_IOERR_NOMEM) {
        return Some(failed("cannot be used", path, Errno::NOMEM));
    }
    if extended_code(cause) == Some(ffi::SQLITE_IOERR_GETTEMPPATH) {
        let what = "SQLite needs a temporary file, and can write none of the folders for these: SQLITE_TMPDIR, TMPDIR, /var/tmp, /usr/tmp, /tmp";
        let remedy = "set SQLITE_TMPDIR to a folder that this user may write, on a disk with room for a copy of the largest table";
        return Some(Error::new(Kind::Io, what).at(path.display()).remedy(remedy));
    }
    let is_opening = code == ErrorCode::CannotOpen;
    if !is_opening && code != ErrorCode::SystemIoFailure {
        return None;
    }
    if let Err(error) = refuse_other_types(path) {
        return Some(error);
    }
    if is_opening && let Some(obstacle) = write_obstacle(path) {
        let error = Error::new(Kind::Permission, obstacle.reason()).at(path.display());
        return Some(error.remedy(obstacle.remedy()));
    }
    match errno {
        Some(Errno::DQUOT) => Some(disk_full(path, Some(&Errno::DQUOT.into()), None)),
        Some(Errno::NOSPC) if has_no_inode(path) => Some(disk_full(path, None, None)),
        _ if is_opening && has_no_inode(path) => Some(disk_full(path, None, None)),
        Some(errno) if meaning(errno).is_some() => {
            let what = if is_opening {
                "it or a file beside it cannot be opened"
            } else {
                "reading or writing it failed"
            };
            Some(failed(what, path, errno))
        }
        _ => None,
    }
}

fn failed(what: &str, path: &Path, errno: Errno) -> Error {
    let (kind, remedy) = meaning(errno).unwrap_or((Kind::Io, "check the disk (`dmesg`)"));
    Error::new(kind, what).at(path.display()).caused_by(io::Error::from(errno)).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_that_a_thread_meets_in_which_no_call_has_failed_is_damage() {
        let met = std::thread::spawn(|| {
            let damage = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None);
            (last_errno(), is_read_fault(&damage), explain(Path::new("/data/cts.db"), &damage))
        });
        assert_eq!(met.join().unwrap(), (None, false, None));
    }
}
