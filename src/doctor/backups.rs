//! Whether there are backups that would help when the disk is lost: recent, of this database, restored for a trial, out of
//! reach of others, and not only on the disk that they are to replace.

use std::path::Path;
use std::time::{Instant, SystemTime};

use super::EXAMINATION_TIMEOUT;
use super::backup_folder::{self, FolderExamination, FolderPlace};
use super::backup_units::{self, BackupUnits};
use super::unit::UnitExamination;
use crate::backup::{
    Age, BackedUpDatabase, BackupFolder, BackupInspection, BackupSettings, BackupState, Clocks,
    Inspector, Recency, shown_age,
};
use crate::config::Config;
use crate::error::{Kind, Result};
use crate::store::finding::{Finding, Group};
use crate::system::deadline::BackgroundTask;
use crate::system::shell::word;
use crate::system::size::Bytes;

/// How many backups are named; the others are counted.
const BACKUPS_NAMED: usize = 3;

/// The examination of the backups, which runs on threads of its own.
pub struct BackupExamination {
    units: BackgroundTask<BackupUnits>,
    folder: Option<(BackupFolder, BackgroundTask<FolderExamination>)>,
}

impl BackupExamination {
    /// Begins to read the folder and to ask systemd.
    ///
    /// # Errors
    /// [`Kind::Io`] if a thread cannot be started.
    pub fn start(config: &Config) -> Result<BackupExamination> {
        let identity = config.database.identity();
        let read = |folder: BackupFolder| {
            let reading = folder.clone();
            let read = move || backup_folder::read(&reading, &identity);
            BackgroundTask::start("backups", read).map(|task| (folder, task))
        };
        Ok(BackupExamination {
            units: BackgroundTask::start("backup units", backup_units::examine)?,
            folder: config.backups.folder.as_deref().map(BackupFolder::at).map(read).transpose()?,
        })
    }

    /// The findings, of what has been read until this moment.
    pub fn until(
        self,
        deadline: Instant,
        config: &Config,
        database: &BackedUpDatabase,
        unit: &UnitExamination,
    ) -> Vec<Finding> {
        let units = self.units.until(deadline).unwrap_or_default();
        let Some((folder, task)) = self.folder else {
            return vec![no_folder(config.backups.every.is_some())];
        };
        let read = task.until(deadline).map_err(|_| folder.unanswered(EXAMINATION_TIMEOUT));
        findings(&config.backups, folder.path(), read, database, &units, unit)
    }
}

/// The finding of a server, which has no folder by default.
fn no_folder(is_automatic: bool) -> Finding {
    let (group, name) = (Group::Backups, "folder");
    if is_automatic {
        let what = "none are made: CTS_BACKUP_EVERY is set, and CTS_BACKUP_DIR is not";
        return Finding::attention(group, name, what).remedy("set CTS_BACKUP_DIR to a folder");
    }
    Finding::skipped(group, name, "none of the server's are made here: CTS_BACKUP_DIR is not set")
}

/// Judges what was read of the folder, or why it was not read, and of the units.
fn findings(
    settings: &BackupSettings,
    folder: &Path,
    read: Result<FolderExamination>,
    database: &BackedUpDatabase,
    units: &BackupUnits,
    unit: &UnitExamination,
) -> Vec<Finding> {
    let inspection = BackupInspection {
        settings: settings.clone(),
        found: Some(match &read {
            Ok(read) => read.inventory.clone(),
            Err(error) => Err(error.clone()),
        }),
        clocks: Clocks { wall: SystemTime::now(), steady: None },
        inspector: Inspector::Command,
    };
    let state = BackupState::of(inspection, database);
    let mut all = vec![newest(&state)];
    all.extend(trial(&state));
    all.extend(others(&state, folder));
    all.push(units.makers(state.every.map(shown_age)));
    all.extend(units.failed_timer_run());
    let sandbox = unit.sandbox.as_ref().filter(|_| state.every.is_some() && folder.is_absolute());
    all.extend(
        sandbox
            .and_then(|sandbox| sandbox.examine_folder(Group::Backups, "CTS_BACKUP_DIR", folder)),
    );
    if let Ok(read) = &read {
        all.extend(access(folder, read, unit.user.as_deref()));
        all.extend(place(folder, read.place, units));
    }
    all.extend(units.offsite_copies());
    all
}

