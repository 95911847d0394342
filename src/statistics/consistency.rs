//! What can be proved of statistics whose positions are gone: each row agrees with itself, and the rows of the three
//! tables add up to one another. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::difference::{DifferenceKind, StatisticsDifference};
use super::measures::CompensatedSum;
use crate::store::{
    Day, SourceLeft, StatisticsKey, StatisticsTable, StatisticsValues, StoredStatistics,
    TableDigest,
};

/// Part of all amounts by which sums may differ that were added in another order.
const TOLERANCE: f64 = 1e-12;

/// The columns, in the order of [`StatisticsTable::value_columns`].
const TRADES: usize = 0;
const WINS: usize = 1;
const LOSSES: usize = 2;
const BEST: usize = 3;
const WORST: usize = 4;
const TOTAL: usize = 5;
const TOTAL_PROFIT: usize = 6;
const TOTAL_LOSS: usize = 7;
const TOTAL_FEES: usize = 8;
const WIN_RATE: usize = 9;
const PROFIT_FACTOR: usize = 10;
const MAX_DRAWDOWN: usize = 11;
const MEAN_HOLD: usize = 12;
const HIGHEST_SUM: usize = 13;
const LOWEST_SUM: usize = 14;
const SOURCE_ROWS: usize = 15;
const SOURCE_DIGEST: usize = 16;

/// Some columns.
type Columns = BTreeSet<usize>;

/// What differs between the stored rows of a day and connection, of whose positions some are gone.
pub fn inconsistencies(
    day: Day,
    connection_id: &str,
    stored: &[&StoredStatistics],
) -> Vec<StatisticsDifference> {
    let mut found = Vec::new();
    let mut daily: Option<(&StoredStatistics, Columns)> = None;
    for row in stored {
        let columns = faults_of(&row.values);
        if row.table == StatisticsTable::Daily && daily.is_none() {
            daily = Some((row, columns));
        } else if let Some(key) = row.key.clone()
            && (!columns.is_empty() || row.values.has_other_type)
        {
            found.push(difference(key, DifferenceKind::Altered, &columns));
        }
    }
    let key = |table, symbol: &str| StatisticsKey {
        table,
        day,
        connection_id: connection_id.to_string(),
        symbol: symbol.to_string(),
        kind: String::new(),
    };
    let groups = |table| -> Vec<&StatisticsValues> {
        stored.iter().filter(|row| row.table == table).map(|row| &row.values).collect()
    };
    let indication = groups(StatisticsTable::Indication);
    let strategy = groups(StatisticsTable::Strategy);
    let mut unequal = |table, symbol: &str, columns: Columns| {
        if !columns.is_empty() {
            found.push(difference(key(table, symbol), DifferenceKind::Unequal, &columns));
        }
    };
    match daily {
        Some((row, mut columns)) => {
            let of_indication = faults_of_sum(&row.values, &indication);
            let of_strategy = faults_of_sum(&row.values, &strategy);
            // Where the two others agree, it is the row of the day that is wrong.
            let both: Columns = of_indication.intersection(&of_strategy).copied().collect();
            let only = |of: Columns| of.difference(&both).copied().collect();
            unequal(StatisticsTable::Indication, "", only(of_indication));
            unequal(StatisticsTable::Strategy, "", only(of_strategy));
            columns.extend(&both);
            let left = row.left.as_ref().map_or_else(Vec::new, |left| faults_of_left(row, left));
            if !columns.is_empty() || !left.is_empty() || row.values.has_other_type {
                let key = key(StatisticsTable::Daily, "");
                let mut altered = difference(key, DifferenceKind::Altered, &columns);
                altered.columns.extend(left);
                found.push(altered);
            }
        }
        None => {
            let key = key(StatisticsTable::Daily, "");
            unequal(StatisticsTable::Indication, "", unequal_counts(&indication, &strategy));
            found.push(difference(key, DifferenceKind::Missing, &Columns::new()));
        }
    }
    found.extend(unequal_symbols(stored, &key));
    found
}

/// A difference of statistics that are not calculated again.
fn difference(key: StatisticsKey, kind: DifferenceKind, columns: &Columns) -> StatisticsDifference {
    let names = key.table.value_columns().enumerate();
    let names = names.filter(|(at, _)| columns.contains(at)).map(|(_, (name, _))| name);
    StatisticsDifference { columns: names.collect(), key, kind, is_final: true }
}

