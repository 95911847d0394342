//! The clock that retention trusts: a machine whose clock is set a year ahead must not delete what a year would.
//!
//! Trusted is the time that was recorded in the database, and the time that has passed since then by a clock that nobody can
//! set (CLOCK_BOOTTIME), as long as the machine was not started anew. After a start of the machine nobody knows how long it
//! was off: up to a day of what its clock says is believed. A clock that is further ahead is not, until a person says that
//! it is right, or it was set from the network. Without a record, what other programs wrote last has to be of the last day.
//! Rows are old by the earlier one of the machine's clock and the trusted one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Kind, Result};
use crate::store::Moment;
use crate::store::retention::{CLOCK, RetentionStore, StoredSetting};
use crate::system::clock::{UtcTime, boot_id, built_at, is_synchronized, since_boot};

/// How far ahead the clock may be after a start of the machine.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);
/// How long the machine's clock must have been behind the trusted one until it is taken for right.
const BEHIND_MAX: Duration = Duration::from_secs(86_400);
/// How far the machine's clock is behind before that counts: it is corrected by seconds all the time.
const BEHIND_MIN: Duration = Duration::from_secs(3600);

/// The record of the trusted clock in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockRecord {
    /// The trusted time when it was written.
    pub at: SystemTime,
    /// The start of the machine in which that was, and the time since that start.
    pub boot: Option<BootTime>,
}

/// A moment of a machine that nobody can set: the time since it was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootTime {
    /// The id of the start.
    pub id: String,
    /// The time since then.
    pub elapsed: Duration,
}

impl BootTime {
    /// Now, on this machine.
    pub fn now() -> Option<BootTime> {
        boot_id().map(|id| BootTime { id, elapsed: since_boot() })
    }
}

impl ClockRecord {
    /// The record of a text; `None` if it is none.
    pub fn parse(text: &str) -> Option<ClockRecord> {
        let mut words = text.split_whitespace();
        let at = humantime::parse_rfc3339(words.next()?).ok()?;
        let boot = words.next().zip(words.next()).and_then(|(id, milliseconds)| {
            let elapsed = Duration::from_millis(milliseconds.parse().ok()?);
            Some(BootTime { id: id.into(), elapsed })
        });
        Some(ClockRecord { at, boot })
    }

    /// The record among these rows. One that is no record is none.
    pub fn find(rows: &[StoredSetting]) -> Option<ClockRecord> {
        let row = rows.iter().find(|row| row.key == CLOCK)?;
        ClockRecord::parse(&row.value)
    }

    /// The row that it is written as.
    pub fn row(&self) -> StoredSetting {
        StoredSetting::record(CLOCK, self.text())
    }

    /// Its text.
    pub fn text(&self) -> String {
        let at = UtcTime::of(self.at).rfc3339();
        match &self.boot {
            Some(boot) => format!("{at} {} {}", boot.id, boot.elapsed.as_millis()),
            None => at,
        }
    }
}

/// Why the machine's clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockDoubt {
    /// It shows a time before this binary was built.
    BeforeBuild,
    /// There is no record, and it is so far ahead of what other programs wrote last.
    Unproved {
        /// How far.
        by: Duration,
        /// What they wrote last.
        newest: SystemTime,
    },
    /// It is so far ahead of the time that is trusted.
    Ahead {
        /// How far.
        by: Duration,
        /// The trusted time.
        trusted: SystemTime,
    },
}

impl ClockDoubt {
    /// A sentence, and what to do.
    pub fn sentence(self, wall: SystemTime) -> (String, &'static str) {
        let shown = |at| UtcTime::of(at).rfc3339();
        match self {
            ClockDoubt::BeforeBuild => (
                format!(
                    "the clock shows {}, before cts was built: nothing is deleted",
                    shown(wall)
                ),
                "set the clock (`timedatectl set-ntp true`)",
            ),
            ClockDoubt::Unproved { by, newest } => (
                format!(
                    "the clock shows {}, {} ahead of the newest row that other programs wrote ({}), and cts has no record of the time: nothing is deleted until they write again",
                    shown(wall),
                    days_and_hours(by),
                    shown(newest)
                ),
                "set the clock; or, if it is right (no program wrote for so long), say so once: `cts prune --trust-clock`",
            ),
            ClockDoubt::Ahead { by, trusted } => (
                format!(
                    "the clock shows {}, {} ahead of what has passed by the time that cts recorded: rows are deleted as if it were {}",
                    shown(wall),
                    days_and_hours(by),
                    shown(trusted)
                ),
                "set the clock; or, if it is right (the machine was off for more than a day, or the database is from a backup), say so once: `cts prune --trust-clock`",
            ),
        }
    }

