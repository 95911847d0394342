//! What the overview shows of a database's own rows: the newest rows of `site_logs`, and the statistics of the newest day.
//! Other programs write these tables, so that any row may hold anything, and either table may be missing or altered.

use std::time::Duration;

use crate::error::Error;

/// How many rows of `site_logs` are read.
pub const EVENTS_MAX: usize = 20;
/// How many characters of a text are read; more than are shown.
pub const TEXT_CHARS_MAX: usize = 600;
/// The longest text of which the beginning is read, in bytes. SQLite reads a text whole to take its beginning.
pub const TEXT_BYTES_MAX: u64 = 1 << 20;
/// How long reading may take, each of the two. The thread that owns the database does nothing else meanwhile.
pub const READ_TIMEOUT: Duration = Duration::from_millis(50);

/// The newest rows of `site_logs`, and the statistics of the newest day.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// The newest rows of `site_logs`, the newest first; `None` where they cannot be read.
    pub events: Option<Vec<LoggedEvent>>,
    /// The sums over the newest day of `statistics_daily`; `None` where it has no row, or cannot be read.
    pub statistics: Option<DayStatistics>,
    /// What was in the way.
    pub errors: Vec<Error>,
}

/// A row of `site_logs`. `None` is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Its time as the database has it.
    pub at: Option<String>,
    /// How much it matters, as the program that wrote it says.
    pub level: Option<String>,
    /// The beginning of its text.
    pub message: LoggedText,
}

/// A text of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedText {
    /// The text, at most its first [`TEXT_CHARS_MAX`] characters.
    Read(String),
    /// It has so many bytes, and is not read.
    TooLong(u64),
}

impl LoggedText {
    /// The text of a cell that is NULL where it is too long to be read, and its size in bytes, which is NULL where there
    /// is no text.
    pub fn of(text: Option<String>, bytes: Option<u64>) -> LoggedText {
        match (text, bytes) {
            (Some(text), _) => LoggedText::Read(text),
            (None, Some(bytes)) => LoggedText::TooLong(bytes),
            (None, None) => LoggedText::Read(String::new()),
        }
    }
}

/// The sums over the rows of one day of `statistics_daily`, that is, over the connections. `None` is NULL.
#[derive(Clone, Debug, PartialEq)]
pub struct DayStatistics {
    /// The day as the database has it, in UTC: `YYYY-MM-DD`.
    pub day: String,
    /// The trades.
    pub trades: Option<i64>,
    /// Those with a profit.
    pub wins: Option<i64>,
    /// Those with a loss.
    pub losses: Option<i64>,
    /// The profit, in money.
    pub profit: Option<f64>,
}

/// Reads the journal of an open database.
pub trait ReadJournal {
    /// Reads what there is, within [`READ_TIMEOUT`] for each part. What cannot be read is left out; nothing is changed.
    fn read_journal(&mut self) -> Journal;
}

impl Journal {
    /// The journal of these two results.
    pub fn of(
        events: Result<Vec<LoggedEvent>, Error>,
        statistics: Result<Option<DayStatistics>, Error>,
    ) -> Journal {
        let mut journal = Journal::default();
        match events {
            Ok(events) => journal.events = Some(events),
            Err(error) => journal.errors.push(error),
        }
        match statistics {
            Ok(statistics) => journal.statistics = statistics,
            Err(error) => journal.errors.push(error),
        }
        journal
    }
}
