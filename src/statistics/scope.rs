//! What holds for the statistics of all days: the connections, how long statistics are kept, and up to which day some are
//! final.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::store::retention::{CLOCK, STATISTICS_DAYS};
use crate::store::{Day, ReadStatistics, day_of_text, days_of};
use crate::system::visible::visible;

/// The most days for which statistics can be set to be kept.
const STATISTICS_DAYS_MAX: u32 = 36_500;
/// How many characters of a setting that is nonsense are shown.
const SHOWN_CHARS: usize = 40;

/// What holds for all days.
pub struct StatisticsScope {
    /// The connections that exist.
    pub connections: BTreeSet<String>,
    /// The first day of which statistics are kept.
    pub oldest: Option<Day>,
    /// The last day of which retention has deleted positions.
    pub last_final_day: Option<Day>,
    /// What is wrong with the setting `statistics_days`, so that all days are kept.
    pub setting_fault: Option<String>,
}

/// What holds for all days: the connections, how long statistics are kept, and which are final.
///
/// # Errors
/// Where it cannot be read.
pub fn scope(reader: &mut dyn ReadStatistics) -> Result<StatisticsScope> {
    let setting = reader.setting(STATISTICS_DAYS)?.unwrap_or_default();
    let (days, setting_fault) = match setting.trim().parse::<u32>() {
        Ok(0) => (None, None),
        Ok(days) if days <= STATISTICS_DAYS_MAX => (Some(days), None),
        _ if setting.is_empty() => (None, None),
        // Nonsense deletes nothing, so that all days are kept.
        _ => (None, Some(setting_fault(&setting))),
    };
    let oldest = match days {
        Some(days) => first_kept_day(reader, days)?,
        None => None,
    };
    let (connections, last_final_day) = (reader.connections()?, reader.last_final_day()?);
    Ok(StatisticsScope { connections, oldest, last_final_day, setting_fault })
}

fn setting_fault(value: &str) -> String {
    let shown: String = visible(value).chars().take(SHOWN_CHARS).collect();
    format!(
        "setting {STATISTICS_DAYS} is '{shown}', which is not a whole number of days from 0 to {STATISTICS_DAYS_MAX}: the statistics of all days are kept"
    )
}

/// The first day that is kept for so many days. A clock that is ahead of the one that retention has recorded is believed for
/// a day only, as it is where rows are deleted; retention records it each hour.
fn first_kept_day(reader: &mut dyn ReadStatistics, days: u32) -> Result<Option<Day>> {
    let today = days_of(reader.now()?);
    let recorded = reader.setting(CLOCK)?;
    let recorded = recorded.and_then(|text| day_of_text(&text));
    let tomorrow = recorded.map(|day| Day(day.0.saturating_add(1)));
    let now = today.map(|today| tomorrow.map_or(today, |tomorrow| today.min(tomorrow)));
    Ok(now.map(|now| Day(now.0.saturating_sub_unsigned(days))))
}
