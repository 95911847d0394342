//! Retention: its settings, what was announced, and the clock by which rows are old.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::retention::{ClockDoubt, ClockRecord, RetentionNotice, RetentionSettings, TrustedClock};
use crate::store::WaitPolicy;
use crate::store::finding::{Finding, Group};
use crate::system::clock::UtcTime;

/// How long a lock on the whole database is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const NAME: &str = "retention";

/// Examines a database that can be read. What cannot be read is a finding of the database itself.
pub fn examine(config: &Config) -> Vec<Finding> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(LOCK_TIMEOUT, &cancelled);
    let rows = config.database.read_retention(&wait).and_then(|mut store| store.read_settings());
    let Ok(rows) = rows else { return Vec::new() };
    let settings = RetentionSettings::of(&rows);
    let mut findings = settings_findings(&settings, config.prunes, RetentionNotice::find(&rows));
    findings.extend(clock(ClockRecord::find(&rows).as_ref(), SystemTime::now()));
    findings
}

/// What is said of the settings.
fn settings_findings(
    settings: &RetentionSettings,
    prunes: bool,
    announced: Option<RetentionNotice>,
) -> Vec<Finding> {
    let faults = settings.faults.iter().map(|fault| {
        let finding = Finding::attention(Group::Database, NAME, fault.message());
        Finding { remedy: fault.remedy.clone(), ..finding }
    });
    let findings: Vec<Finding> = faults.collect();
    if !findings.is_empty() {
        return findings;
    }
    let set = settings.by_key().into_iter();
    let set: Vec<String> =
        set.filter_map(|(key, value)| Some(format!("{key} {}", value?))).collect();
    let set = if set.is_empty() { "nothing is deleted".into() } else { set.join(", ") };
    let when = match announced {
        _ if !prunes => "not by the service (CTS_RETENTION=0)".into(),
        None => "nothing was found to delete yet".into(),
        Some(announced) => {
            format!("announced, from {} on", UtcTime::of(announced.begins_at()).rfc3339())
        }
    };
    vec![Finding::good(Group::Database, NAME, format!("{set}; {when}"))]
}

/// What is said of the clock where it is not believed.
fn clock(record: Option<&ClockRecord>, wall: SystemTime) -> Option<Finding> {
    let doubt = match TrustedClock::start(record, wall) {
        // The finding on the time says so.
        None => ClockDoubt::BeforeBuild,
        Some(clock) => clock.doubt(wall)?,
    };
    let (what, remedy) = doubt.sentence(wall);
    Some(Finding::attention(Group::Clock, NAME, what).remedy(remedy))
}
