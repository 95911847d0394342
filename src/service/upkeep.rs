//! The thread that runs the upkeep of the database (checkpoints of the WAL) while the service runs.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::Result;
use crate::health::{Conditions, Subject};
use crate::store::Upkeep;
use crate::system::deadline::cannot_start_thread;

/// The pause before the first turn, and after one that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Running upkeep. Dropped, it ends after the turn in progress.
pub struct UpkeepThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl UpkeepThread {
    /// Starts the thread. How each turn went is recorded in `conditions`.
    ///
    /// # Errors
    ///
    /// [`Kind::Io`](crate::error::Kind::Io) if the thread cannot be started.
    pub fn start(mut upkeep: Box<dyn Upkeep>, conditions: Conditions) -> Result<UpkeepThread> {
        let (stop, stopped) = mpsc::channel();
        let turns = move || {
            let mut pause = RETRY_INTERVAL;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                let turn = upkeep.turn();
                conditions.record(Subject::Upkeep, &turn);
                pause = turn.unwrap_or(RETRY_INTERVAL);
            }
        };
        let thread = thread::Builder::new()
            .name("upkeep".into())
            .spawn(turns)
            .map_err(|e| cannot_start_thread(&e))?;
        Ok(UpkeepThread { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for UpkeepThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It returns nothing; if it has panicked, there is nothing to wait for.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::error::{Error, Kind};
    use crate::system::log::{Log, Verbosity};

    /// Announces each turn, waits until it may go on, and then returns the given outcome.
    struct Guided {
        begun: Sender<()>,
        outcomes: Receiver<Result<Duration>>,
    }

    impl Upkeep for Guided {
        fn turn(&mut self) -> Result<Duration> {
            let _ = self.begun.send(());
            self.outcomes.recv().unwrap_or(Ok(Duration::from_millis(1)))
        }
    }

    #[test]
    fn a_failed_turn_is_a_condition_until_one_succeeds() {
        let conditions = Conditions::new(Log::new(Verbosity::Quiet));
        let (begun, turns) = mpsc::channel();
        let (outcome, outcomes) = mpsc::channel();
        let upkeep = Box::new(Guided { begun, outcomes });
        let thread = UpkeepThread::start(upkeep, conditions.clone()).unwrap();
        // When a turn begins, the outcome of the one before it is recorded.
        turns.recv().unwrap();
        outcome.send(Err(Error::new(Kind::Io, "disk I/O error"))).unwrap();
        turns.recv().unwrap();
        assert!(conditions.holds(Subject::Upkeep));
        outcome.send(Ok(Duration::from_millis(1))).unwrap();
        turns.recv().unwrap();
        assert!(!conditions.holds(Subject::Upkeep));
        drop(outcome);
        drop(thread);
        assert!(turns.recv().is_err() || turns.iter().count() < 1000, "it ends when dropped");
    }
}
