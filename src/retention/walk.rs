//! One table from its lowest id on: read in short slices, whose rows that go are counted or deleted in short transactions.
//!
//! Rows are mostly in the order of their age, so that a walk ends where only young rows follow one another, and the next
//! one begins at the first of them. Those out of order, and those that went on being used for long, are found by a walk
//! through the whole table once a day.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::batch::{BatchSize, DELETE_TIME};
use super::positions::PositionMemory;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::retention::{PrunableRow, PrunableRows, PruneRule, RetentionStore, WalkSlice};
use crate::store::{Day, Moment, WaitPolicy, start_of};
use crate::system::clock::since_boot;

/// After so many young rows one behind the other, what follows is young too.
const YOUNG_ROWS: usize = 10_000;
/// How often a table is walked through to its end.
const WHOLE_INTERVAL: Duration = Duration::from_secs(86_400);
/// Rows of a slice at first, at least and at most.
const SLICE_ROWS_FIRST: usize = 500;
const SLICE_ROWS_MIN: usize = 50;
const SLICE_ROWS_MAX: usize = 10_000;
/// The pause of a gentle walk after a slice, as a multiple of the time that reading it took.
const PAUSE_FACTOR: u32 = 3;
/// How long a gentle walk goes on in one pass.
const GENTLE_BUDGET: Duration = Duration::from_secs(20);

/// What was counted or deleted of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOutcome {
    /// The table.
    pub table: &'static str,
    /// How many rows.
    pub rows: u64,
    /// The time of the oldest one; `None` where there is none.
    pub oldest: Option<Moment>,
    /// The time of the newest one.
    pub newest: Option<Moment>,
    /// The longest time that other programs could not write.
    pub longest_lock: Duration,
    /// Why nothing of the table is deleted.
    pub refused: Option<Error>,
    /// Why some of its rows are kept that are old.
    pub kept: Option<Error>,
}

impl TableOutcome {
    /// Of a table of which nothing was found yet.
    pub fn of(table: &'static str) -> TableOutcome {
        let longest_lock = Duration::ZERO;
        let (oldest, newest, refused, kept) = (None, None, None, None);
        TableOutcome { table, rows: 0, oldest, newest, longest_lock, refused, kept }
    }

    fn add(&mut self, rows: u64, of: &[PrunableRow]) {
        self.rows += rows;
        for row in of {
            let is_older = |than: Moment| row.at.0 < than.0;
            self.oldest = Some(self.oldest.filter(|oldest| !is_older(*oldest)).unwrap_or(row.at));
            self.newest = Some(self.newest.filter(|newest| is_older(*newest)).unwrap_or(row.at));
        }
    }

    /// Adds rows of a whole day.
    pub fn add_day(&mut self, day: Day, rows: u64) {
        if rows > 0 {
            let (start, end) = (start_of(day), start_of(Day(day.0.saturating_add(1))));
            let of_day = TableOutcome::of(self.table);
            self.join(TableOutcome { rows, oldest: Some(start), newest: Some(end), ..of_day });
        }
    }

