//! The thread that keeps the statistics of closed positions current while the service runs, on a connection of its own.
//! What it cannot do is a condition of the service, which goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::health::{Conditions, FigureWatch, Subject};
use crate::service::work_thread::{WorkEnd, WorkThread, be_nice};
use crate::statistics::keeper::{StatisticsKeeper, StatisticsStep};
use crate::store::{Database, StatisticsStore, WaitPolicy};
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

/// Starts to keep the statistics of a database that this process has open.
///
/// # Errors
/// [`Kind::Io`](crate::error::Kind::Io) if the thread cannot be started; the statistics stay as they are then.
pub fn start(
    database: Arc<dyn Database>,
    conditions: Conditions,
    figures: FigureWatch,
    log: Log,
) -> Result<WorkThread> {
    WorkThread::start(THREAD, STOP_TIMEOUT, move |end| {
        let keeper = StatisticsKeeper::new(&end.cancelled);
        let (store, has_failed) = (None, false);
        StatisticsWork { keeper, end, database, store, conditions, figures, has_failed, log }.run();
    })
}

struct StatisticsWork {
    keeper: StatisticsKeeper,
    end: WorkEnd,
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
    fn run(&mut self) {
        be_nice(NICE);
        let mut pause = DELAY;
        while self.end.pause(pause) {
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
                let wait = WaitPolicy::silent(TIMEOUT, &self.end.cancelled);
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
        if self.end.cancelled.load(Ordering::Relaxed) {
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
