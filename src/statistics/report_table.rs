//! A [`TradeReport`] as a table for a person: columns that are aligned, money with the digits that its size needs, names
//! that are not too long, and no more columns than the terminal has room for.

use std::ffi::OsStr;
use std::time::Duration;

use super::measures::Measures;
use super::report::{Grouping, TradeGroup, TradeReport};
use super::running_sums::{LineStyle, line};
use crate::system::visible::{Lines, escaped_to_ascii, quoted_value, visible};

/// Decimal places of money, unless all amounts of a column are less than 1.
const DECIMALS: usize = 2;
const DECIMALS_MAX: usize = 8;
/// Amounts from which on a column is shown in scientific notation.
const LARGE: f64 = 1e12;
const NOTHING: &str = "-";
/// What a missing type is called.
const NONE: &str = "(none)";
/// Characters of a name that are shown, and of them those at its end.
const NAME_CHARACTERS: usize = 40;
const NAME_END_CHARACTERS: usize = 12;
/// The columns that a narrow terminal is spared, the first one first.
const LEFT_OUT_FIRST: [&str; 11] = [
    "running sum",
    "held",
    "draws",
    "worst",
    "best",
    "fees",
    "losses",
    "wins",
    "factor",
    "expectancy",
    "drawdown",
];

/// How a table is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableStyle {
    /// With which characters.
    pub line: LineStyle,
    /// The characters of a line of the terminal; `None` where there is none.
    pub width: Option<usize>,
}

/// A column: its heading and its cells, the totals last.
struct TableColumn {
    heading: &'static str,
    cells: Vec<String>,
    /// Whether the cells begin at the left.
    is_left: bool,
}

impl TableColumn {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|cell| cell.chars().count());
        cells.chain([self.heading.len()]).max().unwrap_or_default()
    }
}

/// Adds the table to lines: the headings, a row for each group, and the totals. Returns the headings of the columns that
/// the terminal has no room for.
pub fn add_table(
    lines: &mut Lines,
    report: &TradeReport,
    grouping: Grouping,
    style: TableStyle,
) -> Vec<&'static str> {
    let mut columns = columns(report, grouping, style.line);
    let left_out = fit(&mut columns, style.width.unwrap_or(usize::MAX));
    let widths: Vec<usize> = columns.iter().map(TableColumn::width).collect();
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
    left_out
}

/// Leaves out columns until a line is not longer than this. Returns their headings.
fn fit(columns: &mut Vec<TableColumn>, width: usize) -> Vec<&'static str> {
    let mut left_out = Vec::new();
    for heading in LEFT_OUT_FIRST {
        let line: usize = columns.iter().map(|column| column.width() + 2).sum();
        if line.saturating_sub(2) <= width {
            break;
        }
        if let Some(at) = columns.iter().position(|column| column.heading == heading) {
            columns.remove(at);
            left_out.push(heading);
        }
    }
    left_out
}

