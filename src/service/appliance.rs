//! The main thread of the service: waits for the database and for signals, notifies systemd, and stops
//! everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::backup::BackupSettings;
use crate::error::{Error, Kind, Result};
use crate::health::{Conditions, Subject};
use crate::http::server::HttpServer;
use crate::service::archive::ArchiveThreads;
use crate::service::first_start::FirstStart;
use crate::service::prober::Prober;
use crate::service::work_thread::WorkThread;
use crate::service::{archive, backups, figures, retention, statistics};
use crate::store::Database;
use crate::system::invocation;
use crate::system::log::Log;
use crate::system::signals::StopSignal;
use crate::system::systemd::Notifier;

/// How long requests in progress may take after a signal.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the database may take to close; less than systemd's TimeoutStopSec.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the start timeout of systemd is extended while the database is not ready.
const EXTENSION_INTERVAL: Duration = Duration::from_secs(5);
/// How often a service manager that is busy is told again that the service is ready.
const READY_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often the watchdog's conditions are examined without a watchdog.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);
/// A database that has finished nothing for longer hangs: the watchdog is no longer reset.
const HANG_TIMEOUT: Duration = Duration::from_secs(20);

/// What happens to the service.
pub enum ServiceEvent {
    /// The database is ready; `is_new` if there was none before.
    Ready { is_new: bool },
    /// The database cannot be made ready.
    Failed(Error),
    /// A signal asks to stop.
    Signal(StopSignal),
}

/// The running service.
pub struct Appliance {
    pub database: Arc<dyn Database>,
    pub backups: BackupSettings,
    /// How far back the archive goes, if there is one.
    pub archive_keep: Option<Duration>,
    /// Whether old rows are deleted.
    pub prunes: bool,
    pub log: Log,
    pub notifier: Notifier,
    pub server: HttpServer,
    pub prober: Prober,
    pub conditions: Conditions,
    /// Cancels the start of the database.
    pub cancelled: Arc<AtomicBool>,
    /// Whether it was asked to stop again: requests are no longer waited for.
    pub is_hurried: Arc<AtomicBool>,
}

impl Appliance {
    /// Runs until a signal.
    ///
    /// # Errors
    ///
    /// As [`serve`](super::serve).
    pub fn run(&self, events: &Receiver<ServiceEvent>) -> Result<()> {
        if let Some(signal) = self.until_ready(events)? {
            return self.stop(signal, None);
        }
        // Without the thread figures are unknown, and nothing else is worse.
        let figures = figures::start(Arc::clone(&self.database), self.prober.figures().clone());
        let statistics = self.start_statistics();
        let backups = self.start_backups();
        let retention = self.start_retention();
        let archive = self.start_archive_threads();
        let signal = self.until_signal(events)?;
        // Their connections would keep the WAL from being emptied.
        drop((archive, retention, statistics, figures));
        self.stop(signal, backups)
    }

