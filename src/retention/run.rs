//! A run of retention: every rule on its table, then the limit on the size.

use std::time::{Duration, SystemTime};

use super::batch::BatchSize;
use super::positions::{PositionAccess, PositionDays, PositionRun};
use super::rules::rules_by_age;
use super::settings::RetentionSettings;
use super::size::{SizeOutcome, system_time};
use super::walk::{TableOutcome, TableWalk, WalkMemory, WalkTask};
use crate::error::{Cause, Error, Kind, Result};
use crate::store::retention::{PruneRule, RetentionStore, StoredSetting};
use crate::store::{Moment, WaitPolicy};
use crate::system::clock::UtcTime;
use crate::system::size::Bytes;

const SECONDS_PER_DAY: u64 = 86_400;
/// The primary result code of SQLite for a constraint, or a trigger that forbids something.
const SQLITE_CONSTRAINT: i32 = 19;
const REPAIR: &str = "`cts verify` says what differs, and `cts repair` puts it back";

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
    is_gentle: bool,
    /// Called now and then with the number of rows that were counted or deleted so far.
    pub on_rows: Option<&'r mut dyn FnMut(u64)>,
    /// Rows of the tables before that were counted or deleted.
    done_before: u64,
}

impl<'r> PruneRun<'r> {
    /// One that a person waits for, and that reports nothing.
    pub fn new(
        store: &'r mut dyn RetentionStore,
        positions: &'r mut PositionAccess,
        settings: &'r RetentionSettings,
        now: SystemTime,
        wait: &'r WaitPolicy<'r>,
    ) -> PruneRun<'r> {
        let (is_gentle, on_rows, done_before) = (false, None, 0);
        PruneRun { store, positions, settings, now, wait, is_gentle, on_rows, done_before }
    }

    /// The same one beside programs that go first.
    pub fn gently(self) -> PruneRun<'r> {
        PruneRun { is_gentle: true, ..self }
    }
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
            outcomes.push(self.table(rule, task, memory.as_deref_mut(), RunEnd::None)?);
            self.done_before = outcomes.iter().map(|outcome| outcome.rows).sum();
        }
        if let Some(days) = self.settings.positions_closed_days {
            let age = Duration::from_secs(days * SECONDS_PER_DAY);
            let until = RetentionSettings::last_day(self.now, age);
            let days = until.map(|until| PositionDays { from: None, until });
            let found = days.map(|days| self.positions(days, task, memory, RunEnd::None));
            outcomes.extend(found.transpose()?.flatten());
        }
        self.done_before = 0;
        Ok(outcomes)
    }

    /// Closed positions of these days; `None` where none may be deleted.
    pub(super) fn positions(
        &mut self,
        days: PositionDays,
        task: WalkTask,
        memory: Option<&mut WalkMemory>,
        end: RunEnd,
    ) -> Result<Option<TableOutcome>> {
        let (report, done) = (&mut self.on_rows, self.done_before);
        let mut on_rows = |store: &mut dyn RetentionStore, rows: u64| {
            report.as_mut().into_iter().for_each(|report| report(done + rows));
            end.goes_on(store, rows)
        };
        let batch = BatchSize::new(self.store.batch_goal());
        let guard = &mut *self.store;
        let mut run = PositionRun { guard, batch, wait: self.wait, on_rows: &mut on_rows };
        run.run(self.positions, task, days, memory)
    }

    /// One rule on its table.
    pub(super) fn table(
        &mut self,
        rule: PruneRule,
        task: WalkTask,
        memory: Option<&mut WalkMemory>,
        end: RunEnd,
    ) -> Result<TableOutcome> {
        let table = rule.rows.table();
        let refused =
            |error: Error| TableOutcome { refused: Some(error), ..TableOutcome::of(table) };
        match self.store.refusal(table) {
            Ok(None) => {}
            Ok(Some(error)) => return Ok(refused(error)),
            Err(error) if is_of_table(&error) => return Ok(refused(explained(table, error))),
            Err(error) => return Err(error),
        }
        let (report, mut rows) = (&mut self.on_rows, self.done_before);
        let mut on_rows = |store: &mut dyn RetentionStore, more: u64| {
            rows += more;
            report.as_mut().into_iter().for_each(|report| report(rows));
            end.goes_on(store, more)
        };
        let batch = BatchSize::new(self.store.batch_goal());
        let mut walk = TableWalk {
            store: &mut *self.store,
            rule,
            task,
            wait: self.wait,
            is_gentle: self.is_gentle,
            on_rows: &mut on_rows,
            batch,
        };
        match walk.run(memory) {
            Err(error) if is_of_table(&error) => Ok(refused(explained(table, error))),
            other => other,
        }
    }
}

