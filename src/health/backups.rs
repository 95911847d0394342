//! What the backups of a database give reason for. None of it makes a database unusable: programs trade without backups.

use super::conditions::{Condition, Subject};
use super::reason::Reason;
use super::report::Report;
use crate::backup::{
    Age, BackupInspection, BackupState, Inspector, LastBackup, Recency, shown_age,
};
use crate::error::Kind;

impl Report {
    /// Adds what is known of the backups, and what that gives reason for.
    pub fn with_backups(mut self, inspection: BackupInspection) -> Report {
        let state = BackupState::of(inspection, &self.database);
        let mut reasons = backup_reasons(&state);
        // What the service has recorded of a trial is what the manifest says too.
        if !self.backup_conditions.iter().any(|condition| condition.subject == Subject::Drill) {
            reasons.extend(faulty(&state));
        }
        let recorded = self.backup_conditions.first().map(Condition::reason);
        let problem = recorded.as_ref().or(reasons.first());
        self.backup_problem = problem.map(|reason| reason.text.clone());
        self.reasons_found.extend(reasons);
        self.backups = Some(state);
        self
    }

    /// Keeps the faults of the backups that a thread of the service has recorded, which are among the reasons already.
    pub(super) fn note_backup_conditions(&mut self, conditions: &[Condition]) {
        let is_of_backups = |condition: &&Condition| {
            matches!(condition.subject, Subject::Backup | Subject::Drill | Subject::OldBackups)
        };
        self.backup_conditions = conditions.iter().filter(is_of_backups).cloned().collect();
    }
}

/// What is not as it should be. Nothing is, where no backups are made automatically.
fn backup_reasons(state: &BackupState) -> Vec<Reason> {
    if state.every.is_none() {
        return Vec::new();
    }
    [no_folder(state), unread(state), overdue(state), from_the_future(state)]
        .into_iter()
        .flatten()
        .collect()
}

/// On a server, which has no folder by default.
fn no_folder(state: &BackupState) -> Option<Reason> {
    let text = "no backups are made: CTS_BACKUP_EVERY is set, and CTS_BACKUP_DIR is not. Try: set CTS_BACKUP_DIR to a folder";
    state.folder.is_none().then(|| Reason::warning(text))
}

/// Another user may see the database, but not its backups: they are unknown then, and the service sees them.
fn unread(state: &BackupState) -> Option<Reason> {
    let error = state.unread.as_ref()?;
    let text = format!("whether there are backups is unknown: {error}");
    Some(match (state.inspector, error.kind) {
        (Inspector::Command, Kind::Permission) => Reason::notice(text),
        _ => Reason::warning(text),
    })
}

fn overdue(state: &BackupState) -> Option<Reason> {
    if state.recency() != Recency::Overdue {
        return None;
    }
    let every = shown_age(state.every?);
    let remedy = "Try: `cts backup`; `cts doctor` and the log of the service say why none was made";
    let what = match &state.last {
        Some(LastBackup { record, age: Age::Known(age) }) => {
            format!("the last good backup, {}, is {} old", record.file, shown_age(*age))
        }
        Some(LastBackup { record, .. }) => {
            format!("the age of the last good backup, {}, is unknown", record.file)
        }
        None if state.others > 0 => format!(
            "there is no good backup of this database, and {} of others are in the folder",
            state.others
        ),
        None if state.has_folder == Some(false) => {
            "there is no good backup: their folder does not exist".to_string()
        }
        None => "there is no good backup".to_string(),
    };
    Some(Reason::warning(format!("{what}; one is to be made every {every}. {remedy}")))
}

/// A clock that was set back makes ages unknown, which by itself is no reason to act on the backups.
fn from_the_future(state: &BackupState) -> Option<Reason> {
    let last = state.last.as_ref().filter(|last| last.age == Age::Future)?;
    Some(Reason::notice(format!(
        "the last good backup, {}, is dated in the future, so that its age is unknown: the clock was set back, or was ahead then (`timedatectl`)",
        last.record.file
    )))
}

fn faulty(state: &BackupState) -> Option<Reason> {
    let newest = state.newest_faulty.as_ref().filter(|_| state.every.is_some())?;
    let why = newest.fault.as_deref()?;
    Some(Reason::warning(format!("the newest backup, {}, counts for nothing: {why}", newest.file)))
}
