//! The statistics of closed positions, as far as they depend on the store: reading the positions of a day and the rows of
//! the statistics tables, and writing what differs. What is calculated, and when, is decided above.

mod exchange;
mod position;
mod row;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::time_text::parse_day;
use super::{Day, Moment, RowHash, TableDigest, WaitPolicy};
use crate::error::{Error, Kind, Result};

pub use exchange::{EXCHANGE_POSITION_COLUMNS, ExchangePositionRow, OPEN_EXCHANGE_STATUS};
pub use position::{
    ClosedPosition, Omission, POSITION_COLUMNS, PositionRow, closed_statuses, day_text, days_of,
    read_position, start_of,
};
pub use row::{
    SourceLeft, StatisticsKey, StatisticsRow, StatisticsTable, StatisticsValues, StoredStatistics,
};

/// Days, both ends among them; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayRange {
    /// The first day.
    pub from: Option<Day>,
    /// The last day.
    pub until: Option<Day>,
}

impl DayRange {
    /// One day.
    pub fn of(day: Day) -> DayRange {
        DayRange { from: Some(day), until: Some(day) }
    }

    /// Whether a day is one of these.
    pub fn contains(&self, day: Day) -> bool {
        self.from.is_none_or(|from| from <= day) && self.until.is_none_or(|until| day <= until)
    }
}

/// Bytes of a day at the beginning of the text of a time.
const DAY_BYTES: usize = 10;

/// The day of a row of statistics whose day cannot be read: 0001-01-01, before all others.
pub const UNREADABLE_DAY: Day = Day(-719_162);

/// The setting that records the last day of which retention has deleted positions. It is raised in the transaction that
/// deletes them, so that their statistics are known to be final even where `statistics_daily` was altered.
pub const DELETED_UNTIL: &str = "positions_deleted_until";

/// The day that the text of a time begins with.
pub fn day_of_text(text: &str) -> Option<Day> {
    parse_day(text.as_bytes().get(..DAY_BYTES)?).ok()
}

/// What [`DELETED_UNTIL`] says. Nonsense is no reason to write what cannot be calculated again: it counts for all days.
pub fn recorded_day(value: &str) -> Day {
    day_of_text(value.trim()).unwrap_or(Day(i32::MAX))
}

/// The days of positions that were changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedDays {
    /// The days of closing.
    pub days: BTreeSet<Day>,
    /// The highest id of a position; `None` where there is none.
    pub highest_id: Option<i64>,
    /// Whether all of them were found: no more than a million rows are read for each reason.
    pub is_complete: bool,
}

/// Since when positions are asked for that were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangesSince {
    /// Positions with an id above this one are new.
    pub above_id: i64,
    /// Positions that were closed at this moment or later.
    pub moment: Moment,
}

/// What the statistics of a day and connection have to become.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsChange {
    /// The day.
    pub day: Day,
    /// The connection.
    pub connection_id: String,
    /// What `statistics_daily` says of its source rows, as it was read: number and digest. `None` where there is no row.
    pub expected: Option<(Option<i64>, Option<String>)>,
    /// New rows.
    pub inserted: Vec<StatisticsRow>,
    /// Rows that there are, by their ids, and what they become.
    pub updated: Vec<(i64, StatisticsRow)>,
    /// Rows that are no longer wanted.
    pub deleted: Vec<(StatisticsTable, i64)>,
}

/// What a transaction that wrote statistics has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatisticsWritten {
    /// How many of the changes are done, from the first on.
    pub changes: usize,
    /// How many of these were left out: the statistics were changed meanwhile, or retention has begun to delete the
    /// positions of that day.
    pub left_out: usize,
    /// Rows written and deleted.
    pub rows: u64,
    /// How long the write lock was held.
    pub lock_held: Duration,
}

impl StatisticsWritten {
    /// Makes changes, the first of them in any case and others until the deadline. `make` returns how many rows it wrote, and
    /// `None` where it left the change out.
    ///
    /// # Errors
    /// That of `make`.
    pub fn make<E>(
        &mut self,
        changes: &[StatisticsChange],
        deadline: Instant,
        mut make: impl FnMut(&StatisticsChange) -> std::result::Result<Option<u64>, E>,
    ) -> std::result::Result<(), E> {
        for change in changes {
            match make(change)? {
                Some(rows) => self.rows += rows,
                None => self.left_out += 1,
            }
            self.changes += 1;
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(())
    }
}

/// A position that was counted: what is left of it of a day that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedRow {
    /// Its id.
    pub id: i64,
    /// Its hash, as it was counted.
    pub hash: RowHash,
}

/// What became of positions that were to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeletedRows {
    /// Deleted.
    pub deleted: u64,
    /// Kept, because they are gone or not as they were counted.
    pub changed: u64,
    /// Kept, because another row refers to them.
    pub referenced: u64,
    /// How long the write lock was held.
    pub lock_held: Duration,
}

impl DeletedRows {
    /// How many rows were tried, from the first one on.
    pub fn tried(&self) -> usize {
        usize::try_from(self.deleted + self.changed + self.referenced).unwrap_or(usize::MAX)
    }
}

/// What a row of `statistics_daily` says of the positions that are left of those that it was calculated from.
pub struct CountedSource {
    /// The id of the row.
    pub id: i64,
    /// Number and digest of the positions that are left.
    pub left: TableDigest,
}

