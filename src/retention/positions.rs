//! Closed positions: whole days of them, each only after the statistics of its day and connection have been proved.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::batch::BatchSize;
use super::settings::RetentionSettings;
use super::walk::{TableOutcome, WalkMemory, WalkTask};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::statistics::proof::{ProvedConnection, prove_day};
use crate::store::retention::RetentionStore;
use crate::store::{
    CountedRow, Database, Day, ReadStatistics, StatisticsStore, WaitPolicy, start_of,
};
use crate::system::clock::since_boot;

/// The table.
const TABLE: &str = "pseudo_positions";
/// How long days that were gone through are not gone through again.
const INTERVAL: Duration = Duration::from_secs(86_400);
/// The same where some of them were not proved.
const UNPROVED_INTERVAL: Duration = Duration::from_secs(3600);
const SECONDS_PER_DAY: u64 = 86_400;

/// How the positions are opened.
pub enum PositionAccess {
    /// Not at all: none may be deleted.
    None,
    /// To be counted.
    Read(Box<dyn ReadStatistics>),
    /// To be deleted.
    Write(Box<dyn StatisticsStore>),
}

impl PositionAccess {
    /// Opens them for a run with these settings, where they may be deleted.
    ///
    /// # Errors
    /// Where they cannot be opened.
    pub fn open(
        database: &dyn Database,
        settings: &RetentionSettings,
        task: WalkTask,
        wait: &WaitPolicy<'_>,
    ) -> Result<PositionAccess> {
        Ok(match task {
            _ if !settings.concern_positions() => PositionAccess::None,
            WalkTask::Count => PositionAccess::Read(database.open_statistics_to_read(wait)?),
            WalkTask::Delete => PositionAccess::Write(database.open_statistics(wait)?),
        })
    }

    /// The first day from this one on of which there are positions or statistics.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn first_day(&mut self, from: Option<Day>) -> Result<Option<Day>> {
        self.reader().map_or(Ok(None), |reader| reader.first_day(from))
    }

    fn reader(&mut self) -> Option<&mut dyn ReadStatistics> {
        match self {
            PositionAccess::None => None,
            PositionAccess::Read(reader) => Some(&mut **reader),
            PositionAccess::Write(store) => Some(&mut **store),
        }
    }
}

impl RetentionSettings {
    /// Whether closed positions may be deleted by these settings.
    pub fn concern_positions(&self) -> bool {
        self.positions_closed_days.is_some() || self.database_max_bytes.is_some()
    }

    /// The last day whose positions are so many days old; `None` before 1970.
    pub fn last_day(now: SystemTime, age: Duration) -> Option<Day> {
        let since_1970 = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(age)?;
        let day = i32::try_from(since_1970.as_secs() / SECONDS_PER_DAY).ok()?;
        Some(Day(day.checked_sub(1)?))
    }
}

/// The days that were gone through last.
#[derive(Clone, Debug)]
pub struct PositionMemory {
    until: Day,
    at: Duration,
    /// Why some of them were kept.
    kept: Option<Error>,
}

impl PositionMemory {
    /// Whether the days up to this one are to be gone through again.
    fn is_due(&self, until: Day) -> bool {
        let interval = if self.kept.is_none() { INTERVAL } else { UNPROVED_INTERVAL };
        self.until != until || since_boot().saturating_sub(self.at) >= interval
    }
}

/// Days of positions.
#[derive(Clone, Copy, Debug)]
pub struct PositionDays {
    /// The first one; `None` is the first one that there is.
    pub from: Option<Day>,
    /// The last one.
    pub until: Day,
}

/// A run through the days.
pub struct PositionRun<'r> {
    /// The database, for what keeps rows from being deleted.
    pub guard: &'r mut dyn RetentionStore,
    /// How many rows are deleted at once.
    pub batch: BatchSize,
    /// How long a lock is waited for, and what ends the run.
    pub wait: &'r WaitPolicy<'r>,
    /// Called with the number of positions that were counted or deleted so far; `false` ends the run.
    pub on_rows: &'r mut dyn FnMut(&mut dyn RetentionStore, u64) -> Result<bool>,
}

