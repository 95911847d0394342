//! Standard output.

use std::io::{self, Write as _};

use crate::error::{Error, Kind, Result};

/// Writes to standard output. A reader that has gone is no fault.
pub fn print(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, format!("standard output cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}