    /// Adds what was deleted later.
    pub fn join(&mut self, later: TableOutcome) {
        let least = |a: Option<Moment>, b: Option<Moment>| match (a, b) {
            (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
        let most = |a: Option<Moment>, b: Option<Moment>| match (a, b) {
            (Some(a), Some(b)) => Some(if b.0 > a.0 { b } else { a }),
            (a, b) => a.or(b),
        };
        self.rows += later.rows;
        self.oldest = least(self.oldest, later.oldest);
        self.newest = most(self.newest, later.newest);
        self.longest_lock = self.longest_lock.max(later.longest_lock);
        self.refused = self.refused.take().or(later.refused);
        self.kept = self.kept.take().or(later.kept);
    }
}

/// Where the walks through the tables are, from one pass to the next.
#[derive(Debug, Default)]
pub struct WalkMemory {
    tables: BTreeMap<PrunableRows, TableMemory>,
    /// Whether no walk goes through a whole table.
    is_quick: bool,
    /// The days of positions that were gone through.
    pub positions: Option<PositionMemory>,
}

/// Where the walk through a table is.
#[derive(Clone, Copy, Debug)]
struct TableMemory {
    /// The id behind which it goes on.
    after: i64,
    /// The first young row of a walk that has not ended yet.
    first_young: Option<i64>,
    /// Whether the walk goes to the end of the table.
    is_whole: bool,
    /// When the last one began that went to the end, as the time since the start of the machine.
    whole_at: Duration,
    /// The time of the oldest young row that was met since the walk began.
    oldest_young: Option<Moment>,
    /// Whether the walk has ended.
    is_ended: bool,
}

impl TableMemory {
    fn whole(now: Duration) -> TableMemory {
        TableMemory {
            after: i64::MIN,
            first_young: None,
            is_whole: true,
            whole_at: now,
            oldest_young: None,
            is_ended: true,
        }
    }
}

impl WalkMemory {
    /// For walks that end where only young rows follow one another.
    pub fn quick() -> WalkMemory {
        WalkMemory { is_quick: true, ..WalkMemory::default() }
    }

    /// The time of the oldest young row that the last walk through a table met.
    pub fn oldest_young(&self, rows: PrunableRows) -> Option<Moment> {
        self.tables.get(&rows)?.oldest_young
    }

    /// Whether the last walk through a table has ended, and was not given up for a while.
    pub fn has_ended(&self, rows: PrunableRows) -> bool {
        self.tables.get(&rows).is_none_or(|memory| memory.is_ended)
    }

    fn of(&mut self, rows: PrunableRows) -> &mut TableMemory {
        let (now, is_whole) = (since_boot(), !self.is_quick);
        let first = || TableMemory { is_whole, ..TableMemory::whole(now) };
        let memory = self.tables.entry(rows).or_insert_with(first);
        if is_whole && !memory.is_whole && now.saturating_sub(memory.whole_at) >= WHOLE_INTERVAL {
            *memory = TableMemory::whole(now);
        }
        memory
    }
}

/// What is done with the rows that go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkTask {
    /// They are counted.
    Count,
    /// They are deleted.
    Delete,
}

/// A walk through a table.
pub struct TableWalk<'w> {
    /// The database.
    pub store: &'w mut dyn RetentionStore,
    /// Which rows go.
    pub rule: PruneRule,
    /// What is done with them.
    pub task: WalkTask,
    /// How long a lock is waited for, and what ends the walk.
    pub wait: &'w WaitPolicy<'w>,
    /// Whether it leaves the processor to other programs, and is given up for this time after a while.
    pub is_gentle: bool,
    /// Called with the number of rows that were counted in a slice, or deleted in a transaction, after each; `false` ends the
    /// walk.
    pub on_rows: &'w mut dyn FnMut(&mut dyn RetentionStore, u64) -> Result<bool>,
    /// How many rows are deleted at once.
    pub batch: BatchSize,
}

