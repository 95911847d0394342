//! What an error of SQLite means: its kind, and what to do about it.

use std::path::Path;

use rusqlite::ErrorCode;

use super::file;
use crate::error::{Cause, Error, Kind};
use crate::store::interrupted;

/// Whether somebody else holds a lock.
pub fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the file, or one that must be made beside it, cannot be opened.
pub fn is_unopenable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// An error of SQLite with its kind and remedy, the path first.
pub fn error(path: &Path, cause: &rusqlite::Error) -> Error {
    use ErrorCode as Code;
    let text = match cause {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let (kind, remedy) = match cause.sqlite_error_code() {
        Some(Code::OperationInterrupted) => return interrupted().at(path.display()),
        // SQLite says the same of the disk for temporary files, and of ids that are used up.
        Some(Code::DiskFull) if file::has_plenty(path) => (
            Kind::Io,
            "this disk has room: look at the one for temporary files (`df /var/tmp /tmp`), then for a table that has used up its ids (9223372036854775807)",
        ),
        Some(Code::DiskFull) => return disk_full(path),
        Some(Code::SystemIoFailure) if file::is_full(path) => return disk_full(path),
        Some(Code::SystemIoFailure) if file::size_limit().is_some() => {
            return file::limited(path, &text, None);
        }
        Some(Code::SystemIoFailure) => {
            (Kind::Io, "look at the disk (`dmesg`, `df`), then run it again")
        }
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => {
            (Kind::TryAgain, "run it again when the other program has finished")
        }
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => (
            Kind::Data,
            "stop the trading programs, keep a copy of the file, and restore a backup (`cts --check --deep` tells what is damaged)",
        ),
        Some(Code::ReadOnly | Code::PermissionDenied | Code::AuthorizationForStatementDenied) => (
            Kind::Permission,
            "run as the owner of the file, and look whether its disk is mounted read-only",
        ),
        Some(Code::CannotOpen) if file::storage_status(path, None).unwritable().is_some() => (
            Kind::Permission,
            "look at the rights of the file and its folder, or set SQLITE_DB_PATH (or --db) to another file",
        ),
        Some(Code::CannotOpen) => {
            (Kind::Io, "look whether file descriptors or memory ran out (`ulimit -n`, `free`)")
        }
        _ => (Kind::Data, ""),
    };
    let error = Error::new(kind, text).at(path.display());
    let error = match cause.sqlite_error() {
        Some(code) => error.caused_by(Cause::Sqlite(code.extended_code)),
        None => error,
    };
    if remedy.is_empty() { error } else { error.remedy(remedy) }
}

fn disk_full(path: &Path) -> Error {
    Error::new(Kind::Io, format!("the disk is full ({})", file::room(path, None)))
        .at(path.display())
        .caused_by(Cause::DiskFull)
        .remedy("free some space on that disk and run it again")
}
