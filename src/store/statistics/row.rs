//! A row of one of the three statistics tables, which differ in the names of their columns.

use std::borrow::Cow;

use super::position::{days_of, start_of};
use crate::store::{Day, Field, Value, ValueType};

/// One of the three statistics tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StatisticsTable {
    /// By connection, symbol, type of indication and day.
    Indication,
    /// By connection, symbol, type of strategy and day.
    Strategy,
    /// By connection and day.
    Daily,
}

/// The columns of the values, in the order of [`StatisticsValues`]; first those that `statistics_daily` names otherwise.
const VALUES: [(&str, &str, ValueType); 14] = [
    ("total_positions", "total_trades", ValueType::Integer),
    ("winning_positions", "winning_trades", ValueType::Integer),
    ("losing_positions", "losing_trades", ValueType::Integer),
    ("best_trade_pnl", "max_profit", ValueType::Real),
    ("worst_trade_pnl", "max_loss", ValueType::Real),
    ("total_pnl", "total_pnl", ValueType::Real),
    ("total_profit", "total_profit", ValueType::Real),
    ("total_loss", "total_loss", ValueType::Real),
    ("total_fees", "total_fees", ValueType::Real),
    ("win_rate", "win_rate", ValueType::Real),
    ("profit_factor", "profit_factor", ValueType::Real),
    ("max_drawdown", "max_drawdown", ValueType::Real),
    ("avg_hold_duration_seconds", "avg_hold_duration_seconds", ValueType::Real),
    ("highest_sum", "highest_sum", ValueType::Real),
];
/// The columns after these, in all three tables.
const REST: [(&str, ValueType); 3] = [
    ("lowest_sum", ValueType::Real),
    ("source_rows", ValueType::Integer),
    ("source_digest", ValueType::Text),
];

impl StatisticsTable {
    /// All of them. The daily row is written last: it says that the others of its day are there.
    pub const ALL: [StatisticsTable; 3] =
        [StatisticsTable::Indication, StatisticsTable::Strategy, StatisticsTable::Daily];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            StatisticsTable::Indication => "statistics_indication",
            StatisticsTable::Strategy => "statistics_strategy",
            StatisticsTable::Daily => "statistics_daily",
        }
    }

    /// The column of the day, or of the midnight with which it begins.
    pub fn day_column(self) -> &'static str {
        match self {
            StatisticsTable::Daily => "trade_date",
            _ => "period_start",
        }
    }

    /// The columns of the key, in the order in which they are read and written.
    pub fn key_columns(self) -> &'static [(&'static str, ValueType)] {
        match self {
            StatisticsTable::Indication => &[
                ("connection_id", ValueType::Text),
                ("symbol", ValueType::Text),
                ("indication_type", ValueType::Text),
                ("period_start", ValueType::Time),
                ("period_end", ValueType::Time),
            ],
            StatisticsTable::Strategy => &[
                ("connection_id", ValueType::Text),
                ("symbol", ValueType::Text),
                ("strategy_type", ValueType::Text),
                ("period_start", ValueType::Time),
                ("period_end", ValueType::Time),
            ],
            StatisticsTable::Daily => {
                &[("connection_id", ValueType::Text), ("trade_date", ValueType::Day)]
            }
        }
    }

    /// The columns of the values, in the order in which they are read and written.
    pub fn value_columns(self) -> impl Iterator<Item = (&'static str, ValueType)> {
        let is_daily = self == StatisticsTable::Daily;
        let name =
            move |(other, daily, value_type)| (if is_daily { daily } else { other }, value_type);
        VALUES.into_iter().map(name).chain(REST)
    }

    /// The columns that are read, in the order of [`StoredStatistics::read`].
    pub fn read_columns(self) -> Vec<(&'static str, ValueType)> {
        let left =
            [("source_rows_left", ValueType::Integer), ("source_digest_left", ValueType::Text)];
        let left = if self == StatisticsTable::Daily { &left[..] } else { &[] };
        [("id", ValueType::Integer)]
            .into_iter()
            .chain(self.key_columns().iter().copied())
            .chain(self.value_columns())
            .chain(left.iter().copied())
            .collect()
    }
}

/// What a row of statistics is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatisticsKey {
    /// The table.
    pub table: StatisticsTable,
    /// The day.
    pub day: Day,
    /// The connection.
    pub connection_id: String,
    /// The symbol; empty in `statistics_daily`.
    pub symbol: String,
    /// The type of indication or of strategy; empty in `statistics_daily`.
    pub kind: String,
}

