//! What `cts stats` tells: the measures of closed trades by day, symbol, type or connection, and those of all of them.
//! Trades come day by day; a day whose rows are deleted comes as the measures that were kept of it. Pure.

use std::collections::{BTreeMap, HashMap};

use super::measures::{CompensatedSum, Measurement, Measures};
use super::running_sums::{RunningSums, Slot};
use crate::store::{Day, Moment};

/// Days up to which the running sum is kept by the hour.
const HOURLY_DAYS_MAX: i32 = 7;

/// What trades are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// The UTC day of closing.
    Day,
    /// The trading pair.
    Symbol,
    /// The type of indication that opened the position.
    Type,
    /// The connection.
    Connection,
}

impl Grouping {
    /// Its name, in JSON too.
    pub fn name(self) -> &'static str {
        match self {
            Grouping::Day => "day",
            Grouping::Symbol => "symbol",
            Grouping::Type => "type",
            Grouping::Connection => "connection",
        }
    }
}

/// A closed trade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trade<'t> {
    /// The id of its row.
    pub id: i64,
    /// When it was closed.
    pub closed_at: Moment,
    /// The UTC day of that.
    pub day: Day,
    /// The group that it belongs to; empty where trades are grouped by day.
    pub group: &'t str,
    /// The profit.
    pub profit: f64,
    /// How long the position was open.
    pub holding_seconds: Option<f64>,
    /// The fees that were paid.
    pub fees: Option<f64>,
}

/// The measures of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct TradeGroup {
    /// The day, the symbol, the type or the connection; empty for a missing one.
    pub name: String,
    /// The measures.
    pub measures: Measures,
    /// Whether the drawdown is approximate: the trades of parts that are known only as a whole lie between one another.
    pub drawdown_is_approximate: bool,
    /// The sum of the fees; `None` where none is known.
    pub fees: Option<f64>,
    /// The running sum of the profits at moments of even distance.
    pub running_sum: Vec<f64>,
}

/// The groups, and all trades.
#[derive(Clone, Debug, PartialEq)]
pub struct TradeReport {
    /// By day, or else the one with the highest profit first.
    pub groups: Vec<TradeGroup>,
    /// All of them.
    pub total: TradeGroup,
}

/// What is known of a group.
#[derive(Clone, Debug, Default)]
struct GroupState {
    measurement: Measurement,
    drawdown_is_approximate: bool,
    fees: CompensatedSum,
    has_fees: bool,
    sums: RunningSums,
}

impl GroupState {
    fn add(&mut self, trade: &DayTrade, slot: i64) {
        self.measurement.add(trade.profit, trade.holding_seconds);
        self.add_fees(trade);
        self.sums.set(slot, self.measurement.running_sum());
    }

    fn add_fees(&mut self, trade: &DayTrade) {
        if let Some(fees) = trade.fees {
            self.fees.add(fees);
            self.has_fees = true;
        }
    }

    /// Appends the parts of one day, each of which is known as a whole.
    fn append(&mut self, parts: &[Measures], slot: i64) {
        let mut known = parts.iter().filter(|part| part.trades > 0);
        known.by_ref().take(1).for_each(|part| self.measurement.append(part));
        for part in known {
            self.measurement.append(part);
            self.drawdown_is_approximate = true;
        }
        self.sums.set(slot, self.measurement.running_sum());
    }

    fn finish(self, name: String, span: (i64, i64)) -> TradeGroup {
        TradeGroup {
            name,
            measures: self.measurement.measures(),
            drawdown_is_approximate: self.drawdown_is_approximate,
            fees: self.has_fees.then(|| self.fees.value()),
            running_sum: self.sums.samples(span),
        }
    }
}

/// A trade of a day that is not complete yet.
struct DayTrade {
    closed_at: i64,
    id: i64,
    group: usize,
    profit: f64,
    holding_seconds: Option<f64>,
    fees: Option<f64>,
}

/// What there is of a day.
#[derive(Default)]
struct TradeDay {
    trades: Vec<DayTrade>,
    /// Parts of it that are known as a whole, by group.
    parts: Vec<(usize, Measures)>,
    /// The same trades, in as few parts as they are known.
    parts_of_all: Vec<Measures>,
}

/// Makes a [`TradeReport`] of trades that come about in order.
pub struct ReportBuilder {
    grouping: Grouping,
    slot: Slot,
    days: BTreeMap<i32, TradeDay>,
    names: HashMap<String, usize>,
    /// The group of the day that was asked for last, where trades are grouped by day.
    last_day: Option<(Day, usize)>,
    groups: Vec<(String, GroupState)>,
    total: GroupState,
}

impl ReportBuilder {
    /// For so many days.
    pub fn new(grouping: Grouping, days: i32) -> ReportBuilder {
        let slot = if days <= HOURLY_DAYS_MAX { Slot::Hour } else { Slot::Day };
        ReportBuilder {
            grouping,
            slot,
            days: BTreeMap::new(),
            names: HashMap::new(),
            last_day: None,
            groups: Vec::new(),
            total: GroupState::default(),
        }
    }