    /// Waits until the database is ready (`None`) or a signal has come.
    fn until_ready(&self, events: &Receiver<ServiceEvent>) -> Result<Option<StopSignal>> {
        let (mut received, mut interval) = (None, EXTENSION_INTERVAL);
        loop {
            match events.recv_timeout(interval) {
                Ok(ServiceEvent::Ready { is_new }) => {
                    if received.is_none() {
                        self.log_ready(is_new);
                    }
                    return Ok(received);
                }
                Ok(ServiceEvent::Signal(signal)) => {
                    (received, interval) = (Some(signal), CLOSE_TIMEOUT);
                    self.cancelled.store(true, Ordering::Relaxed);
                }
                Ok(ServiceEvent::Failed(error)) if error.kind == Kind::Stopped => {
                    return Ok(received);
                }
                Ok(ServiceEvent::Failed(error)) => {
                    self.notifier.status(&error.to_string());
                    return Err(error);
                }
                Err(RecvTimeoutError::Timeout) if received.is_some() => {
                    return Err(self.start_not_ended());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let activity = self.prober.activity();
                    self.notifier.extend_start(EXTENSION_INTERVAL * 6, &activity);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(thread_ended()),
            }
        }
    }

    fn log_ready(&self, is_new: bool) {
        if is_new {
            let first_start = FirstStart {
                command: invocation::command(),
                address: self.server.address(),
                lacks_token: self.server.lacks_token,
                identity: self.database.identity(),
                backups: &self.backups,
            };
            first_start.lines().iter().for_each(|line| self.log.info(line));
        }
        self.log.info("✓ Application Ready for Production");
    }

    /// Starts the threads that look after the archive, if there is one. Without them it grows, which is said.
    fn start_archive_threads(&self) -> Option<ArchiveThreads> {
        let (archive, keep) = (self.prober.shared_archive()?, self.archive_keep?);
        let started = archive::start_threads(&archive, keep, &self.conditions, self.log);
        self.conditions.record(Subject::ArchiveCompaction, &started);
        started.ok()
    }

    /// Starts to keep the statistics. Without the thread they stay as they are, which is said.
    fn start_statistics(&self) -> Option<WorkThread> {
        let database = Arc::clone(&self.database);
        let (conditions, figures) = (self.conditions.clone(), self.prober.figures().clone());
        let started = statistics::start(database, conditions, figures, self.log);
        self.conditions.record(Subject::Statistics, &started);
        started.ok()
    }

    /// The error of a start that does not end when it is cancelled: a call of the operating system hangs. What
    /// was not committed is rolled back by the next start.
    fn start_not_ended(&self) -> Error {
        let (activity, limit) = (self.prober.activity(), CLOSE_TIMEOUT.as_secs());
        Error::new(
            Kind::Io,
            format!("the start did not end within {limit} s of the signal: {activity}"),
        )
        .remedy("check the disk (`dmesg`), then start cts again")
    }

    /// Notifies systemd that the service is ready, and waits for a signal.
    fn until_signal(&self, events: &Receiver<ServiceEvent>) -> Result<StopSignal> {
        let interval = self.notifier.watchdog.map_or(IDLE_INTERVAL, |every| every / 3);
        let is_ready_sent =
            || self.notifier.ready(&format!("serving on {}", self.server.address()));
        let mut is_notified = is_ready_sent();
        loop {
            let pause = if is_notified { interval } else { interval.min(READY_RETRY_INTERVAL) };
            match events.recv_timeout(pause) {
                Ok(ServiceEvent::Signal(signal)) => return Ok(signal),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) if !is_notified => is_notified = is_ready_sent(),
                Err(RecvTimeoutError::Timeout) => self.reset_watchdog(interval),
                Err(RecvTimeoutError::Disconnected) => return Err(thread_ended()),
            }
        }
    }

    /// Resets the watchdog of systemd, if it is on, as long as the database and the HTTP server answer.
    fn reset_watchdog(&self, interval: Duration) {
        if self.notifier.watchdog.is_none() {
            return;
        }
        let silence = self.prober.silence();
        if silence > HANG_TIMEOUT {
            self.conditions
                .record(Subject::Response, &Err::<(), _>(self.prober.no_answer(silence)));
            return;
        }
        let answer = match self.server.answers_itself(interval) {
            true => Ok(()),
            false => {
                let what = format!("no answer to a request within {} s", interval.as_secs());
                Err(Error::new(Kind::Unavailable, what).at(self.server.address()))
            }
        };
        self.conditions.record(Subject::HttpServer, &answer);
        if answer.is_ok() {
            self.notifier.alive();
        }
    }

    /// Starts the automatic backups. A service without them is degraded, not ended.
    fn start_backups(&self) -> Option<WorkThread> {
        let database = Arc::clone(&self.database);
        let started = backups::start(database, &self.backups, &self.prober, self.log);
        self.conditions.record(Subject::Backup, &started);
        started.ok().flatten()
    }

    /// Starts to delete old rows. A service that does not is degraded, not ended.
    fn start_retention(&self) -> Option<WorkThread> {
        if !self.prunes {
            return None;
        }
        let database = Arc::clone(&self.database);
        let (conditions, figures) = (self.conditions.clone(), self.prober.figures().clone());
        let started = retention::start(database, conditions, figures, self.log);
        self.conditions.record(Subject::Retention, &started);
        started.ok()
    }

    /// A backup that is being made is given up first: it would keep the WAL from being emptied.
    fn stop(&self, signal: StopSignal, mut backups: Option<WorkThread>) -> Result<()> {
        self.log.info(format_args!("Stopping ({})", signal.name()));
        self.notifier.stopping("finishing requests and emptying the WAL");
        if let Some(backups) = &mut backups {
            backups.cancel();
        }
        self.server.stop(REQUESTS_TIMEOUT, &self.is_hurried);
        drop(backups);
        self.prober.close(CLOSE_TIMEOUT)
    }
}

fn thread_ended() -> Error {
    Error::new(Kind::Io, "the thread that owns the database has ended").remedy("start cts again")
}
