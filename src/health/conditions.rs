//! The faults that the threads of the running service have found and that still hold. Every thread records
//! here how its work went; each report contains what is recorded, and the log line of a fault is a rendering
//! of the same value. So no thread can log a fault that the health answers do not know.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::reason::{Reason, Severity};
use crate::error::{Error, Kind, Result};
use crate::system::log::Log;
use cts_schema::catalog::Object;

/// The least time between two log lines about one subject whose fault keeps changing.
const RELOG_INTERVAL: Duration = Duration::from_secs(60);

/// What a thread works on. Each subject has at most one fault at a time: the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The database thread answers.
    Response,
    /// A write that is rolled back succeeds.
    Write,
    /// Upkeep: checkpoints of the WAL.
    Upkeep,
    /// The WAL is short. Each report judges its length itself; what is recorded is for the log.
    WalLength,
    /// Missing tables, columns and indexes are put back.
    Healing,
    /// No more than one server of the URL can be written.
    Servers,
    /// The schema on a server that answers after a failover or restart is up to date.
    Failover,
    /// The HTTP server answers requests of its own machine.
    HttpServer,
    /// Table `site_logs` accepts rows.
    SiteLog,
    /// No other service of cts has the database open.
    OtherService,
    /// No page of the database is damaged, as far as its backups show.
    Damage,
    /// Backups are made by the service.
    Backup,
    /// The newest backup can be restored.
    Drill,
    /// Backups that no rule keeps are deleted.
    OldBackups,
    /// What is committed is archived.
    Archive,
    /// The archive is restored for a trial.
    ArchiveDrill,
    /// Segments of the archive are merged and deleted as they age.
    ArchiveCompaction,
    /// Old rows are deleted.
    Retention,
    /// The settings of retention can be used.
    RetentionSettings,
    /// The clock is believed by retention.
    RetentionClock,
    /// The database is not larger than it should be.
    DatabaseSize,
    /// The statistics of closed positions are current.
    Statistics,
}

impl Subject {
    /// The beginning of a sentence about a fault of it; the error follows.
    pub fn failure(self) -> &'static str {
        match self {
            Subject::Response
            | Subject::Write
            | Subject::WalLength
            | Subject::Servers
            | Subject::HttpServer
            | Subject::OtherService
            | Subject::RetentionSettings
            | Subject::RetentionClock
            | Subject::DatabaseSize
            | Subject::Damage => "",
            Subject::Upkeep => "upkeep failed and is retried: ",
            Subject::Healing => "cannot put back what is missing: ",
            Subject::Failover => "cannot bring the schema of the server up to date: ",
            Subject::SiteLog => "cannot write to table site_logs: ",
            Subject::Backup => "the last backup failed: ",
            Subject::Drill => "the last backup was not restored for a trial: ",
            Subject::OldBackups => "old backups are not deleted: ",
            Subject::Archive => "what is committed is not archived: ",
            Subject::ArchiveDrill => "the archive was not restored for a trial: ",
            Subject::ArchiveCompaction => "the archive is not compacted: ",
            Subject::Retention => "old rows are not deleted: ",
            Subject::Statistics => "the statistics are not kept current: ",
        }
    }

    /// A sentence about the end of a fault of it.
    fn recovery(self) -> &'static str {
        match self {
            Subject::Response => "the database answers again",
            Subject::Write => "the database can be written again",
            Subject::Upkeep => "upkeep works again",
            Subject::WalLength => "the WAL is short again",
            Subject::Healing => "nothing is left that could not be put back",
            Subject::Servers => "no more than one server of the URL can be written",
            Subject::Failover => "the schema of the server is up to date",
            Subject::HttpServer => "the HTTP server answers again",
            Subject::SiteLog => "table site_logs can be written again",
            Subject::OtherService => "no other cts serves the database",
            Subject::Damage => "a backup shows no damage of the database",
            Subject::Backup => "backups are made again",
            Subject::Drill => "the last backup can be restored",
            Subject::OldBackups => "old backups are deleted again",
            Subject::Archive => "what is committed is archived again",
            Subject::ArchiveDrill => "the archive can be restored",
            Subject::ArchiveCompaction => "the archive is compacted again",
            Subject::Retention => "old rows are deleted again",
            Subject::RetentionSettings => "the settings of retention can be used",
            Subject::RetentionClock => "the clock agrees with the time that has passed",
            Subject::DatabaseSize => "the database is not above database_max_bytes",
            Subject::Statistics => "the statistics are kept current again",
        }
    }

    /// Whether an error of this kind is a fault of the subject. A lock of another program is none, nor is
    /// a server that is down while something was to be put back on it: each report asks the server itself.
    fn is_fault(self, kind: Kind) -> bool {
        match kind {
            Kind::Blocked if self == Subject::WalLength => true,
            Kind::TryAgain | Kind::Blocked | Kind::Stopped => false,
            Kind::Unavailable => {
                !matches!(self, Subject::Healing | Subject::Retention | Subject::Statistics)
            }
            _ => true,
        }
    }
}

