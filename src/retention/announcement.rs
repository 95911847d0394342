//! What was announced before anything was deleted by itself: nobody should learn of retention by what is gone.

use std::time::{Duration, SystemTime};

use super::settings::RetentionSettings;
use crate::store::retention::{ANNOUNCED, StoredSetting};
use crate::system::clock::UtcTime;
use crate::system::version::VERSION;

/// How long before the first deletion it is announced.
const ANNOUNCED_BEFORE: Duration = Duration::from_secs(86_400);

/// The record of an announcement: when, by which version, and with which settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionNotice {
    /// When it was made, by the clock that is trusted.
    pub at: SystemTime,
    version: String,
    /// The settings by key; those that delete nothing are 0.
    settings: Vec<(String, u64)>,
}

impl RetentionNotice {
    /// The one of these settings, made at a time.
    pub fn of(settings: &RetentionSettings, at: SystemTime) -> RetentionNotice {
        let settings = settings.by_key();
        let settings =
            settings.iter().map(|(key, value)| (key.to_string(), value.unwrap_or_default()));
        RetentionNotice { at, version: VERSION.into(), settings: settings.collect() }
    }

    /// The announcement of a text; `None` if it is none.
    pub fn parse(text: &str) -> Option<RetentionNotice> {
        let mut words = text.split_whitespace();
        let at = humantime::parse_rfc3339(words.next()?).ok()?;
        let version = words.next()?.to_string();
        let setting = |word: &str| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_string(), value.parse().ok()?))
        };
        Some(RetentionNotice { at, version, settings: words.map(setting).collect::<Option<_>>()? })
    }

    /// The announcement among these rows.
    pub fn find(rows: &[StoredSetting]) -> Option<RetentionNotice> {
        let row = rows.iter().find(|row| row.key == ANNOUNCED)?;
        RetentionNotice::parse(&row.value)
    }

    /// The row that it is written as.
    pub fn row(&self) -> StoredSetting {
        StoredSetting::record(ANNOUNCED, self.text())
    }

    /// Its text.
    pub fn text(&self) -> String {
        let settings = self.settings.iter().map(|(key, value)| format!(" {key}={value}"));
        let at = UtcTime::of(self.at).rfc3339();
        format!("{at} {}{}", self.version, settings.collect::<String>())
    }

    /// Whether it announced all that these settings delete: it was made by this version, no row is kept shorter now, and
    /// it is not dated in the future.
    pub fn covers(&self, settings: &RetentionSettings, now: SystemTime) -> bool {
        let announced = |key: &str| {
            let found = self.settings.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| *value).filter(|value| *value > 0)
        };
        let is_announced = |(key, value): (&str, Option<u64>)| match (value, announced(key)) {
            (None, _) => true,
            (Some(value), Some(announced)) => value >= announced,
            (Some(_), None) => false,
        };
        self.version == VERSION
            && self.at <= now + Duration::from_secs(3600)
            && settings.by_key().into_iter().all(is_announced)
    }

    /// The same announcement for settings that keep more; `None` if they are the announced ones. A setting that is made
    /// stricter again later is announced again.
    pub fn with(&self, settings: &RetentionSettings) -> Option<RetentionNotice> {
        let now = RetentionNotice::of(settings, self.at);
        (now.settings != self.settings).then_some(now)
    }

    /// When deleting may begin.
    pub fn begins_at(&self) -> SystemTime {
        self.at + ANNOUNCED_BEFORE
    }
}