    /// Adds a trade. Those of a day that was completed cannot be added any more.
    pub fn add(&mut self, trade: &Trade<'_>) {
        let group = self.group(trade.day, trade.group);
        let Trade { id, closed_at: Moment(closed_at), profit, holding_seconds, fees, .. } = *trade;
        let trade_of_day = DayTrade { closed_at, id, group, profit, holding_seconds, fees };
        self.days.entry(trade.day.0).or_default().trades.push(trade_of_day);
    }

    /// Adds a part of a group's trades of a day, of which only the measures are known.
    pub fn add_part(&mut self, day: Day, group: &str, measures: Measures) {
        let group = self.group(day, group);
        self.days.entry(day.0).or_default().parts.push((group, measures));
    }

    /// The same for the trades of all groups. They are told apart, since these may be known in fewer parts.
    pub fn add_part_of_all(&mut self, day: Day, measures: Measures) {
        self.days.entry(day.0).or_default().parts_of_all.push(measures);
    }

    /// Completes the days before this one: no trade of them comes any more.
    pub fn complete_before(&mut self, day: Day) {
        while let Some(first) = self.days.first_entry().filter(|first| *first.key() < day.0) {
            let (day, found) = first.remove_entry();
            self.complete(Day(day), found);
        }
    }

    /// The report.
    pub fn finish(mut self) -> TradeReport {
        for (day, found) in std::mem::take(&mut self.days) {
            self.complete(Day(day), found);
        }
        let span = self.total.sums.span().unwrap_or_default();
        let by_day = self.grouping == Grouping::Day;
        let finish = |(name, state): (String, GroupState)| {
            let of_day = state.sums.span().filter(|_| by_day).map(|(first, _)| {
                Slot::Hour.of_day(Day(i32::try_from(first.div_euclid(24)).unwrap_or_default()))
            });
            state.finish(name, of_day.unwrap_or(span))
        };
        let mut groups: Vec<TradeGroup> = self.groups.into_iter().map(finish).collect();
        groups.retain(|group| group.measures.trades > 0);
        match by_day {
            true => groups.sort_by(|a, b| a.name.cmp(&b.name)),
            false => groups.sort_by(|a, b| {
                b.measures.profit.total_cmp(&a.measures.profit).then_with(|| a.name.cmp(&b.name))
            }),
        }
        TradeReport { groups, total: self.total.finish(String::new(), span) }
    }

    /// The number of a group.
    fn group(&mut self, day: Day, name: &str) -> usize {
        if self.grouping != Grouping::Day {
            return self.named_group(name);
        }
        if let Some((_, group)) = self.last_day.filter(|(last, _)| *last == day) {
            return group;
        }
        let group = self.named_group(&day.to_string());
        self.last_day = Some((day, group));
        group
    }

    fn named_group(&mut self, name: &str) -> usize {
        if let Some(group) = self.names.get(name) {
            return *group;
        }
        let group = self.groups.len();
        self.names.insert(name.to_string(), group);
        self.groups.push((name.to_string(), GroupState::default()));
        group
    }

    fn complete(&mut self, day: Day, mut found: TradeDay) {
        found.trades.sort_by_key(|trade| (trade.closed_at, trade.id));
        let slot = self.slot;
        let parts_of_all = std::mem::take(&mut found.parts_of_all);
        complete_state(&mut self.total, &found.trades, parts_of_all, slot, day);
        let group_slot = if self.grouping == Grouping::Day { Slot::Hour } else { slot };
        if found.parts.is_empty() {
            for trade in &found.trades {
                if let Some((_, state)) = self.groups.get_mut(trade.group) {
                    state.add(trade, group_slot.of(Moment(trade.closed_at)));
                }
            }
            return;
        }
        let mut by_group: BTreeMap<usize, (Vec<DayTrade>, Vec<Measures>)> = BTreeMap::new();
        for trade in found.trades {
            by_group.entry(trade.group).or_default().0.push(trade);
        }
        for (group, measures) in found.parts {
            by_group.entry(group).or_default().1.push(measures);
        }
        for (group, (trades, parts)) in by_group {
            if let Some((_, state)) = self.groups.get_mut(group) {
                complete_state(state, &trades, parts, group_slot, day);
            }
        }
    }
}