    /// The same as an error: nothing is deleted for it.
    pub fn error(self, wall: SystemTime) -> Error {
        let (what, remedy) = self.sentence(wall);
        Error::new(Kind::Config, what).remedy(remedy)
    }
}

/// The clock that is trusted.
#[derive(Clone, Debug)]
pub struct TrustedClock {
    base: SystemTime,
    /// The time since the start of the machine at `base`.
    base_since_boot: Duration,
    /// Since when the machine's clock is behind, as a time since the start of the machine.
    behind_since: Option<Duration>,
    /// How far the record was ahead of the machine's clock, to which it was set back.
    set_back: Option<Duration>,
}

impl TrustedClock {
    /// The clock of a database with this record, on a machine whose own clock shows `wall`; or why there is none.
    ///
    /// # Errors
    /// Where what other programs wrote cannot be read.
    pub fn start(
        record: Option<&ClockRecord>,
        wall: SystemTime,
        store: &mut dyn RetentionStore,
    ) -> Result<Result<TrustedClock, ClockDoubt>> {
        if is_before_build(wall) {
            return Ok(Err(ClockDoubt::BeforeBuild));
        }
        if is_synchronized(wall) {
            return Ok(Ok(TrustedClock::trusting(wall)));
        }
        Ok(match record {
            Some(record) => Ok(TrustedClock::after(record, wall)),
            None => unless_unproved(newest_time(store, wall)?, wall),
        })
    }

    fn after(record: &ClockRecord, wall: SystemTime) -> TrustedClock {
        let trusted = trusted_after(record, wall, BootTime::now().as_ref());
        let ahead = trusted.duration_since(wall).ok().filter(|ahead| *ahead > BEHIND_MIN);
        let base = if ahead.is_some() { wall } else { trusted };
        TrustedClock { base, set_back: ahead, ..TrustedClock::trusting(wall) }
    }

    /// A clock that takes the machine's for right.
    pub fn trusting(wall: SystemTime) -> TrustedClock {
        let base_since_boot = since_boot();
        TrustedClock { base: wall, base_since_boot, behind_since: None, set_back: None }
    }

    /// The trusted time.
    pub fn trusted(&self) -> SystemTime {
        self.base + since_boot().saturating_sub(self.base_since_boot)
    }

    /// The time by which rows are old: the earlier one of the trusted time and that of the machine.
    pub fn now(&self, wall: SystemTime) -> SystemTime {
        self.trusted().min(wall)
    }

    /// What is to be said where the record was later than the machine's clock.
    pub fn set_back_sentence(&self) -> Option<String> {
        let by = days_and_hours(self.set_back?);
        Some(format!(
            "the time that cts recorded for retention is {by} ahead of the clock: the clock is believed, and recorded"
        ))
    }

    /// Compares the machine's clock with the trusted one; one that has been behind for a day is right, and so is one that
    /// was set from the network.
    pub fn observe(&mut self, wall: SystemTime) {
        if self.doubt(wall).is_some_and(|doubt| doubt != ClockDoubt::BeforeBuild)
            && is_synchronized(wall)
        {
            *self = TrustedClock::trusting(wall);
        }
        let (trusted, elapsed) = (self.trusted(), since_boot());
        let is_behind = trusted.duration_since(wall).is_ok_and(|by| by > BEHIND_MIN);
        match self.behind_since.filter(|_| is_behind) {
            Some(since) if elapsed.saturating_sub(since) >= BEHIND_MAX => {
                *self = TrustedClock::trusting(wall);
            }
            Some(_) => {}
            None => self.behind_since = is_behind.then_some(elapsed),
        }
    }

    /// Why the machine's clock is not believed; `None` if it is.
    pub fn doubt(&self, wall: SystemTime) -> Option<ClockDoubt> {
        if is_before_build(wall) {
            return Some(ClockDoubt::BeforeBuild);
        }
        let trusted = self.trusted();
        let by = wall.duration_since(trusted).ok().filter(|by| *by > BEHIND_MIN)?;
        Some(ClockDoubt::Ahead { by, trusted })
    }

    /// The record of now.
    pub fn record(&self) -> ClockRecord {
        ClockRecord { at: self.trusted(), boot: BootTime::now() }
    }
}