/// The values of a row of statistics. What is not stored, or not of its type, is `None`.
#[derive(Clone, Debug, Default)]
pub struct StatisticsValues {
    /// Closed positions.
    pub trades: Option<i64>,
    /// Those with a profit above 0.
    pub wins: Option<i64>,
    /// Those with a loss.
    pub losses: Option<i64>,
    /// The largest result of one position.
    pub best: Option<f64>,
    /// The smallest result of one position.
    pub worst: Option<f64>,
    /// The sum of all results.
    pub total: Option<f64>,
    /// The sum of the results above 0.
    pub total_profit: Option<f64>,
    /// The sum of the losses, negative.
    pub total_loss: Option<f64>,
    /// The sum of the fees, which no column of the positions has.
    pub total_fees: Option<f64>,
    /// Wins by trades.
    pub win_rate: Option<f64>,
    /// Sum of profits by sum of losses.
    pub profit_factor: Option<f64>,
    /// The largest fall of the running sum.
    pub max_drawdown: Option<f64>,
    /// The mean time from opening to closing, in seconds.
    pub mean_hold_seconds: Option<f64>,
    /// The highest point of the running sum, 0 or more.
    pub highest_sum: Option<f64>,
    /// The lowest point of the running sum, 0 or less.
    pub lowest_sum: Option<f64>,
    /// The number of the positions that were counted.
    pub source_rows: Option<i64>,
    /// Their digest.
    pub source_digest: Option<String>,
    /// Whether a value was stored that is not of the type of its column.
    pub has_other_type: bool,
}

impl PartialEq for StatisticsValues {
    /// The same bits.
    fn eq(&self, other: &StatisticsValues) -> bool {
        let bits = |number: Option<f64>| number.map(f64::to_bits);
        let reals = self.reals().map(bits) == other.reals().map(bits);
        reals
            && self.integers() == other.integers()
            && self.source_digest == other.source_digest
            && self.has_other_type == other.has_other_type
    }
}

impl StatisticsValues {
    fn integers(&self) -> [Option<i64>; 4] {
        [self.trades, self.wins, self.losses, self.source_rows]
    }

    fn reals(&self) -> [Option<f64>; 12] {
        [
            self.best,
            self.worst,
            self.total,
            self.total_profit,
            self.total_loss,
            self.total_fees,
            self.win_rate,
            self.profit_factor,
            self.max_drawdown,
            self.mean_hold_seconds,
            self.highest_sum,
            self.lowest_sum,
        ]
    }

    /// The values in the order of [`StatisticsTable::value_columns`].
    pub fn fields(&self) -> Vec<Value<'_>> {
        let integer = |number: Option<i64>| number.map_or(Value::Null, Value::Integer);
        let real = |number: Option<f64>| number.map_or(Value::Null, Value::Real);
        let counts = [self.trades, self.wins, self.losses].map(integer);
        let digest = self.source_digest.as_deref();
        counts
            .into_iter()
            .chain(self.reals().map(real))
            .chain([integer(self.source_rows)])
            .chain([digest.map_or(Value::Null, |digest| Value::Text(Cow::Borrowed(digest)))])
            .collect()
    }
}

/// A row of statistics as it is calculated.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsRow {
    /// What it is of.
    pub key: StatisticsKey,
    /// Its values.
    pub values: StatisticsValues,
}

impl StatisticsRow {
    /// The key, in the order of [`StatisticsTable::key_columns`].
    pub fn key_fields(&self) -> Vec<Value<'_>> {
        let text = |text: &'_ str| Value::Text(Cow::Owned(text.to_string()));
        let StatisticsKey { table, day, connection_id, symbol, kind } = &self.key;
        match table {
            StatisticsTable::Daily => vec![text(connection_id), Value::Day(*day)],
            _ => vec![
                text(connection_id),
                text(symbol),
                text(kind),
                Value::Time(start_of(*day)),
                Value::Time(start_of(Day(day.0 + 1))),
            ],
        }
    }
}

/// What retention has left of the positions that were counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLeft {
    /// Their number; `None` where it is not stored, or no number.
    pub rows: Option<i64>,
    /// Their digest.
    pub digest: Option<String>,
}

