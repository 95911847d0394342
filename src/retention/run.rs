//! A run of retention: every rule on its table, then the limit on the size.

use std::time::{Duration, SystemTime};

use super::batch::BatchSize;
use super::positions::{PositionAccess, PositionRun};
use super::rules::{rules_by_age, rules_by_size};
use super::settings::RetentionSettings;
use super::size::{SizeOutcome, ages};
use super::walk::{TableOutcome, TableWalk, WalkMemory, WalkTask};
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::store::retention::{PruneRule, RetentionStore};
use crate::system::clock::UtcTime;
use crate::system::size::Bytes;

const SECONDS_PER_DAY: u64 = 86_400;
const DAY: Duration = Duration::from_secs(SECONDS_PER_DAY);

/// A run on an open database.
pub struct PruneRun<'r> {
    /// The database.
    pub store: &'r mut dyn RetentionStore,
    /// The settings.
    pub settings: &'r RetentionSettings,
    /// How closed positions are opened.
    pub positions: &'r mut PositionAccess,
    /// The time by which rows are old.
    pub now: SystemTime,
    /// How long a lock is waited for, and what ends the run.
    pub wait: &'r WaitPolicy<'r>,
    /// Whether it leaves the processor to other programs, and goes on in the next run where it takes long.
    pub is_gentle: bool,
    /// Called now and then with the number of rows that were counted or deleted so far.
    pub on_rows: &'r mut dyn FnMut(u64),
}

impl PruneRun<'_> {
    /// Counts or deletes what is too old.
    ///
    /// # Errors
    /// What ends it: the database cannot be read or written, is damaged, or `wait` was cancelled. What was deleted before
    /// is gone. A table that alone cannot be read is an outcome.
    pub fn by_age(
        &mut self,
        task: WalkTask,
        mut memory: Option<&mut WalkMemory>,
    ) -> Result<Vec<TableOutcome>> {
        let mut outcomes: Vec<TableOutcome> = Vec::new();
        for rule in rules_by_age(self.settings, self.now) {
            let done = outcomes.iter().map(|outcome| outcome.rows).sum();
            outcomes.push(self.table(rule, task, memory.as_deref_mut(), done, None)?);
        }
        if let Some(days) = self.settings.positions_closed_days {
            let age = Duration::from_secs(days * SECONDS_PER_DAY);
            let done = outcomes.iter().map(|outcome| outcome.rows).sum();
            outcomes.extend(self.positions(age, task, memory, done, None)?);
        }
        Ok(outcomes)
    }

    /// Closed positions of this age, until the database is small enough where there is a limit.
    fn positions(
        &mut self,
        age: Duration,
        task: WalkTask,
        memory: Option<&mut WalkMemory>,
        done: u64,
        max_bytes: Option<u64>,
    ) -> Result<Option<TableOutcome>> {
        let Some(until) = RetentionSettings::last_day(self.now, age) else { return Ok(None) };
        let on_rows = &mut *self.on_rows;
        let mut on_rows = |store: &mut dyn RetentionStore, rows: u64| {
            on_rows(done + rows);
            max_bytes.map_or(Ok(true), |max_bytes| Ok(store.used_bytes()? > max_bytes))
        };
        let guard = &mut *self.store;
        let mut run = PositionRun { guard, wait: self.wait, on_rows: &mut on_rows };
        run.run(self.positions, task, until, memory)
    }

    /// Deletes the oldest rows that may be deleted until the database is small enough; `None` where it is, or has no limit.
    ///
    /// # Errors
    /// As [`PruneRun::by_age`].
    pub fn by_size(&mut self, task: WalkTask) -> Result<Option<SizeOutcome>> {
        let Some(max_bytes) = self.settings.database_max_bytes else { return Ok(None) };
        let before_bytes = self.store.used_bytes()?;
        if before_bytes <= max_bytes {
            return Ok(None);
        }
        let (mut after_bytes, mut tables) = (before_bytes, Vec::<TableOutcome>::new());
        let is_counted = task == WalkTask::Count;
        let mut memory = WalkMemory::quick();
        let mut add = |outcome: TableOutcome| match tables
            .iter_mut()
            .find(|known| known.table == outcome.table)
        {
            Some(known) => known.join(outcome),
            None => tables.push(outcome),
        };
        for age in ages().filter(|_| !is_counted) {
            for rule in rules_by_size(self.settings, self.now, age) {
                if after_bytes <= max_bytes {
                    break;
                }
                add(self.table(rule, task, Some(&mut memory), 0, Some(max_bytes))?);
                after_bytes = self.store.used_bytes()?;
            }
            if after_bytes > max_bytes && age >= DAY {
                let outcome = self.positions(age, task, None, 0, Some(max_bytes))?;
                outcome.into_iter().for_each(&mut add);
                after_bytes = self.store.used_bytes()?;
            }
        }
        Ok(Some(SizeOutcome { max_bytes, before_bytes, after_bytes, tables }))
    }

    /// One rule on its table, until the database is small enough where there is a limit.
    fn table(
        &mut self,
        rule: PruneRule,
        task: WalkTask,
        memory: Option<&mut WalkMemory>,
        done: u64,
        max_bytes: Option<u64>,
    ) -> Result<TableOutcome> {
        let table = rule.rows.table();
        let refused =
            |error: Error| TableOutcome { refused: Some(error), ..TableOutcome::of(table) };
        if let Some(error) = unless_of_table(self.store.refusal(table))? {
            return Ok(refused(error));
        }
        let mut rows = done;
        let on_rows = &mut *self.on_rows;
        let mut on_slice = |store: &mut dyn RetentionStore, more: u64| {
            rows += more;
            on_rows(rows);
            match max_bytes {
                Some(max_bytes) if more > 0 => Ok(store.used_bytes()? > max_bytes),
                _ => Ok(true),
            }
        };
        let batch = BatchSize::new(self.store.batch_goal());
        let mut walk = TableWalk {
            store: &mut *self.store,
            rule,
            task,
            wait: self.wait,
            is_gentle: self.is_gentle,
            on_slice: &mut on_slice,
            batch,
        };
        match walk.run(memory) {
            Err(error) if is_of_table(&error) => Ok(refused(error)),
            other => other,
        }
    }
}

