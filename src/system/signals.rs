//! Signals whose default action would end the process for a reason that is reported as an error.

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
        .map_err(|e| Error::new(Kind::Io, format!("cannot handle signals: {e}")))
}
