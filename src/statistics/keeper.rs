//! Keeps the statistics current, step by step. What surely changed is found every few seconds: new positions, and those
//! that were just closed. All else, such as a position that was altered or deleted later, or a restored backup, is found
//! by calculating every day anew: the last week each minute, and the whole history in a rotation that takes a small part
//! of the time. Nothing of this is stored, so that no clock and no crash can make it wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::difference::RestState;
use super::span::{StatisticsScope, compare_days, next_span};
use crate::error::{Error, Kind, Result};
use crate::store::{
    ChangesSince, Day, DayRange, Moment, ReadStatistics, StatisticsChange, StatisticsStore,
    days_of, interrupted,
};
use crate::system::clock::SteadyClock;

/// The time between two searches for positions that surely changed: twenty times what one takes, within these limits.
const PASS_INTERVAL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(15)..=Duration::from_secs(45);
/// The time between two calculations of the last week: fifty times what one takes, and no less than this.
const RECENT_INTERVAL: Duration = Duration::from_secs(40);
/// Days before today that are calculated so often.
const RECENT_DAYS: i32 = 7;
/// How long a transaction of a program may take between writing a position and its commit, to be found at once.
const MARGIN: Duration = Duration::from_secs(60);
/// Work at the start that is done without pauses: the statistics of about a million positions.
const BURST: Duration = Duration::from_secs(2);
/// Pauses of the first rotation, in times of the work before them; and those of the later ones.
const FIRST_PAUSES: u32 = 3;
const LATER_PAUSES: u32 = 99;
/// The time between the ends of two rotations.
const ROTATION_INTERVAL: Duration = Duration::from_secs(60);
/// How long a transaction holds the write lock, about.
const WRITE_LIMIT: Duration = Duration::from_millis(5);
/// The least pause between two transactions that write.
const WRITE_PAUSE: Duration = Duration::from_millis(1);
/// The most days for which statistics can be set to be kept.
const STATISTICS_DAYS_MAX: u32 = 36_500;

/// What a step has done.
pub struct StatisticsStep {
    /// The time until the next one.
    pub pause: Duration,
    /// Days that cannot be calculated: the first one's error.
    pub outcome: Result<()>,
    /// Positions that are in no statistics, since retention had begun to delete those of their day: a sentence each.
    pub late: Vec<String>,
}

/// The state of keeping the statistics current. All of it is found again by a process that starts.
pub struct StatisticsKeeper {
    stopping: Arc<AtomicBool>,
    highest_id: Option<i64>,
    last_pass: Option<(Moment, SteadyClock)>,
    /// Days that have to be calculated, besides the rotation.
    changed: BTreeSet<Day>,
    next_pass: Instant,
    next_recent: Instant,
    rotation: Rotation,
    /// The first days that could not be calculated.
    fault: Option<(DayRange, Error)>,
    /// Positions that were reported as late, by day and connection.
    reported_late: BTreeMap<(Day, String), u64>,
    late: Vec<String>,
}

/// The rotation through all days.
struct Rotation {
    /// The next day; `None` at the beginning.
    from: Option<Day>,
    is_first: bool,
    /// The time that was spent on it.
    worked: Duration,
    next: Instant,
}

