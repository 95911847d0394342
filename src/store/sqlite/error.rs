//! What failed in work on an open SQLite database, and what that means for the operator: the kind of
//! the error, its sentence and the remedy.

use std::path::Path;

use rusqlite::{ErrorCode, ffi};

use super::failed_call::{explain, is_read_fault};
use super::file_error::{beyond_file_size_limit, disk_full};
use super::storage::{file_size_limit, has_plenty, is_full};
use super::write_access::write_obstacle;
use crate::error::{Cause, Error, Kind};
use crate::store::interrupted;

/// Result with [`SqliteError`].
pub type Result<T> = std::result::Result<T, SqliteError>;

/// Why work on an open SQLite database failed.
#[derive(Debug)]
pub enum SqliteError {
    /// SQLite reported an error.
    Sqlite(rusqlite::Error),
    /// cts refuses the work, because something is in its way or would be lost or altered.
    Refused(Error),
    /// SQLite's own description of its schema is not as its documentation says.
    Malformed(String),
}

impl SqliteError {
    /// The error of work that is refused: the object and the reason, and what the operator can do.
    pub fn refused(what: impl Into<String>, remedy: impl Into<String>) -> SqliteError {
        SqliteError::Refused(Error::new(Kind::Data, what).remedy(remedy))
    }

    /// The error for the operator, with the path of the database first.
    pub fn at(&self, path: &Path) -> Error {
        match self {
            SqliteError::Sqlite(cause) => from_sqlite(path, cause),
            SqliteError::Refused(error) => error.clone().at(path.display()),
            SqliteError::Malformed(what) => Error::new(Kind::Data, what)
                .at(path.display())
                .remedy("check the database for damage (`cts --check --deep`)"),
        }
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(cause: rusqlite::Error) -> SqliteError {
        SqliteError::Sqlite(cause)
    }
}

impl From<Error> for SqliteError {
    fn from(refusal: Error) -> SqliteError {
        SqliteError::Refused(refusal)
    }
}

/// Whether another connection holds a lock that is needed.
pub fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether the statement was interrupted by a handler of its progress.
pub fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

/// Whether the file, or a side file that must be created, cannot be opened.
pub fn is_unopenable(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Whether the file is damaged.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        && !is_read_fault(error)
}

/// Whether the statement itself is at fault (`SQLITE_ERROR`), such as one that names a column which
/// does not exist, and not the file, a lock or a limit.
pub fn is_statement_fault(error: &rusqlite::Error) -> bool {
    extended_code(error) == Some(ffi::SQLITE_ERROR)
}

/// Whether a check cannot be run, because the schema names what only another program has: a function, or
/// a collation (`SQLITE_ERROR_MISSING_COLLSEQ`); or because a foreign key does not fit its parent.
pub fn is_uncheckable(error: &rusqlite::Error) -> bool {
    is_statement_fault(error) || extended_code(error) == Some(ffi::SQLITE_ERROR_MISSING_COLLSEQ)
}

/// The extended result code of an error. `None` if it is not one of SQLite itself.
pub fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => {
            Some(error.extended_code)
        }
        _ => None,
    }
}

/// An error of SQLite for the operator, with the path of the database first.
pub fn from_sqlite(path: &Path, cause: &rusqlite::Error) -> Error {
    use ErrorCode as Code;
    if let Some(error) = explain(path, cause) {
        return error;
    }
    let text = match cause {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    let code = cause.sqlite_error_code();
    match code {
        Some(Code::OperationInterrupted) => return interrupted().at(path.display()),
        Some(Code::DiskFull) if !has_plenty(path) => return disk_full(path, None, None),
        Some(Code::SystemIoFailure) if is_full(path) => return disk_full(path, None, None),
        Some(Code::SystemIoFailure) if file_size_limit().is_some() => {
            return beyond_file_size_limit(path, &text, None);
        }
        _ => {}
    }
    let text = if is_damage(cause) { format!("the database is damaged: {text}") } else { text };
    let (kind, remedy) = kind_and_remedy(code);
    let mut error = Error::new(kind, text).at(path.display());
    error.remedy = remedy.map(str::to_string);
    if kind == Kind::Permission
        && let Some(obstacle) = write_obstacle(path)
    {
        error.remedy = Some(obstacle.remedy());
    }
    match extended_code(cause) {
        Some(code) => error.caused_by(Cause::Sqlite(code)),
        None => error,
    }
}

/// The kind of an error of SQLite and what to do about it, by its primary result code
/// (sqlite.org/rescode.html).
fn kind_and_remedy(code: Option<ErrorCode>) -> (Kind, Option<&'static str>) {
    use ErrorCode as Code;
    let (kind, remedy) = match code {
        // SQLite reports the same for the disk of temporary files, and for ids that are used up.
        Some(Code::DiskFull) => (
            Kind::Io,
            "this disk has room: check that of the temporary files (`df /var/tmp /tmp`), then whether a table has used up its ids (9223372036854775807)",
        ),
        Some(Code::SystemIoFailure) => {
            (Kind::Io, "check the disk (`dmesg`, `df`), then run it again")
        }
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => {
            (Kind::TryAgain, "run it again when the other program has finished")
        }
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => (
            Kind::Data,
            "stop the trading programs, keep a copy of the file, its -wal and its -shm, move these two away, and restore a backup (`cts --check --deep` lists the damage)",
        ),
        Some(Code::ReadOnly | Code::PermissionDenied | Code::AuthorizationForStatementDenied) => (
            Kind::Permission,
            "run as the owner of the file, and check whether its disk is mounted read-only (`findmnt`)",
        ),
        Some(Code::CannotOpen) => (
            Kind::Io,
            "neither the files nor the operating system show the reason: look at `dmesg` and the limits of this process (`prlimit`), then run it again",
        ),
        _ => return (Kind::Data, None),
    };
    (kind, Some(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_remedy_on_the_way_up() {
        let error =
            SqliteError::refused("table users is a view", "rename it").at(Path::new("/d/cts.db"));
        assert_eq!(error.to_string(), "/d/cts.db: table users is a view. Try: rename it");
        assert_eq!(error.kind, Kind::Data);
    }
}
