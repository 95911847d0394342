//! What the settings say of the rows, at a moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::settings::RetentionSettings;
use crate::store::Moment;
use crate::store::retention::{PrunableRows, PruneRule};

/// Days that errors of cts itself are kept.
const OWN_ERRORS_DAYS: u64 = 365;
const DAY: Duration = Duration::from_secs(86_400);
const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// The tables from which rows may be deleted.
pub fn prunable_tables() -> impl Iterator<Item = &'static str> {
    PrunableRows::ALL.into_iter().map(PrunableRows::table).chain(["pseudo_positions"])
}

/// The rules by age; none for what is kept.
pub fn rules_by_age(settings: &RetentionSettings, now: SystemTime) -> Vec<PruneRule> {
    let rule = |rows: PrunableRows| {
        let days = match rows {
            PrunableRows::SiteLogs => settings.site_logs_days?,
            PrunableRows::Indications(_) => settings.indications_expired_days?,
            PrunableRows::Periods(_) | PrunableRows::Days => settings.statistics_days?,
        };
        let until = days_before(now, days)?;
        let until = match rows {
            PrunableRows::SiteLogs | PrunableRows::Indications(_) => until,
            PrunableRows::Periods(_) | PrunableRows::Days => midnight(until),
        };
        Some(PruneRule { rows, until, own_errors_until: own_errors_until(settings, now)? })
    };
    PrunableRows::ALL.into_iter().filter_map(rule).collect()
}

/// The rules for a database that is too large: log lines and expired indications until this moment go, whatever their
/// days.
pub fn rules_by_size(
    settings: &RetentionSettings,
    now: SystemTime,
    until: Moment,
) -> Vec<PruneRule> {
    let rule = |rows: PrunableRows| match rows {
        PrunableRows::SiteLogs | PrunableRows::Indications(_) => Some(PruneRule {
            rows,
            until,
            own_errors_until: own_errors_until(settings, now)?.min(until),
        }),
        PrunableRows::Periods(_) | PrunableRows::Days => None,
    };
    PrunableRows::ALL.into_iter().filter_map(rule).collect()
}

fn own_errors_until(settings: &RetentionSettings, now: SystemTime) -> Option<Moment> {
    days_before(now, settings.site_logs_days.unwrap_or_default().max(OWN_ERRORS_DAYS))
}

fn days_before(now: SystemTime, days: u64) -> Option<Moment> {
    before(now, DAY.checked_mul(u32::try_from(days).ok()?)?)
}

/// The moment so long before `now`; `None` before 1970.
pub fn before(now: SystemTime, age: Duration) -> Option<Moment> {
    let since_1970 = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(age)?;
    i64::try_from(since_1970.as_micros()).ok().map(Moment)
}

fn midnight(moment: Moment) -> Moment {
    Moment(moment.0 - moment.0.rem_euclid(MICROSECONDS_PER_DAY))
}
