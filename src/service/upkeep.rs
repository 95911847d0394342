//! The thread that gives the database's upkeep its turns while the appliance runs.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::Result;
use crate::store::Upkeep;
use crate::system::deadline::cannot_start_thread;
use crate::system::log::Log;

/// Before its first turn, and after one that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A running upkeep; dropped, it ends with the turn that is under way.
pub struct UpkeepThread {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl UpkeepThread {
    /// Starts the thread. A fault is logged once, and again after it was gone.
    pub fn start(mut upkeep: Box<dyn Upkeep>, log: Log) -> Result<UpkeepThread> {
        let (stop, stopped) = mpsc::channel();
        let turns = move || {
            let mut failing = false;
            let mut pause = PAUSE;
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                let turn = upkeep.turn();
                if let (Err(error), false) = (&turn, failing) {
                    log.error(format_args!("upkeep failed, and is tried again: {error}"));
                }
                failing = turn.is_err();
                pause = turn.unwrap_or(PAUSE);
            }
        };
        let thread = thread::Builder::new().name("upkeep".into()).spawn(turns);
        let thread = thread.map_err(|e| cannot_start_thread(&e))?;
        Ok(UpkeepThread { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for UpkeepThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that ended by a panic has nothing left to wait for.
            let _ = thread.join();
        }
    }
}