/// Whether an error says something of one table only: a column is missing, or a rule of another program forbids it.
fn is_of_table(error: &Error) -> bool {
    error.kind == Kind::Data && !error.is_damage()
}

fn unless_of_table(found: Result<Option<Error>>) -> Result<Option<Error>> {
    match found {
        Err(error) if is_of_table(&error) => Ok(Some(error)),
        other => other,
    }
}

/// A sentence about what was deleted; `None` where nothing was.
pub fn deleted_sentence(tables: &[TableOutcome], size: Option<&SizeOutcome>) -> Option<String> {
    let all = || tables.iter().chain(size.iter().flat_map(|size| &size.tables));
    let rows: u64 = all().map(|table| table.rows).sum();
    if rows == 0 {
        return None;
    }
    let parts = all().filter(|table| table.rows > 0);
    let parts: Vec<String> = parts.map(|table| format!("{} {}", table.table, table.rows)).collect();
    let longest = all().map(|table| table.longest_lock).max().unwrap_or_default();
    Some(format!(
        "{rows} old rows deleted ({}); the write lock was held {:.1} ms at most",
        parts.join(", "),
        longest.as_secs_f64() * 1000.0
    ))
}

/// A sentence about what will be deleted from a moment on.
pub fn announcement_sentence(
    tables: &[TableOutcome],
    size: Option<&SizeOutcome>,
    from: SystemTime,
) -> String {
    let parts = tables.iter().filter(|table| table.rows > 0).map(|table| {
        let newest = table.newest.map(|at| format!(" to {at}")).unwrap_or_default();
        format!("{} {} rows{newest}", table.table, table.rows)
    });
    let size = size.map(|size| {
        let (used, max) = (Bytes(size.before_bytes), Bytes(size.max_bytes));
        format!("the oldest rows, because {used} are above database_max_bytes ({max})")
    });
    let parts: Vec<String> = parts.chain(size).collect();
    format!(
        "from {} on, old rows will be deleted: {}; `cts prune --dry-run` shows them, the rows of system_settings with the category retention say how long they are kept, and CTS_RETENTION=0 keeps all",
        UtcTime::of(from).rfc3339(),
        parts.join(", ")
    )
}
