//! The archive in the JSON of health and status, in the text of `cts status`, and in the metrics.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::metrics::Metrics;
use crate::archive::{ArchiveDrill, ArchiveStatus, shown};
use crate::backup::shown_age;
use crate::health::Report;
use crate::system::size::Bytes;
use crate::system::visible::Lines;

/// The object `archive` of a JSON body.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveJson<'r> {
    /// Only where the reader is an administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    lag_seconds: Option<f64>,
    newest_at: Option<String>,
    makes_full_copy: bool,
    gaps: u64,
    size_bytes: u64,
    drill: Option<ArchiveDrillJson<'r>>,
    problem: Option<&'r str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ArchiveDrillJson<'r> {
    at: String,
    moment: String,
    restore_seconds: Option<f64>,
    tables: Option<usize>,
    compared_tables: Option<usize>,
    compared_rows: Option<u64>,
    failure: Option<&'r str>,
}

impl<'r> ArchiveDrillJson<'r> {
    fn of(drill: &'r ArchiveDrill) -> ArchiveDrillJson<'r> {
        ArchiveDrillJson {
            at: shown(drill.at),
            moment: shown(drill.moment),
            restore_seconds: drill.restore_seconds.map(to_milliseconds),
            tables: drill.compared.map(|compared| compared.tables),
            compared_tables: drill.compared.map(|compared| compared.compared),
            compared_rows: drill.compared.map(|compared| compared.rows),
            failure: drill.failure.as_deref(),
        }
    }
}

/// Seconds with three decimals.
fn to_milliseconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

impl Report {
    /// The object `archive`; `None` where there is none.
    pub(super) fn archive_json(&self) -> Option<ArchiveJson<'_>> {
        let status = self.archive.as_ref()?;
        Some(ArchiveJson {
            folder: None,
            lag_seconds: status.lag_seconds.map(to_milliseconds),
            newest_at: status.newest.map(shown),
            makes_full_copy: status.makes_base,
            gaps: status.gaps,
            size_bytes: status.bytes,
            drill: status.drill.as_ref().map(ArchiveDrillJson::of),
            problem: status.problem.as_deref(),
        })
    }

    /// The object `archive` with the folder.
    pub(super) fn archive_json_for_administrators(&self) -> Option<ArchiveJson<'_>> {
        let folder = self.archive.as_ref()?.folder.display().to_string();
        Some(ArchiveJson { folder: Some(folder), ..self.archive_json()? })
    }

    /// Adds the archive to the text of `cts status`.
    pub(super) fn add_archive(&self, text: &mut Lines) {
        let Some(status) = &self.archive else { return };
        let state = match (&status.problem, status.lag_seconds) {
            (Some(_), _) => "not current".to_string(),
            (None, _) if status.makes_base => "a full copy is being made".to_string(),
            (None, Some(lag)) => format!("current {} ago", shown_age(Duration::from_secs_f64(lag))),
            (None, None) if status.unknown.is_some() => "unknown".to_string(),
            (None, None) => "not current yet".to_string(),
        };
        text.add(format_args!("Archive:    {state}, {}", Bytes(status.bytes)));
        text.add(format_args!("  folder         {}", status.folder.display()));
        if let Some(newest) = status.newest {
            let gaps = match status.gaps {
                0 => "no gaps".to_string(),
                1 => "1 gap".to_string(),
                gaps => format!("{gaps} gaps"),
            };
            text.add(format_args!("  newest         {}, {gaps}", shown(newest)));
        }
        text.add(format_args!("  drill          {}", shown_drill(status.drill.as_ref())));
    }
}

/// What a drill has shown, in a clause.
pub fn shown_drill(drill: Option<&ArchiveDrill>) -> String {
    let Some(drill) = drill else { return "not restored for a trial yet".into() };
    let at = shown(drill.at);
    match (&drill.restore_seconds, &drill.compared) {
        (Some(seconds), Some(compared)) => format!(
            "restored for a trial in {seconds:.1} s, {at}: {} of {} tables compared with the live database",
            compared.compared, compared.tables
        ),
        _ => format!("{at}: {}", drill.failure.as_deref().unwrap_or("failed")),
    }
}

/// Adds the metrics of the archive.
pub fn add_metrics(to: &mut Metrics<'_>, status: &ArchiveStatus) -> fmt::Result {
    let seconds = |at: i64| at as f64 / 1000.0;
    let help = "Time for which what was committed may not be archived.";
    to.gauge("cts_archive_lag_seconds", help, status.lag_seconds)?;
    let help = "Time of the newest archived transaction, since 1970.";
    to.gauge("cts_archive_newest_timestamp_seconds", help, status.newest.map(seconds))?;
    let help = "Times in the archive of which what was committed before is not known.";
    to.gauge("cts_archive_gaps", help, Some(status.gaps))?;
    let help = "Size of the archive.";
    to.gauge("cts_archive_size_bytes", help, Some(status.bytes))?;
    let drill = status.drill.as_ref();
    let help = "Time of the last restore of the archive for a trial, since 1970.";
    to.gauge("cts_archive_drill_timestamp_seconds", help, drill.map(|d| seconds(d.at)))?;
    let help = "Time that it took.";
    to.gauge("cts_archive_restore_seconds", help, drill.and_then(|d| d.restore_seconds))?;
    let help = "Whether what it restored was not the live database as it was.";
    let is_failed = drill.map(|d| u64::from(d.failure.is_some()));
    to.gauge("cts_archive_drill_failed", help, is_failed)
}
