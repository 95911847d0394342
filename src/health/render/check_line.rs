//! The line of `cts --check`, in the form of the Monitoring Plugins guidelines: one line for people and
//! machines, with the performance data behind a bar.

use crate::health::{Report, Status};
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
}

impl Report {
    /// The line of `cts --check`.
    pub fn check_line(&self) -> String {
        let counts = self.connected.then(|| Counts {
            tables: self.count(core_tables()).existing,
            applied: self.applied.len(),
            migrations: self.expected_migrations,
            seconds: self.response_time.map(|time| time.as_secs_f64()),
        });
        check_line(self.status(), self.backend.name(), counts, &self.reasons())
    }
}

/// The line of `cts --check`; without `counts` if the database did not answer.
pub fn check_line(
    status: Status,
    backend: &str,
    counts: Option<Counts>,
    reasons: &[&str],
) -> String {
    let word = match status {
        Status::Healthy => "OK",
        Status::Degraded | Status::Initializing => "WARNING",
        Status::Unhealthy => "CRITICAL",
    };
    let mut line = format!("CTS {word} - {backend}");
    if let Some(Counts { tables, applied, migrations, .. }) = counts {
        let expected = core_tables().count();
        line += &format!(", {tables}/{expected} core tables, {applied}/{migrations} migrations");
    }
    if !reasons.is_empty() {
        let shown: Vec<&str> = reasons.iter().take(REASONS_SHOWN).copied().collect();
        line += &format!(": {}", shown.join("; "));
    }
    if reasons.len() > REASONS_SHOWN {
        line += &format!("; and {} more", reasons.len() - REASONS_SHOWN);
    }
    // A bar begins the performance data, and a line end the long text.
    line = visible(&line.replace('|', "/")).into_owned();
    if let Some(Counts { tables, seconds, .. }) = counts {
        // `U` is the guidelines' value for a figure that could not be determined.
        let seconds = seconds.map_or("U".into(), |seconds| format!("{seconds:.4}s;;;0"));
        line += &format!(" | response_time={seconds} tables={tables};;;0");
    }
    line
}
