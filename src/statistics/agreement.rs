//! Whether `statistics_daily` says what the rows say, as far as a report reads them: counts, sums, best and worst.
//! `cts verify --statistics` compares everything.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::measures::{Measurement, Measures};
use crate::store::{ClosedPosition, Day, Moment};

/// Part of the sum of all amounts by which two sums may differ that were added in another order.
const TOLERANCE: f64 = 1e-12;

/// Compares the rows of days and connections with their statistics.
#[derive(Default)]
pub struct Agreement {
    days: BTreeMap<Day, HashMap<String, Compared>>,
}

#[derive(Default)]
struct Compared {
    rows: Measurement,
    /// When the last of the positions was closed.
    last_closed_at: Option<Moment>,
    stored: Option<Measures>,
}

impl Agreement {
    /// Adds what is stored of a day and connection.
    pub fn expect(&mut self, day: Day, connection_id: &str, stored: Measures) {
        self.change(day, connection_id, |compared| compared.stored = Some(stored));
    }

    /// Adds a position.
    pub fn add(&mut self, position: &ClosedPosition<'_>) {
        let add = |compared: &mut Compared| {
            compared.rows.add(position.profit, None);
            compared.last_closed_at = compared.last_closed_at.max(Some(position.closed_at));
        };
        self.change(position.day, &position.connection_id, add);
    }

    /// How many positions were added of a day and connection.
    pub fn trades(&self, day: Day, connection_id: &str) -> u64 {
        let of_day = self.days.get(&day).and_then(|of_day| of_day.get(connection_id));
        of_day.map_or(0, |compared| compared.rows.measures().trades)
    }

    /// The days that differ. Left out are days before the first one that is kept, where nothing is stored of them, and those
    /// on which a position was closed at this moment or later, which is not expected to be counted yet.
    pub fn outdated_days(&self, kept_from: Option<Day>, not_yet: Moment) -> BTreeSet<Day> {
        let is_outdated = |day: Day, compared: &Compared| match &compared.stored {
            _ if compared.last_closed_at >= Some(not_yet) => false,
            Some(stored) => !is_same(stored, &compared.rows.measures()),
            None => kept_from.is_none_or(|from| day >= from),
        };
        let outdated =
            self.days.iter().filter(|(day, all)| all.values().any(|one| is_outdated(**day, one)));
        outdated.map(|(day, _)| *day).collect()
    }

    fn change(&mut self, day: Day, connection_id: &str, change: impl FnOnce(&mut Compared)) {
        let of_day = self.days.entry(day).or_default();
        match of_day.get_mut(connection_id) {
            Some(compared) => change(compared),
            None => change(of_day.entry(connection_id.to_string()).or_default()),
        }
    }
}

/// Whether counts, sums, best and worst are the same.
pub fn is_same(stored: &Measures, rows: &Measures) -> bool {
    let counts = |of: &Measures| (of.trades, of.wins, of.losses);
    let tolerance = TOLERANCE * (rows.sum_of_wins - rows.sum_of_losses);
    counts(stored) == counts(rows)
        && (stored.best, stored.worst) == (rows.best, rows.worst)
        && (stored.profit == rows.profit || (stored.profit - rows.profit).abs() <= tolerance)
}