/// `365 days`, `25 hours`
fn days_and_hours(time: Duration) -> String {
    match time.as_secs() / 3600 {
        hours @ ..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

fn is_before_build(wall: SystemTime) -> bool {
    built_at().is_some_and(|built_at| wall < built_at)
}

/// The newest time that other programs wrote and that the clock does not lie before.
fn newest_time(store: &mut dyn RetentionStore, wall: SystemTime) -> Result<Option<SystemTime>> {
    let since_1970 = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
    let newest = store.newest_time(Moment(until))?;
    let newest = newest.and_then(|at| u64::try_from(at.0).ok()).map(Duration::from_micros);
    Ok(newest.map(|since_1970| UNIX_EPOCH + since_1970))
}

/// The machine's clock, unless it is further ahead of what other programs wrote last than a day. What cts wrote itself
/// proves nothing: it has the same clock.
fn unless_unproved(
    newest: Option<SystemTime>,
    wall: SystemTime,
) -> Result<TrustedClock, ClockDoubt> {
    let ahead = newest.and_then(|newest| Some((newest, wall.duration_since(newest).ok()?)));
    match ahead.filter(|(_, by)| *by > AHEAD_MAX) {
        Some((newest, by)) => Err(ClockDoubt::Unproved { by, newest }),
        None => Ok(TrustedClock::trusting(wall)),
    }
}

/// The trusted time after a record.
fn trusted_after(record: &ClockRecord, wall: SystemTime, boot: Option<&BootTime>) -> SystemTime {
    let in_this_boot = record.boot.as_ref().zip(boot).filter(|(then, now)| then.id == now.id);
    if let Some((then, now)) = in_this_boot
        && let Some(passed) = now.elapsed.checked_sub(then.elapsed)
    {
        return record.at + passed;
    }
    match wall.duration_since(record.at) {
        Ok(ahead) if ahead <= AHEAD_MAX => wall,
        _ => record.at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + HOUR * hours
    }

    fn boot(id: &str, hours: u32) -> Option<BootTime> {
        Some(BootTime { id: id.into(), elapsed: HOUR * hours })
    }

    #[test]
    fn a_record_is_read_as_it_is_written() {
        for boot in [boot("5f1c", 7), None] {
            let record = ClockRecord { at: at(0), boot };
            assert_eq!(ClockRecord::parse(&record.text()), Some(record));
        }
        for text in ["", "yesterday", "2026-13-01T00:00:00Z"] {
            assert_eq!(ClockRecord::parse(text), None);
        }
    }

    #[test]
    fn in_one_run_of_the_machine_only_what_has_passed_counts() {
        let record = ClockRecord { at: at(0), boot: boot("one", 10) };
        for wall in [at(0), at(5), at(23), at(9000)] {
            assert_eq!(trusted_after(&record, wall, boot("one", 15).as_ref()), at(5));
        }
    }

    #[test]
    fn after_a_start_of_the_machine_a_day_is_believed_and_no_more() {
        let record = ClockRecord { at: at(100), boot: boot("one", 10) };
        let after = |wall| trusted_after(&record, wall, boot("two", 1).as_ref());
        assert_eq!(after(at(124)), at(124));
        assert_eq!(after(at(125)), at(100));
        assert_eq!(after(at(9000)), at(100));
        // A clock that starts in the past lowers nothing that was trusted; rows are old by the earlier of the two.
        assert_eq!(after(at(0)), at(100));
    }

    #[test]
    fn a_record_that_lies_in_the_future_is_set_back() {
        let wall = SystemTime::now();
        let record = |at| ClockRecord { at, boot: boot("another", 1) };
        let clock = TrustedClock::after(&record(wall + HOUR * 8760), wall);
        assert!(clock.trusted() < wall + HOUR && clock.doubt(wall + HOUR * 8760).is_some());
        assert!(clock.set_back_sentence().unwrap().contains("365 days ahead"));
        let clock = TrustedClock::after(&record(wall - HOUR), wall);
        assert_eq!(clock.set_back_sentence(), None);
    }

    #[test]
    fn without_a_record_what_other_programs_wrote_must_be_of_the_last_day() {
        let clock = |newest| unless_unproved(newest, at(100)).map(|_| ());
        assert_eq!(clock(None), Ok(()));
        assert_eq!(clock(Some(at(76))), Ok(()));
        let doubt = ClockDoubt::Unproved { by: HOUR * 25, newest: at(75) };
        assert_eq!(clock(Some(at(75))), Err(doubt));
        assert!(is_before_build(UNIX_EPOCH));
    }
}
