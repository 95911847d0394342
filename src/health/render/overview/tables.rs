//! The tables of the overview: those of cts by category, and others.

use serde::Serialize;

use super::shown;
use crate::health::render::format::timestamp;
use crate::health::report::TableCount;
use crate::health::{Figures, Report};
use crate::store::TableFigures;
use cts_schema::catalog::{CATEGORIES, CRITICAL, core_tables};

/// The tables as they were found, with the figures of the last measurement.
pub fn tables(report: &Report, figures: &Figures) -> OverviewTables {
    let TableCount { expected, existing, .. } = report.count(core_tables());
    let table = |name: &'static str| {
        let exists = report.connected.then(|| report.tables.contains(&name));
        // One that was dropped since it was measured has no rows.
        let measured = figures.tables.iter().find(|table| table.is_ours && table.name == name);
        let measured = measured.filter(|_| exists != Some(false));
        OverviewTable {
            name,
            exists,
            is_critical: CRITICAL.contains(&name),
            rows: measured.and_then(|table| table.rows),
            is_exact: measured.and_then(is_exact),
            size_bytes: measured.and_then(|table| table.size_bytes),
        }
    };
    let categories = CATEGORIES.map(|category| {
        let TableCount { expected, existing, .. } = report.count(category.tables.iter().copied());
        OverviewCategory {
            name: category.key,
            complete: report.connected.then_some(expected == existing),
            tables: category.tables.iter().copied().map(table).collect(),
        }
    });
    OverviewTables {
        expected,
        existing: report.connected.then_some(existing),
        measured_at: figures.measured_at.map(timestamp),
        categories: categories.into(),
        others: figures.tables.iter().filter(|table| !table.is_ours).map(OtherTable::of).collect(),
        others_omitted: figures.tables_omitted,
    }
}

/// Whether the rows were counted; `None` where their number is not known.
fn is_exact(table: &TableFigures) -> Option<bool> {
    table.rows.map(|_| table.is_exact)
}

/// `tables`: how many of those of cts exist, each by its category, and the largest others.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OverviewTables {
    expected: usize,
    existing: Option<usize>,
    measured_at: Option<String>,
    categories: Vec<OverviewCategory>,
    others: Vec<OtherTable>,
    others_omitted: usize,
}

#[derive(Serialize)]
struct OverviewCategory {
    name: &'static str,
    complete: Option<bool>,
    tables: Vec<OverviewTable>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OverviewTable {
    name: &'static str,
    exists: Option<bool>,
    is_critical: bool,
    rows: Option<u64>,
    is_exact: Option<bool>,
    size_bytes: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OtherTable {
    name: String,
    rows: Option<u64>,
    is_exact: Option<bool>,
    size_bytes: Option<u64>,
}

impl OtherTable {
    /// A name in SQLite may be as long as a text.
    fn of(table: &TableFigures) -> OtherTable {
        OtherTable {
            name: shown(&table.name),
            rows: table.rows,
            is_exact: is_exact(table),
            size_bytes: table.size_bytes,
        }
    }
}
