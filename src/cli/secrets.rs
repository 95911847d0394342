//! Refuses a database URL among the arguments, which may contain a password.

use std::ffi::OsString;

use crate::error::{Error, Kind, Result};

/// Refuses arguments of which one contains the URL of a database server. The argument is not repeated in
/// the error.
///
/// # Errors
///
/// [`Kind::Usage`].
pub fn refuse_database_url(arguments: &[OsString]) -> Result<()> {
    if !arguments.iter().any(|argument| contains_database_url(&argument.to_string_lossy())) {
        return Ok(());
    }
    let what = "an argument holds a database URL, which every user of this machine can read (`ps`)";
    Err(Error::new(Kind::Usage, what).remedy(
        "set DATABASE_URL or DATABASE_URL_FILE, or use --database-url-file; change the password if there was one",
    ))
}

/// Whether an argument contains the URL of a PostgreSQL server, or one of another kind with a password.
fn contains_database_url(argument: &str) -> bool {
    let argument = argument.to_ascii_lowercase();
    let is_postgresql = |before: &str| {
        let scheme = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '+')).next();
        scheme.is_some_and(|scheme| scheme.starts_with("postgres"))
    };
    let has_password = |after: &str| {
        let authority = after.split('/').next().unwrap_or_default();
        authority.split_once('@').is_some_and(|(login, _)| login.contains(':'))
    };
    let mut found = argument.match_indices("://").map(|(at, _)| argument.split_at(at));
    found.any(|(before, after)| {
        is_postgresql(before) || (!is_web(before) && has_password(&after["://".len()..]))
    })
}

/// The address of a running cts, which `--check --url` refuses by itself where it has a password.
fn is_web(before: &str) -> bool {
    before.ends_with("http") || before.ends_with("https")
}
