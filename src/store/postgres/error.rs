//! What an error of PostgreSQL means: its kind, and what to do about it.

use std::error::Error as _;
use std::io;

use postgres::error::{Severity, SqlState};

use super::url::Password;

use crate::error::{Cause, Error, Kind};
use crate::store::interrupted;

/// A longer text of a server is cut: one that is broken may send megabytes.
const LONGEST: usize = 500;
/// Shorter ones are words of other texts too.
const SHORTEST_SECRET: usize = 4;

/// Whether the connection is of no use any more, or there is none.
pub fn is_lost(error: &Error) -> bool {
    error.kind == Kind::Unavailable
}

/// An error of PostgreSQL with its kind and remedy, and without the password of the connection.
pub fn error(cause: &postgres::Error, secret: Option<&Password>) -> Error {
    let error = meant(cause);
    Error { what: shown(&error.what, secret), ..error }
}

/// What a server sent, as it may be shown: a pooler may repeat the password, and one that is not
/// what it seems may send what a terminal obeys.
fn shown(text: &str, secret: Option<&Password>) -> String {
    let secret = secret.map(|secret| String::from_utf8_lossy(secret.expose()));
    let text = match secret.filter(|secret| secret.len() >= SHORTEST_SECRET) {
        Some(secret) => text.replace(&*secret, "***"),
        None => text.to_string(),
    };
    let mut rest = text.chars();
    let shown: String = rest.by_ref().take(LONGEST).collect();
    let more = if rest.next().is_some() { " …" } else { "" };
    shown.replace(char::is_control, " ") + more
}

fn meant(cause: &postgres::Error) -> Error {
    match cause.as_db_error() {
        Some(said) => {
            let ended = matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
            let (kind, remedy) = meaning(said.code(), said.message(), ended);
            if kind == Kind::TryAgain && said.code() == &SqlState::QUERY_CANCELED {
                return canceled(said.message());
            }
            let state = Cause::SqlState(said.code().code().to_string());
            let error = Error::new(kind, text(said)).caused_by(state);
            if remedy.is_empty() { error } else { error.remedy(remedy) }
        }
        None => unreached(cause),
    }
}

/// What the server said. The detail of a refused row holds the row, keys of an exchange among it,
/// and is left out.
fn text(said: &postgres::error::DbError) -> String {
    if said.code() == &SqlState::LOCK_NOT_AVAILABLE {
        return "a table is locked".into();
    }
    let holds_rows = said.code().code().starts_with("22") || said.code().code().starts_with("23");
    match said.detail().filter(|_| !holds_rows) {
        Some(detail) => format!("{} ({})", said.message(), detail.trim_end_matches('.')),
        None => said.message().to_string(),
    }
}

/// Kind and remedy by SQLSTATE (PostgreSQL documentation, appendix A).
/// `ended` says that the connection is over with it.
fn meaning(state: &SqlState, message: &str, ended: bool) -> (Kind, &'static str) {
    match *state {
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::T_R_SERIALIZATION_FAILURE => (
            Kind::Blocked,
            "let the other program finish its transaction, or raise CTS_LOCK_TIMEOUT",
        ),
        SqlState::QUERY_CANCELED => (Kind::TryAgain, ""),
        SqlState::DISK_FULL => (
            Kind::Io,
            "free some space on the server, where this tablespace lies, and run it again",
        ),
        SqlState::OUT_OF_MEMORY => (Kind::Io, "look at the memory of the server"),
        SqlState::IO_ERROR | SqlState::SYSTEM_ERROR => {
            (Kind::Io, "look at the disk and the log of the server")
        }
        SqlState::TOO_MANY_CONNECTIONS | SqlState::CONFIGURATION_LIMIT_EXCEEDED => (
            Kind::Unavailable,
            "close connections of other programs, or raise max_connections (or the role's CONNECTION LIMIT)",
        ),
        SqlState::READ_ONLY_SQL_TRANSACTION => (
            Kind::Unavailable,
            "look which server is the primary, and name it in the URL; if this one is, whether default_transaction_read_only is set",
        ),
        SqlState::INVALID_PASSWORD => {
            (Kind::Permission, "correct the password in the URL, or in the file of PGPASSFILE")
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            (Kind::Permission, "look at the user in the URL, and at pg_hba.conf of the server")
        }
        SqlState::INVALID_CATALOG_NAME => (
            Kind::Config,
            "create the database (`CREATE DATABASE … OWNER …`), or correct its name in the URL",
        ),
        SqlState::INSUFFICIENT_PRIVILEGE => (Kind::Permission, to_grant(message)),
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => (
            Kind::Data,
            "stop the trading programs, keep a copy of the server's data folder, and restore a backup",
        ),
        _ => by_class(state.code(), message, ended),
    }
}

