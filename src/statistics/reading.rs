//! Reads what `cts stats` tells. Trades come from the rows of positions. A day and connection of which retention has deleted
//! rows comes from the statistics tables as a whole: its rows are read no more, whether they are still there or not.

use std::collections::{BTreeMap, BTreeSet};

use super::agreement::{Agreement, is_same};
use super::measures::{Measurement, Measures};
use super::report::{Grouping, ReportBuilder, Trade, TradeReport};
use super::scope::{StatisticsScope, scope};
use crate::error::{Error, Kind, Result};
use crate::store::{
    ClosedPosition, Day, DayRange, Moment, Omission, PositionRow, ReadStatistics, StatisticsKey,
    StatisticsTable, StatisticsValues, StoredStatistics,
};

/// How often the positions are read again, where retention began to delete some meanwhile.
const ATTEMPTS: usize = 5;

/// How long after a position was closed its statistics may not be there yet.
const SETTLING_MICROSECONDS: i64 = 120_000_000;

/// The days of a report, both ends among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportDays {
    /// The first day.
    pub from: Day,
    /// The last day.
    pub until: Day,
}

impl ReportDays {
    /// So many days, this one the last of them.
    pub fn until(until: Day, days: i32) -> ReportDays {
        ReportDays { from: Day(until.0.saturating_sub(days - 1)), until }
    }

    fn count(self) -> i32 {
        self.until.0 - self.from.0 + 1
    }

    fn range(self) -> DayRange {
        DayRange { from: Some(self.from), until: Some(self.until) }
    }
}

/// A report, and what there is to say of how it came about.
#[derive(Debug)]
pub struct ReadReport {
    /// The report.
    pub report: TradeReport,
    /// Closed positions that are left out, by the reason. Those whose time of closing cannot be read may be of any day: of
    /// simulated positions, all there are.
    pub omitted: BTreeMap<Omission, u64>,
    /// Closed positions that came after retention had begun to delete those of their day.
    pub late_rows: u64,
    /// The days whose statistics are not those of the rows; none are looked for at the exchange.
    pub outdated_days: BTreeSet<Day>,
    /// The days of which retention has deleted rows and whose statistics contradict one another, or the rows.
    pub altered_days: BTreeSet<Day>,
}

impl ReadReport {
    /// One without trades.
    pub fn empty(grouping: Grouping) -> ReadReport {
        let report = ReportBuilder::new(grouping, 1).finish();
        ReadReport::of(report, BTreeMap::new())
    }

    /// One of which there is no more to say.
    fn of(report: TradeReport, omitted: BTreeMap<Omission, u64>) -> ReadReport {
        let (outdated_days, altered_days) = (BTreeSet::new(), BTreeSet::new());
        ReadReport { report, omitted, late_rows: 0, outdated_days, altered_days }
    }
}

/// Reads the positions of the exchange.
///
/// # Errors
/// Where they cannot be read.
pub fn read_exchange(
    reader: &mut dyn ReadStatistics,
    days: ReportDays,
    grouping: Grouping,
) -> Result<ReadReport> {
    let mut builder = ReportBuilder::new(grouping, days.count());
    let mut omitted = BTreeMap::new();
    reader.read_exchange_positions(days.range(), &mut |found| {
        let PositionRow { position, horizon } = found.row;
        match position {
            Ok(position) => builder.add(&trade(&position, grouping, found.fees)),
            Err(reason) => *omitted.entry(reason).or_default() += 1,
        }
        if let Some(horizon) = horizon {
            builder.complete_before(horizon);
        }
        Ok(())
    })?;
    Ok(ReadReport::of(builder.finish(), omitted))
}

