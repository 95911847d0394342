//! What programs have written into the database, in the overview: the trades of the day and the newest events.

use serde::Serialize;

use super::shown;
use crate::health::render::format::stored_timestamp;
use crate::store::journal::{DayStatistics, LoggedEvent, LoggedText};

/// `statistics`: the trades of a day.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsJson<'r> {
    day: &'r str,
    trades: Option<i64>,
    wins: Option<i64>,
    losses: Option<i64>,
    profit: Option<f64>,
    win_rate: Option<f64>,
}

impl<'r> StatisticsJson<'r> {
    /// The trades of a day.
    pub fn of(day: &'r DayStatistics) -> StatisticsJson<'r> {
        let DayStatistics { day, trades, wins, losses, profit } = day;
        let trades_known = trades.and_then(|trades| u32::try_from(trades).ok()).filter(|n| *n > 0);
        let rate = wins.and_then(|wins| u32::try_from(wins).ok()).zip(trades_known);
        let win_rate = rate.map(|(wins, trades)| f64::from(wins) / f64::from(trades));
        let win_rate = win_rate.map(|rate| (rate * 1e6).round() / 1e6);
        StatisticsJson {
            day,
            trades: *trades,
            wins: *wins,
            losses: *losses,
            profit: *profit,
            win_rate,
        }
    }
}

/// An item of `events`: a row of `site_logs`.
#[derive(Serialize)]
pub struct EventJson {
    at: Option<String>,
    level: Option<String>,
    message: String,
}

impl EventJson {
    /// An event, the text of each field cut and made visible.
    pub fn of(event: &LoggedEvent) -> EventJson {
        let message = match &event.message {
            LoggedText::Read(text) => shown(text),
            LoggedText::TooLong(bytes) => format!("(a text of {bytes} bytes, which is not shown)"),
        };
        EventJson {
            at: event.at.as_deref().map(|at| stored_timestamp(&shown(at))),
            level: event.level.as_deref().map(shown),
            message,
        }
    }
}
