//! Cancels the server's work on a connection once a wait policy is cancelled: the thread that runs the work waits
//! for the server meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::session::Session;
use crate::error::Result;
use crate::system::deadline::cannot_start_thread;

/// How often the cancellation of the policy is checked while the server works.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A thread that cancels the work of a connection. It ends when this is dropped.
pub struct CancelWatch {
    _ended: Sender<()>,
}

impl CancelWatch {
    /// Starts it.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(session: &Session, cancelled: &Arc<AtomicBool>) -> Result<CancelWatch> {
        let (sender, ended) = mpsc::channel::<()>();
        let (request, cancelled) = (session.cancel_token(), Arc::clone(cancelled));
        let watch = move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(POLL_INTERVAL) {
                if let Some(request) =
                    request.as_ref().filter(|_| cancelled.load(Ordering::Relaxed))
                {
                    // Without an answer the statement ends with its connection.
                    let _ = request.send();
                }
            }
        };
        let started = thread::Builder::new().name("watch".into()).spawn(watch);
        started.map_err(|e| cannot_start_thread(&e))?;
        Ok(CancelWatch { _ended: sender })
    }
}
