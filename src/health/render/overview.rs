//! The body of `/api/admin/overview`. What is not known is `null`.

mod history;
mod journal;
mod tables;

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::archive::ArchiveJson;
use super::backups::BackupsJson;
use super::drift::exception_json;
use super::format::{json_text, stored_timestamp, timestamp};
use super::health::PoolJson;
use crate::health::{Figures, Overview, Reason, Report, Severity, Status};
use crate::system::version::{COMMIT, VERSION};
use crate::system::visible::visible;
use cts_schema::migration::AppliedMigration;
use history::HistoryJson;
use journal::{EventJson, StatisticsJson};
use tables::{OverviewTables, tables};

/// How many characters of a text of `site_logs` are shown.
const TEXT_CHARS_SHOWN: usize = 500;

impl Overview {
    /// The body of `/api/admin/overview`.
    pub fn json(&self) -> String {
        let Overview { report, figures, history, journal, started_at } = self;
        let status = report.status();
        json_text(&OverviewJson {
            success: report.connected,
            status,
            sentence: status.sentence(),
            reasons: report.sorted_reasons().into_iter().map(|r| reason(report, r)).collect(),
            command: report.command().map(|command| command.text()),
            database: database(report, figures),
            tables: tables(report, figures),
            migrations: migrations(report),
            exceptions: report.exceptions.iter().map(exception_json).collect(),
            accepted: report.accepted.iter().map(ToString::to_string).collect(),
            history: history.as_ref().map(|points| HistoryJson::of(points, timestamp(report.at))),
            backups: report.backups_json_with_list(),
            archive: report.archive_json_for_administrators(),
            statistics: journal.statistics.as_ref().map(StatisticsJson::of),
            events: journal
                .events
                .as_ref()
                .map(|events| events.iter().map(EventJson::of).collect()),
            version: VERSION,
            commit: COMMIT,
            started_at: timestamp(*started_at),
            timestamp: timestamp(report.at),
        })
    }
}

fn reason<'r>(report: &Report, reason: &'r Reason) -> ReasonJson<'r> {
    let command = report.command_for(reason).map(|command| command.text());
    ReasonJson { severity: reason.severity, text: &reason.text, command }
}

fn database<'r>(report: &'r Report, figures: &Figures) -> OverviewDatabase<'r> {
    OverviewDatabase {
        kind: report.backend.name(),
        location: &report.location,
        connected: report.connected,
        response_seconds: report.response_time.map(seconds),
        size_bytes: figures.database_size_bytes,
        wal_size_bytes: figures.wal_size_bytes,
        disk_free_bytes: report.storage.free_bytes,
        disk_total_bytes: report.storage.total_bytes,
        pool: report.storage.pool.map(PoolJson::of),
    }
}

fn migrations(report: &Report) -> OverviewMigrations<'_> {
    OverviewMigrations {
        status: report.migration_status(),
        expected: report.expected_migrations,
        applied: report.applied.iter().map(AppliedJson::of).collect(),
        pending: &report.pending,
    }
}

/// The beginning of a text of another program, each character visible. An escape is not cut.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = 0;
    for character in text.chars() {
        let mut bytes = [0; 4];
        let next: Cow<'_, str> = visible(character.encode_utf8(&mut bytes));
        chars += next.chars().count();
        if chars >= TEXT_CHARS_SHOWN {
            return shown + "…";
        }
        shown += &next;
    }
    shown
}

/// A duration in seconds, to the microsecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e6
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OverviewJson<'r> {
    success: bool,
    status: Status,
    sentence: &'static str,
    reasons: Vec<ReasonJson<'r>>,
    command: Option<&'static str>,
    database: OverviewDatabase<'r>,
    tables: OverviewTables,
    migrations: OverviewMigrations<'r>,
    exceptions: Vec<Value>,
    accepted: Vec<String>,
    history: Option<HistoryJson>,
    backups: Option<BackupsJson<'r>>,
    archive: Option<ArchiveJson<'r>>,
    statistics: Option<StatisticsJson<'r>>,
    events: Option<Vec<EventJson>>,
    version: &'static str,
    commit: &'static str,
    started_at: String,
    timestamp: String,
}

#[derive(Serialize)]
struct ReasonJson<'r> {
    severity: Severity,
    text: &'r str,
    command: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OverviewDatabase<'r> {
    #[serde(rename = "type")]
    kind: &'static str,
    location: &'r str,
    connected: bool,
    response_seconds: Option<f64>,
    size_bytes: Option<u64>,
    wal_size_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
    disk_total_bytes: Option<u64>,
    pool: Option<PoolJson>,
}

#[derive(Serialize)]
struct OverviewMigrations<'r> {
    status: &'static str,
    expected: usize,
    applied: Vec<AppliedJson<'r>>,
    pending: &'r [String],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppliedJson<'r> {
    id: Option<i64>,
    name: &'r str,
    executed_at: Option<String>,
    execution_seconds: Option<f64>,
    checksum: Option<&'r str>,
}

impl<'r> AppliedJson<'r> {
    fn of(row: &'r AppliedMigration) -> AppliedJson<'r> {
        // A damaged row may hold no number, or a negative one.
        let milliseconds = row.execution_time_ms.and_then(|ms| u64::try_from(ms).ok());
        AppliedJson {
            id: row.id,
            name: &row.name,
            executed_at: row.executed_at.as_deref().map(stored_timestamp),
            execution_seconds: milliseconds.map(|ms| seconds(Duration::from_millis(ms))),
            checksum: row.checksum.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::health::history::HistoryPoints;
    use crate::health::history::tests::full;
    use crate::store::journal::{EVENTS_MAX, Journal, LoggedEvent, LoggedText, TEXT_CHARS_MAX};
    use crate::store::sqlite::{DatabaseFile, FileAccess};

    fn overview(history: Option<HistoryPoints>, message: LoggedText) -> Overview {
        let database = DatabaseFile { path: "/data/cts.db".into(), access: FileAccess::default() };
        let text = Some("\u{10ffff}".repeat(TEXT_CHARS_MAX));
        let event = LoggedEvent { at: text.clone(), level: text, message };
        let events = Some(vec![event; EVENTS_MAX]);
        Overview {
            report: Report::initializing(&database, "starting"),
            figures: Arc::default(),
            history,
            journal: Journal { events, ..Journal::default() },
            started_at: UNIX_EPOCH,
        }
    }

    #[test]
    fn the_answer_with_the_history_of_a_full_day_is_below_100_kb() {
        let plain = "x".repeat(TEXT_CHARS_MAX);
        let mut overview = overview(Some(full()), LoggedText::Read(plain));
        let events = overview.journal.events.iter_mut().flatten();
        events.for_each(|event| (event.at, event.level) = (None, Some("info".into())));
        let bytes = overview.json().len();
        assert!((40_000..100_000).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn a_hostile_text_is_cut_and_each_of_its_characters_is_visible() {
        for (text, end) in
            [("a\u{202e}\u{7}b", "a\\u{202e}\\x07b"), ("\u{5d0}\u{627}", "\u{5d0}\u{627}")]
        {
            assert_eq!(shown(text), end);
        }
        let cut = shown(&"\u{202e}".repeat(TEXT_CHARS_MAX));
        assert!(cut.ends_with("\\u{202e}…") && cut.chars().count() <= TEXT_CHARS_SHOWN, "{cut}");
        let json = overview(None, LoggedText::TooLong(1 << 30)).json();
        assert!(json.contains("(a text of 1073741824 bytes, which is not shown)"), "{json}");
        assert!(json.len() < 100_000, "{} bytes", json.len());
    }
}