impl StatisticsKeeper {
    /// One that has not begun. Its work ends once `stopping` is set.
    pub fn new(stopping: &Arc<AtomicBool>) -> StatisticsKeeper {
        let now = Instant::now();
        let rotation = Rotation { from: None, is_first: true, worked: Duration::ZERO, next: now };
        StatisticsKeeper {
            stopping: Arc::clone(stopping),
            highest_id: None,
            last_pass: None,
            changed: BTreeSet::new(),
            next_pass: now,
            next_recent: now,
            rotation,
            fault: None,
            reported_late: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    /// Does what is due: one search for what surely changed, or the next days of the rotation.
    ///
    /// # Errors
    /// Where the database cannot be read or written. What is written is right; the step can be tried again.
    pub fn step(&mut self, store: &mut dyn StatisticsStore) -> Result<StatisticsStep> {
        let now = Instant::now();
        if now >= self.next_pass {
            self.pass(store)?;
        } else if now >= self.rotation.next {
            self.rotate(store)?;
        }
        let next = self.next_pass.min(self.rotation.next);
        Ok(StatisticsStep {
            pause: next.saturating_duration_since(Instant::now()),
            outcome: self.fault.clone().map_or(Ok(()), |(_, error)| Err(error)),
            late: std::mem::take(&mut self.late),
        })
    }

    fn pass(&mut self, store: &mut dyn StatisticsStore) -> Result<()> {
        let start = Instant::now();
        let today = self.find_changed(store)?;
        let scope = scope(store)?;
        while let Some(day) = self.changed.first().copied() {
            self.keep(store, DayRange::of(day), &scope)?;
            self.changed.remove(&day);
        }
        self.next_pass = Instant::now()
            + (start.elapsed() * 20).clamp(*PASS_INTERVAL.start(), *PASS_INTERVAL.end());
        if start >= self.next_recent {
            let start = Instant::now();
            let recent = DayRange {
                from: Some(Day(today.0.saturating_sub(RECENT_DAYS))),
                until: Some(Day(today.0.saturating_add(1))),
            };
            self.keep(store, recent, &scope)?;
            self.next_recent = Instant::now() + (start.elapsed() * 50).max(RECENT_INTERVAL);
        }
        Ok(())
    }

    /// Adds the days of positions that surely changed. Returns the present day.
    fn find_changed(&mut self, store: &mut dyn StatisticsStore) -> Result<Day> {
        let now = store.now()?;
        let clock = SteadyClock::start();
        // A clock that was set back since the last pass has written times before it.
        let last = self.last_pass.map_or(now, |(at, clock)| {
            let by_elapsed = now.0.saturating_sub(microseconds(clock.elapsed()));
            Moment(at.0.min(by_elapsed))
        });
        let since = ChangesSince {
            above_id: self.highest_id.unwrap_or(i64::MAX),
            moment: Moment(last.0.saturating_sub(microseconds(MARGIN))),
        };
        let found = store.changed_days(since)?;
        self.changed.extend(found.days);
        if !found.is_complete {
            // So many that the whole history is calculated, as at the start.
            self.rotation = Rotation {
                from: None,
                is_first: true,
                worked: Duration::ZERO,
                next: Instant::now(),
            };
        }
        self.highest_id = self.highest_id.max(found.highest_id).or(Some(i64::MIN));
        self.last_pass = Some((now, clock));
        Ok(days_of(now).unwrap_or(Day(0)))
    }

    /// Calculates the next days of the rotation.
    fn rotate(&mut self, store: &mut dyn StatisticsStore) -> Result<()> {
        let start = Instant::now();
        let Some(range) = next_span(store, self.rotation.from)? else {
            self.rotation.from = None;
            self.rotation.is_first = false;
            self.rotation.next = Instant::now() + ROTATION_INTERVAL;
            return Ok(());
        };
        let scope = scope(store)?;
        self.keep_span(store, range, &scope)?;
        self.rotation.from = range.until.map(|until| Day(until.0.saturating_add(1)));
        let took = start.elapsed();
        self.rotation.worked += took;
        let pause = match self.rotation.is_first {
            true if self.rotation.worked < BURST => Duration::ZERO,
            true => took * FIRST_PAUSES,
            false => took * LATER_PAUSES,
        };
        self.rotation.next = Instant::now() + pause;
        Ok(())
    }

    /// Calculates all days of a range, some at a time.
    fn keep(
        &mut self,
        store: &mut dyn StatisticsStore,
        range: DayRange,
        scope: &StatisticsScope,
    ) -> Result<()> {
        let mut from = range.from;
        while let Some(span) = next_span(store, from)? {
            let until = span.until.min(range.until).or(span.until);
            if span.from > range.until && range.until.is_some() {
                return Ok(());
            }
            self.keep_span(store, DayRange { from: span.from, until }, scope)?;
            if until >= range.until {
                return Ok(());
            }
            from = until.map(|until| Day(until.0.saturating_add(1)));
        }
        Ok(())
    }

    /// Calculates days that are read at once, and writes what differs. Days that cannot be read are passed over, and the
    /// fault is kept until they can.
    fn keep_span(
        &mut self,
        store: &mut dyn StatisticsStore,
        range: DayRange,
        scope: &StatisticsScope,
    ) -> Result<()> {
        match self.try_keep_span(store, range, scope) {
            Err(error) if error.is_damage() || error.kind == Kind::Data => {
                self.fault.get_or_insert((range, error));
                Ok(())
            }
            Ok(()) => {
                let is_of_these = |fault: &mut (DayRange, Error)| {
                    fault.0.from >= range.from && fault.0.until <= range.until
                };
                self.fault.take_if(is_of_these);
                Ok(())
            }
            other => other,
        }
    }

    fn try_keep_span(
        &mut self,
        store: &mut dyn StatisticsStore,
        range: DayRange,
        scope: &StatisticsScope,
    ) -> Result<()> {
        let mut changes = Vec::new();
        let (reported, late) = (&mut self.reported_late, &mut self.late);
        compare_days(store, range, scope, &mut BTreeMap::new(), &mut |_, _| {}, &mut |day| {
            changes.extend(day.changes());
            for part in day.partly_deleted() {
                let RestState::Late(count) = part.rest else { continue };
                let key = (part.day, part.connection_id);
                if reported.get(&key).is_none_or(|known| *known < count) {
                    late.push(late_text(&key, count));
                    reported.insert(key, count);
                }
            }
            Ok(())
        })?;
        self.write(store, &changes)
    }

    fn write(
        &mut self,
        store: &mut dyn StatisticsStore,
        changes: &[StatisticsChange],
    ) -> Result<()> {
        let mut rest = changes;
        while !rest.is_empty() {
            if self.stopping.load(Ordering::Relaxed) {
                return Err(interrupted());
            }
            let written = store.write(rest, WRITE_LIMIT)?;
            let (done, others) = rest.split_at(written.changes.clamp(1, rest.len()));
            if written.left_out > 0 {
                // Another cts has written them: they are compared in the next pass.
                self.changed.extend(done.iter().map(|change| change.day));
            }
            rest = others;
            if !rest.is_empty() {
                thread::sleep(written.lock_held.max(WRITE_PAUSE));
            }
        }
        Ok(())
    }
}

fn microseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn late_text((day, connection_id): &(Day, String), count: u64) -> String {
    format!(
        "{count} positions of connection {connection_id} closed on {day} are in no statistics: they came after retention had begun to delete the positions of that day"
    )
}

/// What holds for all days: the connections, and how long statistics are kept.
///
/// # Errors
/// Where it cannot be read.
pub fn scope(reader: &mut dyn ReadStatistics) -> Result<StatisticsScope> {
    let days = reader.setting("statistics_days")?.and_then(|days| days.trim().parse().ok());
    // Nonsense deletes nothing, so that all days are kept.
    let days: Option<u32> = days.filter(|days| (1..=STATISTICS_DAYS_MAX).contains(days));
    let today = days_of(reader.now()?);
    let oldest = days.zip(today).map(|(days, today)| Day(today.0.saturating_sub_unsigned(days)));
    Ok(StatisticsScope { connections: reader.connections()?, oldest })
}