/// Whether a sum is beyond the largest number, so that it is not known.
pub fn has_too_large(report: &TradeReport) -> bool {
    let mut groups = report.groups.iter().chain([&report.total]);
    groups.any(|TradeGroup { measures, fees, .. }| {
        let Measures { profit, sum_of_wins, sum_of_losses, drawdown, .. } = *measures;
        let sums = [profit, sum_of_wins, sum_of_losses, drawdown, fees.unwrap_or_default()];
        sums.iter().any(|sum| !sum.is_finite())
    })
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
    let named = |group: &TradeGroup| shown_name(&group.name, grouping, style);
    let mut names: Vec<String> = report.groups.iter().map(named).collect();
    names.push("total".into());
    let mut drawdown = money("drawdown", false, &|group| Some(group.measures.drawdown));
    for (cell, group) in drawdown.cells.iter_mut().zip(&rows) {
        if group.drawdown_is_approximate && cell != NOTHING {
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

/// A name as it is shown: one that could be taken for a missing one is in quotes, and a long one without its middle.
fn shown_name(name: &str, grouping: Grouping, style: LineStyle) -> String {
    let is_doubtful = name == NONE || name.starts_with('"') || name.trim() != name;
    let shown = match name {
        "" if grouping == Grouping::Type => NONE.into(),
        _ if name.is_empty() || is_doubtful => quoted_value(OsStr::new(name)),
        _ => visible(name).into_owned(),
    };
    match style {
        LineStyle::Blocks => shortened(&shown, "…"),
        LineStyle::Ascii => shortened(&escaped_to_ascii(&shown), "..."),
    }
}

fn shortened(name: &str, gap: &str) -> String {
    let characters = name.chars().count();
    if characters <= NAME_CHARACTERS {
        return name.into();
    }
    let kept = NAME_CHARACTERS - NAME_END_CHARACTERS - gap.chars().count();
    let start: String = name.chars().take(kept).collect();
    let end: String = name.chars().skip(characters - NAME_END_CHARACTERS).collect();
    start + gap + &end
}

/// A value, unless there is none, or it is beyond the largest number.
fn or_nothing(value: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| NOTHING.into(), shown)
}

/// Amounts of money with the same decimal places: two, or as many as show three digits of the largest one. Where that would
/// be too many digits, they are in scientific notation.
fn money_cells(amounts: &[Option<f64>], signed: bool) -> Vec<String> {
    let finite = amounts.iter().flatten().filter(|amount| amount.is_finite());
    let largest = finite.fold(0.0, |largest: f64, amount| largest.max(amount.abs()));
    let decimals = match largest {
        0.0 | 1.0.. => DECIMALS,
        // The largest is 0.0…0ddd.
        less => (-less.log10()).ceil() as usize + DECIMALS,
    };
    let is_scientific = largest >= LARGE || decimals > DECIMALS_MAX;
    let shown = |amount: f64| match (is_scientific, signed && amount > 0.0) {
        (true, _) if amount == 0.0 => "0".into(),
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
        assert_eq!(shown(&[1e-6], true), "+0.00000100");
        assert_eq!(shown(&[1e-7, 0.0], true), "+1.0000e-7 0");
        assert_eq!(shown(&[f64::INFINITY, f64::NAN, -2.5], true), "- - -2.50");
        assert_eq!(shown(&[0.0], true), "0.00");
        assert_eq!(shown(&[1e300, 1.0], true), "+1.0000e300 +1.0000e0");
        assert_eq!(money_cells(&[None], true), ["-"]);
    }

    #[test]
    fn a_name_is_told_from_a_missing_one_and_not_too_long() {
        let shown = |name: &str, grouping| shown_name(name, grouping, LineStyle::Blocks);
        assert_eq!(shown("", Grouping::Type), "(none)");
        assert_eq!(shown("", Grouping::Symbol), "\"\"");
        assert_eq!(shown("(none)", Grouping::Type), "\"(none)\"");
        assert_eq!(shown(" BTC", Grouping::Symbol), "\" BTC\"");
        assert_eq!(shown("BTC", Grouping::Symbol), "BTC");
        let long = format!("{}end", "é".repeat(5000));
        let shortened = format!("{}…{}end", "é".repeat(27), "é".repeat(9));
        assert_eq!(shown(&long, Grouping::Symbol), shortened);
        let ascii = |name: &str| shown_name(name, Grouping::Symbol, LineStyle::Ascii);
        assert_eq!(ascii("é日"), "\\u{e9}\\u{65e5}");
        assert_eq!(ascii(&"x".repeat(41)), format!("{}...{}", "x".repeat(25), "x".repeat(12)));
    }

    #[test]
    fn a_narrow_terminal_is_spared_columns() {
        let column = |heading| TableColumn { heading, cells: vec!["1".into()], is_left: false };
        let all = || ["day", "trades", "profit", "worst", "running sum"].map(column).into();
        let fitted = |width| {
            let mut columns: Vec<TableColumn> = all();
            let left_out = fit(&mut columns, width);
            (columns.len(), left_out)
        };
        assert_eq!(fitted(39), (5, vec![]));
        assert_eq!(fitted(38), (4, vec!["running sum"]));
        assert_eq!(fitted(20), (3, vec!["running sum", "worst"]));
        assert_eq!(fitted(1), (3, vec!["running sum", "worst"]));
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