/// A fault that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What has the fault.
    pub subject: Subject,
    /// The fault.
    pub error: Error,
    /// The missing objects that could not be put back, each with why.
    pub refused: Vec<(Object, Error)>,
}

impl Condition {
    /// The fault as a reason of a report. An I/O error or damage makes the database unusable, in whatever
    /// work it occurred, but for that of a backup: it may be one of the backup's own disk. A table `site_logs` that
    /// refuses rows is reported only, as trading does not depend on it.
    pub fn reason(&self) -> Reason {
        let text = format!("{}{}", self.subject.failure(), self.error);
        match self.subject {
            Subject::Response | Subject::Write => Reason::critical(text),
            Subject::SiteLog | Subject::OtherService | Subject::RetentionClock => {
                Reason::notice(text)
            }
            // The disk of these is another one, most often.
            Subject::Backup
            | Subject::Drill
            | Subject::OldBackups
            | Subject::Archive
            | Subject::ArchiveDrill
            | Subject::ArchiveCompaction => Reason::warning(text),
            _ if self.error.kind == Kind::Io || self.error.is_damage() => Reason::critical(text),
            _ => Reason::warning(text),
        }
    }

    fn log(&self, log: Log) {
        let reason = self.reason();
        match reason.severity {
            // The log line about the status that follows names this reason.
            Severity::Critical if self.subject == Subject::Write => {}
            Severity::Critical => log.error(reason.text),
            Severity::Warning | Severity::Notice => log.warn(reason.text),
        }
    }
}

/// A condition with its history.
struct LoggedCondition {
    condition: Condition,
    since: Instant,
    /// The error that was logged last, and when.
    logged: Error,
    logged_at: Instant,
}

/// The registry, shared by all threads of the service.
#[derive(Clone)]
pub struct Conditions {
    entries: Arc<Mutex<BTreeMap<Subject, LoggedCondition>>>,
    log: Log,
}

impl Conditions {
    /// A registry without faults, which logs to `log`.
    pub fn new(log: Log) -> Conditions {
        Conditions { entries: Arc::default(), log }
    }

    /// Records how the work on a subject went. A fault is logged when it appears, and when it changes, at
    /// most once a minute; a success ends it, which is logged too. An error that is no fault of the subject
    /// changes nothing.
    pub fn record<T>(&self, subject: Subject, outcome: &Result<T>) {
        match outcome {
            Ok(_) => self.clear(subject),
            Err(error) if subject.is_fault(error.kind) => {
                let condition = Condition { subject, error: error.clone(), refused: Vec::new() };
                self.set(condition, Instant::now());
            }
            Err(_) => {}
        }
    }

    /// Records which missing objects could not be put back, each with why; none ends the fault.
    pub fn record_refused(&self, refused: Vec<(Object, Error)>) {
        match refusal(&refused) {
            Some(error) => {
                let condition = Condition { subject: Subject::Healing, error, refused };
                self.set(condition, Instant::now());
            }
            None => self.clear(Subject::Healing),
        }
    }

    /// Logs a failure that the next attempt did not meet, so that no fault was recorded.
    pub fn log_momentary(&self, subject: Subject, error: &Error) {
        let failure = subject.failure();
        let text = format!("{failure}{}; the next attempt succeeded", error.message());
        self.log.warn(text);
    }

    /// The faults that hold.
    pub fn current(&self) -> Vec<Condition> {
        self.entries().values().map(|entry| entry.condition.clone()).collect()
    }

    /// Whether a subject has a fault.
    pub fn holds(&self, subject: Subject) -> bool {
        self.entries().contains_key(&subject)
    }

    fn set(&self, condition: Condition, now: Instant) {
        if self.update(condition.clone(), now) {
            condition.log(self.log);
        }
    }

    /// Puts a condition in place; whether it must be logged.
    fn update(&self, condition: Condition, now: Instant) -> bool {
        let mut entries = self.entries();
        match entries.get_mut(&condition.subject) {
            None => {
                let (logged, subject) = (condition.error.clone(), condition.subject);
                entries.insert(
                    subject,
                    LoggedCondition { condition, since: now, logged, logged_at: now },
                );
                true
            }
            Some(entry) => {
                let is_due = now.duration_since(entry.logged_at) >= RELOG_INTERVAL;
                let is_logged = is_due && entry.logged != condition.error;
                if is_logged {
                    (entry.logged, entry.logged_at) = (condition.error.clone(), now);
                }
                entry.condition = condition;
                is_logged
            }
        }
    }

