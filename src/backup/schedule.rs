//! When the next backup is due. Decided from the age of the newest good one and from how long this process has known it,
//! so that a clock that is set back or forward neither stops the backups nor makes one after the other. `now` is the time since
//! the start of the service, by a clock that nobody sets.

use std::time::{Duration, SystemTime};

/// The least time between the start of the service and its first backup.
const FIRST_DELAY: Duration = Duration::from_secs(60);
/// The time after a first failure until the next attempt; doubled after each further one.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// The longest time between two attempts that fail.
const RETRY_INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// The schedule of the backups of a service.
#[derive(Clone, Debug)]
pub struct Schedule {
    every: Duration,
    newest: Option<KnownBackup>,
    failures: u32,
    failed_at: Option<Duration>,
}

/// The newest good backup, as this process knows it.
#[derive(Clone, Copy, Debug)]
struct KnownBackup {
    /// When it was made, by the clock of then.
    made_at: Option<SystemTime>,
    /// Its age when this process first saw it.
    age_when_seen: Duration,
    seen_at: Duration,
}

impl Schedule {
    /// A schedule of backups at this interval, of a service that starts.
    pub fn new(every: Duration) -> Schedule {
        Schedule { every, newest: None, failures: 0, failed_at: None }
    }

    /// Takes note of when the newest good backup was made, as the folder has it: `None` without one.
    pub fn note_newest(
        &mut self,
        newest: Option<Option<SystemTime>>,
        now: Duration,
        clock: SystemTime,
    ) {
        let Some(made_at) = newest else {
            self.newest = None;
            return;
        };
        if self.newest.is_some_and(|known| known.made_at == made_at) {
            return;
        }
        let age_when_seen = self.age_by_clock(made_at, clock);
        self.newest = Some(KnownBackup { made_at, age_when_seen, seen_at: now });
    }

    /// The age of a backup that this process has not seen before. One that was made later than now is as new as can be, or
    /// of an unknown age, which is as good as too old, where the clock is off by more than an interval.
    fn age_by_clock(&self, made_at: Option<SystemTime>, clock: SystemTime) -> Duration {
        let Some(made_at) = made_at else { return self.every };
        match clock.duration_since(made_at) {
            Ok(age) => age,
            Err(future) if future.duration() < self.every => Duration::ZERO,
            Err(_) => self.every,
        }
    }

    /// Takes note of a backup that was just made, which began at `made_at`.
    pub fn note_success(&mut self, made_at: Option<SystemTime>, now: Duration) {
        let age_when_seen = Duration::ZERO;
        self.newest = Some(KnownBackup { made_at, age_when_seen, seen_at: now });
        (self.failures, self.failed_at) = (0, None);
    }

    /// Takes note of an attempt that failed.
    pub fn note_failure(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
    }

    /// Takes note of an attempt that was not begun, because another process makes a backup: it is not a failure, and the
    /// next one is due as after the first failure.
    pub fn note_skipped(&mut self, now: Duration) {
        self.failures = self.failures.max(1);
        self.failed_at = Some(now);
    }

    /// The time until the next backup is due; zero if it is.
    pub fn wait(&self, now: Duration, clock: SystemTime) -> Duration {
        let by_age = self
            .newest
            .map_or(Duration::ZERO, |newest| self.every.saturating_sub(newest.age(now, clock)));
        let by_start = FIRST_DELAY.min(self.every).saturating_sub(now);
        let by_failure = self.failed_at.map_or(Duration::ZERO, |failed_at| {
            self.retry_interval().saturating_sub(now.saturating_sub(failed_at))
        });
        by_age.max(by_start).max(by_failure)
    }

    fn retry_interval(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(6);
        (RETRY_INTERVAL * (1 << doublings)).min(RETRY_INTERVAL_MAX).min(self.every)
    }
}

