//! The limit on the size of the database: the oldest rows of all tables go first, in steps through the time that they
//! cover, until it is small enough. What is younger than an hour, and positions of the last day, are never deleted for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::positions::PositionDays;
use super::rules::{before, rules_by_size};
use super::run::{PruneRun, RunEnd};
use super::settings::RetentionSettings;
use super::walk::{TableOutcome, WalkMemory, WalkTask};
use crate::error::{Error, Kind, Result};
use crate::store::{Day, Moment, start_of};
use crate::system::size::Bytes;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const MICROSECONDS_PER_HOUR: i64 = 3_600_000_000;
const MICROSECONDS_PER_DAY: i64 = 24 * MICROSECONDS_PER_HOUR;
/// Steps from the oldest row to the youngest that may go. Within one, a table is gone through after the other.
const STEPS: i64 = 64;

/// What was done about the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeOutcome {
    /// The limit, in bytes.
    pub max_bytes: u64,
    /// What the database occupied before, in bytes.
    pub before_bytes: u64,
    /// What it occupies now.
    pub after_bytes: u64,
    /// What was deleted, by table.
    pub tables: Vec<TableOutcome>,
    /// Whether there are rows that may still go.
    pub has_more: bool,
}

impl SizeOutcome {
    /// Whether it is still too large although nothing more may go.
    pub fn is_exceeded(&self) -> bool {
        self.after_bytes > self.max_bytes && !self.has_more
    }

    /// The fault of a database that stays larger than it should be.
    pub fn fault(&self) -> Option<Error> {
        let (used, max) = (Bytes(self.after_bytes), Bytes(self.max_bytes));
        let what = format!(
            "rows and indexes occupy {used}, above database_max_bytes ({max}), and nothing more may be deleted"
        );
        let remedy = "raise database_max_bytes, or delete yourself what you do not need: rows of the last hour, positions of the last day or without proved statistics, live indications and everything else are kept";
        self.is_exceeded().then(|| Error::new(Kind::Config, what).remedy(remedy))
    }

    fn add(&mut self, outcome: TableOutcome) {
        match self.tables.iter_mut().find(|known| known.table == outcome.table) {
            Some(known) => known.join(outcome),
            None => self.tables.push(outcome),
        }
    }
}

/// Where the steps are.
struct SizeSteps {
    memory: WalkMemory,
    /// The first day of positions that was not gone through.
    next_day: Option<Day>,
    /// The moment until which rows may go.
    youngest: Moment,
}

