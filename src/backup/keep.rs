//! The rules by which backups are kept: `daily=7,weekly=4,monthly=6` keeps the last one of each of the seven last days
//! that have one, and so on.

use std::fmt;
use std::str::FromStr;

/// How many backups are kept, by the period that they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepRules {
    /// Days of which the last backup is kept.
    pub daily: u32,
    /// Weeks (ISO 8601) of which the last backup is kept.
    pub weekly: u32,
    /// Months of which the last backup is kept.
    pub monthly: u32,
}

/// Why a text is no rules, as a clause that follows "is not".
pub const EXPECTED_RULES: &str =
    "a list such as daily=7,weekly=4,monthly=6 that keeps at least one";

impl FromStr for KeepRules {
    type Err = ();

    fn from_str(text: &str) -> Result<KeepRules, ()> {
        let mut counts = [None; 3];
        for rule in text.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
            let (period, count) = rule.split_once('=').ok_or(())?;
            let place =
                ["daily", "weekly", "monthly"].iter().position(|known| *known == period.trim());
            let count: u32 = count.trim().parse().map_err(|_| ())?;
            let known = counts.get_mut(place.ok_or(())?).ok_or(())?;
            if known.replace(count).is_some() {
                return Err(());
            }
        }
        let [daily, weekly, monthly] = counts.map(Option::unwrap_or_default);
        // What deletes every backup is not a rule for keeping them.
        if daily == 0 && weekly == 0 && monthly == 0 {
            Err(())
        } else {
            Ok(KeepRules { daily, weekly, monthly })
        }
    }
}

impl fmt::Display for KeepRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeepRules { daily, weekly, monthly } = self;
        write!(f, "daily={daily},weekly={weekly},monthly={monthly}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_shown_and_none_that_keep_nothing() {
        for (text, shown) in [
            ("daily=7,weekly=4,monthly=6", "daily=7,weekly=4,monthly=6"),
            (" monthly = 2 , daily=1,", "daily=1,weekly=0,monthly=2"),
        ] {
            assert_eq!(text.parse::<KeepRules>().unwrap().to_string(), shown);
        }
        for text in ["", "daily=0", "7", "daily=x", "hourly=3", "daily=1,daily=2", "daily=-1"] {
            assert!(text.parse::<KeepRules>().is_err(), "{text}");
        }
    }
}
