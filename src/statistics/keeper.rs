//! Keeps the statistics current, step by step. What surely changed is found every few seconds: new positions, and those
//! that were just closed. All else, such as a position that was altered or deleted later, or a restored backup, is found
//! by calculating every day anew: the last week each minute, and the whole history in a rotation that takes a small part
//! of the time, which is less than a minute for a small history. Nothing of this is stored, so that no clock and no crash can make it wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::difference::{PartlyDeleted, RestState};
use super::render::counted;
use super::scope::{StatisticsScope, scope};
use super::span::{compare_days, next_span};
use crate::error::{Error, Kind, Result};
use crate::store::{
    ChangesSince, Day, DayRange, Moment, StatisticsChange, StatisticsStore, days_of, interrupted,
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
/// Work at the start that is done without pauses, but for those of a writer: the statistics of about a million positions.
const BURST: Duration = Duration::from_secs(5);
/// Pauses of the first rotation, in times of the work before them; and those of the later ones.
const FIRST_PAUSES: u32 = 3;
const LATER_PAUSES: u32 = 24;
/// The least time from the end of a rotation to the next one.
const ROTATION_INTERVAL: Duration = Duration::from_secs(15);
/// How long a transaction holds the write lock, about.
const WRITE_LIMIT: Duration = Duration::from_millis(5);
/// The least pause between two transactions that write.
const WRITE_PAUSE: Duration = Duration::from_millis(1);
/// Notices of one step that are told one by one.
const NOTICES_MAX: usize = 10;

/// What a step has done.
pub struct StatisticsStep {
    /// The time until the next one.
    pub pause: Duration,
    /// Whether it has looked for all that surely changed.
    pub is_pass: bool,
    /// Days that cannot be calculated: the first one's error.
    pub outcome: Result<()>,
    /// What an operator should know of statistics that are final, a sentence each: positions that are in none, since
    /// retention had begun to delete those of their day, and statistics whose positions are gone.
    pub notices: Vec<String>,
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
    /// How many positions were reported as late or gone, by day and connection.
    reported: BTreeMap<(Day, String), u64>,
    notices: Vec<String>,
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
            reported: BTreeMap::new(),
            notices: Vec::new(),
        }
    }

    /// Does what is due: one search for what surely changed, the last week, or the next days of the rotation.
    ///
    /// # Errors
    /// Where the database cannot be read or written. What is written is right; the step can be tried again.
    pub fn step(&mut self, store: &mut dyn StatisticsStore) -> Result<StatisticsStep> {
        let now = Instant::now();
        let is_pass = now >= self.next_pass;
        if is_pass {
            self.pass(store)?;
        } else if now >= self.next_recent {
            self.keep_recent(store)?;
        } else if now >= self.rotation.next {
            self.rotate(store)?;
        }
        let next = self.next_pass.min(self.next_recent).min(self.rotation.next);
        Ok(StatisticsStep {
            pause: next.saturating_duration_since(Instant::now()),
            is_pass,
            outcome: self.fault.clone().map_or(Ok(()), |(_, error)| Err(error)),
            notices: shortened(std::mem::take(&mut self.notices)),
        })
    }

    fn pass(&mut self, store: &mut dyn StatisticsStore) -> Result<()> {
        let start = Instant::now();
        self.find_changed(store)?;
        let scope = scope(store)?;
        while let Some(day) = self.changed.first().copied() {
            self.keep(store, DayRange::of(day), &scope)?;
            self.changed.remove(&day);
        }
        self.next_pass = Instant::now()
            + (start.elapsed() * 20).clamp(*PASS_INTERVAL.start(), *PASS_INTERVAL.end());
        Ok(())
    }

    /// Calculates the last week.
    fn keep_recent(&mut self, store: &mut dyn StatisticsStore) -> Result<()> {
        let start = Instant::now();
        let today = days_of(store.now()?).unwrap_or(Day(0));
        let recent = DayRange {
            from: Some(Day(today.0.saturating_sub(RECENT_DAYS))),
            until: Some(Day(today.0.saturating_add(1))),
        };
        let scope = scope(store)?;
        self.keep(store, recent, &scope)?;
        self.next_recent = Instant::now() + (start.elapsed() * 50).max(RECENT_INTERVAL);
        Ok(())
    }

    /// Adds the days of positions that surely changed.
    fn find_changed(&mut self, store: &mut dyn StatisticsStore) -> Result<()> {
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
        // Lower where the last rows were deleted: SQLite gives their ids again.
        self.highest_id = found.highest_id.or(Some(i64::MIN));
        self.last_pass = Some((now, clock));
        Ok(())
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
        let (reported, notices) = (&mut self.reported, &mut self.notices);
        compare_days(store, range, scope, &mut BTreeMap::new(), &mut |_, _| {}, &mut |day| {
            changes.extend(day.changes());
            for part in day.partly_deleted() {
                let Some((count, notice)) = notice(&part) else { continue };
                let key = (part.day, part.connection_id);
                if reported.get(&key).is_none_or(|known| *known < count) {
                    notices.push(notice);
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

/// What an operator should know of statistics that are final, and the number of the positions.
fn notice(part: &PartlyDeleted) -> Option<(u64, String)> {
    let PartlyDeleted { day, connection_id, deleted, rest } = part;
    match rest {
        RestState::Late(count) => {
            let positions = counted(*count, "position");
            let (verb, they) = if *count == 1 { ("is", "it") } else { ("are", "they") };
            Some((
                *count,
                format!(
                    "{positions} of connection {connection_id} closed on {day} {verb} in no statistics: {they} came after retention had begun to delete the positions of that day"
                ),
            ))
        }
        RestState::Unrecorded => {
            let positions = counted(*deleted, "position");
            Some((
                *deleted,
                format!(
                    "the statistics of {day} and connection {connection_id} are left as they are: {positions} that they were calculated from cannot be read any more, and statistics_daily does not say that retention deleted them (`cts verify --statistics`)"
                ),
            ))
        }
        RestState::Equal | RestState::Altered => None,
    }
}

/// The first notices, and how many more there are.
fn shortened(mut notices: Vec<String>) -> Vec<String> {
    let more = notices.len().saturating_sub(NOTICES_MAX);
    notices.truncate(NOTICES_MAX);
    if more > 0 {
        notices.push(format!("… and {more} more (`cts verify --statistics`)"));
    }
    notices
}