/// Adds a day to a group: its trades one by one, if all of them are known.
fn complete_state(
    state: &mut GroupState,
    trades: &[DayTrade],
    mut parts: Vec<Measures>,
    slot: Slot,
    day: Day,
) {
    if parts.is_empty() {
        for trade in trades {
            state.add(trade, slot.of(Moment(trade.closed_at)));
        }
        return;
    }
    let mut own = Measurement::default();
    for trade in trades {
        own.add(trade.profit, trade.holding_seconds);
        state.add_fees(trade);
    }
    parts.push(own.measures());
    state.append(&parts, slot.of_day(day).1);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn trade(id: i64, day: i32, hour: i64, group: &str, profit: f64) -> Trade<'_> {
        let closed_at = Moment((i64::from(day) * 24 + hour) * HOUR);
        Trade {
            id,
            closed_at,
            day: Day(day),
            group,
            profit,
            holding_seconds: Some(60.0),
            fees: None,
        }
    }

    fn measures(profits: &[f64]) -> Measures {
        let mut measurement = Measurement::default();
        profits.iter().for_each(|profit| measurement.add(*profit, Some(60.0)));
        measurement.measures()
    }

    fn names(report: &TradeReport) -> Vec<&str> {
        report.groups.iter().map(|group| &*group.name).collect()
    }

    #[test]
    fn trades_are_measured_in_order_of_closing_whatever_order_they_come_in() {
        let mut builder = ReportBuilder::new(Grouping::Symbol, 30);
        for trade in [
            trade(3, 1, 9, "B", -5.0),
            trade(1, 1, 8, "A", 10.0),
            trade(4, 1, 9, "A", -20.0),
            trade(2, 1, 9, "A", 30.0),
            trade(9, 2, 0, "A", -1.0),
        ] {
            builder.add(&trade);
            builder.complete_before(Day(1));
        }
        builder.complete_before(Day(2));
        let report = builder.finish();
        assert_eq!(names(&report), ["A", "B"]);
        assert_eq!(report.groups[0].measures, measures(&[10.0, 30.0, -20.0, -1.0]));
        assert_eq!(report.groups[1].measures, measures(&[-5.0]));
        assert_eq!(report.total.measures, measures(&[10.0, 30.0, -5.0, -20.0, -1.0]));
        assert_eq!(report.total.running_sum, [15.0, 14.0]);
        assert_eq!(report.groups[1].running_sum, [-5.0, -5.0]);
        assert!(!report.total.drawdown_is_approximate);
    }

    #[test]
    fn days_are_in_their_order_and_draw_their_hours() {
        let mut builder = ReportBuilder::new(Grouping::Day, 30);
        for (id, day, hour, profit) in [(1, 11, 0, 1.0), (2, 9, 23, -4.0), (3, 11, 13, 2.0)] {
            builder.add(&trade(id, day, hour, "", profit));
        }
        let report = builder.finish();
        assert_eq!(names(&report), ["1970-01-10", "1970-01-12"]);
        let hours = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0];
        assert_eq!(report.groups[1].running_sum, hours);
        assert_eq!(report.total.running_sum, [-4.0, -4.0, -1.0]);
    }

    #[test]
    fn a_day_that_is_known_as_a_whole_is_joined_exactly_between_others() {
        let mut builder = ReportBuilder::new(Grouping::Symbol, 3);
        builder.add(&trade(5, 3, 1, "A", -30.0));
        builder.add(&trade(1, 1, 1, "A", 50.0));
        builder.add_part(Day(2), "A", measures(&[-10.0, 5.0]));
        builder.add_part_of_all(Day(2), measures(&[-10.0, 5.0]));
        let report = builder.finish();
        assert_eq!(report.total.measures, measures(&[50.0, -10.0, 5.0, -30.0]));
        assert_eq!(report.groups[0].measures, report.total.measures);
        assert!(!report.total.drawdown_is_approximate);
    }

    #[test]
    fn parts_that_lie_between_one_another_make_the_drawdown_approximate() {
        let mut builder = ReportBuilder::new(Grouping::Type, 3);
        builder.add(&trade(1, 2, 1, "move", -1.0));
        builder.add_part(Day(2), "move", measures(&[-2.0]));
        builder.add_part(Day(2), "optimal", measures(&[4.0]));
        builder.add_part(Day(3), "optimal", measures(&[]));
        builder.add_part_of_all(Day(2), measures(&[-2.0, 4.0]));
        let report = builder.finish();
        assert_eq!(names(&report), ["optimal", "move"]);
        assert!(!report.groups[0].drawdown_is_approximate);
        assert!(report.groups[1].drawdown_is_approximate && report.total.drawdown_is_approximate);
        assert_eq!((report.total.measures.trades, report.total.measures.profit), (3, 1.0));
    }

    #[test]
    fn fees_are_added_where_they_are_known() {
        let mut builder = ReportBuilder::new(Grouping::Connection, 3);
        let paid = Trade { fees: Some(0.1), ..trade(1, 2, 1, "a", 1.0) };
        (0..10).for_each(|_| builder.add(&paid));
        builder.add(&trade(2, 2, 1, "b", 1.0));
        let report = builder.finish();
        assert_eq!(report.groups[0].fees, Some(1.0));
        assert_eq!((report.groups[1].fees, report.total.fees), (None, Some(1.0)));
    }

    #[test]
    fn without_trades_there_is_no_group() {
        let report = ReportBuilder::new(Grouping::Day, 30).finish();
        assert!(report.groups.is_empty());
        assert_eq!(report.total.measures, Measures::default());
    }
}