impl KnownBackup {
    /// Its age: as long as this process has known it, or as its time tells where that is longer, as after a suspended
    /// machine was woken. A clock that was set back makes it no younger.
    fn age(&self, now: Duration, clock: SystemTime) -> Duration {
        let known = self.age_when_seen.saturating_add(now.saturating_sub(self.seen_at));
        let by_clock = self.made_at.and_then(|made_at| clock.duration_since(made_at).ok());
        by_clock.map_or(known, |age| age.max(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn clock() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000)
    }

    #[test]
    fn the_first_one_comes_a_minute_after_the_start_or_after_a_shorter_interval() {
        let start = Duration::ZERO;
        for (every, first) in [(DAY, 60 * SECOND), (20 * SECOND, 20 * SECOND)] {
            let schedule = Schedule::new(every);
            assert_eq!(schedule.wait(start, clock()), first);
            assert_eq!(schedule.wait(start + first - SECOND, clock()), SECOND);
            assert_eq!(schedule.wait(start + first, clock()), Duration::ZERO);
            assert_eq!(schedule.wait(start + YEAR, clock()), Duration::ZERO);
        }
    }

    #[test]
    fn one_that_was_missed_is_made_up_and_one_that_is_there_is_waited_out() {
        let start = Duration::ZERO;
        let wait = |age: Duration| {
            let mut schedule = Schedule::new(DAY);
            schedule.note_newest(Some(Some(clock() - age)), start, clock());
            schedule.wait(start, clock())
        };
        assert_eq!(wait(30 * DAY), 60 * SECOND);
        assert_eq!(wait(DAY), 60 * SECOND);
        assert_eq!(wait(DAY - HOUR), HOUR);
        assert_eq!(wait(Duration::ZERO), DAY);
    }

    #[test]
    fn a_clock_that_is_set_while_the_service_runs_changes_the_interval_by_one_backup_at_most() {
        let start = Duration::ZERO;
        let mut schedule = Schedule::new(DAY);
        schedule.note_success(Some(clock()), start);
        // Set back: the interval is that of the monotonic clock.
        assert_eq!(schedule.wait(start + HOUR, clock() - YEAR), DAY - HOUR);
        assert_eq!(schedule.wait(start + DAY, clock() + DAY - YEAR), Duration::ZERO);
        // Set forward: as after a year in which the machine slept, one is due; after it none.
        assert_eq!(schedule.wait(start + HOUR, clock() + YEAR), Duration::ZERO);
        schedule.note_success(Some(clock() + YEAR), start + HOUR);
        assert_eq!(schedule.wait(start + HOUR, clock() + YEAR), DAY);
        // Set right again.
        assert_eq!(schedule.wait(start + 2 * HOUR, clock() + 2 * HOUR), DAY - HOUR);
    }

    #[test]
    fn a_clock_that_was_set_before_the_start_neither_stops_the_backups_nor_floods() {
        let start = Duration::ZERO;
        let wait_after = |future: Duration| {
            let mut schedule = Schedule::new(DAY);
            schedule.note_newest(Some(Some(clock() + future)), start, clock());
            schedule.wait(start, clock())
        };
        // A year too late is no age: one is made, whose time is that of the clock.
        assert_eq!(wait_after(YEAR), 60 * SECOND);
        // A clock that lags a little at each start, as without a battery, gives no backup at each start.
        assert_eq!(wait_after(HOUR), DAY);
        assert_eq!(wait_after(SECOND), DAY);
        // The same one seen again is no news.
        let mut schedule = Schedule::new(DAY);
        schedule.note_newest(Some(Some(clock() + HOUR)), start, clock());
        schedule.note_newest(Some(Some(clock() + HOUR)), start + 23 * HOUR, clock());
        assert_eq!(schedule.wait(start + DAY, clock()), Duration::ZERO);
    }

    #[test]
    fn failures_are_retried_with_growing_pauses_up_to_an_hour_or_the_interval() {
        let start = Duration::ZERO;
        let mut schedule = Schedule::new(DAY);
        let mut now = start + HOUR;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            schedule.note_failure(now);
            assert_eq!(schedule.wait(now, clock()), minutes * 60 * SECOND);
            now += minutes * 60 * SECOND;
            assert_eq!(schedule.wait(now, clock()), Duration::ZERO);
        }
        schedule.note_success(Some(clock()), now);
        assert_eq!(schedule.wait(now, clock()), DAY);
        let mut often = Schedule::new(90 * SECOND);
        (0..9).for_each(|_| often.note_failure(now));
        assert_eq!(often.wait(now, clock()), 90 * SECOND);
        let mut skipped = Schedule::new(DAY);
        (0..9).for_each(|_| skipped.note_skipped(now));
        assert_eq!(skipped.wait(now, clock()), 60 * SECOND);
        // Another process has made one meanwhile.
        skipped.note_newest(Some(Some(clock())), now, clock());
        assert_eq!(skipped.wait(now, clock()), DAY);
    }

    #[test]
    fn backups_that_are_gone_are_made_anew() {
        let start = Duration::ZERO;
        let mut schedule = Schedule::new(DAY);
        schedule.note_success(Some(clock()), start);
        schedule.note_newest(None, start + HOUR, clock());
        assert_eq!(schedule.wait(start + HOUR, clock()), Duration::ZERO);
    }
}
