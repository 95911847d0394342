//! The thread that runs the upkeep of the database (checkpoints of the WAL) while the service runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::health::{Conditions, Subject};
use crate::store::{UPKEEP_THREAD, Upkeep, UpkeepTurn};
use crate::system::deadline::cannot_start_thread;

/// The pause before the first turn, and after one that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failure that may be momentary.
const MOMENT: Duration = Duration::from_millis(250);
/// Failures within this time of each other are not momentary.
const FAILURE_MEMORY: Duration = Duration::from_secs(20);

/// Running upkeep. Dropped, it ends after the turn in progress, which no longer waits for other programs.
pub struct UpkeepThread {
    stopping: Arc<AtomicBool>,
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
        let stopping = Arc::new(AtomicBool::new(false));
        let is_stopping = Arc::clone(&stopping);
        let turns = move || {
            let mut pause = RETRY_INTERVAL;
            let mut failures = Failures::default();
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(pause) {
                let turn = upkeep.turn(&is_stopping);
                let verdict = failures.judge(&turn, Instant::now());
                pause = match (&turn, &verdict) {
                    (Ok(turn), _) => turn.pause,
                    (Err(_), Verdict::Undecided) => MOMENT,
                    (Err(_), _) => RETRY_INTERVAL,
                };
                match verdict {
                    Verdict::Undecided => {}
                    Verdict::Momentary(error) => {
                        conditions.log_momentary(Subject::Upkeep, &error);
                        conditions.record(Subject::Upkeep, &turn);
                    }
                    Verdict::Decided => conditions.record(Subject::Upkeep, &turn),
                }
            }
        };
        let thread = thread::Builder::new()
            .name(UPKEEP_THREAD.into())
            .spawn(turns)
            .map_err(|e| cannot_start_thread(&e))?;
        Ok(UpkeepThread { stopping, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for UpkeepThread {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It returns nothing; if it has panicked, there is nothing to wait for.
            let _ = thread.join();
        }
    }
}

/// What a turn says about the upkeep.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Nothing yet: what is recorded stays.
    Undecided,
    /// It went well, and the one failure before it was momentary.
    Momentary(Error),
    /// It went well, or it failed.
    Decided,
}

/// The failures of the last [`FAILURE_MEMORY`]. One that the next turn does not repeat changes no status: a request
/// that came in between would be answered with 503 by a database that works. Upkeep that fails now and
/// again counts as failed until that time has passed without a failure, so that the status does not change
/// with every turn.
#[derive(Default)]
struct Failures {
    last_at: Option<Instant>,
    /// The failure before this turn, if it is not recorded.
    unrecorded: Option<Error>,
    /// Whether a turn went well since the last failure.
    went_well: bool,
    /// Whether failures and turns that went well alternate.
    is_intermittent: bool,
}

impl Failures {
    fn judge(&mut self, turn: &Result<UpkeepTurn>, now: Instant) -> Verdict {
        let is_recent = self.last_at.is_some_and(|at| now.duration_since(at) < FAILURE_MEMORY);
        match turn {
            Ok(turn) if !turn.was_tried => Verdict::Undecided,
            Ok(_) => {
                self.went_well = true;
                self.is_intermittent &= is_recent;
                match self.unrecorded.take() {
                    Some(error) => Verdict::Momentary(error),
                    None if self.is_intermittent => Verdict::Undecided,
                    None => Verdict::Decided,
                }
            }
            Err(error) => {
                self.is_intermittent |= is_recent && self.went_well;
                (self.last_at, self.went_well) = (Some(now), false);
                // Damage does not pass.
                if is_recent || error.is_damage() {
                    self.unrecorded = None;
                    return Verdict::Decided;
                }
                self.unrecorded = Some(error.clone());
                Verdict::Undecided
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::error::{Cause, Kind};
    use crate::system::log::{Log, Verbosity};

    const WELL: Result<UpkeepTurn> =
        Ok(UpkeepTurn { pause: Duration::from_millis(1), was_tried: true });
    const NOT_TRIED: Result<UpkeepTurn> =
        Ok(UpkeepTurn { pause: Duration::from_millis(1), was_tried: false });

    fn failed() -> Result<UpkeepTurn> {
        Err(Error::new(Kind::Io, "disk I/O error"))
    }

    /// Announces each turn, waits until it may go on, and then returns the given outcome.
    struct Guided {
        begun: Sender<()>,
        outcomes: Receiver<Result<UpkeepTurn>>,
    }

    impl Upkeep for Guided {
        fn turn(&mut self, _: &Arc<AtomicBool>) -> Result<UpkeepTurn> {
            let _ = self.begun.send(());
            self.outcomes.recv().unwrap_or(WELL)
        }
    }

    #[test]
    fn a_turn_that_fails_again_is_a_condition_until_one_succeeds() {
        let conditions = Conditions::new(Log::new(Verbosity::Quiet));
        let (begun, turns) = mpsc::channel();
        let (outcome, outcomes) = mpsc::channel();
        let upkeep = Box::new(Guided { begun, outcomes });
        let thread = UpkeepThread::start(upkeep, conditions.clone()).unwrap();
        // When a turn begins, the outcome of the one before it is recorded.
        turns.recv().unwrap();
        for (turn, is_fault) in [
            (failed(), false),
            (failed(), true),
            (NOT_TRIED, true),
            (failed(), true),
            (WELL, false),
        ] {
            outcome.send(turn).unwrap();
            turns.recv().unwrap();
            assert_eq!(conditions.holds(Subject::Upkeep), is_fault);
        }
        drop(outcome);
        drop(thread);
        assert!(turns.recv().is_err() || turns.iter().count() < 1000, "it ends when dropped");
    }

    #[test]
    fn a_failure_that_is_not_repeated_is_momentary_and_damage_never_is() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        assert_eq!(failures.judge(&failed(), now), Verdict::Undecided);
        assert_eq!(failures.judge(&NOT_TRIED, now), Verdict::Undecided);
        assert_eq!(failures.judge(&WELL, now), Verdict::Momentary(failed().unwrap_err()));
        assert_eq!(failures.judge(&WELL, now), Verdict::Decided);
        let damage = Error::new(Kind::Data, "malformed").caused_by(Cause::Sqlite(11));
        assert_eq!(Failures::default().judge(&Err(damage), now), Verdict::Decided);
    }

    #[test]
    fn upkeep_that_fails_now_and_again_counts_as_failed_until_it_has_not_failed_for_long() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let mut judge = |turn, seconds| failures.judge(&turn, start + Duration::from_secs(seconds));
        assert_eq!(judge(failed(), 0), Verdict::Undecided);
        assert_eq!(judge(WELL, 1), Verdict::Momentary(failed().unwrap_err()));
        assert_eq!(judge(failed(), 10), Verdict::Decided);
        assert_eq!(judge(WELL, 11), Verdict::Undecided);
        assert_eq!(judge(failed(), 29), Verdict::Decided);
        assert_eq!(judge(WELL, 48), Verdict::Undecided);
        assert_eq!(judge(WELL, 49), Verdict::Decided);
    }
}
