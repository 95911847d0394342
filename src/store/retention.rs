//! Retention, as far as it depends on the store: reading rows by their ids in short reads, deleting some of them in a short
//! write transaction, and the settings and records of retention. Which rows go, and when, is decided above.

use std::time::Duration;

use super::{Moment, SiteLogEntry, WaitPolicy};
use crate::error::{Error, Result};

/// The days that log lines are kept.
pub const SITE_LOGS_DAYS: &str = "site_logs_days";
/// The days that expired indications are kept.
pub const INDICATIONS_DAYS: &str = "indications_expired_days";
/// The days that closed positions are kept.
pub const POSITIONS_DAYS: &str = "positions_closed_days";
/// The days that statistics are kept.
pub const STATISTICS_DAYS: &str = "statistics_days";
/// The size above which the oldest rows are deleted that may be deleted, in bytes.
pub const DATABASE_MAX_BYTES: &str = "database_max_bytes";
/// The days that log lines are kept, as an older CTS has it.
pub const OLD_LOG_DAYS: &str = "logRetentionDays";
/// The record of what was announced, and when.
pub const ANNOUNCED: &str = "retention_announced";
/// The record of the clock that retention trusts.
pub const CLOCK: &str = "retention_clock";

/// The rows of `system_settings` that retention reads.
pub const SETTING_KEYS: [&str; 8] = [
    SITE_LOGS_DAYS,
    INDICATIONS_DAYS,
    POSITIONS_DAYS,
    STATISTICS_DAYS,
    DATABASE_MAX_BYTES,
    OLD_LOG_DAYS,
    ANNOUNCED,
    CLOCK,
];
/// Those of them that cts writes itself.
pub const RECORD_KEYS: [&str; 2] = [ANNOUNCED, CLOCK];
/// The category of the rows of `system_settings` that retention writes.
pub const CATEGORY: &str = "retention";

/// What is true for a row of `site_logs` that cts wrote itself, as SQL of both stores: cts writes level, category and
/// message, and nothing else. A row of another program that is written in the same way is taken for one.
macro_rules! is_own {
    () => {
        "t.category = 'database' AND t.connection_id IS NULL AND t.user_id IS NULL AND t.context IS NULL \
         AND t.error_message IS NULL"
    };
}
/// Whether a row of `site_logs` is an error that cts wrote itself.
pub const IS_OWN_ERROR: &str = concat!("(t.level = 'error' AND ", is_own!(), ")");

/// The times that other programs write when they write a row: the table `t`, the column, and which rows.
pub const PROGRAM_TIMES: [(&str, &str, &str); 8] = [
    ("site_logs", "t.timestamp", concat!("NOT (", is_own!(), ")")),
    ("indications_direction", "t.calculated_at", "true"),
    ("indications_move", "t.calculated_at", "true"),
    ("indications_active", "t.calculated_at", "true"),
    ("indications_optimal", "t.calculated_at", "true"),
    ("indications_auto", "t.calculated_at", "true"),
    ("pseudo_positions", "t.opened_at", "true"),
    ("exchange_positions", "t.opened_at", "true"),
];
/// How many rows of each table are read for that, from the highest id back.
pub const PROGRAM_ROWS: usize = 500;

/// Rows of one table that retention may delete. No other rows are ever deleted by it, but for closed positions, which are
/// deleted with their statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrunableRows {
    /// Log lines.
    SiteLogs,
    /// Indications of this table with the status `expired`.
    Indications(&'static str),
    /// Statistics of periods, in this table.
    Periods(&'static str),
    /// Statistics of days.
    Days,
}

impl PrunableRows {
    /// All of them.
    pub const ALL: [PrunableRows; 9] = [
        PrunableRows::SiteLogs,
        PrunableRows::Indications("indications_direction"),
        PrunableRows::Indications("indications_move"),
        PrunableRows::Indications("indications_active"),
        PrunableRows::Indications("indications_optimal"),
        PrunableRows::Indications("indications_auto"),
        PrunableRows::Periods("statistics_indication"),
        PrunableRows::Periods("statistics_strategy"),
        PrunableRows::Days,
    ];

    /// Their table.
    pub fn table(self) -> &'static str {
        match self {
            PrunableRows::SiteLogs => "site_logs",
            PrunableRows::Indications(table) | PrunableRows::Periods(table) => table,
            PrunableRows::Days => "statistics_daily",
        }
    }

    /// The column of their time, of a table `t`.
    pub fn time_column(self) -> &'static str {
        match self {
            PrunableRows::SiteLogs => "t.timestamp",
            PrunableRows::Indications(_) => "t.calculated_at",
            PrunableRows::Periods(_) => "t.period_end",
            PrunableRows::Days => "t.trade_date",
        }
    }

    /// SQL of both stores that is true for the rows of a table `t` that [`PruneRule::deletes`] tells from the others.
    pub fn mark(self) -> &'static str {
        match self {
            PrunableRows::SiteLogs => IS_OWN_ERROR,
            PrunableRows::Indications(_) => "(t.status = 'expired')",
            PrunableRows::Periods(_) | PrunableRows::Days => "(t.id IS NOT NULL)",
        }
    }
}

/// Which rows of a table go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneRule {
    /// The rows.
    pub rows: PrunableRows,
    /// Those of this moment or before it go; of statistics of days, those of days that ended by then.
    pub until: Moment,
    /// Errors that cts wrote itself go from this moment back.
    pub own_errors_until: Moment,
}

/// What a rule says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerdict {
    /// It goes.
    Prunable,
    /// It is old, and kept all the same; or its time cannot be read.
    Kept,
    /// It is too young.
    Young,
}

