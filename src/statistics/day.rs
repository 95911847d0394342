//! The statistics of one day, calculated from its closed positions. Pure: the rows come in any order.

use std::collections::{BTreeMap, HashMap};

use super::measures::{Measurement, Measures};
use crate::store::{
    ClosedPosition, Day, RowHash, StatisticsKey, StatisticsTable, StatisticsValues, TableDigest,
};

/// The rows of statistics of a day, by what they are of.
pub type CalculatedDay = BTreeMap<StatisticsKey, StatisticsValues>;

/// The closed positions of a day, each in the 40 bytes that its measures need.
#[derive(Default)]
pub struct DayPositions {
    positions: Vec<CountedPosition>,
    groups: Vec<DayGroup>,
    /// The groups by their names, one behind the other.
    by_names: HashMap<Vec<u8>, u32>,
    /// Memory for such names.
    names: Vec<u8>,
}

struct CountedPosition {
    closed_at: i64,
    id: i64,
    profit: f64,
    hold_seconds: Option<f64>,
    group: u32,
}

/// Positions that have all names in common.
struct DayGroup {
    connection_id: String,
    symbol: String,
    indication_type: String,
    strategy_type: String,
    digest: TableDigest,
}

impl DayPositions {
    /// Adds a position.
    pub fn add(&mut self, position: &ClosedPosition<'_>, hash: &RowHash) {
        let group = self.group(position);
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.digest.add(hash);
        }
        self.positions.push(CountedPosition {
            closed_at: position.closed_at.0,
            id: position.id,
            profit: position.profit,
            hold_seconds: position.hold_seconds(),
            group,
        });
    }

    fn group(&mut self, position: &ClosedPosition<'_>) -> u32 {
        let ClosedPosition { connection_id, symbol, indication_type, strategy_type, .. } = position;
        let names = [connection_id, symbol, indication_type, strategy_type];
        self.names.clear();
        for name in names {
            self.names.extend_from_slice(&(name.len() as u64).to_be_bytes());
            self.names.extend_from_slice(name.as_bytes());
        }
        if let Some(group) = self.by_names.get(&self.names) {
            return *group;
        }
        let group = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let [connection_id, symbol, indication_type, strategy_type] = names.map(|n| n.to_string());
        let digest = TableDigest::default();
        self.groups.push(DayGroup {
            connection_id,
            symbol,
            indication_type,
            strategy_type,
            digest,
        });
        self.by_names.insert(self.names.clone(), group);
        group
    }

    /// Number and digest of the positions of each connection.
    pub fn digests(&self) -> BTreeMap<&str, TableDigest> {
        let mut digests: BTreeMap<&str, TableDigest> = BTreeMap::new();
        for group in &self.groups {
            digests.entry(&group.connection_id).or_default().add_all(&group.digest);
        }
        digests
    }

    /// The statistics of the day.
    pub fn calculate(mut self, day: Day) -> CalculatedDay {
        self.positions.sort_unstable_by_key(|position| (position.closed_at, position.id));
        let mut rows: Vec<MeasuredRow> = Vec::new();
        let mut by_key: BTreeMap<StatisticsKey, usize> = BTreeMap::new();
        let mut rows_of_groups = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            rows_of_groups.push(StatisticsTable::ALL.map(|table| {
                let at = *by_key.entry(group.key(table, day)).or_insert(rows.len());
                if at == rows.len() {
                    rows.push(MeasuredRow::default());
                }
                if let Some(row) = rows.get_mut(at) {
                    row.digest.add_all(&group.digest);
                }
                at
            }));
        }
        for position in &self.positions {
            let of_group = rows_of_groups.get(position.group as usize);
            for at in of_group.copied().into_iter().flatten() {
                if let Some(row) = rows.get_mut(at) {
                    row.measurement.add(position.profit, position.hold_seconds);
                }
            }
        }
        let values = |at: usize| rows.get(at).map(MeasuredRow::values).unwrap_or_default();
        by_key.into_iter().map(|(key, at)| (key, values(at))).collect()
    }
}

impl DayGroup {
    fn key(&self, table: StatisticsTable, day: Day) -> StatisticsKey {
        let (symbol, kind) = match table {
            StatisticsTable::Indication => (&*self.symbol, &*self.indication_type),
            StatisticsTable::Strategy => (&*self.symbol, &*self.strategy_type),
            StatisticsTable::Daily => ("", ""),
        };
        StatisticsKey {
            table,
            day,
            connection_id: self.connection_id.clone(),
            symbol: symbol.to_string(),
            kind: kind.to_string(),
        }
    }
}

/// A row of statistics in the making.
#[derive(Default)]
struct MeasuredRow {
    measurement: Measurement,
    digest: TableDigest,
}

