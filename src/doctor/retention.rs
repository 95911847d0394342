//! Retention: its settings, what was announced, and the clock by which rows are old.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::retention::{ClockRecord, RetentionNotice, RetentionSettings, TrustedClock};
use crate::store::WaitPolicy;
use crate::store::finding::{Finding, Group};
use crate::store::retention::RetentionStore;
use crate::system::clock::UtcTime;
use crate::system::size::Bytes;

/// How long a lock on the whole database is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const NAME: &str = "retention";

/// Examines a database that can be read. What cannot be read is a finding of the database itself.
pub fn examine(config: &Config) -> Vec<Finding> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(LOCK_TIMEOUT, &cancelled);
    let examine = || {
        let mut store = config.database.read_retention(&wait)?;
        let rows = store.read_settings()?;
        let settings = RetentionSettings::of(&rows);
        let announced = RetentionNotice::find(&rows);
        let mut findings = settings_findings(&settings, config.prunes, announced);
        let max_bytes = settings.database_max_bytes;
        findings.extend(max_bytes.map(|max| size(max, &mut *store)).transpose()?.flatten());
        findings.extend(clock(ClockRecord::find(&rows).as_ref(), SystemTime::now(), &mut *store)?);
        Ok::<_, Error>(findings)
    };
    examine().unwrap_or_default()
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

/// What is said of a database that is larger than it should be.
fn size(max_bytes: u64, store: &mut dyn RetentionStore) -> Result<Option<Finding>> {
    let used_bytes = store.used_bytes()?;
    let what = format!(
        "rows and indexes occupy {}, above database_max_bytes ({})",
        Bytes(used_bytes),
        Bytes(max_bytes)
    );
    let remedy = "`cts prune --dry-run` says whether rows may go for it; else raise database_max_bytes, or delete yourself what you do not need";
    let finding = || Finding::attention(Group::Database, NAME, what).remedy(remedy);
    Ok((used_bytes > max_bytes).then(finding))
}

/// What is said of the clock where it is not believed, or the record of it is not.
fn clock(
    record: Option<&ClockRecord>,
    wall: SystemTime,
    store: &mut dyn RetentionStore,
) -> Result<Option<Finding>> {
    let attention = |what: String| Finding::attention(Group::Clock, NAME, what);
    let doubt = match TrustedClock::start(record, wall, store)? {
        Err(doubt) => Some(doubt),
        Ok(clock) => match clock.set_back_sentence() {
            Some(set_back) => {
                let remedy = "set the clock if it is wrong; else the next `cts prune`, or pass of a running cts, records it";
                return Ok(Some(attention(set_back).remedy(remedy)));
            }
            None => clock.doubt(wall),
        },
    };
    Ok(doubt.map(|doubt| {
        let (what, remedy) = doubt.sentence(wall);
        attention(what).remedy(remedy)
    }))
}