impl PruneRule {
    /// What the rule says of a row with this time and this mark. A row without a time that can be read is kept.
    pub fn judge(&self, at: Option<Moment>, mark: Option<bool>) -> RowVerdict {
        let Some(at) = at else { return RowVerdict::Kept };
        if at.0 > self.until.0 {
            return RowVerdict::Young;
        }
        let goes = match self.rows {
            PrunableRows::SiteLogs => mark != Some(true) || at.0 <= self.own_errors_until.0,
            _ => mark == Some(true),
        };
        if goes { RowVerdict::Prunable } else { RowVerdict::Kept }
    }
}

/// A row that may go, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunableRow {
    /// Its id.
    pub id: i64,
    /// Its time.
    pub at: Moment,
    /// Its time as the table has it.
    pub written: String,
    /// Its [`PrunableRows::mark`].
    pub mark: Option<bool>,
}

/// Rows of a table that follow one another by id, as a rule judges them.
#[derive(Clone, Debug, Default)]
pub struct WalkSlice {
    /// Those that go.
    pub prunable: Vec<PrunableRow>,
    /// How many rows were read.
    pub rows: usize,
    /// The id of the last one of them; `None` where there is none.
    pub last_id: Option<i64>,
    /// The id of the first one that is too young.
    pub first_young_id: Option<i64>,
    /// The time of the oldest one that is too young.
    pub oldest_young: Option<Moment>,
    /// How many are too young at the end of the slice, one behind the other.
    pub young_at_end: usize,
}

impl WalkSlice {
    /// Adds a row.
    pub fn add(&mut self, rule: &PruneRule, row: PrunableRow, is_readable: bool) {
        self.rows += 1;
        self.last_id = Some(row.id);
        match rule.judge(is_readable.then_some(row.at), row.mark) {
            RowVerdict::Young => {
                self.first_young_id = self.first_young_id.or(Some(row.id));
                self.oldest_young = self.oldest_young.into_iter().chain([row.at]).min();
                self.young_at_end += 1;
            }
            RowVerdict::Kept => self.young_at_end = 0,
            RowVerdict::Prunable => {
                self.young_at_end = 0;
                self.prunable.push(row);
            }
        }
    }
}

/// What a write transaction that deletes rows did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedBatch {
    /// How many of the rows, from the first on, were tried before its time was over.
    pub tried: usize,
    /// How many were deleted. The others had changed, or were gone.
    pub deleted: u64,
    /// How long other programs could not write: from the beginning of the transaction to its end.
    pub lock_held: Duration,
}

/// A row of `system_settings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSetting {
    /// Its key, one of [`SETTING_KEYS`].
    pub key: String,
    /// Its value. What is no text and no number is shown as a literal.
    pub value: String,
    /// Its category; `None` where there is none, or it is no text.
    pub category: Option<String>,
}

impl StoredSetting {
    /// A record of retention.
    pub fn record(key: &str, value: String) -> StoredSetting {
        StoredSetting { key: key.into(), value, category: Some(CATEGORY.into()) }
    }
}

/// An open database whose rows are deleted by retention.
pub trait RetentionStore {
    /// Reads the settings and the records of retention. A row that is not there is none of them.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn read_settings(&mut self) -> Result<Vec<StoredSetting>>;

    /// Writes a record of retention, and a line in `site_logs` where there is one to write.
    ///
    /// # Errors
    /// Where the lock was not free within a moment, or the rows cannot be written. Nothing is changed.
    fn record(&mut self, records: &[StoredSetting], entry: Option<&SiteLogEntry>) -> Result<()>;

    /// The newest time until `until` in the last rows that other programs wrote; `None` where there is none. A table that
    /// cannot be asked for it has none.
    ///
    /// # Errors
    /// Where the database cannot be read.
    fn newest_time(&mut self, until: Moment) -> Result<Option<Moment>>;

    /// Why no row of this table may be deleted: a table of another program refers to its rows, or it is not as expected.
    ///
    /// # Errors
    /// Where the catalogue cannot be read.
    fn refusal(&mut self, table: &'static str) -> Result<Option<Error>>;

    /// Reads at most so many rows with ids above `after`, in the order of their ids.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn read_slice(&mut self, rule: &PruneRule, after: i64, limit: usize) -> Result<WalkSlice>;

    /// Deletes rows that are still as they were read, within `time`, in one transaction. `None` where another program
    /// holds the write lock: it is not waited for.
    ///
    /// # Errors
    /// Where they cannot be deleted. Nothing is changed.
    fn delete(
        &mut self,
        rows: PrunableRows,
        batch: &[PrunableRow],
        time: Duration,
    ) -> Result<Option<DeletedBatch>>;

    /// How long a transaction that reads or deletes should take: short where all writers wait for one that deletes.
    fn batch_goal(&self) -> Duration;

    /// The bytes that the rows and indexes of the database occupy, without what is free inside of it.
    ///
    /// # Errors
    /// Where that cannot be found out.
    fn used_bytes(&mut self) -> Result<u64>;

    /// Refuses to delete while that would only make the database larger: the WAL is long, and cannot be reset.
    ///
    /// # Errors
    /// [`Kind::Blocked`](crate::error::Kind::Blocked) with the reason.
    fn refuse_long_wal(&self) -> Result<()>;
}

/// Opens a database for retention.
pub trait OpenRetention {
    /// Opens it to delete rows. It must exist.
    ///
    /// # Errors
    /// Where it does not exist, cannot be opened or written, or belongs to another program.
    fn open_retention(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>>;

    /// Opens it to see what would be deleted; nothing of it is changed.
    ///
    /// # Errors
    /// Where it does not exist, cannot be read, or belongs to another program.
    fn read_retention(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>>;
}
