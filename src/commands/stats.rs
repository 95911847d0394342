//! `cts stats`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::statistics::reading::{ReadReport, ReportDays, read_exchange, read_pseudo};
use crate::statistics::report::Grouping;
use crate::statistics::report_json::{json_group, json_groups};
use crate::statistics::report_table::{TableStyle, add_table, has_too_large};
use crate::statistics::running_sums::LineStyle;
use crate::store::{Day, Omission, WaitPolicy, days_of};
use crate::system::locale::has_utf8;
use crate::system::output::{print_json, print_lines, terminal_width};
use crate::system::visible::Lines;

/// Why real_pseudo_positions cannot be counted.
const NOTHING_REAL: &str = "real_pseudo_positions has neither a time of closing nor a profit, so there is nothing to count; the profit of a position that was promoted is in the row of pseudo_positions that it follows";

/// What to do where the tables are not those of this schema.
pub(super) const REPAIR: &str =
    "`cts verify` says what is missing; `cts migrate` or `cts repair` puts it back";

/// Which positions are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeSource {
    /// Simulated ones: `pseudo_positions`.
    Pseudo,
    /// Simulated ones that were promoted: `real_pseudo_positions`.
    Real,
    /// Those at the exchange: `exchange_positions`.
    Exchange,
}

impl TradeSource {
    /// Its name in JSON.
    fn name(self) -> &'static str {
        match self {
            TradeSource::Pseudo => "pseudo",
            TradeSource::Real => "real",
            TradeSource::Exchange => "exchange",
        }
    }

    fn table(self) -> &'static str {
        match self {
            TradeSource::Pseudo => "pseudo_positions",
            TradeSource::Real => "real_pseudo_positions",
            TradeSource::Exchange => "exchange_positions",
        }
    }
}

/// What `cts stats` is to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsOptions {
    /// Print JSON.
    pub json: bool,
    /// How many days, today the last of them.
    pub days: i32,
    /// What trades are grouped by.
    pub by: Grouping,
    /// Which positions are counted.
    pub source: TradeSource,
}

/// Prints the measures of closed trades. Changes nothing.
///
/// # Errors
/// Where there is no database, or it cannot be read.
pub fn run(config: &Config, options: &StatsOptions) -> Result<u8> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(config.lock_timeout, &cancelled).configured();
    let mut reader = config.database.open_statistics_to_read(&wait)?;
    let today = days_of(reader.now()?);
    let today =
        today.ok_or_else(|| Error::new(Kind::Io, "the clock shows no year from 1 to 9999"))?;
    let days = ReportDays::until(today, options.days);
    let read = match options.source {
        TradeSource::Pseudo => read_pseudo(&mut *reader, days, options.by),
        TradeSource::Real => Ok(ReadReport::empty(options.by)),
        TradeSource::Exchange => read_exchange(&mut *reader, days, options.by),
    };
    let read = read.map_err(|error| match error.kind {
        Kind::Data if error.remedy.is_none() => error.remedy(REPAIR),
        _ => error,
    })?;
    drop(reader);
    match options.json {
        true => print_json(&stats_json(&read, days, options).to_string()),
        false => print_lines(&text(&read, days, options)),
    }?;
    Ok(0)
}

fn text(read: &ReadReport, days: ReportDays, options: &StatsOptions) -> Lines {
    let mut lines = Lines::new();
    let ReportDays { from, until } = days;
    let table = options.source.table();
    let period = match options.days {
        1 => format!("today, {until} (UTC)"),
        count => format!("in the last {count} days, {from} to {until} (UTC)"),
    };
    if options.source == TradeSource::Real {
        lines.add(NOTHING_REAL);
        return lines;
    }
    if read.report.groups.is_empty() {
        lines.add(format_args!("No position of {table} was closed {period}."));
    } else {
        lines.add(format_args!("{table} closed {period}"));
        let line = if has_utf8() { LineStyle::Blocks } else { LineStyle::Ascii };
        let style = TableStyle { line, width: terminal_width() };
        let no_room = add_table(&mut lines, &read.report, options.by, style);
        if !no_room.is_empty() {
            lines.add(format_args!(
                "the terminal has no room for more columns: {}; `--json` prints all",
                no_room.join(", ")
            ));
        }
    }
    for note in notes(read, options.source) {
        lines.add(note);
    }
    lines
}

/// What there is to say of the numbers, a sentence each.
fn notes(read: &ReadReport, source: TradeSource) -> Vec<String> {
    let mut notes = Vec::new();
    let mut groups = read.report.groups.iter().chain([&read.report.total]);
    if groups.any(|group| group.drawdown_is_approximate) {
        notes.push("~ approximate: rows of these days are deleted, and what is kept of a day does not say how its trades followed one another".into());
    }
    if has_too_large(&read.report) {
        notes.push("- where there are trades: beyond the largest number that can be held".into());
    }
    for (reason, rows) in &read.omitted {
        let of_all_days = match (reason, source) {
            (Omission::NoClosingTime, TradeSource::Pseudo) => " of all days",
            _ => "",
        };
        let reason = omission(*reason, source);
        notes.push(format!("left out: {}{of_all_days}: {reason}", rows_of(*rows)));
    }
    if read.late_rows > 0 {
        let rows = rows_of(read.late_rows);
        notes.push(format!("left out: {rows}: of a day of which retention has deleted rows, and not in its statistics"));
    }
    if let Some(days) = days_of_set(&read.altered_days) {
        notes.push(format!("the statistics tables contradict themselves or the rows for {days}, of which retention has deleted rows, or lack the row of the day: `cts verify --statistics` names what differs; only a backup has what it was"));
    }
    if let Some(days) = days_of_set(&read.outdated_days) {
        notes.push(format!("the statistics tables are not those of the rows yet for {days}: the numbers above are those of the rows; cts serve calculates the tables of the last 7 days within a minute, older ones as its rotation comes by"));
    }
    notes
}

/// Some days as part of a sentence; `None` where there are none.
fn days_of_set(days: &BTreeSet<Day>) -> Option<String> {
    let first = days.first()?;
    Some(match days.len() {
        1 => first.to_string(),
        count => format!("{count} days from {first} on"),
    })
}

fn omission(reason: Omission, source: TradeSource) -> String {
    match (reason, source) {
        (Omission::NoProfit, TradeSource::Exchange) => "realized_pnl is not set".into(),
        _ => reason.to_string(),
    }
}

fn rows_of(rows: u64) -> String {
    if rows == 1 { "1 row".into() } else { format!("{rows} rows") }
}

fn stats_json(read: &ReadReport, days: ReportDays, options: &StatsOptions) -> Value {
    let source = options.source;
    let omitted: BTreeMap<String, u64> =
        read.omitted.iter().map(|(reason, rows)| (omission(*reason, source), *rows)).collect();
    let omitted = omitted.iter().map(|(reason, rows)| json!({"reason": reason, "rows": rows}));
    let texts = |days: &BTreeSet<Day>| days.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "source": source.name(),
        "table": source.table(),
        "days": options.days,
        "from": days.from.to_string(),
        "until": days.until.to_string(),
        "groupedBy": options.by.name(),
        "groups": json_groups(&read.report, options.by),
        "total": json_group(&read.report.total),
        "leftOut": omitted.collect::<Vec<_>>(),
        "lateRows": read.late_rows,
        "outdatedStatisticsDays": texts(&read.outdated_days),
        "alteredStatisticsDays": texts(&read.altered_days),
        "reason": (source == TradeSource::Real).then_some(NOTHING_REAL),
    })
}
