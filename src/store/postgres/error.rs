//! Translates the errors of a connection: kind and remedy by SQLSTATE, severity and the
//! server's routine; by a text only in [`known_text`].

#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, Severity, SqlState};

use super::answer_limits::AnswerTooLong;
use super::client::ClientError;
use super::url::Password;
use crate::error::{Cause, Error, Kind};
use crate::store::interrupted;

/// Characters of a server's message that are shown. A server that is broken, or is none, may send
/// megabytes.
const MESSAGE_CHARS_MAX: usize = 500;
/// A shorter password is not masked in messages: it would be part of ordinary words.
const MASKED_PASSWORD_CHARS_MIN: usize = 4;

/// Whether the connection is lost, or there is none.
pub fn is_lost(error: &Error) -> bool {
    error.kind == Kind::Unavailable
}

/// Whether a lock was not granted within `lock_timeout`.
pub fn is_lock_timeout(error: &Error) -> bool {
    let code = SqlState::LOCK_NOT_AVAILABLE.code();
    matches!(error.cause.as_deref(), Some(Cause::SqlState(state)) if state == code)
}

/// Whether the server has cancelled a statement, at its time limit for example.
pub fn is_cancelled(error: &Error) -> bool {
    let code = SqlState::QUERY_CANCELED.code();
    matches!(error.cause.as_deref(), Some(Cause::SqlState(state)) if state == code)
}

/// Whether the server could not write a file: the disk is full, or it has failed, or was mounted read-only, which is a
/// refused permission to the server. (PostgreSQL source, errcode_for_file_access)
pub fn is_disk_fault(error: &Error) -> bool {
    let Some(Cause::SqlState(state)) = error.cause.as_deref() else { return false };
    // Class 58: an error of the operating system.
    [SqlState::DISK_FULL.code(), SqlState::INSUFFICIENT_PRIVILEGE.code()].contains(&state.as_str())
        || state.starts_with("58")
}

/// Whether the server, or a pooler before it, refused a message as one that it does not know: PgBouncer gives most of
/// its errors this SQLSTATE.
pub fn is_protocol_violation(error: &Error) -> bool {
    let code = SqlState::PROTOCOL_VIOLATION.code();
    matches!(error.cause.as_deref(), Some(Cause::SqlState(state)) if state == code)
}

/// An error of a connection with kind and remedy, without its password.
pub fn from_client(cause: &ClientError, password: Option<&Password>) -> Error {
    let error = match cause {
        ClientError::Server(error) => match error.as_db_error() {
            Some(error) => from_server(error),
            None => from_connection(error),
        },
        ClientError::System(error) => {
            Error::new(Kind::Unavailable, io_message(error)).remedy(CHECK_SERVER)
        }
        ClientError::TooLong(fault) => too_long(fault),
        ClientError::NoAnswer(limit) => no_answer(*limit),
        ClientError::Stopped => interrupted(),
        ClientError::GivenUp => {
            Error::new(Kind::Unavailable, "the connection was closed").remedy(CHECK_SERVER)
        }
    };
    Error { what: printable(&error.what, password), ..error }
}

/// The error of a server that does not answer in time.
pub fn no_answer(limit: Duration) -> Error {
    let what = format!("the server does not answer within {:.1} s", limit.as_secs_f32());
    Error::new(Kind::Unavailable, what).remedy("check the server and the network to it")
}

fn too_long(fault: &AnswerTooLong) -> Error {
    Error::new(Kind::Unavailable, fault.to_string()).remedy(
        "check host and port in the URL: what answers there is not PostgreSQL, or it is broken",
    )
}

/// A message of a server without the password, which a pooler may repeat, and shortened. What shows it
/// escapes its control characters.
pub fn printable(text: &str, password: Option<&Password>) -> String {
    let password = password.map(|password| String::from_utf8_lossy(password.expose()));
    let text = match password.filter(|p| p.len() >= MASKED_PASSWORD_CHARS_MIN) {
        Some(password) => text.replace(&*password, "***"),
        None => text.to_string(),
    };
    let mut rest = text.chars();
    let shown: String = rest.by_ref().take(MESSAGE_CHARS_MAX).collect();
    let more = if rest.next().is_some() { " …" } else { "" };
    shown + more
}

/// What of an error decides about its kind and remedy.
struct ServerFault<'e> {
    state: &'e SqlState,
    message: &'e str,
    /// The function of the server that raised it.
    routine: Option<&'e str>,
    /// Whether the server has ended the connection with it.
    is_fatal: bool,
}