impl CountedSource {
    /// Of a row with this number and digest.
    ///
    /// # Errors
    /// [`Kind::Data`] where they are not what cts writes.
    pub fn of(
        found: Option<(i64, Option<u64>, Option<&str>)>,
        day: Day,
        connection_id: &str,
    ) -> Result<CountedSource> {
        let refused = |what: &str| {
            let day = day_text(day);
            let what = format!("statistics_daily of {day} and connection {connection_id} {what}");
            Error::new(Kind::Data, what)
                .remedy("wait until cts has calculated it (`cts verify --statistics`)")
        };
        let (id, rows, digest) = found.ok_or_else(|| refused("has no row"))?;
        let left = rows.zip(digest).and_then(|(rows, digest)| TableDigest::from_text(rows, digest));
        let left = left.ok_or_else(|| refused("does not say what was counted"))?;
        Ok(CountedSource { id, left })
    }

    /// Takes a position away.
    ///
    /// # Errors
    /// [`Kind::Data`] where none is left.
    pub fn remove(&mut self, row: &CountedRow) -> Result<()> {
        if self.left.rows == 0 {
            let what = "statistics_daily says that fewer positions are left than there are";
            return Err(Error::new(Kind::Data, what)
                .remedy("find what differs with `cts verify --statistics`"));
        }
        self.left.remove(&row.hash);
        Ok(())
    }
}

/// Reads the positions and their statistics. Each method reads one state of the database.
pub trait ReadStatistics {
    /// The present time of the database: that of its server, which writes the times of rows.
    ///
    /// # Errors
    /// Where it cannot be asked.
    fn now(&mut self) -> Result<Moment>;

    /// The ids of all connections.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn connections(&mut self) -> Result<BTreeSet<String>>;

    /// A setting of `system_settings`, as it is stored.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn setting(&mut self, key: &str) -> Result<Option<String>>;

    /// The last day of which retention has deleted positions: as it has recorded, and where there is no record, as
    /// `statistics_daily` says. `None` where neither does.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn last_final_day(&mut self) -> Result<Option<Day>>;

    /// The first day from `from` on of which there are positions or statistics; an earlier one from `from` on where that
    /// cannot be told without reading them.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn first_day(&mut self, from: Option<Day>) -> Result<Option<Day>>;

    /// The number of closed positions whose `closed_at` is no time of the years 1 to 9999. Reads the whole index.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn count_unreadable_times(&mut self) -> Result<u64>;

    /// The day on which the position was closed that follows about so many others, from the first of `from` on. `None` where
    /// there are not so many.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn day_after(&mut self, from: Option<Day>, rows: u64) -> Result<Option<Day>>;

    /// Calls `on_row` with each closed position of these days; also with those that are left out. They come about in the order of closing: see [`PositionRow::horizon`].
    ///
    /// # Errors
    /// Where they cannot be read, or with the error of `on_row`.
    fn read_positions(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(PositionRow<'_>) -> Result<()>,
    ) -> Result<()>;

    /// The same for the closed positions at the exchange.
    ///
    /// # Errors
    /// As [`ReadStatistics::read_positions`].
    fn read_exchange_positions(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(ExchangePositionRow<'_>) -> Result<()>,
    ) -> Result<()>;

    /// Calls `on_row` with each row of the statistics tables of these days, those that cts has not written among them.
    ///
    /// # Errors
    /// Where they cannot be read, or with the error of `on_row`.
    fn read_statistics(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(StoredStatistics) -> Result<()>,
    ) -> Result<()>;

    /// The days of closing of the positions that are new or were just closed, by the id and the index of `closed_at`. No
    /// index shows other changes.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn changed_days(&mut self, since: ChangesSince) -> Result<ChangedDays>;
}

/// Writes the statistics, and deletes positions that were counted.
pub trait StatisticsStore: ReadStatistics + Send {
    /// Writes changes in one transaction, from the first on, until it has held the write lock for `limit`; one at least.
    /// One whose statistics are not as they were read, or whose positions retention has begun to delete, is left out.
    ///
    /// # Errors
    /// Where they cannot be written. Nothing is changed, unless the outcome of a commit is unknown.
    fn write(&mut self, changes: &[StatisticsChange], limit: Duration)
    -> Result<StatisticsWritten>;

    /// Deletes positions of a day and connection in one transaction: those whose hash is as it was counted, and that no
    /// other row refers to. The day is recorded as [`ReadStatistics::last_final_day`], and they are taken away from `source_rows_left` and `source_digest_left` of that day's row of
    /// `statistics_daily`, which begin as `source_rows` and `source_digest`; from then on the statistics of that day and
    /// connection are never calculated again.
    ///
    /// # Errors
    /// [`Kind::Data`] where `statistics_daily` has no such row, or it does not say what was counted;
    /// or where a row cannot be deleted. Nothing is changed.
    fn delete_counted(
        &mut self,
        day: Day,
        connection_id: &str,
        rows: &[CountedRow],
    ) -> Result<DeletedRows>;

    /// Ends connections that wait for work: none comes for some seconds. The next work opens another one, to the server that
    /// is the one to use then.
    fn rest(&mut self) {}
}

/// A configured database whose statistics can be opened.
pub trait OpenStatistics {
    /// Opens them for writing, on a connection of its own. The database exists, and its schema is in place.
    ///
    /// # Errors
    /// Where it cannot be opened or written.
    fn open_statistics(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn StatisticsStore>>;

    /// Opens them for reading. Nothing is changed.
    ///
    /// # Errors
    /// Where there is no database, or it cannot be read.
    fn open_statistics_to_read(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn ReadStatistics>>;
}
