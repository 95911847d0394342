//! Standard output.

use std::io::{self, Write as _};

use crate::error::{Error, Kind, Result};
use crate::system::visible::{Lines, visible_json};

/// Writes lines to standard output. A pipe whose reader has ended is not an error.
///
/// # Errors
///
/// [`Kind::Io`] if they cannot be written completely.
pub fn print_lines(lines: &Lines) -> Result<()> {
    write(lines.as_str())
}

/// Writes JSON text and a line end to standard output. A pipe whose reader has ended is not an error.
///
/// # Errors
///
/// [`Kind::Io`] if it cannot be written completely.
pub fn print_json(json: &str) -> Result<()> {
    write(&format!("{}\n", visible_json(json)))
}

fn write(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, "cannot write to standard output").caused_by(e))
        }
        _ => Ok(()),
    }
}