/// What ends the run through a table before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// Nothing.
    None,
    /// That the database occupies so many bytes or fewer.
    SmallEnough(u64),
    /// A row that may go.
    FirstRow,
}

impl RunEnd {
    /// Whether the run goes on after so many rows were counted or deleted.
    fn goes_on(self, store: &mut dyn RetentionStore, rows: u64) -> Result<bool> {
        match self {
            RunEnd::SmallEnough(max_bytes) if rows > 0 => Ok(store.used_bytes()? > max_bytes),
            RunEnd::FirstRow => Ok(rows == 0),
            RunEnd::None | RunEnd::SmallEnough(_) => Ok(true),
        }
    }
}

/// Whether an error says something of one table only: a column is missing, or a rule of another program forbids it.
fn is_of_table(error: &Error) -> bool {
    error.kind == Kind::Data && !error.is_damage()
}

/// The same with what to do about it.
fn explained(table: &str, cause: Error) -> Error {
    let is_forbidden = match cause.cause.as_deref() {
        Some(Cause::Sqlite(code)) => code & 0xff == SQLITE_CONSTRAINT,
        // Integrity constraint violations, and what a trigger raises.
        Some(Cause::SqlState(state)) => state.starts_with("23") || state.starts_with("P0"),
        _ => false,
    };
    let (what, remedy) = match is_forbidden {
        true => (
            format!("rows of {table} cannot be deleted, because a rule of the database forbids it"),
            "drop the trigger or foreign key that forbids it, or set the days of this table to 0",
        ),
        false => (
            format!("table {table} is not as cts made it, so that none of its rows is deleted"),
            REPAIR,
        ),
    };
    let error = Error { what, notes: vec![cause.what], ..cause };
    error.remedy(remedy)
}

/// The rows of the settings and records.
///
/// # Errors
/// Where they cannot be read.
pub fn read_settings(store: &mut dyn RetentionStore) -> Result<Vec<StoredSetting>> {
    store.read_settings().map_err(|error| match is_of_table(&error) {
        true => {
            let what =
                "the settings of retention cannot be read, so that nothing is deleted".into();
            Error { what, notes: vec![error.what], ..error }.remedy(REPAIR)
        }
        false => error,
    })
}

/// A number of rows, with an adjective before the noun.
pub fn rows_text(rows: u64, adjective: &str) -> String {
    let noun = if rows == 1 { "row" } else { "rows" };
    format!("{rows} {adjective}{noun}")
}

/// A sentence about what was deleted; `None` where nothing was.
pub fn deleted_sentence(tables: &[TableOutcome], size: Option<&SizeOutcome>) -> Option<String> {
    let mut all: Vec<TableOutcome> = Vec::new();
    for table in tables.iter().chain(size.iter().flat_map(|size| &size.tables)) {
        match all.iter_mut().find(|known| known.table == table.table) {
            Some(known) => known.join(table.clone()),
            None => all.push(table.clone()),
        }
    }
    let rows: u64 = all.iter().map(|table| table.rows).sum();
    if rows == 0 {
        return None;
    }
    let parts = all.iter().filter(|table| table.rows > 0);
    let parts: Vec<String> = parts.map(|table| format!("{} {}", table.table, table.rows)).collect();
    let longest = all.iter().map(|table| table.longest_lock).max().unwrap_or_default();
    Some(format!(
        "{} deleted ({}); the write lock was held {:.1} ms at most",
        rows_text(rows, "old "),
        parts.join(", "),
        longest.as_secs_f64() * 1000.0
    ))
}

/// A moment, as times are written in the log.
pub fn time_text(at: Moment) -> String {
    UtcTime::of(system_time(at)).rfc3339()
}

/// A sentence about what will be deleted from a moment on.
pub fn announcement_sentence(
    tables: &[TableOutcome],
    size: Option<&SizeOutcome>,
    from: SystemTime,
) -> String {
    let parts = tables.iter().filter(|table| table.rows > 0).map(|table| {
        let newest = table.newest.map(|at| format!(" to {}", time_text(at))).unwrap_or_default();
        format!("{} {}{newest}", table.table, rows_text(table.rows, ""))
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