/// The columns in which a row does not agree with itself.
fn faults_of(values: &StatisticsValues) -> Columns {
    let mut found = Columns::new();
    let mut fault = |is_fault: bool, column: usize| {
        if is_fault {
            found.insert(column);
        }
    };
    let count = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    let (trades, wins, losses) = (count(values.trades), count(values.wins), count(values.losses));
    fault(trades.is_none_or(|trades| trades == 0), TRADES);
    fault(wins.is_none() || wins > trades, WINS);
    fault(losses.is_none() || losses > trades, LOSSES);
    fault(values.source_rows != values.trades, SOURCE_ROWS);
    fault(source_of(values).is_none(), SOURCE_DIGEST);
    fault(values.total_fees.is_some(), TOTAL_FEES);
    fault(values.mean_hold_seconds.is_some_and(|seconds| seconds < 0.0), MEAN_HOLD);
    fault(values.best.is_none() || values.best < values.worst, BEST);
    fault(values.worst.is_none(), WORST);
    let Some(((trades, wins), losses)) = trades.zip(wins).zip(losses) else { return found };
    let bits = |number: Option<f64>| number.map(f64::to_bits);
    fault(wins + losses > trades, WINS);
    let win_rate = (trades > 0).then(|| wins as f64 / trades as f64);
    fault(bits(values.win_rate) != bits(win_rate), WIN_RATE);
    fault(values.best.is_some_and(|best| (best > 0.0) != (wins > 0)), BEST);
    fault(values.worst.is_some_and(|worst| (worst < 0.0) != (losses > 0)), WORST);
    // A sum that is not stored is beyond the largest double.
    if let Some((gain, loss)) = values.total_profit.zip(values.total_loss) {
        let factor = (losses > 0).then(|| gain / loss.abs()).filter(|factor| factor.is_finite());
        fault(bits(values.profit_factor) != bits(factor), PROFIT_FACTOR);
        fault((gain > 0.0) != (wins > 0) || gain < 0.0, TOTAL_PROFIT);
        fault((loss < 0.0) != (losses > 0) || loss > 0.0, TOTAL_LOSS);
        found.extend(faults_of_amounts(values, (wins, gain), (losses, loss)));
    }
    found
}

/// The columns of amounts that are not within what the sums of wins and losses allow.
fn faults_of_amounts(
    values: &StatisticsValues,
    (wins, gain): (u64, f64),
    (losses, loss): (u64, f64),
) -> Columns {
    let tolerance = tolerance(gain - loss);
    let mut found = Columns::new();
    let mut within = |value: Option<f64>, column: usize, least: f64, most: f64| {
        let range = least - tolerance..=most + tolerance;
        if value.is_none_or(|value| !range.contains(&value)) {
            found.insert(column);
        }
    };
    let total = values.total.unwrap_or(gain + loss);
    within(values.total, TOTAL, gain + loss, gain + loss);
    if wins > 0 {
        within(values.best, BEST, gain / wins as f64, gain);
    }
    if losses > 0 {
        within(values.worst, WORST, loss, loss / losses as f64);
    }
    within(values.highest_sum, HIGHEST_SUM, total.max(0.0), gain);
    within(values.lowest_sum, LOWEST_SUM, loss, total.min(0.0));
    let (highest, lowest) =
        (values.highest_sum.unwrap_or_default(), values.lowest_sum.unwrap_or_default());
    let least = (highest - total).max(-lowest);
    within(values.max_drawdown, MAX_DRAWDOWN, least, (-loss).min(highest - lowest));
    found
}

/// The columns in which the row of a day is not what these groups add up to.
fn faults_of_sum(day: &StatisticsValues, groups: &[&StatisticsValues]) -> Columns {
    let mut found = Columns::new();
    if let [group] = groups {
        let pairs = day.fields().into_iter().zip(group.fields()).enumerate();
        return pairs.filter(|(_, (day, group))| day != group).map(|(at, _)| at).collect();
    }
    let mut fault = |is_fault: bool, column: usize| {
        if is_fault {
            found.insert(column);
        }
    };
    for (column, of) in COUNTS {
        let sum = groups.iter().filter_map(|group| of(group)).fold(0, i64::saturating_add);
        fault(of(day) != Some(sum), column);
    }
    fault(source_of(day) != sum_of_sources(groups), SOURCE_DIGEST);
    let most = |of: fn(&StatisticsValues) -> Option<f64>| {
        groups
            .iter()
            .filter_map(|group| of(group))
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))))
    };
    fault(day.best != most(|values| values.best), BEST);
    fault(day.worst != most(|values| values.worst.map(|worst| -worst)).map(|worst| -worst), WORST);
    let mean = (
        most(|values| values.mean_hold_seconds.map(|mean| -mean)).map(|mean| -mean),
        most(|values| values.mean_hold_seconds),
    );
    let is_mean = match (day.mean_hold_seconds, mean) {
        (Some(mean), (Some(least), Some(most))) => {
            let tolerance = tolerance(most);
            (least - tolerance..=most + tolerance).contains(&mean)
        }
        (mean, (least, _)) => mean.is_none() && least.is_none(),
    };
    fault(!is_mean, MEAN_HOLD);
    let amount = |of: fn(&StatisticsValues) -> Option<f64>| {
        let mut sum = CompensatedSum::default();
        groups.iter().filter_map(|group| of(group)).for_each(|amount| sum.add(amount));
        sum.value()
    };
    let gross = amount(|values| values.total_profit) - amount(|values| values.total_loss);
    let tolerance = tolerance(gross);
    for (column, of, may_be_less) in AMOUNTS {
        let sum = amount(of);
        // One that is not stored is beyond the largest double.
        let is_sum = of(day).map_or(!sum.is_finite() || !gross.is_finite(), |found| {
            let below = sum.abs() - found.abs();
            below >= -tolerance && (may_be_less || (found - sum).abs() <= tolerance)
        });
        fault(!is_sum && groups.iter().all(|group| of(group).is_some()), column);
    }
    found
}