/// Reads the positions that are simulated.
///
/// # Errors
/// Where they cannot be read, or retention goes on faster than they are read.
pub fn read_pseudo(
    reader: &mut dyn ReadStatistics,
    days: ReportDays,
    grouping: Grouping,
) -> Result<ReadReport> {
    let not_yet = Moment(reader.now()?.0.saturating_sub(SETTLING_MICROSECONDS));
    let StatisticsScope { connections, oldest: kept_from, last_final_day, .. } = scope(reader)?;
    let unreadable = reader.count_unreadable_times()?;
    let mut kept = KeptDays::read(reader, days)?;
    for _ in 0..ATTEMPTS {
        let mut agreement = Agreement::default();
        let mut read = kept.read_with(reader, days, grouping, &connections, &mut agreement)?;
        read.omitted.remove(&Omission::NoClosingTime);
        read.omitted.extend((unreadable > 0).then_some((Omission::NoClosingTime, unreadable)));
        let kept_now = KeptDays::read(reader, days)?;
        if kept_now.frozen() == kept.frozen() {
            let mut outdated_days = agreement.outdated_days(kept_from, not_yet);
            let gone = kept.days_without_positions(&agreement, last_final_day);
            outdated_days.retain(|day| !gone.contains(day));
            read.altered_days.extend(gone);
            return Ok(ReadReport { outdated_days, ..read });
        }
        kept = kept_now;
    }
    let what = "positions are being deleted by retention while they are read";
    Err(Error::new(Kind::TryAgain, what).remedy("run it again"))
}

/// The statistics of some days as they are stored.
#[derive(Default)]
struct KeptDays {
    stored: Vec<(StatisticsKey, StatisticsValues)>,
    /// The days and connections of which retention has deleted rows, with the number of those that are left.
    rows_left: BTreeMap<Day, BTreeMap<String, u64>>,
}

impl KeptDays {
    fn read(reader: &mut dyn ReadStatistics, days: ReportDays) -> Result<KeptDays> {
        let mut kept = KeptDays::default();
        reader.read_statistics(days.range(), &mut |found| {
            let StoredStatistics { key: Some(key), values, left, .. } = found else {
                return Ok(());
            };
            if let Some(left) = left {
                let rows = left.rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or_default();
                let of_day = kept.rows_left.entry(key.day).or_default();
                of_day.insert(key.connection_id.clone(), rows);
            }
            kept.stored.push((key, values));
            Ok(())
        })?;
        Ok(kept)
    }

    fn is_frozen(&self, day: Day, connection_id: &str) -> bool {
        self.rows_left.get(&day).is_some_and(|of_day| of_day.contains_key(connection_id))
    }

    fn frozen(&self) -> BTreeSet<(Day, &str)> {
        self.rows_left
            .iter()
            .flat_map(|(day, of_day)| of_day.keys().map(move |connection| (*day, &**connection)))
            .collect()
    }

    fn read_with(
        &self,
        reader: &mut dyn ReadStatistics,
        days: ReportDays,
        grouping: Grouping,
        connections: &BTreeSet<String>,
        agreement: &mut Agreement,
    ) -> Result<ReadReport> {
        let mut builder = ReportBuilder::new(grouping, days.count());
        self.add_parts(&mut builder, agreement, grouping);
        let mut omitted: BTreeMap<Omission, u64> = BTreeMap::new();
        let mut present: BTreeMap<(Day, String), Measurement> = BTreeMap::new();
        reader.read_positions(days.range(), &mut |PositionRow { position, horizon }| {
            match position {
                Err(reason) => *omitted.entry(reason).or_default() += 1,
                Ok(position) if !connections.contains(&*position.connection_id) => {
                    *omitted.entry(Omission::NoConnection).or_default() += 1;
                }
                Ok(position) if self.is_frozen(position.day, &position.connection_id) => {
                    let key = (position.day, position.connection_id.into_owned());
                    present.entry(key).or_default().add(position.profit, None);
                }
                Ok(position) => {
                    agreement.add(&position);
                    builder.add(&trade(&position, grouping, None));
                }
            }
            if let Some(horizon) = horizon {
                builder.complete_before(horizon);
            }
            Ok(())
        })?;
        let late = |((day, connection), rows): (&(Day, String), &Measurement)| {
            let left = self.rows_left.get(day).and_then(|of_day| of_day.get(connection));
            rows.measures().trades.saturating_sub(left.copied().unwrap_or_default())
        };
        Ok(ReadReport {
            late_rows: present.iter().map(late).sum(),
            altered_days: self.altered_days(&present),
            ..ReadReport::of(builder.finish(), omitted)
        })
    }

