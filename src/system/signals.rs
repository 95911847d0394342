//! Signals: those that are ignored, and the error of one that cannot be handled.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Kind, Result};

/// Ignores SIGXFSZ: a write beyond the limit on file sizes then fails with an error instead of ending the
/// process.
///
/// # Errors
///
/// [`Kind::Io`] if the signal cannot be handled.
pub fn ignore_file_size_signal() -> Result<()> {
    // A handler that does nothing else; the flag is never read.
    let received = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, received)
        .map(|_| ())
        .map_err(cannot_handle_signals)
}

/// The error of a signal handler that the operating system did not install.
pub fn cannot_handle_signals(cause: io::Error) -> Error {
    Error::new(Kind::Io, "cannot handle signals").caused_by(cause)
}