type Count = fn(&StatisticsValues) -> Option<i64>;
type Amount = fn(&StatisticsValues) -> Option<f64>;

/// What is added up exactly.
const COUNTS: [(usize, Count); 4] = [
    (TRADES, |values| values.trades),
    (WINS, |values| values.wins),
    (LOSSES, |values| values.losses),
    (SOURCE_ROWS, |values| values.source_rows),
];

/// What is added up, and whether the whole may be less than the sum: the highest points of the groups need not be at one
/// moment.
const AMOUNTS: [(usize, Amount, bool); 6] = [
    (TOTAL, |values| values.total, false),
    (TOTAL_PROFIT, |values| values.total_profit, false),
    (TOTAL_LOSS, |values| values.total_loss, false),
    (MAX_DRAWDOWN, |values| values.max_drawdown, true),
    (HIGHEST_SUM, |values| values.highest_sum, true),
    (LOWEST_SUM, |values| values.lowest_sum, true),
];

/// The counts and digests in which two tables differ.
fn unequal_counts(a: &[&StatisticsValues], b: &[&StatisticsValues]) -> Columns {
    let counts = COUNTS.iter().filter(|(_, of)| {
        let sum = |groups: &[&StatisticsValues]| {
            groups.iter().filter_map(|group| of(group)).fold(0, i64::saturating_add)
        };
        sum(a) != sum(b)
    });
    let digests = (sum_of_sources(a) != sum_of_sources(b)).then_some(SOURCE_DIGEST);
    counts.map(|(column, _)| *column).chain(digests).collect()
}

/// The symbols of which the two tables have other positions.
fn unequal_symbols(
    stored: &[&StoredStatistics],
    key: &dyn Fn(StatisticsTable, &str) -> StatisticsKey,
) -> Vec<StatisticsDifference> {
    let mut symbols: BTreeMap<&str, [Vec<&StatisticsValues>; 2]> = BTreeMap::new();
    for row in stored {
        let (Some(of), at) = (&row.key, usize::from(row.table == StatisticsTable::Strategy)) else {
            continue;
        };
        if row.table != StatisticsTable::Daily
            && let Some(rows) = symbols.entry(&of.symbol).or_default().get_mut(at)
        {
            rows.push(&row.values);
        }
    }
    let unequal = symbols.into_iter().filter_map(|(symbol, [indication, strategy])| {
        let columns = unequal_counts(&indication, &strategy);
        let key = key(StatisticsTable::Strategy, symbol);
        (!columns.is_empty()).then(|| difference(key, DifferenceKind::Unequal, &columns))
    });
    unequal.collect()
}

/// The columns that say what retention has left, where that is nonsense.
fn faults_of_left(row: &StoredStatistics, left: &SourceLeft) -> Vec<&'static str> {
    let counted = row.values.source_rows.unwrap_or_default();
    let rows = left.rows.filter(|rows| (0..=counted).contains(rows));
    let rows = rows.and_then(|rows| u64::try_from(rows).ok());
    let digest = left.digest.as_deref();
    let digest = digest.and_then(|digest| TableDigest::from_text(rows.unwrap_or_default(), digest));
    let is_digest =
        digest.is_some_and(|digest| rows != Some(0) || digest == TableDigest::default());
    let faults =
        [(rows.is_none(), "source_rows_left"), (!is_digest, "source_digest_left")].into_iter();
    faults.filter(|(is_fault, _)| *is_fault).map(|(_, name)| name).collect()
}

/// Number and digest of the positions of a row; `None` where it does not say them.
pub fn source_of(values: &StatisticsValues) -> Option<TableDigest> {
    let rows = u64::try_from(values.source_rows?).ok()?;
    TableDigest::from_text(rows, values.source_digest.as_deref()?)
}

/// Number and digest of the positions of all these rows; `None` where one does not say them.
pub fn sum_of_sources(rows: &[&StatisticsValues]) -> Option<TableDigest> {
    rows.iter().try_fold(TableDigest::default(), |mut sum, values| {
        let source = source_of(values)?;
        sum.rows.checked_add(source.rows)?;
        sum.add_all(&source);
        Some(sum)
    })
}

fn tolerance(amounts: f64) -> f64 {
    TOLERANCE * amounts.abs() + f64::MIN_POSITIVE
}