fn from_server(error: &DbError) -> Error {
    let fault = ServerFault {
        state: error.code(),
        message: error.message(),
        routine: error.routine(),
        is_fatal: matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
    };
    if known_text(fault.message) == Some(KnownText::CancelledByRequest)
        && *fault.state == SqlState::QUERY_CANCELED
    {
        return interrupted();
    }
    let (kind, remedy) = meaning(&fault);
    let cause = Cause::SqlState(fault.state.code().to_string());
    let error = Error::new(kind, message(error)).caused_by(cause);
    if remedy.is_empty() { error } else { error.remedy(remedy) }
}

/// The message of the server. The detail of a refused row contains the row, API keys of exchanges
/// among it, and is left out.
fn message(error: &DbError) -> String {
    let state = error.code();
    if *state == SqlState::LOCK_NOT_AVAILABLE {
        return "a table is locked".into();
    }
    // Classes 22 and 23: data exceptions, constraint violations.
    let contains_row = state.code().starts_with("22") || state.code().starts_with("23");
    match error.detail().filter(|_| !contains_row) {
        Some(detail) => format!("{} ({})", error.message(), detail.trim_end_matches('.')),
        None => error.message().to_string(),
    }
}

/// Kind and remedy by SQLSTATE (PostgreSQL documentation, appendix A); no remedy is empty.
fn meaning(fault: &ServerFault<'_>) -> (Kind, &'static str) {
    match *fault.state {
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE => {
            (Kind::Blocked, "let the other program finish its transaction")
        }
        SqlState::QUERY_CANCELED => (Kind::TryAgain, "run it again when the server is less busy"),
        SqlState::DISK_FULL => (
            Kind::Io,
            "free some space on the server, on the disk of this tablespace, and run it again",
        ),
        SqlState::OUT_OF_MEMORY => (Kind::Io, "check the memory of the server"),
        SqlState::IO_ERROR | SqlState::SYSTEM_ERROR => (Kind::Io, CHECK_SERVER_DISK),
        SqlState::TOO_MANY_CONNECTIONS | SqlState::CONFIGURATION_LIMIT_EXCEEDED => (
            Kind::Unavailable,
            "close connections of other programs, or raise max_connections (or the role's CONNECTION LIMIT)",
        ),
        SqlState::READ_ONLY_SQL_TRANSACTION => (
            Kind::Unavailable,
            "find the primary and name it in the URL; if this server is the primary, check default_transaction_read_only",
        ),
        SqlState::INVALID_PASSWORD => {
            (Kind::Permission, "correct the password in the URL, or in the file of PGPASSFILE")
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            (Kind::Permission, "check the user in the URL, and pg_hba.conf of the server")
        }
        SqlState::INVALID_CATALOG_NAME => (
            Kind::Config,
            "create the database (`CREATE DATABASE … OWNER …`), or correct its name in the URL",
        ),
        SqlState::INSUFFICIENT_PRIVILEGE => (Kind::Permission, privilege_remedy(fault)),
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => (Kind::Data, RESTORE_BACKUP),
        _ => meaning_by_class(fault),
    }
}

const RESTORE_BACKUP: &str =
    "stop the trading programs, keep a copy of the server's data directory, and restore a backup";
const CHECK_SERVER_DISK: &str = "check the disk and the log of the server";
const CHECK_SERVER: &str =
    "check that the server runs (`pg_isready`, its log), and host and port in the URL";

fn meaning_by_class(fault: &ServerFault<'_>) -> (Kind, &'static str) {
    let code = fault.state.code();
    match (code.get(..2).unwrap_or_default(), fault.routine) {
        // An unknown setting, one without a value, one with an invalid value.
        _ if fault.is_fatal && matches!(code, "42704" | "42601" | "22023") => {
            (Kind::Config, "correct `options` in the URL, or what `ALTER ROLE … SET` has set")
        }
        // Connection exceptions and operator intervention: shutting down, starting up.
        ("08" | "57", _) => (Kind::Unavailable, CHECK_SERVER),
        ("53", _) => (Kind::Io, "check the resources of the server"),
        ("58", _) => (Kind::Io, CHECK_SERVER_DISK),
        // A login writes the relation cache file if there is none yet; the code is XX000.
        (_, Some("write_item" | "write_relcache_init_file")) => {
            (Kind::Io, "free some space on the server, on the disk of the database's tablespace")
        }
        // A page that cannot be read, where the operating system gives no error code.
        (_, Some("mdread" | "mdreadv")) => (Kind::Data, RESTORE_BACKUP),
        _ if fault.is_fatal => (Kind::Unavailable, CHECK_SERVER),
        _ => (Kind::Data, ""),
    }
}

