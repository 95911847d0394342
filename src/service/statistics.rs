//! The thread that keeps the statistics of closed positions current while the service runs, on a connection of its own.
//! What it cannot do is a condition of the service, which goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use rustix::process::setpriority_process;

use crate::error::{Error, Result};
use crate::health::{Conditions, FigureWatch, Subject};
use crate::statistics::keeper::{StatisticsKeeper, StatisticsStep};
use crate::store::{Database, StatisticsStore, WaitPolicy};
use crate::system::deadline::BackgroundTask;
use crate::system::log::Log;

/// The name of the thread.
const THREAD: &str = "statistics";
/// The nice value of the thread: the trading programs go first.
const NICE: i32 = 5;
/// The time from the start to the first step: programs connect first.
const DELAY: Duration = Duration::from_secs(1);
/// The pauses after a step that failed, and after one more.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const FAILED_PAUSE: Duration = Duration::from_secs(10);
/// The pause from which on the connection to a server is closed meanwhile: one that waits would stay on a server that
/// is no longer the one to use.
const REST_PAUSE: Duration = Duration::from_secs(1);
/// How long a lock and a server are waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the thread is waited for when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The running thread.
pub struct StatisticsThread {
    stopping: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
    task: BackgroundTask<()>,
}

impl StatisticsThread {
    /// Starts to keep the statistics of a database that this process has open.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) if the thread cannot be started; the statistics stay as they are then.
    pub fn start(
        database: Arc<dyn Database>,
        conditions: Conditions,
        figures: FigureWatch,
        log: Log,
    ) -> Result<StatisticsThread> {
        let (stop, stopped) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let mut work = StatisticsWork {
            keeper: StatisticsKeeper::new(&stopping),
            stopping: Arc::clone(&stopping),
            database,
            store: None,
            conditions,
            figures,
            has_failed: false,
            log,
        };
        let task = BackgroundTask::start(THREAD, move || work.run(&stopped))?;
        Ok(StatisticsThread { stopping, stop: Some(stop), task })
    }
}

impl Drop for StatisticsThread {
    /// A thread that hangs in a call of the operating system is left behind; it ends with the process.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        let _ = self.task.within(STOP_TIMEOUT);
    }
}

struct StatisticsWork {
    keeper: StatisticsKeeper,
    stopping: Arc<AtomicBool>,
    database: Arc<dyn Database>,
    /// Opened anew after each failure.
    store: Option<Box<dyn StatisticsStore>>,
    conditions: Conditions,
    figures: FigureWatch,
    /// Whether the last step failed.
    has_failed: bool,
    log: Log,
}

impl StatisticsWork {
    fn run(&mut self, stopped: &Receiver<()>) {
        // Where that is not permitted, the statistics are kept all the same. On Linux the value is that of the thread alone.
        let _ = setpriority_process(None, NICE);
        let mut pause = DELAY;
        while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            pause = match self.step() {
                Ok(step) => self.note(step),
                Err(error) => self.note_failure(error),
            };
        }
    }

    fn step(&mut self) -> Result<StatisticsStep> {
        let store = match &mut self.store {
            Some(store) => store,
            None => {
                let wait = WaitPolicy::silent(TIMEOUT, &self.stopping);
                self.store.insert(self.database.open_statistics(&wait)?)
            }
        };
        self.keeper.step(&mut **store)
    }

    fn note(&mut self, step: StatisticsStep) -> Duration {
        self.has_failed = false;
        self.conditions.record(Subject::Statistics, &step.outcome);
        if step.is_pass && step.outcome.is_ok() {
            self.figures.note_statistics();
        }
        for line in &step.notices {
            self.log.info(line);
        }
        if let Some(store) = &mut self.store
            && step.pause >= REST_PAUSE
        {
            store.rest();
        }
        step.pause
    }

    /// A failure that the next attempt does not repeat is no fault.
    fn note_failure(&mut self, error: Error) -> Duration {
        self.store = None;
        if self.stopping.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let is_fault = self.has_failed || error.is_damage();
        self.has_failed = true;
        if !is_fault {
            return RETRY_PAUSE;
        }
        self.conditions.record(Subject::Statistics, &Err::<(), _>(error));
        FAILED_PAUSE
    }
}