    /// The days of which retention has deleted rows, and whose statistics are not the sums of those of their groups, or not
    /// those of the rows where all of these are still there.
    fn altered_days(&self, present: &BTreeMap<(Day, String), Measurement>) -> BTreeSet<Day> {
        let mut of_groups: BTreeMap<(Day, &str), Measurement> = BTreeMap::new();
        for (key, values) in &self.stored {
            if key.table == StatisticsTable::Indication {
                let sum = of_groups.entry((key.day, &*key.connection_id)).or_default();
                sum.append(&measures(values));
            }
        }
        let is_altered = |(key, values): &&(StatisticsKey, StatisticsValues)| {
            let (day, connection_id) = (key.day, &*key.connection_id);
            if key.table != StatisticsTable::Daily || !self.is_frozen(day, connection_id) {
                return false;
            }
            let stored = measures(values);
            let groups = of_groups.get(&(day, connection_id)).copied().unwrap_or_default();
            let rows = present.get(&(day, connection_id.to_string())).copied().unwrap_or_default();
            let rows = rows.measures();
            !is_same(&stored, &groups.measures())
                || (rows.trades == stored.trades && !is_same(&stored, &rows))
        };
        self.stored.iter().filter(is_altered).map(|(key, _)| key.day).collect()
    }

    /// The days of which positions are gone that are in the statistics of their groups, and whose row of the day is gone too,
    /// so that nothing says that retention deleted them. What is left of their positions is in the report.
    fn days_without_positions(
        &self,
        left: &Agreement,
        last_final_day: Option<Day>,
    ) -> BTreeSet<Day> {
        let mut of_groups: BTreeMap<(Day, &str), u64> = BTreeMap::new();
        let mut has_daily = BTreeSet::new();
        for (key, values) in &self.stored {
            let of = (key.day, &*key.connection_id);
            match key.table {
                StatisticsTable::Daily => drop(has_daily.insert(of)),
                StatisticsTable::Indication => {
                    *of_groups.entry(of).or_default() += measures(values).trades;
                }
                StatisticsTable::Strategy => {}
            }
        }
        let is_gone = |((day, connection_id), trades): &((Day, &str), u64)| {
            Some(*day) <= last_final_day
                && !has_daily.contains(&(*day, *connection_id))
                && left.trades(*day, connection_id) < *trades
        };
        of_groups.into_iter().filter(is_gone).map(|((day, _), _)| day).collect()
    }

    /// Adds what is known as a whole to the report, and what is to be compared with the rows.
    fn add_parts(
        &self,
        builder: &mut ReportBuilder,
        agreement: &mut Agreement,
        grouping: Grouping,
    ) {
        let group_table = match grouping {
            Grouping::Day | Grouping::Connection => StatisticsTable::Daily,
            Grouping::Symbol | Grouping::Type => StatisticsTable::Indication,
        };
        for (key, values) in &self.stored {
            let is_daily = key.table == StatisticsTable::Daily;
            if !self.is_frozen(key.day, &key.connection_id) {
                if is_daily {
                    agreement.expect(key.day, &key.connection_id, measures(values));
                }
                continue;
            }
            if is_daily {
                builder.add_part_of_all(key.day, measures(values));
            }
            if key.table == group_table {
                let group = match grouping {
                    Grouping::Day => "",
                    Grouping::Connection => &key.connection_id,
                    Grouping::Symbol => &key.symbol,
                    Grouping::Type => &key.kind,
                };
                builder.add_part(key.day, group, measures(values));
            }
        }
    }
}

fn trade<'p>(position: &'p ClosedPosition<'_>, grouping: Grouping, fees: Option<f64>) -> Trade<'p> {
    Trade {
        id: position.id,
        closed_at: position.closed_at,
        day: position.day,
        group: match grouping {
            Grouping::Day => "",
            Grouping::Symbol => &position.symbol,
            Grouping::Type => &position.indication_type,
            Grouping::Connection => &position.connection_id,
        },
        profit: position.profit,
        holding_seconds: position.hold_seconds(),
        fees,
    }
}

/// The measures that a row of statistics holds. It does not say of how many trades the holding time is known: the mean
/// counts as that of all.
fn measures(values: &StatisticsValues) -> Measures {
    let count =
        |number: Option<i64>| number.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
    let amount = |number: Option<f64>| number.unwrap_or_default();
    let trades = count(values.trades);
    Measures {
        trades,
        wins: count(values.wins),
        losses: count(values.losses),
        profit: amount(values.total),
        sum_of_wins: amount(values.total_profit),
        sum_of_losses: amount(values.total_loss),
        drawdown: amount(values.max_drawdown),
        highest_sum: amount(values.highest_sum),
        lowest_sum: amount(values.lowest_sum),
        best: values.best,
        worst: values.worst,
        held_trades: values.mean_hold_seconds.map_or(0, |_| trades),
        mean_holding_seconds: values.mean_hold_seconds,
    }
}
