//! What an error of the file system means for a database: its kind, its sentence and the remedy.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::geteuid;

use super::file::folder_of;
use super::storage::{NEW_DATABASE_BYTES, file_size_limit, free_bytes, has_no_inode, needed_bytes};
use crate::error::{Cause, Error, Kind};
use crate::store::as_its_owner;
use crate::system::errno::{self, errno_of};
use crate::system::shell::word;
use crate::system::size::Bytes;
use crate::system::users;

/// What to do if a database cannot be created at a path.
const ELSEWHERE: &str =
    "set SQLITE_DB_PATH (or --db) to a file that this user may write, such as $HOME/cts.db";

/// What an error number of the operating system means for a database, whatever call failed with it: the kind of the
/// error, and what to do. `None` if that depends on the call.
pub fn meaning(errno: Errno) -> Option<(Kind, &'static str)> {
    Some(match errno {
        Errno::IO | Errno::NXIO | Errno::NODEV | Errno::TIMEDOUT => (
            Kind::Io,
            "check the disk (`dmesg`, `smartctl`) and its mount (`findmnt`); the file may be sound, and a backup is of no use before the disk works",
        ),
        Errno::NOLCK => {
            (Kind::Io, "put the database on a local file system, which can lock files (`findmnt`)")
        }
        Errno::NOTDIR => {
            (Kind::Config, "set SQLITE_DB_PATH (or --db) to a file that is in a folder")
        }
        Errno::NAMETOOLONG => {
            (Kind::Config, "set SQLITE_DB_PATH (or --db) to a path with shorter names")
        }
        errno => return errno::meaning(errno),
    })
}

/// The error of a file that cannot be read.
pub fn unreadable(path: &Path, cause: &io::Error) -> Error {
    let is_own = |metadata: Metadata| metadata.uid() == geteuid().as_raw();
    let (kind, remedy) = match errno_of(cause) {
        Some(Errno::ACCESS) if fs::metadata(path).is_ok_and(is_own) => {
            let remedy = "give its owner the right to read and write it (`chmod u+rw`)";
            (Kind::Permission, remedy.to_string())
        }
        Some(Errno::ACCESS | Errno::PERM) => (Kind::Permission, as_its_owner(path)),
        errno => {
            let known = errno.and_then(meaning);
            let (kind, remedy) =
                known.unwrap_or((Kind::Io, "check the disk (`dmesg`, `smartctl`)"));
            (kind, remedy.to_string())
        }
    };
    Error::new(kind, "cannot be read").at(path.display()).caused_by(cause).remedy(remedy)
}

/// The error of an `object`, such as "the file", that cannot be created at the path.
pub fn cannot_create(path: &Path, object: &str, cause: &io::Error) -> Error {
    if is_out_of_space(cause) || cause.kind() == ErrorKind::FileTooLarge {
        return cannot_write(path, Some(NEW_DATABASE_BYTES), cause);
    }
    let elsewhere = || format!("{ELSEWHERE}, or run as a user who may write there");
    let (kind, remedy) = match errno_of(cause).and_then(meaning) {
        Some((Kind::Io, remedy)) => (Kind::Io, remedy.to_string()),
        Some((Kind::Permission, _)) if cause.kind() == ErrorKind::PermissionDenied => {
            let remedy = taking_the_folder(path).unwrap_or_else(elsewhere);
            (Kind::Permission, remedy)
        }
        _ => (Kind::CannotCreate, elsewhere()),
    };
    Error::new(kind, format!("cannot create {object}"))
        .at(path.display())
        .caused_by(cause)
        .remedy(remedy)
}

/// How this user can get to write the folder of the database, if it exists and belongs to another user.
fn taking_the_folder(path: &Path) -> Option<String> {
    let (folder, user) = (folder_of(path), geteuid().as_raw());
    let owner = fs::metadata(folder).ok()?.uid();
    let by = users::name(user);
    if owner == user || folder == Path::new("/") {
        return None;
    }
    Some(if owner == 0 {
        let (argument, shown) = (users::owner_argument(user), word(folder));
        format!(
            "{} belongs to root and is to belong to {by}: sudo chown {argument} {shown} (in a container: the folder of the host that is mounted there); or {ELSEWHERE}",
            folder.display()
        )
    } else {
        format!(
            "{} belongs to {}, and this is {by}: run as its owner (`{} cts …`, in a container --user {owner}), or {ELSEWHERE}",
            folder.display(),
            users::name(owner),
            users::sudo(owner)
        )
    })
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
    let remedy = errno_of(cause).and_then(meaning).map(|(_, remedy)| remedy);
    Error::new(Kind::Io, "cannot be written")
        .at(path.display())
        .caused_by(cause)
        .remedy(remedy.unwrap_or("check the disk (`dmesg`, `df`), then run it again"))
}

/// The error of a disk that is full: of its space, its inodes or a quota on them.
pub fn disk_full(path: &Path, cause: Option<&io::Error>, needed: Option<u64>) -> Error {
    let is_quota = cause.is_some_and(|cause| cause.kind() == ErrorKind::QuotaExceeded);
    let (fault, remedy) = if is_quota {
        (
            "the quota on the disk is used up",
            "free some space there, or raise the quota (`quota`, `repquota -a`), and run it again",
        )
    } else if has_no_inode(path) {
        (
            "no inode is free on the file system, so that no file can be created",
            "remove files that are not needed (`df -i`), and run it again",
        )
    } else {
        ("the disk is full", "free some space on that disk and run it again")
    };
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    let free = match free_bytes(path) {
        Some(free) => format!("{} are free there", Bytes(free)),
        None => "its file system does not say how much is free".to_string(),
    };
    let what = format!("{fault}{cause} ({free}{})", need(path, needed));
    Error::new(Kind::Io, what).at(path.display()).caused_by(Cause::DiskFull).remedy(remedy)
}

/// The error of a write that would make a file larger than this process may.
pub fn beyond_file_size_limit(path: &Path, cause: &str, needed: Option<u64>) -> Error {
    let limit = match file_size_limit() {
        Some(limit) => Bytes(limit).to_string(),
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
    needed.map(|bytes| format!(", about {} are needed", Bytes(bytes))).unwrap_or_default()
}
