//! The thread that owns the database while the service runs. It answers every question with a report made
//! after it, proves regularly that the database can be written, follows a failover, and puts back what is
//! missing. One connection, one thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::health::{Conditions, History, ProbeTimes, Report, Subject, Surroundings, examine};
use crate::migrate::{self, Task, heal_online};
use crate::service::backup_watch::BackupWatch;
use crate::service::prober::Question;
use crate::service::start::start_entry;
use crate::service::upkeep::UpkeepThread;
use crate::store::journal::Journal;
use crate::store::{
    Database, ServerInstance, SiteLogEntry, StorageStatus, Store, WaitPolicy, write_site_log,
};
use crate::system::log::Log;

/// The interval between two proofs that the database can be written.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval after a failed one.
const WRITE_RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The interval between two searches for missing objects.
const HEALING_INTERVAL: Duration = Duration::from_secs(60);
/// How long healing waits for other writers.
const HEALING_LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How many rows for `site_logs` are kept while the database cannot be written.
const ENTRIES_MAX: usize = 100;
/// How long the last entry of `site_logs` waits for other writers.
const STOP_ENTRY_TIMEOUT: Duration = Duration::from_secs(1);

/// The database with what was last found of it.
pub struct DatabaseThread {
    database: Arc<dyn Database>,
    store: Box<dyn Store>,
    conditions: Conditions,
    backups: BackupWatch,
    history: History,
    probes: ProbeTimes,
    log: Log,
    /// The server whose schema was last found up to date.
    server: Option<ServerInstance>,
    /// When the last report was made.
    reported_at: Instant,
    /// Since when the database cannot be used.
    unusable_since: Option<Instant>,
    /// That cts itself keeps the WAL from being reset, where it does.
    wal_kept_by_cts: Option<String>,
    /// Rows for `site_logs` that are not written yet.
    entries: VecDeque<SiteLogEntry>,
    next_write: Instant,
    next_healing: Instant,
}

impl DatabaseThread {
    /// Takes over a database that is up to date and can be written.
    pub fn new(
        database: Arc<dyn Database>,
        store: Box<dyn Store>,
        conditions: Conditions,
        backups: BackupWatch,
        history: History,
        probes: ProbeTimes,
        log: Log,
    ) -> DatabaseThread {
        let now = Instant::now();
        DatabaseThread {
            database,
            server: store.storage_status().server,
            store,
            conditions,
            backups,
            history,
            probes,
            log,
            reported_at: now,
            unusable_since: None,
            wal_kept_by_cts: None,
            entries: VecDeque::new(),
            next_write: now + WRITE_INTERVAL,
            next_healing: now + HEALING_INTERVAL,
        }
    }

