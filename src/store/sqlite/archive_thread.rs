//! The capture on a thread of its own, so that it goes on while the upkeep waits for a disk.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::archive_capture::ArchiveCapture;
use crate::error::Result;
use crate::store::archive::ArchiveSink;
use crate::system::deadline::cannot_start_thread;

/// The name of the thread.
const THREAD: &str = "capture";

/// A capture, which its thread and the upkeep take turns with.
#[derive(Clone)]
pub struct SharedCapture(Arc<Mutex<ArchiveCapture>>);

impl SharedCapture {
    /// The capture, while the thread waits.
    pub fn hold(&self) -> MutexGuard<'_, ArchiveCapture> {
        // What is left by a thread that has ended is what was not captured yet.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running thread. Dropped, it gives the archive the rest and ends the capture.
pub struct ArchiveThread {
    capture: SharedCapture,
    stopping: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ArchiveThread {
    /// Starts it. It captures nothing until it is [allowed](ArchiveCapture::allow) to.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(path: &Path, sink: Box<dyn ArchiveSink>) -> Result<ArchiveThread> {
        let capture = SharedCapture(Arc::new(Mutex::new(ArchiveCapture::new(path, sink))));
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, stopped) = mpsc::channel();
        let (shared, is_stopping) = (capture.clone(), Arc::clone(&stopping));
        let work = move || {
            loop {
                let pause = shared.hold().turn(&is_stopping);
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name(THREAD.into()).spawn(work);
        let thread = Some(thread.map_err(|e| cannot_start_thread(&e))?);
        Ok(ArchiveThread { capture, stopping, stop: Some(stop), thread })
    }

    /// The capture.
    pub fn capture(&self) -> &SharedCapture {
        &self.capture
    }
}

impl Drop for ArchiveThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        // Its turns end with the time that SQLite waits for a lock.
        let _ = self.thread.take().map(JoinHandle::join);
        self.capture.hold().finish();
    }
}
