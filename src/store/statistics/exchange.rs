//! A closed position at the exchange, read from values as both stores have them.

use super::position::{PositionRow, read_position};
use crate::store::{Day, Field, Value, ValueType};

/// The columns of `exchange_positions` that are read, in the order of [`ExchangePositionRow::read`].
pub const EXCHANGE_POSITION_COLUMNS: [(&str, ValueType); 7] = [
    ("id", ValueType::Integer),
    ("connection_id", ValueType::Text),
    ("symbol", ValueType::Text),
    ("closed_at", ValueType::Time),
    ("opened_at", ValueType::Time),
    ("realized_pnl", ValueType::Real),
    ("fees_paid", ValueType::Real),
];

/// The status of positions at the exchange that are not closed, even where `closed_at` is set.
pub const OPEN_EXCHANGE_STATUS: &str = "open";

/// A row of closed positions at the exchange.
#[derive(Debug)]
pub struct ExchangePositionRow<'r> {
    /// The position, without types; its profit is `realized_pnl`.
    pub row: PositionRow<'r>,
    /// The fees that were paid, where they are known.
    pub fees: Option<f64>,
}

impl ExchangePositionRow<'_> {
    /// Reads a row of [`EXCHANGE_POSITION_COLUMNS`] and calls `on_row` with it.
    pub fn read<T>(
        fields: &[Field<'_>],
        horizon: Option<Day>,
        on_row: impl FnOnce(ExchangePositionRow<'_>) -> T,
    ) -> T {
        let mut fields = fields.iter().cloned();
        let mut next = || fields.next().unwrap_or(Ok(Value::Null));
        let (id, connection, symbol) = (next(), next(), next());
        let (closed_at, opened_at, profit, fees) = (next(), next(), next(), next());
        let none = || Ok(Value::Null);
        let position =
            [id, connection, symbol, none(), none(), closed_at, opened_at, profit, none()];
        let fees = match fees {
            Ok(Value::Real(fees)) => Some(fees).filter(|fees| fees.is_finite()),
            _ => None,
        };
        on_row(ExchangePositionRow {
            row: PositionRow { position: read_position(&position), horizon },
            fees,
        })
    }
}