impl MeasuredRow {
    fn values(&self) -> StatisticsValues {
        let measures = self.measurement.measures();
        let Measures { trades, wins, losses, best, worst, .. } = measures;
        let count = |number: u64| Some(i64::try_from(number).unwrap_or(i64::MAX));
        // A sum beyond the largest double has no value that both databases store.
        let finite = |number: Option<f64>| number.filter(|number| number.is_finite());
        StatisticsValues {
            trades: count(trades),
            wins: count(wins),
            losses: count(losses),
            best,
            worst,
            total: finite(Some(measures.profit)),
            total_profit: finite(Some(measures.sum_of_wins)),
            total_loss: finite(Some(measures.sum_of_losses)),
            total_fees: None,
            win_rate: measures.win_rate(),
            profit_factor: finite(measures.profit_factor()),
            max_drawdown: finite(Some(measures.drawdown)),
            mean_hold_seconds: finite(measures.mean_holding_seconds),
            highest_sum: finite(Some(measures.highest_sum)),
            lowest_sum: finite(Some(measures.lowest_sum)),
            source_rows: count(self.digest.rows),
            source_digest: Some(self.digest.to_string()),
            has_other_type: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::store::{Moment, RowHasher};

    const DAY: Day = Day(20_000);

    /// A position of connection `c`, so many seconds into the day.
    fn position(id: i64, second: i64, names: [&str; 3], profit: f64) -> ClosedPosition<'_> {
        let closed_at = Moment((i64::from(DAY.0) * 86_400 + second) * 1_000_000);
        let [symbol, indication_type, strategy_type] = names.map(Cow::Borrowed);
        ClosedPosition {
            id,
            connection_id: "c".into(),
            symbol,
            indication_type,
            strategy_type,
            closed_at,
            day: DAY,
            opened_at: Some(Moment(closed_at.0 - id * 1_000_000)),
            profit,
        }
    }

    fn calculated(positions: &[ClosedPosition<'_>]) -> CalculatedDay {
        let (mut day, mut hasher) = (DayPositions::default(), RowHasher::default());
        positions.iter().for_each(|position| day.add(position, &position.hash(&mut hasher)));
        day.calculate(DAY)
    }

    fn row<'d>(
        day: &'d CalculatedDay,
        table: StatisticsTable,
        names: [&str; 2],
    ) -> &'d StatisticsValues {
        let is_it = |key: &&StatisticsKey| key.table == table && [&*key.symbol, &key.kind] == names;
        &day[day.keys().find(is_it).unwrap()]
    }

    #[test]
    fn a_position_counts_once_in_each_table_in_order_of_closing_and_id() {
        let positions = [
            position(3, 50, ["A", "move", "main"], -7.0),
            position(2, 50, ["A", "move", ""], 4.0),
            position(1, 60, ["B", "move", "main"], 0.0),
            position(4, 10, ["A", "auto", "main"], 1.0),
        ];
        let day = calculated(&positions);
        let by_table =
            StatisticsTable::ALL.map(|table| day.keys().filter(|key| key.table == table).count());
        assert_eq!(by_table, [3, 3, 1]);
        let whole = row(&day, StatisticsTable::Daily, ["", ""]);
        assert_eq!((whole.trades, whole.wins, whole.losses), (Some(4), Some(2), Some(1)));
        // 1, 5, -2, -2.
        assert_eq!((whole.highest_sum, whole.lowest_sum), (Some(5.0), Some(-2.0)));
        assert_eq!((whole.total, whole.max_drawdown), (Some(-2.0), Some(7.0)));
        assert_eq!((whole.win_rate, whole.profit_factor), (Some(0.5), Some(5.0 / 7.0)));
        assert_eq!(whole.mean_hold_seconds, Some(2.5));
        let group = row(&day, StatisticsTable::Indication, ["A", "move"]);
        assert_eq!((group.trades, group.best, group.worst), (Some(2), Some(4.0), Some(-7.0)));
        let without_type = row(&day, StatisticsTable::Strategy, ["A", ""]);
        assert_eq!((without_type.total, without_type.profit_factor), (Some(4.0), None));
        // Whatever order they come in.
        let backwards: Vec<ClosedPosition<'_>> = positions.iter().rev().cloned().collect();
        assert_eq!(calculated(&backwards), day);
    }

    #[test]
    fn names_that_are_equal_behind_one_another_are_other_groups() {
        let day = calculated(&[
            position(1, 1, ["AB", "C", ""], 1.0),
            position(2, 2, ["A", "BC", ""], 1.0),
        ]);
        assert_eq!(day.keys().filter(|key| key.table == StatisticsTable::Indication).count(), 2);
    }

    #[test]
    fn a_sum_beyond_the_largest_double_has_no_value() {
        let day = calculated(&[
            position(1, 1, ["A", "", ""], f64::MAX),
            position(2, 2, ["A", "", ""], f64::MAX),
        ]);
        let whole = row(&day, StatisticsTable::Daily, ["", ""]);
        assert_eq!((whole.total, whole.total_profit, whole.highest_sum), (None, None, None));
        assert_eq!((whole.trades, whole.best), (Some(2), Some(f64::MAX)));
    }

    #[test]
    fn a_day_without_positions_has_no_row() {
        assert!(calculated(&[]).is_empty());
    }
}