impl PositionRun<'_> {
    /// Counts or deletes the positions of these days whose statistics are proved.
    ///
    /// # Errors
    /// What ends it: the database cannot be read or written, or `wait` was cancelled. What was deleted before is gone, and
    /// taken away from what its day has left.
    pub fn run(
        &mut self,
        access: &mut PositionAccess,
        task: WalkTask,
        days: PositionDays,
        memory: Option<&mut WalkMemory>,
    ) -> Result<Option<TableOutcome>> {
        let PositionDays { mut from, until } = days;
        if matches!(access, PositionAccess::None) {
            return Ok(None);
        }
        let last = memory.as_ref().and_then(|memory| memory.positions.as_ref());
        if let Some(last) = last.filter(|last| !last.is_due(until)) {
            return Ok(Some(TableOutcome { kept: last.kept.clone(), ..TableOutcome::of(TABLE) }));
        }
        let mut outcome = TableOutcome::of(TABLE);
        if let Some(refused) = self.guard.refusal(TABLE)? {
            outcome.refused = Some(refused);
            return Ok(Some(outcome));
        }
        let (mut unproved, mut goes_on) = (Unproved::default(), true);
        while goes_on && let Some(day) = access.reader().and_then(|r| r.first_day(from).transpose())
        {
            self.wait.check_cancelled()?;
            let day = day?;
            if day.0 > until.0 {
                break;
            }
            for connection in access.reader().map_or(Ok(Vec::new()), |r| prove_day(r, day))? {
                unproved.add(day, &connection);
                if goes_on && connection.is_proved {
                    goes_on = self.take(access, task, day, &connection, &mut outcome)?;
                }
            }
            from = Some(Day(day.0 + 1));
        }
        outcome.kept = unproved.error();
        if let Some(memory) = memory
            && goes_on
        {
            let kept = outcome.kept.clone();
            memory.positions = Some(PositionMemory { until, at: since_boot(), kept });
        }
        Ok(Some(outcome))
    }

    /// Counts or deletes the positions of a day and connection. Returns whether the run goes on.
    fn take(
        &mut self,
        access: &mut PositionAccess,
        task: WalkTask,
        day: Day,
        connection: &ProvedConnection,
        outcome: &mut TableOutcome,
    ) -> Result<bool> {
        match (task, access) {
            (WalkTask::Delete, PositionAccess::Write(store)) => {
                self.delete(&mut **store, day, connection, outcome)
            }
            _ => {
                outcome.add_day(day, connection.rows.len() as u64);
                (self.on_rows)(self.guard, outcome.rows)
            }
        }
    }

    fn delete(
        &mut self,
        store: &mut dyn StatisticsStore,
        day: Day,
        connection: &ProvedConnection,
        outcome: &mut TableOutcome,
    ) -> Result<bool> {
        let mut rest: &[CountedRow] = &connection.rows;
        let mut busy_since: Option<Instant> = None;
        while !rest.is_empty() {
            self.wait.check_cancelled()?;
            self.guard.refuse_long_wal()?;
            let rows = rest.get(..self.batch.rows()).unwrap_or(rest);
            let pause = match store.delete_counted(day, &connection.connection_id, rows) {
                Err(error) if matches!(error.kind, Kind::TryAgain | Kind::Blocked) => {
                    self.refuse_long_wait(*busy_since.get_or_insert_with(Instant::now), error)?;
                    self.batch.busy()
                }
                done => {
                    let done = done?;
                    busy_since = None;
                    rest = rest.get(done.tried()..).unwrap_or_default();
                    outcome.add_day(day, done.deleted);
                    self.batch.done(done.tried(), done.lock_held)
                }
            };
            outcome.longest_lock = outcome.longest_lock.max(self.batch.longest());
            if !(self.on_rows)(self.guard, outcome.rows)? {
                return Ok(false);
            }
            self.wait.pause(pause)?;
        }
        Ok(true)
    }

    fn refuse_long_wait(&self, since: Instant, error: Error) -> Result<()> {
        self.wait.check_cancelled()?;
        match self.wait.timeout {
            Some(timeout) if since.elapsed() >= timeout => {
                Err(error.leaving(StateLeft::EarlierCommits))
            }
            _ => Ok(()),
        }
    }
}

/// Positions that stay because the statistics of their day are not proved.
#[derive(Default)]
struct Unproved {
    rows: usize,
    first: Option<Day>,
}

impl Unproved {
    fn add(&mut self, day: Day, connection: &ProvedConnection) {
        if !connection.is_proved && !connection.rows.is_empty() {
            self.rows += connection.rows.len();
            self.first = self.first.or(Some(day));
        }
    }

    fn error(&self) -> Option<Error> {
        let first = start_of(self.first?).to_string();
        let day = first.get(..10).unwrap_or_default();
        let positions = match self.rows {
            1 => format!("1 closed position of {day} is kept, because the statistics of its day"),
            rows => format!(
                "{rows} closed positions from {day} on are kept, because the statistics of their days"
            ),
        };
        let what = format!("{positions} are not proved");
        Some(Error::new(Kind::Data, what).at(TABLE).remedy(
            "let `cts serve` calculate them (`cts verify --statistics` says what differs), and keep statistics as long as positions (statistics_days)",
        ))
    }
}
