//! A closed position as it counts in the statistics, read from values as both stores have them, and its hash. Why a row
//! is left out is decided here, for both stores alike.

use std::borrow::Cow;
use std::fmt;

use crate::store::time_text::{TimeText, prove_moment};
use crate::store::{Day, Field, Moment, RowHash, RowHasher, Value, ValueType};

/// The statuses of positions that are closed, where `closed_at` is set. A position that was archived after it was closed
/// still counts.
const CLOSED_STATUSES: [&str; 4] = ["archived", "closed", "main_closed", "stopped"];

/// The columns of `pseudo_positions` that are read, in the order of [`read_position`].
pub const POSITION_COLUMNS: [(&str, ValueType); 9] = [
    ("id", ValueType::Integer),
    ("connection_id", ValueType::Text),
    ("symbol", ValueType::Text),
    ("indication_type", ValueType::Text),
    ("strategy_type", ValueType::Text),
    ("closed_at", ValueType::Time),
    ("opened_at", ValueType::Time),
    ("pnl", ValueType::Real),
    ("profit_loss", ValueType::Real),
];

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// The statuses as a list of SQL literals.
pub fn closed_statuses() -> String {
    CLOSED_STATUSES.map(|status| format!("'{status}'")).join(", ")
}

/// 9999-12-31, whose end has no text on SQLite.
const BEYOND_DAYS: i32 = 2_932_896;

/// The UTC day of a moment of the years 1 to 9999, but for the last day, which ends after them.
pub fn days_of(moment: Moment) -> Option<Day> {
    prove_moment(moment).ok()?;
    let day = i32::try_from(moment.0.div_euclid(MICROSECONDS_PER_DAY)).ok()?;
    (day < BEYOND_DAYS).then_some(Day(day))
}

/// The midnight with which a day begins.
pub fn start_of(day: Day) -> Moment {
    Moment(i64::from(day.0) * MICROSECONDS_PER_DAY)
}

/// The text of a day. One that has none is empty.
pub fn day_text(day: Day) -> String {
    TimeText::of_day(day).map_or_else(
        |_| String::new(),
        |text| String::from_utf8_lossy(text.as_bytes()).into_owned(),
    )
}

/// A closed position that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedPosition<'r> {
    /// Its id.
    pub id: i64,
    /// Its connection.
    pub connection_id: Cow<'r, str>,
    /// Its symbol.
    pub symbol: Cow<'r, str>,
    /// Its type of indication; empty where it has none.
    pub indication_type: Cow<'r, str>,
    /// Its type of strategy; empty where it has none.
    pub strategy_type: Cow<'r, str>,
    /// When it was closed.
    pub closed_at: Moment,
    /// The UTC day of that.
    pub day: Day,
    /// When it was opened, where that is known.
    pub opened_at: Option<Moment>,
    /// `pnl` where it is set, else `profit_loss`; finite.
    pub profit: f64,
}

impl ClosedPosition<'_> {
    /// The hash of what counts of it. It does not depend on the store, nor on how a time is written.
    pub fn hash(&self, hasher: &mut RowHasher) -> RowHash {
        hasher.hash(&[
            Ok(Value::Integer(self.id)),
            Ok(Value::Text(Cow::Borrowed(&self.connection_id))),
            Ok(Value::Text(Cow::Borrowed(&self.symbol))),
            Ok(Value::Text(Cow::Borrowed(&self.indication_type))),
            Ok(Value::Text(Cow::Borrowed(&self.strategy_type))),
            Ok(Value::Time(self.closed_at)),
            Ok(self.opened_at.map_or(Value::Null, Value::Time)),
            Ok(Value::Real(self.profit)),
        ])
    }

    /// How long it was open, in seconds; `None` where it is not known, or it was closed before it was opened.
    pub fn hold_seconds(&self) -> Option<f64> {
        let opened_at = self.opened_at.filter(|opened| opened.0 <= self.closed_at.0)?;
        #[expect(clippy::cast_precision_loss, reason = "285 years in microseconds are exact")]
        Some((self.closed_at.0 - opened_at.0) as f64 / 1e6)
    }
}

/// Why a closed position does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Omission {
    /// Neither `pnl` nor `profit_loss` is set.
    NoProfit,
    /// The profit is no finite number.
    NoFiniteProfit,
    /// `closed_at` is no time of the years 1 to 9999, or of their last day.
    NoClosingTime,
    /// The id, or one of the texts, is none.
    Unreadable,
    /// Its connection does not exist.
    NoConnection,
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Omission::NoProfit => "neither pnl nor profit_loss is set",
            Omission::NoFiniteProfit => "the profit is not a finite number",
            Omission::NoClosingTime => "closed_at is not a time",
            Omission::Unreadable => "the id or a text cannot be read",
            Omission::NoConnection => "the connection does not exist",
        })
    }
}

/// A row of closed positions.
#[derive(Debug)]
pub struct PositionRow<'r> {
    /// The position, or why it does not count.
    pub position: Result<ClosedPosition<'r>, Omission>,
    /// No position of a day before this one comes after it.
    pub horizon: Option<Day>,
}

/// Reads a row of [`POSITION_COLUMNS`].
///
/// # Errors
/// Why it does not count.
pub fn read_position<'f>(fields: &'f [Field<'_>]) -> Result<ClosedPosition<'f>, Omission> {
    let [id, connection, symbol, indication, strategy, closed_at, opened_at, pnl, profit_loss] =
        fields
    else {
        return Err(Omission::Unreadable);
    };
    let closed_at = match closed_at {
        Ok(Value::Time(moment)) => *moment,
        _ => return Err(Omission::NoClosingTime),
    };
    let day = days_of(closed_at).ok_or(Omission::NoClosingTime)?;
    let opened_at = match opened_at {
        Ok(Value::Time(moment)) => days_of(*moment).map(|_| *moment),
        _ => None,
    };
    let Ok(Value::Integer(id)) = id else { return Err(Omission::Unreadable) };
    Ok(ClosedPosition {
        id: *id,
        connection_id: text(connection).ok_or(Omission::Unreadable)?,
        symbol: text(symbol).ok_or(Omission::Unreadable)?,
        indication_type: text_or_none(indication)?,
        strategy_type: text_or_none(strategy)?,
        closed_at,
        day,
        opened_at,
        profit: profit(pnl, profit_loss)?,
    })
}

fn text<'f>(field: &'f Field<'_>) -> Option<Cow<'f, str>> {
    match field {
        Ok(Value::Text(text)) => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

fn text_or_none<'f>(field: &'f Field<'_>) -> Result<Cow<'f, str>, Omission> {
    match field {
        Ok(Value::Null) => Ok(Cow::Borrowed("")),
        field => text(field).ok_or(Omission::Unreadable),
    }
}

fn profit(pnl: &Field<'_>, profit_loss: &Field<'_>) -> Result<f64, Omission> {
    let set = if matches!(pnl, Ok(Value::Null)) { profit_loss } else { pnl };
    match set {
        Ok(Value::Null) => Err(Omission::NoProfit),
        // A zero has one sign.
        Ok(Value::Real(profit)) if profit.is_finite() => Ok(profit + 0.0),
        _ => Err(Omission::NoFiniteProfit),
    }
}
