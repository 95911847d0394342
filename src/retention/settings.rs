//! The settings of retention, as they are in `system_settings`. One that is nonsense deletes nothing, and is said.

use crate::error::{Error, Kind};
use crate::store::retention::{
    DATABASE_MAX_BYTES, INDICATIONS_DAYS, OLD_LOG_DAYS, POSITIONS_DAYS, SITE_LOGS_DAYS,
    STATISTICS_DAYS, StoredSetting,
};
use crate::system::visible::visible;

/// The most days that can be set: a hundred years.
const DAYS_MAX: u64 = 36_500;
/// The least size that can be set, in bytes: an empty database has about a sixteenth of it.
const BYTES_MIN: u64 = 16 << 20;
/// What counts where there is no row, as the schema has it.
const SITE_LOGS_DEFAULT: u64 = 30;
const INDICATIONS_DEFAULT: u64 = 7;
/// How many characters of a value are shown.
const SHOWN_CHARS: usize = 40;

/// The settings. `None` deletes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionSettings {
    /// Days that log lines are kept.
    pub site_logs_days: Option<u64>,
    /// Days that expired indications are kept.
    pub indications_expired_days: Option<u64>,
    /// Days that closed positions are kept.
    pub positions_closed_days: Option<u64>,
    /// Days that statistics are kept.
    pub statistics_days: Option<u64>,
    /// Size from which on the oldest rows go, in bytes.
    pub database_max_bytes: Option<u64>,
    /// What is wrong with them.
    pub faults: Vec<Error>,
}

impl RetentionSettings {
    /// The settings of these rows. 0 and what is nonsense are `None`.
    pub fn of(rows: &[StoredSetting]) -> RetentionSettings {
        let mut faults = Vec::new();
        let days = |faults: &mut Vec<Error>, key: &str, default: u64| {
            value(rows, key, default, 1..=DAYS_MAX)
                .map_err(|error| faults.push(error))
                .unwrap_or_default()
        };
        let own = days(&mut faults, SITE_LOGS_DAYS, SITE_LOGS_DEFAULT);
        // The setting of an older CTS keeps them longer, never shorter. As there, 0 is no time, and not for ever.
        let older = value(rows, OLD_LOG_DAYS, 0, 1..=DAYS_MAX);
        let site_logs_days = match older {
            Ok(None) => own,
            Ok(Some(older)) => own.map(|own| own.max(older)),
            Err(error) => {
                faults.push(error);
                None
            }
        };
        RetentionSettings {
            site_logs_days,
            indications_expired_days: days(&mut faults, INDICATIONS_DAYS, INDICATIONS_DEFAULT),
            positions_closed_days: days(&mut faults, POSITIONS_DAYS, 0),
            statistics_days: days(&mut faults, STATISTICS_DAYS, 0),
            database_max_bytes: value(rows, DATABASE_MAX_BYTES, 0, BYTES_MIN..=u64::MAX)
                .map_err(|error| faults.push(error))
                .unwrap_or_default(),
            faults,
        }
    }

    /// The settings by key, in the order in which they are announced and shown.
    pub fn by_key(&self) -> [(&'static str, Option<u64>); 5] {
        [
            (SITE_LOGS_DAYS, self.site_logs_days),
            (INDICATIONS_DAYS, self.indications_expired_days),
            (POSITIONS_DAYS, self.positions_closed_days),
            (STATISTICS_DAYS, self.statistics_days),
            (DATABASE_MAX_BYTES, self.database_max_bytes),
        ]
    }

    /// The faults as one error; `None` if there is none.
    pub fn fault(&self) -> Option<Error> {
        let first = self.faults.first()?.clone();
        Some(self.faults.iter().skip(1).fold(first, |error, other| error.note(other.message())))
    }
}

/// The value of a setting; `None` if it is 0, or is not there and its default is 0.
///
/// # Errors
/// It is not 0 and not within the range.
fn value(
    rows: &[StoredSetting],
    key: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, Error> {
    let Some(row) = rows.iter().find(|row| row.key == key) else {
        return Ok(Some(default).filter(|default| *default > 0));
    };
    let number = row.value.trim().parse::<u64>().ok();
    match number {
        Some(0) => Ok(None),
        Some(number) if range.contains(&number) => Ok(Some(number)),
        _ => Err(nonsense(key, &row.value, &range)),
    }
}

fn nonsense(key: &str, value: &str, range: &std::ops::RangeInclusive<u64>) -> Error {
    let shown: String = visible(value).chars().take(SHOWN_CHARS).collect();
    let (expected, example) = match key {
        DATABASE_MAX_BYTES => {
            (format!("0, or a whole number of bytes from {} on", range.start()), "0")
        }
        _ => (format!("a whole number of days from 0 to {}", range.end()), "30"),
    };
    Error::new(
        Kind::Config,
        format!("setting {key} is '{shown}', which is not {expected}; nothing is deleted by it"),
    )
    .remedy(format!("UPDATE system_settings SET value = '{example}' WHERE key = '{key}'"))
}