impl PruneRun<'_> {
    /// Deletes the oldest rows that may be deleted until the database is small enough, or finds out whether there are
    /// some; `None` where it is small enough, or has no limit.
    ///
    /// # Errors
    /// As [`PruneRun::by_age`].
    pub fn by_size(&mut self, task: WalkTask) -> Result<Option<SizeOutcome>> {
        let Some(max_bytes) = self.settings.database_max_bytes else { return Ok(None) };
        let before_bytes = self.store.used_bytes()?;
        if before_bytes <= max_bytes {
            return Ok(None);
        }
        let (after_bytes, tables) = (before_bytes, Vec::new());
        let mut outcome =
            SizeOutcome { max_bytes, before_bytes, after_bytes, tables, has_more: false };
        if let Some(youngest) = before(self.now, HOUR) {
            let memory = WalkMemory::quick();
            let mut steps = SizeSteps { memory, next_day: None, youngest };
            match task {
                WalkTask::Count => outcome.has_more = self.finds_any(&mut steps)?,
                WalkTask::Delete => self.delete_oldest(&mut steps, &mut outcome)?,
            }
        }
        Ok(Some(outcome))
    }

    /// Whether there is a row that may go.
    fn finds_any(&mut self, steps: &mut SizeSteps) -> Result<bool> {
        for rule in rules_by_size(self.settings, self.now, steps.youngest) {
            let found =
                self.table(rule, WalkTask::Count, Some(&mut steps.memory), RunEnd::FirstRow)?;
            // One that takes long is not known to have none.
            if found.rows > 0 || !steps.memory.has_ended(rule.rows) {
                return Ok(true);
            }
        }
        let Some(days) = self.position_days(steps, steps.youngest) else { return Ok(false) };
        let found = self.positions(days, WalkTask::Count, None, RunEnd::FirstRow)?;
        Ok(found.is_some_and(|found| found.rows > 0))
    }

    fn delete_oldest(&mut self, steps: &mut SizeSteps, outcome: &mut SizeOutcome) -> Result<()> {
        // Finds the oldest row of each table.
        for rule in rules_by_size(self.settings, self.now, Moment(i64::MIN)) {
            self.table(rule, WalkTask::Count, Some(&mut steps.memory), RunEnd::None)?;
        }
        let Some(mut until) = self.oldest(steps)? else { return Ok(()) };
        let span = steps.youngest.0.saturating_sub(until.0) / STEPS;
        let span = span.max(MICROSECONDS_PER_HOUR);
        while until < steps.youngest && outcome.after_bytes > outcome.max_bytes {
            let oldest = self.oldest(steps)?.unwrap_or(steps.youngest).max(until);
            until = Moment(oldest.0.saturating_add(span)).min(steps.youngest);
            self.delete_until(until, steps, outcome)?;
            if outcome.has_more {
                break;
            }
        }
        Ok(())
    }

    /// The time of the oldest row that is left.
    fn oldest(&mut self, steps: &SizeSteps) -> Result<Option<Moment>> {
        let rules = rules_by_size(self.settings, self.now, steps.youngest).into_iter();
        let oldest = rules.filter_map(|rule| steps.memory.oldest_young(rule.rows)).min();
        let day = self.positions.first_day(steps.next_day)?.map(start_of);
        Ok(oldest.into_iter().chain(day).min())
    }

    /// One step: all tables up to this moment.
    fn delete_until(
        &mut self,
        until: Moment,
        steps: &mut SizeSteps,
        outcome: &mut SizeOutcome,
    ) -> Result<()> {
        let (task, end) = (WalkTask::Delete, RunEnd::SmallEnough(outcome.max_bytes));
        for rule in rules_by_size(self.settings, self.now, until) {
            if outcome.after_bytes <= outcome.max_bytes {
                return Ok(());
            }
            if steps.memory.oldest_young(rule.rows).is_some_and(|oldest| oldest > until) {
                continue;
            }
            outcome.add(self.table(rule, task, Some(&mut steps.memory), end)?);
            outcome.after_bytes = self.store.used_bytes()?;
            if !steps.memory.has_ended(rule.rows) && outcome.after_bytes > outcome.max_bytes {
                outcome.has_more = true;
                return Ok(());
            }
        }
        if outcome.after_bytes > outcome.max_bytes
            && let Some(days) = self.position_days(steps, until)
        {
            let found = self.positions(days, task, None, end)?;
            found.into_iter().for_each(|found| outcome.add(found));
            outcome.after_bytes = self.store.used_bytes()?;
            steps.next_day = Some(Day(days.until.0.saturating_add(1)));
        }
        Ok(())
    }

    /// The days of positions that ended by this moment and are a day old, from the first that was not gone through.
    fn position_days(&self, steps: &SizeSteps, until: Moment) -> Option<PositionDays> {
        let ended = until.0.div_euclid(MICROSECONDS_PER_DAY) - 1;
        let ended = Day(i32::try_from(ended).ok()?);
        let until = RetentionSettings::last_day(self.now, DAY)?.min(ended);
        let days = PositionDays { from: steps.next_day, until };
        days.from.is_none_or(|from| from <= days.until).then_some(days)
    }
}

/// The moment as a time of this machine.
pub fn system_time(at: Moment) -> SystemTime {
    let apart = Duration::from_micros(at.0.unsigned_abs());
    let time = if at.0 < 0 { UNIX_EPOCH.checked_sub(apart) } else { UNIX_EPOCH.checked_add(apart) };
    time.unwrap_or(UNIX_EPOCH)
}
