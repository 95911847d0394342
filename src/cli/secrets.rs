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

fn contains_database_url(argument: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| argument.contains(scheme))
}
