//! Signals: a request to stop (SIGTERM or SIGINT), and the one whose default action would end the process
//! for a reason that is reported as an error. The only file that handles signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::error::{Error, Kind, Result};
use crate::system::deadline::cannot_start_thread;

const STOP_SIGNALS: [i32; 2] = [SIGTERM, SIGINT];

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal(i32);

impl StopSignal {
    /// The name, such as `SIGTERM`.
    pub fn name(self) -> &'static str {
        low_level::signal_name(self.0).unwrap_or("signal")
    }
}

/// Ignores SIGXFSZ: a write beyond the limit on file sizes then fails with an error instead of ending the
/// process.
///
/// # Errors
///
/// [`Kind::Io`] if the signal cannot be handled.
pub fn ignore_file_size_signal() -> Result<()> {
    // A handler that does nothing else; the flag is never read.
    let received = Arc::new(AtomicBool::new(false));
    flag::register(SIGXFSZ, received).map(drop).map_err(cannot_handle)
}

/// A flag that becomes true at the first SIGTERM or SIGINT. The second one ends the process.
///
/// # Errors
///
/// [`Kind::Io`] if the signals cannot be handled.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in STOP_SIGNALS {
        flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .map_err(cannot_handle)?;
    }
    Ok(stop)
}

/// Calls `on_stop` in a thread of its own at the first SIGTERM or SIGINT. The second one ends the process.
///
/// # Errors
///
/// [`Kind::Io`] if the signals cannot be handled or the thread cannot be started.
pub fn watch_stop_signals(on_stop: impl Fn(StopSignal) + Send + 'static) -> Result<()> {
    let mut signals = Signals::new(STOP_SIGNALS).map_err(cannot_handle)?;
    let watch = move || {
        let mut is_first = true;
        for signal in &mut signals {
            if !is_first {
                let _ = low_level::emulate_default_handler(signal);
            }
            is_first = false;
            on_stop(StopSignal(signal));
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(watch);
    thread.map(drop).map_err(|e| cannot_start_thread(&e))
}

fn cannot_handle(cause: io::Error) -> Error {
    Error::new(Kind::Io, "cannot handle signals").caused_by(cause)
}
