//! How a store waits for locks, for servers and for programs that use its tables: how long, when the
//! wait is reported, and what ends it. No database is known here.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Holder, Progress};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::system::deadline::cannot_start_thread;

/// The first pause after an attempt that was blocked by a lock.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The migration lock, with its holder where that can be seen.
    Lock(Option<Holder>),
    /// Something else, as a sentence.
    Other(String),
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitReason::Lock(Some(holder)) => write!(f, "the write lock, held by {holder}"),
            WaitReason::Lock(None) => f.write_str("the write lock, held by another program"),
            WaitReason::Other(what) => f.write_str(what),
        }
    }
}

/// How long to wait for a lock, and what to do meanwhile.
pub struct WaitPolicy<'p> {
    /// How long to wait; `None` waits until the lock is free.
    pub timeout: Option<Duration>,
    /// Whether that is the setting CTS_LOCK_TIMEOUT, which an operator can raise.
    pub is_configured: bool,
    /// Ends the wait, and the work, when it becomes true.
    pub cancelled: &'p Arc<AtomicBool>,
    /// Called during a wait, first after 2 s: what is waited for, and for how long so far.
    pub on_wait: &'p dyn Fn(&WaitReason, Duration),
    /// Called with the progress of a table rebuild or an index build.
    pub on_progress: &'p dyn Fn(Progress<'_>),
}

impl<'p> WaitPolicy<'p> {
    /// One that reports nothing.
    pub fn silent(timeout: Duration, cancelled: &'p Arc<AtomicBool>) -> WaitPolicy<'p> {
        WaitPolicy {
            timeout: Some(timeout),
            is_configured: false,
            cancelled,
            on_wait: &|_, _| {},
            on_progress: &|_| {},
        }
    }

    /// Marks the timeout as the setting CTS_LOCK_TIMEOUT.
    pub fn configured(self) -> WaitPolicy<'p> {
        WaitPolicy { is_configured: true, ..self }
    }
}

