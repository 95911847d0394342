//! The settings of retention, as they are in `system_settings`. One that is nonsense deletes nothing, and is said.

use crate::error::{Error, Kind};
use crate::store::retention::{
    CATEGORY, DATABASE_MAX_BYTES, INDICATIONS_DAYS, OLD_LOG_DAYS, POSITIONS_DAYS, SITE_LOGS_DAYS,
    STATISTICS_DAYS, StoredSetting,
};
use crate::system::visible::visible;

/// The most days that can be set: a hundred years.
const DAYS_MAX: u64 = 36_500;
/// The least size that can be set, in bytes: an empty database has about a sixteenth of it.
const BYTES_MIN: u64 = 16 << 20;
/// How many characters of a value are shown.
const SHOWN_CHARS: usize = 40;

const SITE_LOGS: KnownSetting = KnownSetting::days(SITE_LOGS_DAYS, 30);
const INDICATIONS: KnownSetting = KnownSetting::days(INDICATIONS_DAYS, 7);
const POSITIONS: KnownSetting = KnownSetting::days(POSITIONS_DAYS, 0);
const STATISTICS: KnownSetting = KnownSetting::days(STATISTICS_DAYS, 0);
const MAX_BYTES: KnownSetting = KnownSetting {
    key: DATABASE_MAX_BYTES,
    default: 0,
    min: BYTES_MIN,
    max: u64::MAX,
    category: Some(CATEGORY),
};
const OLD_LOGS: KnownSetting =
    KnownSetting { category: None, ..KnownSetting::days(OLD_LOG_DAYS, 0) };

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
    /// The keys of those that cannot be used.
    pub unusable: Vec<&'static str>,
}

impl RetentionSettings {
    /// The settings of these rows. 0 and what is nonsense are `None`.
    pub fn of(rows: &[StoredSetting]) -> RetentionSettings {
        let mut settings = RetentionSettings::default();
        settings.site_logs_days = settings.log_days(rows);
        settings.indications_expired_days = settings.value(rows, &INDICATIONS);
        settings.positions_closed_days = settings.value(rows, &POSITIONS);
        settings.statistics_days = settings.value(rows, &STATISTICS);
        settings.database_max_bytes = settings.value(rows, &MAX_BYTES);
        settings
    }

    /// The setting of an older CTS keeps log lines longer, never shorter. As there, 0 is no time, and not for ever.
    fn log_days(&mut self, rows: &[StoredSetting]) -> Option<u64> {
        let own = self.value(rows, &SITE_LOGS);
        let older = self.value(rows, &OLD_LOGS);
        if self.unusable.contains(&OLD_LOG_DAYS) {
            self.unusable.push(SITE_LOGS_DAYS);
            return None;
        }
        own.map(|own| own.max(older.unwrap_or_default()))
    }

    /// The value of a setting; `None` if it is 0, cannot be used, or is not there and its default is 0. What keeps longest
    /// counts where it is there more than once.
    fn value(&mut self, rows: &[StoredSetting], setting: &KnownSetting) -> Option<u64> {
        let found: Vec<&StoredSetting> = rows.iter().filter(|row| row.key == setting.key).collect();
        let mut values = Vec::new();
        for row in &found {
            match setting.read(row) {
                Ok(value) => values.push(value),
                Err(fault) => {
                    self.faults.push(fault);
                    self.unusable.push(setting.key);
                    return None;
                }
            }
        }
        if found.len() > 1 {
            self.faults.push(setting.repeated(&found));
        }
        let longest = values.into_iter().max_by_key(|value| match value {
            0 => u64::MAX,
            value => *value,
        });
        Some(longest.unwrap_or(setting.default)).filter(|value| *value > 0)
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

/// A setting that is known.
struct KnownSetting {
    key: &'static str,
    /// What counts where there is no row, as the schema has it.
    default: u64,
    min: u64,
    max: u64,
    /// The category that its row must have.
    category: Option<&'static str>,
}

impl KnownSetting {
    const fn days(key: &'static str, default: u64) -> KnownSetting {
        KnownSetting { key, default, min: 1, max: DAYS_MAX, category: Some(CATEGORY) }
    }

    /// The value of a row.
    ///
    /// # Errors
    /// It is not 0 and not within the range, or the row is of another category.
    fn read(&self, row: &StoredSetting) -> Result<u64, Error> {
        if self.category.is_some() && row.category.as_deref() != self.category {
            return Err(self.foreign(row));
        }
        match row.value.trim().parse::<u64>() {
            Ok(0) => Ok(0),
            Ok(number) if (self.min..=self.max).contains(&number) => Ok(number),
            _ => Err(self.nonsense(&row.value)),
        }
    }

    fn nonsense(&self, value: &str) -> Error {
        let key = self.key;
        let expected = match key {
            DATABASE_MAX_BYTES => format!("0, or a whole number of bytes from {} on", self.min),
            _ => format!("a whole number of days from 0 to {}", self.max),
        };
        let what = format!(
            "setting {key} is '{}', which is not {expected}; nothing is deleted by it",
            shown(value)
        );
        Error::new(Kind::Config, what).remedy(match key {
            OLD_LOG_DAYS => format!(
                "set it right, or let {SITE_LOGS_DAYS} alone say it: DELETE FROM system_settings WHERE key = '{key}'"
            ),
            _ => format!(
                "set what is meant, such as the default: UPDATE system_settings SET value = '{}' WHERE key = '{key}'",
                self.default
            ),
        })
    }

    /// Of another program, which may mean something else by it.
    fn foreign(&self, row: &StoredSetting) -> Error {
        let key = self.key;
        let what = format!(
            "setting {key} has the category '{}', not '{CATEGORY}'; nothing is deleted by it",
            shown(row.category.as_deref().unwrap_or_default())
        );
        Error::new(Kind::Config, what).remedy(format!(
            "if it is meant for retention: UPDATE system_settings SET category = '{CATEGORY}' WHERE key = '{key}'"
        ))
    }

    fn repeated(&self, rows: &[&StoredSetting]) -> Error {
        let key = self.key;
        let values: Vec<String> = rows.iter().map(|row| shown(&row.value)).collect();
        let what = format!(
            "setting {key} is there {} times ({}); what keeps longest counts",
            rows.len(),
            values.join(", ")
        );
        Error::new(Kind::Config, what).remedy(format!(
            "keep one of them: SELECT * FROM system_settings WHERE key = '{key}'; DELETE FROM system_settings WHERE id = …"
        ))
    }
}

fn shown(value: &str) -> String {
    visible(value).chars().take(SHOWN_CHARS).collect()
}