fn newest(state: &BackupState) -> Finding {
    let attention = |what: String| Finding::attention(Group::Backups, "newest", what);
    let make = "cts backup; then journalctl -u cts says why the service made none";
    if let Some(error) = &state.unread {
        let finding = match error.kind {
            Kind::Permission => Finding::unknown(Group::Backups, "newest", error.message()),
            _ => attention(error.message()),
        };
        return Finding { remedy: error.remedy.clone(), ..finding };
    }
    if let Some(newest) = &state.newest_faulty {
        let why = newest.fault.as_deref().unwrap_or_default();
        return attention(format!("{} counts for nothing: {why}", newest.file))
            .remedy("cts backup");
    }
    let Some(last) = &state.last else {
        return match state.has_folder {
            Some(true) => attention("none yet".into()).remedy("cts backup"),
            _ => attention("none yet; their folder does not exist".into()).remedy("cts backup"),
        };
    };
    let file = format!("{}, {}", last.record.file, Bytes(last.record.size_bytes));
    match last.age {
        Age::Future => attention(format!("{file}, dated in the future: its age is unknown"))
            .remedy("timedatectl; cts backup makes one with the time of now"),
        Age::Unknown => attention(format!("{file}, of unknown age")).remedy("cts backup"),
        Age::Known(age) if state.recency() == Recency::Overdue => {
            let limit = state.age_max().map(shown_age).unwrap_or_default();
            let what = format!("{file}, {} old: more than {limit}", shown_age(age));
            attention(what).remedy(make)
        }
        Age::Known(age) => {
            let what = format!("{file}, {} old, of {} good ones", shown_age(age), count(state));
            Finding::good(Group::Backups, "newest", what)
        }
    }
}

fn count(state: &BackupState) -> String {
    state.count.map(|count| count.to_string()).unwrap_or_default()
}

/// Whether a backup was ever restored for a trial. That the newest one could not be is said already.
fn trial(state: &BackupState) -> Option<Finding> {
    let (group, name) = (Group::Backups, "trial");
    state.last.as_ref()?;
    let Some(drilled) = &state.last_drilled else {
        let what = "none was ever restored for a trial: whether they can be is not known";
        return Some(Finding::attention(group, name, what).remedy("cts backup --verify FILE"));
    };
    let seconds = drilled.restore_seconds().map(|seconds| format!(" in {seconds:.1} s"));
    let what = format!(
        "{} was restored{}, {}",
        drilled.file,
        seconds.unwrap_or_default(),
        drilled.drill.as_ref().map(|drill| drill.at.as_str()).unwrap_or_default()
    );
    Some(Finding::good(group, name, what))
}

/// Backups of a database that was at this path before, or of another one.
fn others(state: &BackupState, folder: &Path) -> Option<Finding> {
    if state.others == 0 {
        return None;
    }
    let what = format!(
        "{} backups in {} are of another database, and are never deleted",
        state.others,
        folder.display()
    );
    let remedy = "cts backups lists them; move them to another folder, or give each database its own CTS_BACKUP_DIR";
    Some(Finding::attention(Group::Backups, "other databases", what).remedy(remedy))
}