impl WaitPolicy<'_> {
    /// Repeats `attempt` while it returns `None`, because another program holds the lock.
    ///
    /// # Errors
    /// The error of `attempt`; [`Kind::TryAgain`] after the timeout, with the holder;
    /// [`Kind::Stopped`] when cancelled. Nothing was changed.
    pub fn until_unlocked<T>(
        &self,
        mut attempt: impl FnMut() -> Result<Option<T>>,
        holder: impl Fn() -> Option<Holder>,
    ) -> Result<T> {
        let mut clock = WaitClock::start();
        loop {
            if let Some(value) = attempt()? {
                return Ok(value);
            }
            self.check_cancelled()?;
            let waited = clock.waited();
            if let Some(limit) = self.timeout.filter(|limit| waited >= *limit) {
                return Err(self.locked(holder(), limit));
            }
            if clock.is_report_due() {
                (self.on_wait)(&WaitReason::Lock(holder()), waited);
            }
        }
    }

    /// Repeats `attempt` with pauses while it ends with [`Kind::Blocked`]: a lock on a table that
    /// another program uses, which goes first.
    ///
    /// # Errors
    /// The error of `attempt`, the last one after the timeout; [`Kind::Stopped`] when cancelled.
    pub fn retry_while_blocked<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut clock = WaitClock::start();
        let mut pause = BETWEEN_ATTEMPTS;
        loop {
            let error = match attempt() {
                Err(error) if error.kind == Kind::Blocked => error,
                other => return other,
            };
            let waited = clock.waited();
            if self.timeout.is_some_and(|limit| waited >= limit) {
                return Err(match &error.remedy {
                    Some(remedy) => {
                        let remedy = self.with_setting(remedy);
                        error.remedy(remedy)
                    }
                    None => error,
                });
            }
            if clock.is_report_due() {
                (self.on_wait)(&WaitReason::Other(error.message()), waited);
            }
            self.pause(pause)?;
            pause = (pause * 2).min(BETWEEN_ATTEMPTS * 8);
        }
    }

    /// Does work that may take long and says nothing meanwhile, on a thread of its own, and reports that it is
    /// waited for.
    ///
    /// # Errors
    /// That of the work; [`Kind::Io`] if no thread can be started, and then it was not begun.
    pub fn while_working<T: Send>(
        &self,
        what: &str,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        thread::scope(|scope| {
            let (sender, done) = mpsc::channel();
            let work = move || drop(sender.send(work()));
            let started = thread::Builder::new().name("check".into()).spawn_scoped(scope, work);
            started.map_err(|e| cannot_start_thread(&e))?;
            let mut clock = WaitClock::start();
            loop {
                match done.recv_timeout(BETWEEN_ATTEMPTS) {
                    Ok(result) => return result,
                    Err(RecvTimeoutError::Disconnected) => return Err(interrupted()),
                    Err(RecvTimeoutError::Timeout) if clock.is_report_due() => {
                        (self.on_wait)(&WaitReason::Other(what.to_string()), clock.waited());
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        })
    }

    /// Sleeps.
    ///
    /// # Errors
    /// [`Kind::Stopped`] when cancelled.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.check_cancelled()?;
            thread::sleep(time.min(Duration::from_millis(20)));
        }
        Ok(())
    }

    /// A remedy for a wait that was too short, with the setting that made it so.
    pub fn with_setting(&self, remedy: &str) -> String {
        match self.is_configured {
            true => format!("{remedy}, or raise CTS_LOCK_TIMEOUT"),
            false => remedy.to_string(),
        }
    }

    fn locked(&self, holder: Option<Holder>, limit: Duration) -> Error {
        let who = holder.as_ref().map_or("another program".to_string(), Holder::to_string);
        let what = format!("the lock is held by {who}");
        let waited = format!("waited {}", humantime::format_duration(limit));
        let remedy = match holder {
            Some(Holder { pid, is_on_server: true, .. }) => {
                format!("let it finish or end it (`SELECT pg_terminate_backend({pid})`)")
            }
            Some(Holder { pid, .. }) => {
                format!("let it finish or end it (see it with `ps -fp {pid}`)")
            }
            None => "look for open connections (`fuser` on the file)".into(),
        };
        Error::new(Kind::TryAgain, what)
            .note(waited)
            .leaving(StateLeft::Unchanged)
            .remedy(self.with_setting(&remedy))
    }

    /// Whether the work is cancelled.
    pub fn is_stopped(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Ends the work where it is cancelled.
    ///
    /// # Errors
    /// [`Kind::Stopped`] when cancelled.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.is_stopped() {
            let error = Error::new(Kind::Stopped, "stopped while waiting");
            return Err(error.leaving(StateLeft::Unchanged));
        }
        Ok(())
    }
}

/// The time of a wait, and when it was last reported.
pub struct WaitClock {
    start: Instant,
    reported_at: Instant,
    pause: Duration,
}

impl WaitClock {
    /// Starts now.
    pub fn start() -> WaitClock {
        let start = Instant::now();
        WaitClock { start, reported_at: start, pause: Duration::from_secs(2) }
    }

    /// The time since the start.
    pub fn waited(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether a report is due: after 2 s, then after twice as long each time, up to a minute.
    pub fn is_report_due(&mut self) -> bool {
        let is_due = self.reported_at.elapsed() >= self.pause;
        if is_due {
            self.reported_at = Instant::now();
            self.pause = (self.pause * 2).min(Duration::from_secs(60));
        }
        is_due
    }
}

/// The error of work that a signal interrupted.
pub fn interrupted() -> Error {
    Error::new(Kind::TryAgain, "interrupted by a signal")
        .leaving(StateLeft::Unchanged)
        .remedy("run it again")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn long_work_is_reported_while_it_is_done() {
        let cancelled = Arc::default();
        let (reported, until_reported) = mpsc::channel();
        let reports = RefCell::new(Vec::new());
        let on_wait = |reason: &WaitReason, _| {
            reports.borrow_mut().push(reason.to_string());
            reported.send(()).unwrap();
        };
        let silent = WaitPolicy::silent(Duration::MAX, &cancelled);
        let wait = WaitPolicy { on_wait: &on_wait, ..silent };
        // It ends only after the report.
        let done = wait.while_working("the check", move || Ok(until_reported.recv().is_ok()));
        assert!(done.unwrap());
        assert_eq!(*reports.borrow(), ["the check"]);
        let failed = Error::new(Kind::Data, "damaged");
        let done = wait.while_working("the check", || Err::<(), _>(failed.clone()));
        assert_eq!(done.unwrap_err(), failed);
    }
}
