//! A thread that works now and then, on something of its own, until the service stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::process::setpriority_process;

use crate::error::Result;
use crate::system::deadline::BackgroundTask;

/// The running thread. Dropped, it is asked to end, and waited for.
pub struct WorkThread {
    cancelled: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
    task: BackgroundTask<()>,
    stop_timeout: Duration,
}

/// How the thread learns that it is to end.
pub struct WorkEnd {
    /// Set once it is: what goes on then is given up.
    pub cancelled: Arc<AtomicBool>,
    stopped: Receiver<()>,
}

impl WorkEnd {
    /// Waits for this time. Returns whether the thread is to go on.
    pub fn pause(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }
}

impl WorkThread {
    /// Starts `work` on a thread of this name. Its end is waited for as long as `stop_timeout`.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) if the thread cannot be started; the work has not begun then.
    pub fn start(
        name: &str,
        stop_timeout: Duration,
        work: impl FnOnce(WorkEnd) + Send + 'static,
    ) -> Result<WorkThread> {
        let (stop, stopped) = mpsc::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let end = WorkEnd { cancelled: Arc::clone(&cancelled), stopped };
        let task = BackgroundTask::start(name, move || work(end))?;
        Ok(WorkThread { cancelled, stop: Some(stop), task, stop_timeout })
    }

    /// Asks the thread to end, without waiting for it.
    pub fn cancel(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        drop(self.stop.take());
    }
}

impl Drop for WorkThread {
    /// A thread that hangs in a call of the operating system is left behind; it ends with the process.
    fn drop(&mut self) {
        self.cancel();
        let _ = self.task.within(self.stop_timeout);
    }
}

/// Gives the calling thread a nice value, so that the trading programs go first. On Linux it is that of the thread alone.
/// Where it is not permitted, the thread works all the same.
pub fn be_nice(value: i32) {
    let _ = setpriority_process(None, value);
}