/// Who can read the folder, and whether the service can write it.
fn access(folder: &Path, read: &FolderExamination, service_user: Option<&str>) -> Vec<Finding> {
    let Some(owner) = read.owner else { return Vec::new() };
    let mut all =
        vec![backup_folder::access(Group::Backups, folder, owner, service_user, "backups hold")];
    if !read.readable.is_empty() {
        let named = read.readable.iter().take(BACKUPS_NAMED).map(String::as_str);
        let more = match read.readable.len().saturating_sub(BACKUPS_NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let what = format!(
            "other users may read {}{more}, if they may enter the folder",
            named.collect::<Vec<_>>().join(", ")
        );
        let remedy = format!("chmod 600 {}/cts-*", word(folder));
        all.push(Finding::attention(Group::Backups, "files", what).remedy(remedy));
    }
    all
}

/// Whether the backups survive the disk of the database: by their own place, or by copies off the machine.
fn place(folder: &Path, place: FolderPlace, units: &BackupUnits) -> Option<Finding> {
    let (group, name) = (Group::Backups, "disk");
    let what = match place {
        FolderPlace::Unknown => return None,
        FolderPlace::Elsewhere => {
            return Some(Finding::good(group, name, "another one than that of the database"));
        }
        FolderPlace::Memory => "in memory (tmpfs): lost at a reboot",
        FolderPlace::SameDisk => "that of the database: lost with it",
    };
    if units.has_offsite_copy() {
        let what = format!("{what}; cts-offsite.service copies them off the machine");
        return Some(Finding::good(group, name, what));
    }
    let remedy = format!(
        "set CTS_BACKUP_DIR to a folder on another disk, or copy {} off the machine",
        folder.display()
    );
    Some(Finding::attention(group, name, what).remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::backup_folder::FolderOwner;
    use crate::doctor::backup_units::LastRun;
    use crate::store::finding::Grade;

    fn read(mode: u32, readable: &[&str]) -> FolderExamination {
        FolderExamination {
            inventory: Ok(Default::default()),
            owner: Some(FolderOwner { uid: 1001, mode }),
            readable: readable.iter().map(ToString::to_string).collect(),
            place: FolderPlace::Elsewhere,
        }
    }

    #[test]
    fn a_folder_of_others_and_one_that_others_may_enter_need_attention() {
        let folder = Path::new("/data/backups");
        let judged = |mode, readable: &[&str], user| access(folder, &read(mode, readable), user);
        for (mode, user, remedy) in [
            (0o700, Some("1001"), None),
            (0o700, Some("root"), None),
            (0o700, None, None),
            (0o750, Some("1001"), None),
            (0o755, Some("1001"), Some("chmod 700 /data/backups")),
            (0o770, Some("1001"), Some("chmod 700 /data/backups")),
            (0o700, Some("1002"), Some("chown -R 1002: /data/backups")),
        ] {
            let found = judged(mode, &[], user);
            assert_eq!((found.len(), found[0].remedy.as_deref()), (1, remedy), "{mode:o} {user:?}");
        }
        let found = judged(0o700, &["a", "b", "c", "d"], None);
        assert_eq!(found[1].grade, Grade::Attention);
        assert!(found[1].what.contains("a, b, c, and 1 more"), "{found:?}");
    }

    #[test]
    fn backups_on_the_disk_of_the_database_are_good_only_with_copies_off_the_machine() {
        let judged = |at, result: Option<&str>| {
            let run = |result: &str| LastRun {
                result: result.into(),
                status: "0".into(),
                at: "Sat".into(),
            };
            let units = BackupUnits { offsite_run: result.map(run), ..BackupUnits::default() };
            place(Path::new("/data/backups"), at, &units).map(|found| found.grade)
        };
        for (at, result, grade) in [
            (FolderPlace::Unknown, None, None),
            (FolderPlace::Elsewhere, None, Some(Grade::Good)),
            (FolderPlace::SameDisk, None, Some(Grade::Attention)),
            (FolderPlace::SameDisk, Some("exit-code"), Some(Grade::Attention)),
            (FolderPlace::SameDisk, Some("success"), Some(Grade::Good)),
            (FolderPlace::Memory, None, Some(Grade::Attention)),
        ] {
            assert_eq!(judged(at, result), grade, "{at:?} {result:?}");
        }
    }
}