impl TableWalk<'_> {
    /// Walks from where the last walk ended, or through the whole table where it is time, or there is no memory.
    ///
    /// # Errors
    /// What ends it: the database cannot be read or written, or `wait` was cancelled. What was deleted before is gone.
    pub fn run(&mut self, memory: Option<&mut WalkMemory>) -> Result<TableOutcome> {
        let mut whole = TableMemory::whole(Duration::ZERO);
        // Without a memory the next walk would begin anew.
        let has_budget = self.is_gentle && memory.is_some();
        let budget = if has_budget { GENTLE_BUDGET } else { Duration::MAX };
        let memory = memory.map_or(&mut whole, |memory| memory.of(self.rule.rows));
        let mut outcome = TableOutcome::of(self.rule.rows.table());
        if memory.is_ended {
            memory.oldest_young = None;
        }
        let (start, mut limit, mut young) = (Instant::now(), SLICE_ROWS_FIRST, 0);
        loop {
            self.wait.check_cancelled()?;
            let reading = Instant::now();
            let slice = self.store.read_slice(&self.rule, memory.after, limit)?;
            let took = reading.elapsed();
            if !self.take(&slice, &mut outcome)? {
                return Ok(outcome);
            }
            memory.after = slice.last_id.unwrap_or(memory.after);
            let first_young = slice.first_young_id.map(|id| id.saturating_sub(1));
            memory.first_young = memory.first_young.or(first_young);
            memory.oldest_young = memory.oldest_young.into_iter().chain(slice.oldest_young).min();
            young = if slice.young_at_end == slice.rows {
                young + slice.rows
            } else {
                slice.young_at_end
            };
            let is_end = slice.rows < limit || (!memory.is_whole && young >= YOUNG_ROWS);
            memory.is_ended = is_end;
            if is_end {
                let after = memory.first_young.unwrap_or(memory.after);
                *memory = TableMemory { after, first_young: None, is_whole: false, ..*memory };
            }
            if is_end || start.elapsed() >= budget {
                return Ok(outcome);
            }
            limit = next_limit(limit, took, self.store.batch_goal());
            if self.is_gentle {
                self.wait.pause(took * PAUSE_FACTOR)?;
            }
        }
    }

    /// Counts or deletes the rows of a slice that go. Returns whether the walk goes on; if not, some of them may be left.
    fn take(&mut self, slice: &WalkSlice, outcome: &mut TableOutcome) -> Result<bool> {
        match self.task {
            WalkTask::Count => {
                let rows = slice.prunable.len() as u64;
                outcome.add(rows, &slice.prunable);
                (self.on_rows)(self.store, rows)
            }
            WalkTask::Delete => self.delete(&slice.prunable, outcome),
        }
    }

    fn delete(&mut self, rows: &[PrunableRow], outcome: &mut TableOutcome) -> Result<bool> {
        let mut rest = rows;
        let mut busy_since: Option<Instant> = None;
        while !rest.is_empty() {
            self.wait.check_cancelled()?;
            self.store.refuse_long_wal()?;
            let batch = rest.get(..self.batch.rows()).unwrap_or(rest);
            let pause = match self.store.delete(self.rule.rows, batch, DELETE_TIME)? {
                None => {
                    self.refuse_long_wait(*busy_since.get_or_insert_with(Instant::now))?;
                    self.batch.busy()
                }
                Some(done) => {
                    busy_since = None;
                    let (tried, left) = rest.split_at(done.tried.min(rest.len()));
                    outcome.add(done.deleted, tried);
                    rest = left;
                    let pause = self.batch.done(done.tried, done.lock_held);
                    outcome.longest_lock = outcome.longest_lock.max(self.batch.longest());
                    // What is deleted is known before anything can end the walk.
                    if !(self.on_rows)(self.store, done.deleted)? {
                        return Ok(false);
                    }
                    pause
                }
            };
            self.wait.pause(pause)?;
        }
        Ok(true)
    }

    /// Refuses to wait longer for the write lock than it may be waited for.
    fn refuse_long_wait(&self, since: Instant) -> Result<()> {
        match self.wait.timeout {
            Some(timeout) if since.elapsed() >= timeout => {
                let remedy = self.wait.with_setting("let the program that holds it finish");
                Err(Error::new(Kind::TryAgain, "the write lock is held by another program")
                    .leaving(StateLeft::EarlierCommits)
                    .remedy(remedy))
            }
            _ => Ok(()),
        }
    }
}

fn next_limit(limit: usize, took: Duration, goal: Duration) -> usize {
    let factor = goal.as_secs_f64() / took.as_secs_f64().max(1e-6);
    let next = limit as f64 * factor.clamp(0.25, 2.0);
    (next as usize).clamp(SLICE_ROWS_MIN, SLICE_ROWS_MAX)
}
