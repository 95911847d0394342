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