    /// Waits for questions or for the next proof of writing, and does it. `None` once no
    /// prober is left; `Some(Some(_))` when it is asked to close.
    pub fn turn(&mut self, questions: &Receiver<Question>) -> Option<Option<Sender<Result<()>>>> {
        let wait = self.next_write.saturating_duration_since(Instant::now());
        let first = match questions.recv_timeout(wait) {
            Ok(question) => Some(question),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        let (mut replies, mut readers) = (Vec::new(), Vec::new());
        // One report answers all questions asked before it.
        for question in first.into_iter().chain(questions.try_iter()) {
            match question {
                Question::Report(reply) => replies.push(reply),
                Question::Journal(reply) => readers.push(reply),
                Question::Record(entry) => self.entries.push_back(entry),
                Question::Close(reply) => return Some(Some(reply)),
            }
        }
        if !replies.is_empty() {
            self.answer(replies);
        }
        if !readers.is_empty() {
            self.read_journal(readers);
        }
        self.write_entries();
        self.do_what_is_due();
        self.conditions.record(Subject::Response, &Ok(()));
        Some(None)
    }

    fn answer(&mut self, replies: Vec<Sender<Report>>) {
        let report = self.report();
        let is_another = self.is_another_server(&report.storage);
        let (last, others) = match replies.split_last() {
            Some(split) => split,
            None => return,
        };
        for reply in others {
            // The asking thread may have given up.
            let _ = reply.send(report.clone());
        }
        let _ = last.send(report);
        // Another server is brought up to date at once.
        if is_another && !self.conditions.holds(Subject::Failover) {
            self.next_write = Instant::now();
        }
    }

    /// Reads the journal once for all that ask. Damage that is met is a fault of the database; that a table is missing or
    /// altered shows in the report.
    fn read_journal(&mut self, readers: Vec<Sender<Journal>>) {
        let journal = self.store.read_journal();
        for error in journal.errors.iter().filter(|error| error.is_damage()) {
            self.conditions.record(Subject::Damage, &Err::<(), _>(error.clone()));
        }
        for reader in readers {
            // The asking thread may have given up.
            let _ = reader.send(journal.clone());
        }
    }

    fn do_what_is_due(&mut self) {
        if Instant::now() >= self.next_write {
            let written = self.store.probe_write();
            self.conditions.record(Subject::Write, &written);
            self.look_at_wal();
            self.look_for_other_services();
            let pause = if written.is_ok() { WRITE_INTERVAL } else { WRITE_RETRY_INTERVAL };
            // The change of the status is logged even without requests for reports.
            if self.reported_at.elapsed() >= pause {
                self.report();
            }
            self.follow_failover();
            self.next_write = Instant::now() + pause;
        }
        if Instant::now() >= self.next_healing {
            self.heal();
            self.next_healing = Instant::now() + HEALING_INTERVAL;
        }
    }

    /// Records who keeps the WAL from being reset, where that is so for long.
    fn look_at_wal(&mut self) {
        let (by_cts, by_others) = match self.store.kept_wal() {
            Some(kept) if kept.is_by_cts => (Some(kept.error.message()), Ok(())),
            Some(kept) => (None, Err(kept.error)),
            None => (None, Ok(())),
        };
        self.wal_kept_by_cts = by_cts;
        self.conditions.record(Subject::WalLength, &by_others);
    }

    /// Writes what is to be in `site_logs`. What another program's lock stands in the way of is tried again in the next turn.
    fn write_entries(&mut self) {
        while self.entries.len() > ENTRIES_MAX {
            self.entries.pop_front();
        }
        while let Some(entry) = self.entries.front().cloned() {
            let written = self.with_lock_timeout(HEALING_LOCK_TIMEOUT, |store, wait| {
                write_site_log(store, wait, &entry)
            });
            let is_momentary = |error: &Error| {
                matches!(error.kind, Kind::TryAgain | Kind::Blocked | Kind::Unavailable)
            };
            if written.as_ref().is_err_and(is_momentary) {
                return;
            }
            self.conditions.record(Subject::SiteLog, &written);
            self.entries.pop_front();
        }
    }

    fn look_for_other_services(&self) {
        let others = self.store.other_services();
        self.conditions.record(Subject::OtherService, &alone(&others));
    }

    /// Whether another server answers since a restart or a failover, and can be written.
    fn is_another_server(&self, now: &StorageStatus) -> bool {
        now.server.is_some() && now.server != self.server && now.read_only.is_none()
    }

    /// Brings another server up to date: a standby that took over may not have received the last commits.
    fn follow_failover(&mut self) {
        let now = self.store.storage_status();
        if !self.is_another_server(&now) {
            return;
        }
        let found = now.server;
        let name = found.as_ref().map(|server| server.name.clone()).unwrap_or_default();
        let migrated = self.with_lock_timeout(HEALING_LOCK_TIMEOUT, |store, wait| {
            migrate::run(store, wait, Task::Migrate).map_err(|error| error.at(&name))
        });
        self.conditions.record(Subject::Failover, &migrated);
        if let Ok(outcome) = migrated {
            let done = match outcome.applied() {
                0 => "its schema is as expected".to_string(),
                count => format!("{count} statements brought its schema up to date"),
            };
            self.log.info(format_args!("✓ The server {name} answers; {done}"));
            self.conditions.record_refused(outcome.not_restored());
            self.server = found;
        }
    }

    /// Puts back what is missing and can be put back without blocking programs for long.
    fn heal(&mut self) {
        let healed = self.with_lock_timeout(HEALING_LOCK_TIMEOUT, heal_online);
        let outcome = match healed {
            Ok(outcome) => outcome,
            failed => return self.conditions.record(Subject::Healing, &failed),
        };
        let restored =
            outcome.restored().map(|object| format!("{object} was missing and has been put back"));
        let advanced = outcome
            .advanced()
            .map(|fault| format!("{fault}; they now go on past those of the rows"));
        for done in restored.chain(advanced) {
            self.log.warn(done);
        }
        self.conditions.record_refused(outcome.not_restored());
        if let Some(error) = outcome.site_log_error() {
            self.conditions.record(Subject::SiteLog, &Err::<(), _>(error.clone()));
        } else if self.conditions.holds(Subject::SiteLog) {
            let written = self.with_lock_timeout(HEALING_LOCK_TIMEOUT, |store, wait| {
                write_site_log(store, wait, &start_entry())
            });
            self.conditions.record(Subject::SiteLog, &written);
        }
    }

    fn with_lock_timeout<T>(
        &mut self,
        timeout: Duration,
        work: impl FnOnce(&mut dyn Store, &WaitPolicy<'_>) -> Result<T>,
    ) -> Result<T> {
        let never = Arc::new(AtomicBool::new(false));
        work(&mut *self.store, &WaitPolicy::silent(timeout, &never))
    }

    fn report(&mut self) -> Report {
        let competing = self.store.competing_servers();
        self.conditions.record(Subject::Servers, &competing.map_or(Ok(()), Err));
        let conditions = self.conditions.current();
        let surroundings = Surroundings {
            conditions: conditions.clone(),
            wal_kept_by_cts: self.wal_kept_by_cts.clone(),
            ..Surroundings::default()
        };
        let start = Instant::now();
        let examined = examine(&mut *self.store, surroundings);
        let response_time = examined.as_ref().ok().and_then(|report| report.response_time);
        self.probes.record(response_time.unwrap_or_else(|| start.elapsed()));
        let report = examined.unwrap_or_else(|error| {
            // A file that was replaced says more than the error that follows from it.
            let replaced = self.store.storage_status().replaced;
            let error = replaced.map_or(error, |why| Error::new(Kind::Io, why));
            Report::unreachable(&*self.database, &error).with_conditions(&conditions)
        });
        let report = report.with_backups(self.backups.inspect());
        self.reported_at = Instant::now();
        self.history.note(&report);
        self.log_change_of_status(&report);
        report
    }

    /// Logs when the database can no longer be used, and when it can be used again.
    fn log_change_of_status(&mut self, report: &Report) {
        match (self.unusable_since, report.status().is_usable()) {
            (None, false) => {
                self.unusable_since = Some(Instant::now());
                let reasons = report.reasons();
                let reason = reasons.first().copied().unwrap_or_default();
                self.log.warn(format_args!("The database cannot be used: {reason}"));
            }
            (Some(since), true) => {
                self.unusable_since = None;
                let seconds = since.elapsed().as_secs();
                self.log.info(format_args!("✓ The database can be used again, after {seconds} s"));
            }
            _ => {}
        }
    }

    /// Records the stop in `site_logs`, ends the upkeep, which archives that too, and closes the database.
    ///
    /// # Errors
    ///
    /// The error of the closing; what was committed remains in the WAL. An entry that cannot be written is none.
    pub fn close(mut self, upkeep: Option<UpkeepThread>) -> Result<()> {
        let entry = SiteLogEntry { level: "info", message: "the service stopped".into() };
        // The service stops even if the entry cannot be written. Reading first ends in time on a server
        // that hangs.
        let _ = self.with_lock_timeout(STOP_ENTRY_TIMEOUT, |store, wait| {
            store.inspect().and_then(|_| write_site_log(store, wait, &entry))
        });
        drop(upkeep);
        self.store.close()
    }
}

/// The fault that other processes serve the database too.
fn alone(others: &[u32]) -> Result<()> {
    let pids: Vec<String> = others.iter().map(|pid| format!("cts (pid {pid})")).collect();
    if pids.is_empty() {
        return Ok(());
    }
    let what = format!("another service has this database open too: {}", pids.join(", "));
    Err(Error::new(Kind::Config, what)
        .remedy("stop all but one (`systemctl status cts`, `ps -fp` with the pid); each of them maintains the database"))
}
