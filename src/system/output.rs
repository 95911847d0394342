//! Standard output.

use std::io::{self, Write as _};

use crate::error::{Error, Kind, Result};

/// Writes to standard output. A pipe whose reader has ended is not an error.
///
/// # Errors
///
/// [`Kind::Io`] if the text cannot be written completely.
pub fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, "cannot write to standard output").caused_by(e))
        }
        _ => Ok(()),
    }
}
