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
