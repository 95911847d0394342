//! The proof of the statistics as text and as JSON, for `cts verify --statistics`.

use serde_json::{Value, json};

use super::difference::{DifferenceKind, PartlyDeleted, RestState, StatisticsDifference};
use super::proof::StatisticsProof;
use crate::store::StatisticsTable;
use crate::system::visible::Lines;

/// A name for what has none.
const NONE: &str = "(none)";

/// One line for each row that differs and for what does not count, and a line of totals.
pub fn proof_text(proof: &StatisticsProof) -> Lines {
    let mut text = Lines::new();
    for difference in &proof.differences {
        text.add(format_args!("{}", difference_text(difference)));
    }
    let more = proof.differences_not_shown();
    if more > 0 {
        text.add(format_args!("… and {more} more"));
    }
    for PartlyDeleted { day, connection_id, rest, deleted } in &proof.partly_deleted {
        match rest {
            RestState::Equal => {}
            RestState::Late(count) => text.add(format_args!(
                "late:     {day}, connection {connection_id}: {} in no statistics, since retention had begun to delete those of that day",
                positions(*count, "is", "are")
            )),
            RestState::Unrecorded => text.add(format_args!(
                "altered:  {day}, connection {connection_id}: {} gone, and statistics_daily does not say that retention deleted {}",
                positions(*deleted, "that was counted is", "that were counted are"),
                if *deleted == 1 { "it" } else { "them" }
            )),
            RestState::Altered => text.add(format_args!(
                "altered:  {day}, connection {connection_id}: the positions that retention has left are not those that were counted"
            )),
        }
    }
    for day in &proof.behind {
        text.add(format_args!("behind:   {day}: a position was closed less than 2 minutes ago"));
    }
    for (reason, count) in &proof.omitted {
        text.add(format_args!("left out: {}: {reason}", positions(*count, "", "")));
    }
    let deleted: u64 = proof.partly_deleted.iter().map(|part| part.deleted).sum();
    if deleted > 0 {
        let days = proof.partly_deleted.iter().filter(|part| part.deleted > 0).count();
        let of = match days {
            1 => "1 day and connection".to_string(),
            _ => format!("{days} days and connections"),
        };
        text.add(format_args!(
            "deleted:  {}; the statistics of {of} are final",
            positions(deleted, "", "")
        ));
    }
    if let Some(fault) = &proof.setting_fault {
        text.add(format_args!("setting:  {}", fault.trim_start_matches("setting ")));
    }
    add_totals(&mut text, proof);
    text
}

fn add_totals(text: &mut Lines, proof: &StatisticsProof) {
    let found = format!(
        "{}, {} and {} of statistics",
        counted(proof.days, "day"),
        counted(proof.positions, "position"),
        counted(proof.rows, "row")
    );
    if proof.is_proved() {
        text.add(format_args!("no difference: {found}"));
        return;
    }
    let (all, finals) = (proof.difference_count(), proof.final_count());
    text.add(format_args!("{}: {found}", counted(all, "difference")));
    if all > finals {
        text.add(format_args!(
            "a running cts writes what differs: of the last 7 days within a minute, of older days as its rotation comes by"
        ));
    }
    if finals > 0 {
        text.add(format_args!(
            "{} of final statistics, which cts never writes again, since their positions are gone: put these rows back from a backup; or delete the rows of that day and connection in all three tables, to have them calculated from the positions that are left",
            counted(finals, "difference")
        ));
    }
}

/// A number and what it is of: `1 day`, `2 days`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn positions(count: u64, one: &str, many: &str) -> String {
    let verb = if count == 1 { one } else { many };
    format!("{} {verb}", counted(count, "position")).trim_end().to_string()
}

fn difference_text(difference: &StatisticsDifference) -> String {
    let StatisticsDifference { key, kind, columns, is_final } = difference;
    let word = match kind {
        DifferenceKind::Missing => "missing: ",
        DifferenceKind::Altered => "altered: ",
        DifferenceKind::Surplus => "surplus: ",
        DifferenceKind::Unequal => "unequal: ",
    };
    let named = |name: &'_ str| if name.is_empty() { NONE.to_string() } else { name.to_string() };
    let of = match key.table {
        StatisticsTable::Daily => String::new(),
        // It is of all groups, or of those of a symbol.
        _ if *kind == DifferenceKind::Unequal => match key.symbol.is_empty() {
            true => String::new(),
            false => format!(", {}", key.symbol),
        },
        _ => format!(", {}, {}", named(&key.symbol), named(&key.kind)),
    };
    let table = key.table.name();
    let columns = match columns.is_empty() {
        true => String::new(),
        false => format!(": {}", columns.join(", ")),
    };
    let is_final = if *is_final { " (final)" } else { "" };
    format!("{word} {table}, {}, connection {}{of}{columns}{is_final}", key.day, key.connection_id)
}

/// The proof as JSON.
pub fn proof_json(proof: &StatisticsProof) -> String {
    json!({
        "proved": proof.is_proved(),
        "days": proof.days,
        "positions": proof.positions,
        "rows": proof.rows,
        "difference_count": proof.difference_count(),
        "final_difference_count": proof.final_count(),
        "differences": proof.differences.iter().map(difference_json).collect::<Vec<_>>(),
        "behind": proof.behind.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "left_out": proof.omitted.iter().map(|(reason, count)| {
            json!({ "reason": reason.to_string(), "positions": count })
        }).collect::<Vec<_>>(),
        "setting_fault": proof.setting_fault,
        "partly_deleted": proof.partly_deleted.iter().map(part_json).collect::<Vec<_>>(),
    })
    .to_string()
}

fn difference_json(difference: &StatisticsDifference) -> Value {
    let key = &difference.key;
    let kind = match difference.kind {
        DifferenceKind::Missing => "missing",
        DifferenceKind::Altered => "altered",
        DifferenceKind::Surplus => "surplus",
        DifferenceKind::Unequal => "unequal",
    };
    let mut json = json!({
        "kind": kind,
        "table": key.table.name(),
        "day": key.day.to_string(),
        "connection_id": key.connection_id,
        "columns": difference.columns,
        "final": difference.is_final,
    });
    if let Some(json) = json.as_object_mut().filter(|_| key.table != StatisticsTable::Daily) {
        json.insert("symbol".into(), key.symbol.clone().into());
        json.insert("type".into(), key.kind.clone().into());
    }
    json
}

fn part_json(part: &PartlyDeleted) -> Value {
    let (rest, late) = match part.rest {
        RestState::Equal => ("equal", 0),
        RestState::Late(count) => ("late", count),
        RestState::Altered => ("altered", 0),
        RestState::Unrecorded => ("unrecorded", 0),
    };
    json!({
        "day": part.day.to_string(),
        "connection_id": part.connection_id,
        "deleted": part.deleted,
        "rest": rest,
        "late": late,
    })
}