const GRANT_SCHEMA: &str = "`GRANT USAGE, CREATE ON SCHEMA … TO` the user of the URL, or give it a schema of its own (docs/postgresql.md, \"Rights\")";

/// The remedy of a role that does not own the tables.
pub const OWN_TABLES: &str = "make the user of the URL the owner of the schema and its tables (docs/postgresql.md, \"Rights\")";

fn privilege_remedy(fault: &ServerFault<'_>) -> &'static str {
    match (fault.routine, known_text(fault.message)) {
        (Some("check_enable_rls"), _) => {
            "let the user of the URL read all rows: `ALTER TABLE … DISABLE ROW LEVEL SECURITY`, or `ALTER ROLE … BYPASSRLS`"
        }
        (_, Some(KnownText::SchemaDenied)) => GRANT_SCHEMA,
        (_, Some(KnownText::TableDenied)) => {
            "make the user of the URL the owner of the tables; for `cts --check` alone, `GRANT SELECT ON ALL TABLES IN SCHEMA …` is enough (docs/postgresql.md, \"Rights\")"
        }
        _ => OWN_TABLES,
    }
}

/// The error of a role that may not use the schema of the tables.
pub fn no_schema_rights(schema: &str) -> Error {
    let what = format!("permission denied for schema {schema}");
    Error::new(Kind::Permission, what).remedy(GRANT_SCHEMA)
}

/// A meaning that an error has in its text only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownText {
    /// A statement was cancelled by a client, and not by a timeout.
    CancelledByRequest,
    /// A privilege on a schema is missing.
    SchemaDenied,
    /// A privilege on a table is missing.
    TableDenied,
    /// The login failed without an error of the server.
    LoginFailed,
}

/// Recognises a text whose meaning no field of the error has. All comparisons with texts stand here:
/// - SQLSTATE 57014 is that of a client's cancellation and of a timeout alike, and 42501 that of
///   every privilege; both are raised by one routine each (`ProcessInterrupts`,
///   `aclcheck_error`), without the fields `schema` and `table`. A server that is set to another
///   language than English is not recognised, and the general remedy is given.
/// - `tokio-postgres` keeps the kind of its errors private.
pub fn known_text(text: &str) -> Option<KnownText> {
    match text {
        "authentication error" | "invalid configuration" => Some(KnownText::LoginFailed),
        _ if text.ends_with("due to user request") => Some(KnownText::CancelledByRequest),
        _ if text.starts_with("permission denied for schema ") => Some(KnownText::SchemaDenied),
        _ if text.starts_with("permission denied for table ") => Some(KnownText::TableDenied),
        _ => None,
    }
}

/// An error that the server did not send: it cannot be reached, or the connection was lost.
fn from_connection(cause: &tokio_postgres::Error) -> Error {
    let root = root_cause(cause);
    if let Some(fault) = answer_too_long(cause) {
        return too_long(fault);
    }
    let text = cause.to_string();
    let what = if cause.is_closed() {
        "the server has closed the connection".to_string()
    } else if cause.source().is_some_and(|source| source.is::<io::Error>()) {
        io_message(root)
    } else {
        match known_text(&text) {
            Some(KnownText::LoginFailed) => {
                return Error::new(Kind::Permission, format!("{text}: {root}"))
                    .remedy("check user and password in the URL, and pg_hba.conf of the server");
            }
            _ => format!("{text}: {root}"),
        }
    };
    Error::new(Kind::Unavailable, what).remedy(CHECK_SERVER)
}

/// The limit that an answer has passed, if that is why the connection was given up.
fn answer_too_long(error: &tokio_postgres::Error) -> Option<&AnswerTooLong> {
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref()
}

fn root_cause<'e>(error: &'e tokio_postgres::Error) -> &'e (dyn StdError + 'static) {
    let mut root: &(dyn StdError + 'static) = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root
}

/// The text of an I/O error, of an operating system's without its number.
fn io_message(error: &(dyn StdError + 'static)) -> String {
    let text = error.to_string();
    let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    match number.and_then(|number| text.strip_suffix(&format!(" (os error {number})"))) {
        Some(plain) => plain.to_lowercase(),
        None => text,
    }
}