    fn clear(&self, subject: Subject) {
        let ended = self.entries().remove(&subject);
        if let Some(entry) = ended.filter(|_| subject != Subject::Write) {
            let seconds = entry.since.elapsed().as_secs();
            self.log.info(format_args!("✓ {}, after {seconds} s", subject.recovery()));
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Subject, LoggedCondition>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of healing that was refused: of the first object, with the number of the others.
fn refusal(refused: &[(Object, Error)]) -> Option<Error> {
    let (object, error) = refused.first()?;
    let error = error.clone().at(object);
    Some(match refused.len() - 1 {
        0 => error,
        others => error.note(format!("{others} more are missing and could not be put back")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;
    use crate::system::log::Verbosity;

    fn registry() -> Conditions {
        Conditions::new(Log::new(Verbosity::Quiet))
    }

    fn failed(kind: Kind, what: &str) -> Result<()> {
        Err(Error::new(kind, what))
    }

    fn reasons(conditions: &Conditions) -> Vec<Reason> {
        conditions.current().iter().map(Condition::reason).collect()
    }

    #[test]
    fn a_fault_holds_until_its_own_subject_succeeds() {
        let conditions = registry();
        conditions.record(Subject::Upkeep, &failed(Kind::Io, "disk I/O error"));
        conditions.record(Subject::Healing, &failed(Kind::Data, "views may not be indexed"));
        conditions.record(Subject::Write, &Ok(()));
        assert_eq!(
            reasons(&conditions),
            [
                Reason::critical("upkeep failed and is retried: disk I/O error"),
                Reason::warning("cannot put back what is missing: views may not be indexed"),
            ]
        );
        conditions.record(Subject::Upkeep, &Ok(7));
        assert!(!conditions.holds(Subject::Upkeep) && conditions.holds(Subject::Healing));
        conditions.record(Subject::Healing, &failed(Kind::Data, "another"));
        assert_eq!(reasons(&conditions).len(), 1);
    }

    #[test]
    fn an_io_error_or_damage_is_critical_whoever_meets_it() {
        let reason =
            |subject, error: Error| Condition { subject, error, refused: Vec::new() }.reason();
        let is_critical = |subject, error| reason(subject, error).severity == Severity::Critical;
        let damage = || Error::new(Kind::Data, "malformed").caused_by(Cause::Sqlite(11));
        for subject in [Subject::Upkeep, Subject::Healing, Subject::Failover] {
            assert!(is_critical(subject, Error::new(Kind::Io, "disk I/O error")), "{subject:?}");
            assert!(is_critical(subject, damage()), "{subject:?}");
            assert!(!is_critical(subject, Error::new(Kind::Permission, "no")), "{subject:?}");
        }
        assert!(is_critical(Subject::Write, Error::new(Kind::Permission, "read-only")));
        assert_eq!(reason(Subject::SiteLog, damage()).severity, Severity::Notice);
        // The disk may be that of the backups.
        for error in [Error::new(Kind::Io, "disk I/O error"), damage()] {
            assert_eq!(reason(Subject::Backup, error).severity, Severity::Warning);
        }
    }

    #[test]
    fn a_lock_of_another_program_is_no_fault_and_ends_none() {
        let conditions = registry();
        for kind in [Kind::TryAgain, Kind::Blocked, Kind::Stopped] {
            conditions.record(Subject::Healing, &failed(kind, "locked"));
        }
        conditions.record(Subject::Healing, &failed(Kind::Unavailable, "connection refused"));
        assert!(conditions.current().is_empty());
        conditions.record(Subject::Healing, &failed(Kind::Data, "refused"));
        conditions.record(Subject::Healing, &failed(Kind::TryAgain, "locked"));
        assert!(conditions.holds(Subject::Healing));
    }

    #[test]
    fn a_fault_is_logged_once_and_a_change_of_it_at_most_once_a_minute() {
        let conditions = registry();
        let start = Instant::now();
        let update = |what: &str, after: u64| {
            let error = Error::new(Kind::Io, what);
            let condition = Condition { subject: Subject::Upkeep, error, refused: Vec::new() };
            conditions.update(condition, start + Duration::from_secs(after))
        };
        assert!(update("12 KiB are free", 0));
        assert!(!update("12 KiB are free", 61));
        assert!(update("8 KiB are free", 62));
        assert!(!update("4 KiB are free", 63));
        assert!(conditions.current()[0].error.what.starts_with('4'), "reports have the last one");
        assert!(update("4 KiB are free", 122), "a change that was not logged is logged later");
        conditions.record(Subject::Upkeep, &Ok(()));
        assert!(update("4 KiB are free", 123), "a fault that came back is logged again");
    }

    #[test]
    fn refused_healing_names_the_first_object_and_counts_the_others() {
        let conditions = registry();
        let refused = |name: &str| {
            let error = Error::new(Kind::Data, "there is already a view of this name");
            (Object::Table(name.into()), error)
        };
        conditions.record_refused(vec![refused("users")]);
        assert_eq!(
            conditions.current()[0].error.to_string(),
            "table users: there is already a view of this name"
        );
        conditions.record_refused(vec![refused("users"), refused("site_logs")]);
        let all = conditions.current()[0].error.to_string();
        assert!(all.starts_with("table users: ") && all.contains("; 1 more are missing"), "{all}");
        conditions.record_refused(Vec::new());
        assert!(!conditions.holds(Subject::Healing));
    }
}
