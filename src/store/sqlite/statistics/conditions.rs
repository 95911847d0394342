//! The conditions of SQL by which closed positions are found: their times are texts, of which some have an offset.

use super::DAY_BYTES;
use crate::store::sql::literal;
use crate::store::time_text::TimeText;
use crate::store::{Day, DayRange, Moment, closed_statuses, days_of};

/// The condition of the closed positions of some days.
pub fn positions_condition(range: DayRange) -> String {
    let statuses = closed_statuses();
    format!("closed_at IS NOT NULL AND status IN ({statuses}){}", closed_condition(range))
}

/// The condition of positions that were closed in some days, to stand behind another one.
pub fn closed_condition(range: DayRange) -> String {
    let mut condition = String::new();
    let mut of_these_days = Vec::new();
    if let Some(Day(from)) = range.from {
        condition += &bound("closed_at >=", Day(from - 1));
        of_these_days.push(bound("+closed_at >=", Day(from)));
    }
    if let Some(Day(until)) = range.until {
        condition += &bound("closed_at <", Day(until + 2));
        of_these_days.push(bound("+closed_at <", Day(until + 1)));
    }
    if !of_these_days.is_empty() {
        // An offset stands behind YYYY-MM-DD HH:MM.
        let of_these_days = of_these_days.concat();
        condition += &format!(" AND ((1{of_these_days}) OR substr(closed_at, 17) GLOB '*[-+]*')");
    }
    condition
}

/// A condition that compares with a day. A day that has no text is beyond all that have one.
pub fn bound(comparison: &str, day: Day) -> String {
    match TimeText::of_day(day) {
        Ok(text) => {
            format!(" AND {comparison} {}", literal(&String::from_utf8_lossy(text.as_bytes())))
        }
        Err(_) => String::new(),
    }
}

/// The conditions of the texts of a column that are of this moment or later: those with a space before the hour and those
/// with a T do not sort together.
pub fn since_conditions(column: &str, since: Moment) -> [String; 3] {
    // A moment that has no text is taken for the first one of all.
    let Ok(text) = TimeText::of_moment(since) else { return ["1", "0", "0"].map(str::to_string) };
    let text = String::from_utf8_lossy(text.as_bytes()).into_owned();
    let (day, clock) = text.split_at(DAY_BYTES);
    // YYYY-MM-DD HH:MM:SS
    let clock = clock.get(1..9).unwrap_or_default();
    let next = Day(days_of(since).map_or(0, |day| day.0) + 1);
    let (before, after) =
        (bound(&format!("{column} <"), next), bound(&format!("{column} >="), next));
    [
        format!("{column} >= '{day} {clock}' AND {column} < '{day}T'"),
        format!("{column} >= '{day}T{clock}'{before}"),
        format!("1{after}"),
    ]
}