/// What the user of the URL lacks, in the words of a server that speaks English.
pub fn to_grant(message: &str) -> &'static str {
    if message.contains("row-level security") {
        "let the user of the URL see all rows: `ALTER TABLE … DISABLE ROW LEVEL SECURITY`, or `ALTER ROLE … BYPASSRLS`"
    } else if message.contains("for schema") {
        "`GRANT USAGE, CREATE ON SCHEMA … TO` the user of the URL, or give it a schema of its own (docs/postgresql.md, \"Rights\")"
    } else if message.contains("for table") {
        "let the user of the URL own the tables; who only looks needs `GRANT SELECT ON ALL TABLES IN SCHEMA …` (docs/postgresql.md, \"Rights\")"
    } else {
        "let the user of the URL own the schema and its tables (docs/postgresql.md, \"Rights\")"
    }
}

fn by_class(code: &str, message: &str, ended: bool) -> (Kind, &'static str) {
    match code.get(..2).unwrap_or_default() {
        // An unknown setting, one without a value, one with a value that cannot be.
        _ if ended && matches!(code, "42704" | "42601" | "22023") => {
            (Kind::Config, "correct `options` in the URL, or what `ALTER ROLE … SET` has set")
        }
        // Connection exceptions and operator intervention: shutting down, starting up.
        "08" | "57" => (Kind::Unavailable, ""),
        "53" => (Kind::Io, "look at the resources of the server"),
        "58" => (Kind::Io, "look at the disk and the log of the server"),
        // What each login writes where there is none yet; the server gives no better code for it.
        _ if message.contains("could not write init file") => {
            (Kind::Io, "free some space on the server, where the tablespace of the database lies")
        }
        // What a damaged file says, for one page or block.
        _ if message.contains("could not read block") => {
            (Kind::Data, "keep a copy of the server's data folder, and restore a backup")
        }
        _ if ended => (Kind::Unavailable, ""),
        _ => (Kind::Data, ""),
    }
}

fn canceled(message: &str) -> Error {
    if message.contains("user request") {
        return interrupted();
    }
    Error::new(Kind::TryAgain, message).remedy("run it again when the server is less busy")
}

/// The server, or the way to it, is not there.
fn unreached(cause: &postgres::Error) -> Error {
    let mut last: &dyn std::error::Error = cause;
    while let Some(next) = last.source() {
        last = next;
    }
    let is_io = cause.source().is_some_and(|source| source.is::<io::Error>());
    if is_io || cause.is_closed() {
        return Error::new(Kind::Unavailable, lost(last));
    }
    let text = cause.to_string();
    match text.as_str() {
        "authentication error" | "invalid configuration" => {
            Error::new(Kind::Permission, format!("{text}: {last}"))
                .remedy("look at user and password in the URL, and at pg_hba.conf of the server")
        }
        "timeout waiting for server" => Error::new(Kind::Unavailable, text),
        _ => Error::new(Kind::Unavailable, format!("{text}: {last}")),
    }
}

fn lost(cause: &dyn std::error::Error) -> String {
    let text = cause.to_string();
    match text.as_str() {
        "connection closed" => "the server has closed the connection".into(),
        _ => match text.split_once(" (os error") {
            Some((plain, _)) => plain.to_lowercase(),
            None => text,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_their_kinds() {
        let kinds = [
            ("55P03", Kind::Blocked),
            ("40P01", Kind::Blocked),
            ("53100", Kind::Io),
            ("53300", Kind::Unavailable),
            ("57P03", Kind::Unavailable),
            ("57P01", Kind::Unavailable),
            ("08006", Kind::Unavailable),
            ("25006", Kind::Unavailable),
            ("28P01", Kind::Permission),
            ("42501", Kind::Permission),
            ("3D000", Kind::Config),
            ("XX001", Kind::Data),
            ("23505", Kind::Data),
            ("42P01", Kind::Data),
        ];
        for (code, kind) in kinds {
            assert_eq!(meaning(&SqlState::from_code(code), "", false).0, kind, "{code}");
        }
    }

    #[test]
    fn an_ended_connection_is_no_fault_of_the_data() {
        let kinds = [
            ("25P03", Kind::Unavailable),
            ("25P04", Kind::Unavailable),
            ("57P05", Kind::Unavailable),
            ("08P01", Kind::Unavailable),
            ("XX000", Kind::Unavailable),
            ("42704", Kind::Config),
            ("42601", Kind::Config),
            ("22023", Kind::Config),
            ("28P01", Kind::Permission),
            ("3D000", Kind::Config),
            ("XX001", Kind::Data),
        ];
        for (code, kind) in kinds {
            assert_eq!(meaning(&SqlState::from_code(code), "", true).0, kind, "{code}");
        }
    }

    #[test]
    fn what_a_server_sends_is_cleaned_and_cut_and_holds_no_password() {
        let secret = Password::from("p@ss word");
        let text = format!("\u{1b}[31mno p@ss word\r\n\u{7}{}", "x".repeat(5_000_000));
        let shown = shown(&text, Some(&secret));
        assert!(shown.starts_with(" [31mno ***   xxx") && shown.ends_with("x …"), "{shown}");
        assert_eq!(shown.chars().count(), LONGEST + 2);
        // One that the cut would leave a piece of.
        let text = "x".repeat(LONGEST - 4) + "p@ss word";
        assert!(!super::shown(&text, Some(&secret)).contains("p@"));
        assert_eq!(super::shown("could not read", Some(&Password::from("not"))), "could not read");
    }
}
