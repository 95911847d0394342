//! Times and durations as text.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::system::clock::UtcTime;

/// A duration that is not known, where a text must stand.
pub const UNKNOWN: &str = "unknown";

/// A value as JSON text.
pub fn json_text(value: &impl Serialize) -> String {
    // Structs of strings and numbers always have a JSON form.
    serde_json::to_string(value).unwrap_or_default()
}

/// A duration in milliseconds, such as `0.4ms`.
pub fn milliseconds(duration: Option<Duration>, decimals: usize) -> String {
    duration.map_or(UNKNOWN.into(), |duration| {
        format!("{:.decimals$}ms", duration.as_secs_f64() * 1000.0)
    })
}

/// A point in time after RFC 3339, in UTC, with milliseconds.
pub fn timestamp(at: SystemTime) -> String {
    UtcTime::of(at).rfc3339()
}

/// A point in time as the database stores it (`YYYY-MM-DD HH:MM:SS.SSS`), after RFC 3339. Any other text
/// stays as it is.
pub fn stored_timestamp(stored: &str) -> String {
    let is_digit_or = |c: char, mark| c.is_ascii_digit() || c == mark;
    match stored.split_once(' ') {
        Some((day, time))
            if day.len() == "YYYY-MM-DD".len()
                && day.chars().all(|c| is_digit_or(c, '-'))
                && time.chars().all(|c| is_digit_or(c, ':') || c == '.') =>
        {
            format!("{day}T{time}Z")
        }
        _ => stored.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_duration_is_not_zero() {
        assert_eq!(milliseconds(Some(Duration::from_micros(449)), 1), "0.4ms");
        assert_eq!(milliseconds(Some(Duration::from_millis(12)), 0), "12ms");
        assert_eq!(milliseconds(None, 1), "unknown");
    }

    #[test]
    fn a_stored_time_is_shown_after_rfc_3339() {
        assert_eq!(stored_timestamp("2026-11-23 05:43:00.123"), "2026-11-23T05:43:00.123Z");
        for other in ["today", "not a time", "2026-11-23 05:43:00+01", "2026-11-23T05:43:00Z", ""] {
            assert_eq!(stored_timestamp(other), other);
        }
    }
}
