//! The line of `cts --check`, in the form of the Monitoring Plugins guidelines: one line for people and
//! machines, with the performance data behind a bar.

use std::fmt;

use crate::backup::BackupState;
use crate::health::{DeepCheck, Report, Status};
use crate::store::ReadExtent;
use crate::system::size::Bytes;
use crate::system::visible::visible;
use cts_schema::catalog::core_tables;

/// How many reasons are shown; the others are counted.
const REASONS_SHOWN: usize = 3;

/// The figures of the line.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Core tables that exist.
    pub tables: usize,
    /// Migrations that are applied.
    pub applied: usize,
    /// Migrations in a complete ledger.
    pub migrations: usize,
    /// How long the database took to answer; `None` if that is unknown.
    pub seconds: Option<f64>,
    /// The check of everything for damage, where it was made.
    pub deep_check: Option<DeepCheck>,
}

impl fmt::Display for DeepCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.time.as_secs_f64();
        match self.read {
            Some(ReadExtent { tables, bytes: Some(bytes) }) => {
                write!(f, "read {} of {tables} tables in {seconds:.3} s", Bytes(bytes))
            }
            Some(ReadExtent { tables, bytes: None }) => {
                write!(f, "read {tables} tables in {seconds:.3} s")
            }
            None => write!(f, "ended early by damage after {seconds:.3} s"),
        }
    }
}

/// The age of the newest good backup.
#[derive(Clone, Copy, Debug)]
pub struct BackupFigures {
    /// In seconds; `None` if there is none, or its age is unknown.
    pub age_seconds: Option<u64>,
    /// The age in seconds from which on it is too old; `None` where none is made automatically.
    pub age_max_seconds: Option<u64>,
}

impl BackupFigures {
    /// Those of a state; `None` where no backups are made automatically and there is none.
    fn of(state: &BackupState) -> Option<BackupFigures> {
        let age = state.last.as_ref().and_then(|last| last.age.known());
        BackupFigures::new(age.map(|age| age.as_secs()), state.age_max().map(|max| max.as_secs()))
    }

    /// Those of an age and its limit, in seconds; `None` where there is neither.
    pub fn new(age_seconds: Option<u64>, age_max_seconds: Option<u64>) -> Option<BackupFigures> {
        let is_any = age_seconds.is_some() || age_max_seconds.is_some();
        is_any.then_some(BackupFigures { age_seconds, age_max_seconds })
    }

    fn performance_data(self) -> String {
        let max = self.age_max_seconds.map_or(String::new(), |seconds| seconds.to_string());
        // `U` is the guidelines' value for a figure that could not be determined.
        self.age_seconds.map_or("backup_age=U".into(), |age| format!("backup_age={age}s;{max};;0"))
    }
}

impl Report {
    /// The line of `cts --check`.
    pub fn check_line(&self) -> String {
        let counts = self.connected.then(|| Counts {
            tables: self.count(core_tables()).existing,
            applied: self.applied.len(),
            migrations: self.expected_migrations,
            seconds: self.response_time.map(|time| time.as_secs_f64()),
            deep_check: self.deep_check,
        });
        let backups = self.backups.as_ref().and_then(BackupFigures::of);
        check_line(self.status(), self.backend.name(), counts, backups, &self.summary())
    }
}

/// The line of `cts --check`; without `counts` if the database did not answer, and without `backups` where there are none
/// and none are made automatically.
pub fn check_line(
    status: Status,
    backend: &str,
    counts: Option<Counts>,
    backups: Option<BackupFigures>,
    reasons: &[String],
) -> String {
    let word = match status {
        Status::Healthy => "OK",
        Status::Degraded | Status::Initializing => "WARNING",
        Status::Unhealthy => "CRITICAL",
    };
    let mut line = format!("CTS {word} - {backend}");
    if let Some(Counts { tables, applied, migrations, deep_check, .. }) = counts {
        let expected = core_tables().count();
        line += &format!(", {tables}/{expected} core tables, {applied}/{migrations} migrations");
        line += &deep_check.map_or(String::new(), |check| format!(", {check}"));
    }
    if !reasons.is_empty() {
        let shown: Vec<&str> = reasons.iter().take(REASONS_SHOWN).map(String::as_str).collect();
        line += &format!(": {}", shown.join("; "));
    }
    if reasons.len() > REASONS_SHOWN {
        line += &format!("; and {} more", reasons.len() - REASONS_SHOWN);
    }
    // A bar begins the performance data, and a line end the long text.
    line = visible(&line.replace('|', "/")).into_owned();
    let counts = counts.map(|Counts { tables, seconds, .. }| {
        let seconds = seconds.map_or("U".into(), |seconds| format!("{seconds:.4}s;;;0"));
        format!("response_time={seconds} tables={tables};;;0")
    });
    let backups = backups.map(BackupFigures::performance_data);
    let figures: Vec<String> = [counts, backups].into_iter().flatten().collect();
    if !figures.is_empty() {
        line += &format!(" | {}", figures.join(" "));
    }
    line
}
