//! The backups in the JSON of health and status, and in the text of `cts status`.

use serde::Serialize;

use super::format::timestamp;
use crate::backup::{LastBackup, shown_age};
use crate::health::Report;
use crate::system::size::Bytes;
use crate::system::visible::Lines;

/// The object `backups` of a JSON body.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupsJson<'r> {
    automatic: bool,
    every_seconds: Option<u64>,
    age_max_seconds: Option<u64>,
    /// Only where the reader is an administrator.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    count: Option<usize>,
    last: Option<LastBackupJson<'r>>,
    next_due_at: Option<String>,
    problem: Option<&'r str>,
    /// Only in the overview.
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<Vec<ListedBackupJson<'r>>>,
}

#[derive(Serialize)]
struct ListedBackupJson<'r> {
    #[serde(flatten)]
    backup: LastBackupJson<'r>,
    problem: Option<&'r str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LastBackupJson<'r> {
    file: &'r str,
    made_at: Option<String>,
    age_seconds: Option<u64>,
    size_bytes: u64,
    proved_at: &'r str,
    drilled_at: Option<&'r str>,
    restore_seconds: Option<f64>,
}

impl<'r> LastBackupJson<'r> {
    fn of(last: &'r LastBackup) -> LastBackupJson<'r> {
        let LastBackup { record, age } = last;
        LastBackupJson {
            file: &record.file,
            made_at: record.made_at.map(timestamp),
            age_seconds: age.known().map(|age| age.as_secs()),
            size_bytes: record.size_bytes,
            proved_at: &record.proved_at,
            drilled_at: record.drill.as_ref().map(|drill| &*drill.at),
            restore_seconds: record.restore_seconds(),
        }
    }
}

impl Report {
    /// The object `backups`; `None` where they were not inspected.
    pub(super) fn backups_json(&self) -> Option<BackupsJson<'_>> {
        let state = self.backups.as_ref()?;
        Some(BackupsJson {
            automatic: state.every.is_some(),
            every_seconds: state.every.map(|every| every.as_secs()),
            age_max_seconds: state.age_max().map(|age| age.as_secs()),
            folder: None,
            count: state.count,
            last: state.last.as_ref().map(LastBackupJson::of),
            next_due_at: state.next_due_at().map(timestamp),
            problem: self.backup_problem.as_deref(),
            list: None,
        })
    }

    /// The object `backups` with the folder.
    pub(super) fn backups_json_for_administrators(&self) -> Option<BackupsJson<'_>> {
        let folder = self.backups.as_ref()?.folder.as_ref();
        let folder = folder.map(|folder| folder.display().to_string());
        Some(BackupsJson { folder, ..self.backups_json()? })
    }

    /// The object `backups` with the folder and the newest backups.
    pub(super) fn backups_json_with_list(&self) -> Option<BackupsJson<'_>> {
        let listed = |backup| {
            let problem = LastBackup::fault(backup);
            ListedBackupJson { backup: LastBackupJson::of(backup), problem }
        };
        let newest = self.backups.as_ref()?.newest.as_ref();
        let list = newest.map(|newest| newest.iter().map(listed).collect());
        Some(BackupsJson { list, ..self.backups_json_for_administrators()? })
    }

    /// Adds the backups to the text of `cts status`.
    pub(super) fn add_backups(&self, text: &mut Lines) {
        let Some(state) = &self.backups else { return };
        let every = state.every.map(|every| format!("one every {}", shown_age(every)));
        let every = every.unwrap_or_else(|| "none is made automatically".into());
        match (&state.folder, state.count) {
            (None, _) => text.add("Backups:    no folder is set"),
            (Some(_), None) => text.add(format_args!("Backups:    unknown, {every}")),
            (Some(_), Some(count)) => text.add(format_args!("Backups:    {count} good, {every}")),
        }
        if let Some(folder) = &state.folder {
            text.add(format_args!("  folder         {}", folder.display()));
        }
        if let Some(last) = &state.last {
            text.add(last_line(last));
        }
        if let Some(next) = state.next_due_at() {
            text.add(format_args!("  next           {}", timestamp(next)));
        }
    }
}

fn last_line(last: &LastBackup) -> String {
    let LastBackup { record, age } = last;
    let age = age.known().map_or("of unknown age".into(), |age| format!("{} old", shown_age(age)));
    let restored = match (&record.drill, record.restore_seconds()) {
        (Some(_), Some(seconds)) => format!("restored for a trial in {seconds:.1} s"),
        (Some(_), None) => "restored for a trial".into(),
        (None, _) => "not restored for a trial".into(),
    };
    format!("  last           {}, {age}, {}, {restored}", record.file, Bytes(record.size_bytes))
}
