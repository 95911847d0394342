//! Which backups the rules keep, by which rule and until when: a decision about a list of them. It touches no file.
//!
//! The order of backups is that of their serial numbers, whatever the clock said. From the newest down, the first one of
//! each day, week or month is kept until as many of these as the rule says have one, as restic's `forget --keep-daily` has
//! it: days without a backup do not count, so that a machine that was off for a year loses nothing.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::KeepRules;
use crate::system::clock::UtcTime;

const SECONDS_PER_DAY: u64 = 24 * 3600;
/// The least interval at which coming backups are counted to see until when one is kept.
const COUNTED_INTERVAL: Duration = Duration::from_secs(3600);
/// How many coming backups are counted: more than two years of hourly ones.
const COUNTED_MAX: usize = 20_000;

/// A backup, as far as the rules are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatedBackup {
    /// Its place in the order.
    pub serial: u64,
    /// When it was made; `None` if that cannot be read.
    pub made_at: Option<SystemTime>,
    /// Whether it counts as a backup.
    pub is_good: bool,
    /// Whether it was restored for a trial, which succeeded.
    pub is_tried: bool,
}

/// Why a backup is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepReason {
    /// It is the newest good one.
    Newest,
    /// It is the newest one that was restored for a trial.
    NewestTried,
    /// It is the last one of its day.
    Daily,
    /// It is the last one of its week.
    Weekly,
    /// It is the last one of its month.
    Monthly,
    /// It is the last one whose drill failed, for the person who looks into that.
    FailedDrill,
    /// Its time cannot be read.
    UnknownTime,
}

impl KeepReason {
    /// Its name in a listing.
    pub fn name(self) -> &'static str {
        match self {
            KeepReason::Newest => "newest",
            KeepReason::NewestTried => "newest tried",
            KeepReason::Daily => "daily",
            KeepReason::Weekly => "weekly",
            KeepReason::Monthly => "monthly",
            KeepReason::FailedDrill => "failed drill",
            KeepReason::UnknownTime => "unknown time",
        }
    }
}

/// Why each of these backups is kept, in their order; one without a reason is to be deleted.
pub fn keep_reasons(backups: &[DatedBackup], rules: KeepRules) -> Vec<Vec<KeepReason>> {
    let mut newest_first: Vec<usize> = (0..backups.len()).collect();
    newest_first.sort_by_key(|at| std::cmp::Reverse(backups.get(*at).map(|b| b.serial)));
    let mut reasons = vec![Vec::new(); backups.len()];
    let mut periods = [
        Period::new(KeepReason::Daily, rules.daily),
        Period::new(KeepReason::Weekly, rules.weekly),
        Period::new(KeepReason::Monthly, rules.monthly),
    ];
    let (mut has_newest, mut has_tried, mut has_failed) = (false, false, false);
    for at in newest_first {
        let (Some(backup), Some(reasons)) = (backups.get(at), reasons.get_mut(at)) else {
            continue;
        };
        if !backup.is_good {
            if !std::mem::replace(&mut has_failed, true) {
                reasons.push(KeepReason::FailedDrill);
            }
            continue;
        }
        if !std::mem::replace(&mut has_newest, true) {
            reasons.push(KeepReason::Newest);
            has_tried = backup.is_tried;
        }
        if backup.is_tried && !std::mem::replace(&mut has_tried, true) {
            reasons.push(KeepReason::NewestTried);
        }
        match backup.made_at {
            Some(made_at) => reasons.extend(periods.iter_mut().filter_map(|p| p.take(made_at))),
            None => reasons.push(KeepReason::UnknownTime),
        }
    }
    reasons
}

/// A rule while the backups are counted.
struct Period {
    reason: KeepReason,
    count: usize,
    seen: BTreeSet<i64>,
}

impl Period {
    fn new(reason: KeepReason, count: u32) -> Period {
        Period {
            reason,
            count: usize::try_from(count).unwrap_or(usize::MAX),
            seen: BTreeSet::new(),
        }
    }

    /// The reason, if this rule keeps the next backup.
    fn take(&mut self, made_at: SystemTime) -> Option<KeepReason> {
        let number = self.number(made_at);
        let is_kept = self.seen.len() < self.count && self.seen.insert(number);
        is_kept.then_some(self.reason)
    }

    /// Counts days, weeks that begin on Monday (ISO 8601), or months, in UTC.
    fn number(&self, at: SystemTime) -> i64 {
        let day = days_since_1970(at);
        match self.reason {
            // 1970-01-01 was a Thursday.
            KeepReason::Weekly => (day + 3).div_euclid(7),
            KeepReason::Monthly => UtcTime::of(at).month_number(),
            _ => day,
        }
    }
}

fn days_since_1970(at: SystemTime) -> i64 {
    let days = |time: Duration| i64::try_from(time.as_secs() / SECONDS_PER_DAY).unwrap_or(i64::MAX);
    match at.duration_since(UNIX_EPOCH) {
        Ok(after) => days(after),
        Err(before) => -1 - days(before.duration().saturating_sub(Duration::from_nanos(1))),
    }
}

/// Until when each of these backups is kept if the next one is made at `next` and then one at each interval: in their
/// order, `None` for one that is not kept, and where that cannot be said.
pub fn kept_until(
    backups: &[DatedBackup],
    rules: KeepRules,
    next: SystemTime,
    every: Duration,
) -> Vec<Option<SystemTime>> {
    let mut until = vec![None; backups.len()];
    let reasons = keep_reasons(backups, rules);
    let is_asked = |at: &usize| {
        backups.get(*at).is_some_and(|b| b.is_good && b.made_at.is_some())
            && reasons.get(*at).is_some_and(|reasons| !reasons.is_empty())
    };
    // Those that are still kept, each with its place in `backups` if it is one of these.
    let mut kept: Vec<(DatedBackup, Option<usize>)> = (0..backups.len())
        .filter(is_asked)
        .filter_map(|at| Some((*backups.get(at)?, Some(at))))
        .collect();
    let newest = backups.iter().map(|b| b.serial).max().unwrap_or_default();
    let mut time = Some(next);
    for serial in (newest.saturating_add(1)..).take(COUNTED_MAX) {
        let Some(made_at) = time.filter(|_| kept.iter().any(|(_, at)| at.is_some())) else { break };
        kept.push((
            DatedBackup { serial, made_at: Some(made_at), is_good: true, is_tried: true },
            None,
        ));
        let dated: Vec<DatedBackup> = kept.iter().map(|(backup, _)| *backup).collect();
        let mut reasons = keep_reasons(&dated, rules).into_iter();
        kept.retain(|(_, at)| {
            let is_kept = reasons.next().is_some_and(|reasons| !reasons.is_empty());
            if let (false, Some(until)) = (is_kept, at.and_then(|at| until.get_mut(at))) {
                *until = Some(made_at);
            }
            is_kept
        });
        time = made_at.checked_add(every.max(COUNTED_INTERVAL));
    }
    until
}

#[cfg(test)]
mod tests;