/// A row of a statistics table as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredStatistics {
    /// The table.
    pub table: StatisticsTable,
    /// Its id.
    pub id: i64,
    /// What it is of. `None` where that is not one UTC day, or cannot be read.
    pub key: Option<StatisticsKey>,
    /// The day in which its period begins.
    pub day: Day,
    /// The connection, as far as it can be read.
    pub connection_id: String,
    /// Its values.
    pub values: StatisticsValues,
    /// Of a row of `statistics_daily` once retention has begun to delete positions of that day.
    pub left: Option<SourceLeft>,
}

impl StoredStatistics {
    /// Reads a row of [`StatisticsTable::read_columns`]. One whose day cannot be read is of the day `unreadable`. `None` where
    /// it has no id or no day.
    pub fn read(
        table: StatisticsTable,
        fields: &[Field<'_>],
        unreadable: Option<Day>,
    ) -> Option<StoredStatistics> {
        let (id, fields) = fields.split_first()?;
        let Ok(Value::Integer(id)) = id else { return None };
        let (key_fields, fields) = fields.split_at_checked(table.key_columns().len())?;
        let (connection_id, day, key) = read_key(table, key_fields).or_else(|| {
            let Some(Ok(Value::Text(connection_id))) = key_fields.first() else { return None };
            Some((connection_id.to_string(), unreadable?, None))
        })?;
        let mut reader = FieldReader { fields: fields.iter(), has_other_type: false };
        let values = StatisticsValues {
            trades: reader.integer(),
            wins: reader.integer(),
            losses: reader.integer(),
            best: reader.real(),
            worst: reader.real(),
            total: reader.real(),
            total_profit: reader.real(),
            total_loss: reader.real(),
            total_fees: reader.real(),
            win_rate: reader.real(),
            profit_factor: reader.real(),
            max_drawdown: reader.real(),
            mean_hold_seconds: reader.real(),
            highest_sum: reader.real(),
            lowest_sum: reader.real(),
            source_rows: reader.integer(),
            source_digest: reader.text(),
            has_other_type: false,
        };
        let values = StatisticsValues { has_other_type: reader.has_other_type, ..values };
        // Nonsense too says that retention has begun.
        let has_left =
            reader.fields.as_slice().iter().any(|field| !matches!(field, Ok(Value::Null)));
        let left = has_left.then(|| SourceLeft { rows: reader.integer(), digest: reader.text() });
        Some(StoredStatistics { table, id: *id, key, day, connection_id, values, left })
    }
}

/// The connection, the day, and the key where it is one.
fn read_key(
    table: StatisticsTable,
    fields: &[Field<'_>],
) -> Option<(String, Day, Option<StatisticsKey>)> {
    let text = |field: &Field<'_>| match field {
        Ok(Value::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    if table == StatisticsTable::Daily {
        let [connection, Ok(Value::Day(day))] = fields else { return None };
        let key = text(connection).map(|connection_id| StatisticsKey {
            table,
            day: *day,
            connection_id,
            symbol: String::new(),
            kind: String::new(),
        });
        return Some((text(connection).unwrap_or_default(), *day, key));
    }
    let [connection, symbol, kind, Ok(Value::Time(start)), end] = fields else { return None };
    let day = days_of(*start)?;
    let is_day = *start == start_of(day)
        && matches!(end, Ok(Value::Time(end)) if *end == start_of(Day(day.0 + 1)));
    let key = || {
        let (connection_id, symbol, kind) = (text(connection)?, text(symbol)?, text(kind)?);
        is_day.then_some(StatisticsKey { table, day, connection_id, symbol, kind })
    };
    Some((text(connection).unwrap_or_default(), day, key()))
}

struct FieldReader<'f, 'v> {
    fields: std::slice::Iter<'f, Field<'v>>,
    has_other_type: bool,
}

impl FieldReader<'_, '_> {
    fn next<T>(&mut self, of: impl FnOnce(&Value<'_>) -> Option<T>) -> Option<T> {
        match self.fields.next() {
            None | Some(Ok(Value::Null)) => None,
            Some(Ok(value)) => {
                let read = of(value);
                self.has_other_type |= read.is_none();
                read
            }
            Some(Err(_)) => {
                self.has_other_type = true;
                None
            }
        }
    }

    fn integer(&mut self) -> Option<i64> {
        self.next(|value| if let Value::Integer(number) = value { Some(*number) } else { None })
    }

    fn real(&mut self) -> Option<f64> {
        self.next(|value| if let Value::Real(number) = value { Some(*number) } else { None })
    }

    fn text(&mut self) -> Option<String> {
        self.next(|value| if let Value::Text(text) = value { Some(text.to_string()) } else { None })
    }
}
