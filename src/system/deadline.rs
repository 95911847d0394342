//! Work on a thread of its own that is waited for until a deadline only: a disk or a server that hangs
//! cannot be interrupted, but it need not hold up its caller.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoResult {
    /// The deadline has passed; the work goes on, and its result is dropped.
    DeadlinePassed,
    /// The thread has ended without a result.
    ThreadEnded,
}

/// Work that runs on a thread of its own.
pub struct BackgroundTask<T>(Receiver<T>);

impl<T: Send + 'static> BackgroundTask<T> {
    /// Starts `work` on a thread of this name.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`] if the operating system starts no thread; the work has not begun then.
    pub fn start(
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<BackgroundTask<T>> {
        let (sender, receiver) = mpsc::channel();
        let run = move || {
            // After the deadline there is no receiver.
            let _ = sender.send(work());
        };
        thread::Builder::new()
            .name(name.to_string())
            .spawn(run)
            .map(|_| BackgroundTask(receiver))
            .map_err(|e| cannot_start_thread(&e))
    }

    /// Waits for the result, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`NoResult`]; the work may still be running.
    pub fn within(&self, limit: Duration) -> Result<T, NoResult> {
        self.0.recv_timeout(limit).map_err(|error| match error {
            RecvTimeoutError::Timeout => NoResult::DeadlinePassed,
            RecvTimeoutError::Disconnected => NoResult::ThreadEnded,
        })
    }

    /// Waits for the result until a point in time.
    ///
    /// # Errors
    ///
    /// As [`BackgroundTask::within`].
    pub fn until(&self, deadline: Instant) -> Result<T, NoResult> {
        self.within(deadline.saturating_duration_since(Instant::now()))
    }
}

/// The error of a thread that the operating system did not start.
pub fn cannot_start_thread(cause: &std::io::Error) -> Error {
    Error::new(Kind::Io, "cannot start a thread")
        .caused_by(cause)
        .remedy("raise the limit on threads (`ulimit -u`, TasksMax=), or free memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_comes_in_time_and_work_that_hangs_is_left_behind() {
        let task = BackgroundTask::start("quick", || 7).unwrap();
        assert_eq!(task.within(Duration::from_secs(20)), Ok(7));
        assert_eq!(task.within(Duration::MAX), Err(NoResult::ThreadEnded));
        let (release, blocked) = mpsc::channel::<()>();
        let task = BackgroundTask::start("slow", move || blocked.recv().is_err()).unwrap();
        let start = Instant::now();
        assert_eq!(task.until(start), Err(NoResult::DeadlinePassed));
        assert!(start.elapsed() < Duration::from_secs(20));
        drop(release);
        assert_eq!(task.within(Duration::from_secs(20)), Ok(true));
    }
}
