//! A [`TradeReport`] as a table for a person: columns that are aligned, money with the digits that its size needs.

use std::time::Duration;

use super::measures::Measures;
use super::report::{Grouping, TradeGroup, TradeReport};
use super::running_sums::{LineStyle, line};
use crate::system::visible::{Lines, visible};

/// Decimal places of money, unless all amounts of a column are less than 1.
const DECIMALS: usize = 2;
const DECIMALS_MAX: usize = 8;
/// Amounts from which on a column is shown in scientific notation.
const LARGE: f64 = 1e12;
const NOTHING: &str = "-";

/// A column: its heading and its cells, the totals last.
struct TableColumn {
    heading: &'static str,
    cells: Vec<String>,
    /// Whether the cells begin at the left.
    is_left: bool,
}

/// Adds the table to lines: the headings, a row for each group, and the totals.
pub fn add_table(lines: &mut Lines, report: &TradeReport, grouping: Grouping, style: LineStyle) {
    let columns = columns(report, grouping, style);
    let width = |column: &TableColumn| {
        let cells = column.cells.iter().map(|cell| cell.chars().count());
        cells.chain([column.heading.len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let mut row = |cell: &dyn Fn(&TableColumn) -> String| {
        let cells = columns.iter().zip(&widths).map(|(column, width)| match column.is_left {
            true => format!("{:<width$}", cell(column)),
            false => format!("{:>width$}", cell(column)),
        });
        lines.add(cells.collect::<Vec<_>>().join("  ").trim_end());
    };
    row(&|column| column.heading.into());
    for at in 0..=report.groups.len() {
        row(&|column| column.cells.get(at).cloned().unwrap_or_default());
    }
}

fn columns(report: &TradeReport, grouping: Grouping, style: LineStyle) -> Vec<TableColumn> {
    let rows: Vec<&TradeGroup> = report.groups.iter().chain([&report.total]).collect();
    let of = |heading, cell: &dyn Fn(&Measures) -> String| {
        let cells = rows.iter().map(|group| cell(&group.measures)).collect();
        TableColumn { heading, cells, is_left: false }
    };
    let money = |heading, signed, amount: &dyn Fn(&TradeGroup) -> Option<f64>| {
        let amounts: Vec<Option<f64>> = rows.iter().map(|group| amount(group)).collect();
        TableColumn { heading, cells: money_cells(&amounts, signed), is_left: false }
    };
    let mut names: Vec<String> =
        report.groups.iter().map(|group| shown_name(&group.name)).collect();
    names.push("total".into());
    let mut drawdown = money("drawdown", false, &|group| Some(group.measures.drawdown));
    for (cell, group) in drawdown.cells.iter_mut().zip(&rows) {
        if group.drawdown_is_approximate {
            cell.insert(0, '~');
        }
    }
    let mut columns = vec![
        TableColumn { heading: grouping.name(), cells: names, is_left: true },
        of("trades", &|measures| measures.trades.to_string()),
        of("wins", &|measures| measures.wins.to_string()),
        of("losses", &|measures| measures.losses.to_string()),
        of("draws", &|measures| measures.draws().to_string()),
        of("win %", &|measures| {
            or_nothing(measures.win_rate(), |rate| format!("{:.1}", rate * 100.0))
        }),
        money("profit", true, &|group| Some(group.measures.profit)),
        of("factor", &|measures| or_nothing(measures.profit_factor(), factor)),
        money("expectancy", true, &|group| group.measures.expectancy()),
        drawdown,
        money("best", true, &|group| group.measures.best),
        money("worst", true, &|group| group.measures.worst),
        of("held", &|measures| or_nothing(measures.mean_holding_seconds, holding_time)),
    ];
    if report.total.fees.is_some() {
        columns.push(money("fees", false, &|group| group.fees));
    }
    let lines = rows.iter().map(|group| line(&group.running_sum, style)).collect();
    columns.push(TableColumn { heading: "running sum", cells: lines, is_left: true });
    columns
}

fn shown_name(name: &str) -> String {
    if name.is_empty() { "(none)".into() } else { visible(name).into_owned() }
}

fn or_nothing(value: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| NOTHING.into(), shown)
}

/// Amounts of money with the same decimal places: two, or as many as show three digits of the largest one.
fn money_cells(amounts: &[Option<f64>], signed: bool) -> Vec<String> {
    let largest =
        amounts.iter().flatten().fold(0.0, |largest: f64, amount| largest.max(amount.abs()));
    let decimals = match largest {
        0.0 | 1.0.. => DECIMALS,
        // The largest is 0.0…0ddd.
        less => {
            let zeros = (-less.log10()).ceil() as usize;
            (zeros + DECIMALS).min(DECIMALS_MAX)
        }
    };
    let shown = |amount: f64| match (largest >= LARGE, signed && amount > 0.0) {
        (true, true) => format!("+{amount:.4e}"),
        (true, false) => format!("{amount:.4e}"),
        (false, true) => format!("+{amount:.decimals$}"),
        (false, false) => format!("{amount:.decimals$}"),
    };
    amounts.iter().map(|amount| or_nothing(*amount, shown)).collect()
}

fn factor(factor: f64) -> String {
    if factor < 1e6 { format!("{factor:.2}") } else { format!("{factor:.1e}") }
}

/// A time in its two largest units.
fn holding_time(seconds: f64) -> String {
    // A negative time cannot be, and one beyond all years is the longest one.
    let time = Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX);
    let (seconds, minutes, hours) = (time.as_secs(), time.as_secs() / 60, time.as_secs() / 3600);
    match (hours, minutes) {
        (24.., _) => format!("{}d {:02}h", hours / 24, hours % 24),
        (1.., _) => format!("{hours}h {:02}m", minutes % 60),
        (_, 1..) => format!("{minutes}m {:02}s", seconds % 60),
        _ => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_digits_that_its_size_needs() {
        let shown = |amounts: &[f64], signed| {
            let amounts: Vec<Option<f64>> = amounts.iter().copied().map(Some).collect();
            money_cells(&amounts, signed).join(" ")
        };
        assert_eq!(shown(&[1234.5, -0.25, 0.0], true), "+1234.50 -0.25 0.00");
        assert_eq!(shown(&[0.5, 0.000_1], false), "0.500 0.000");
        assert_eq!(shown(&[-0.012_34], true), "-0.0123");
        assert_eq!(shown(&[0.000_012_34], true), "+0.0000123");
        assert_eq!(shown(&[1e-12], false), "0.00000000");
        assert_eq!(shown(&[0.0], true), "0.00");
        assert_eq!(shown(&[1e300, 1.0], true), "+1.0000e300 +1.0000e0");
        assert_eq!(money_cells(&[None], true), ["-"]);
    }

    #[test]
    fn a_holding_time_has_its_two_largest_units() {
        for (seconds, shown) in [
            (0.0, "0s"),
            (59.4, "59s"),
            (59.6, "1m 00s"),
            (3599.0, "59m 59s"),
            (3661.0, "1h 01m"),
            (90_000.0, "1d 01h"),
        ] {
            assert_eq!(holding_time(seconds), shown);
        }
    }
}
