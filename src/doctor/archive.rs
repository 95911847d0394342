//! Whether the archive of every change would help when the disk is lost: current, without damage, restored for a trial, out of
//! reach of others, and not on the disk that it is to replace.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::EXAMINATION_TIMEOUT;
use super::backup_folder::{self, FolderOwner, FolderPlace};
use super::unit::UnitExamination;
use crate::archive::{ArchiveFolder, ArchiveStatus, Reach, reaches, shown};
use crate::config::Config;
use crate::error::{Kind, Result};
use crate::health::render::shown_drill;
use crate::store::finding::{Finding, Group};
use crate::system::deadline::BackgroundTask;
use crate::system::size::Bytes;

/// What was read of an archive.
struct Read {
    status: ArchiveStatus,
    /// The times that it reaches, or why that is not known.
    reaches: Result<Vec<Reach>>,
    /// Its mode and owner; `None` if it does not exist, or may not be seen.
    owner: Option<FolderOwner>,
    place: FolderPlace,
}

/// The examination of the archive, which runs on a thread of its own.
pub struct ArchiveExamination {
    folder: PathBuf,
    task: BackgroundTask<Read>,
}

impl ArchiveExamination {
    /// Begins to read its folder. `None` where there is no archive.
    ///
    /// # Errors
    /// [`Kind::Io`] if a thread cannot be started.
    pub fn start(config: &Config) -> Result<Option<ArchiveExamination>> {
        let Some(settings) = &config.archive else { return Ok(None) };
        let (folder, database) = (settings.folder.clone(), config.database.identity().location);
        let reading = folder.clone();
        let task = BackgroundTask::start("archive", move || read(&reading, Path::new(&database)))?;
        Ok(Some(ArchiveExamination { folder, task }))
    }

    /// The findings, of what has been read until this moment.
    pub fn until(self, deadline: Instant, unit: &UnitExamination) -> Vec<Finding> {
        let ArchiveExamination { folder, task } = self;
        let mut all = match task.until(deadline) {
            Ok(read) => findings(&folder, &read, unit.user.as_deref()),
            Err(_) => {
                let seconds = EXAMINATION_TIMEOUT.as_secs();
                let what = format!("{}: no answer within {seconds} s", folder.display());
                let remedy = "check its disk and its mount (`dmesg`, `findmnt`)";
                vec![Finding::unknown(Group::Archive, "folder", what).remedy(remedy)]
            }
        };
        let sandbox = unit.sandbox.as_ref().filter(|_| folder.is_absolute());
        all.extend(sandbox.and_then(|sandbox| {
            sandbox.examine_folder(Group::Archive, "CTS_ARCHIVE_DIR", &folder)
        }));
        all
    }
}

fn read(folder: &Path, database: &Path) -> Read {
    let listed = ArchiveFolder::at(folder).list();
    let reaches = listed.and_then(|listed| match listed.fault {
        Some(fault) => Err(fault),
        None => Ok(reaches(&listed.chain)),
    });
    Read {
        status: ArchiveStatus::read(folder),
        reaches,
        owner: fs::metadata(folder).ok().map(|found| backup_folder::owner(&found)),
        place: backup_folder::place(folder, Some(database)),
    }
}

/// Judges what was read.
fn findings(folder: &Path, read: &Read, service_user: Option<&str>) -> Vec<Finding> {
    let mut all = vec![current(&read.status)];
    all.extend(reach(&read.reaches));
    all.push(drill(&read.status));
    let access = |owner| {
        backup_folder::access(Group::Archive, folder, owner, service_user, "the archive holds")
    };
    all.extend(read.owner.map(access));
    all.extend(place(read.place));
    all
}

fn current(status: &ArchiveStatus) -> Finding {
    let (group, name) = (Group::Archive, "newest");
    if let Some(why) = &status.unknown {
        return Finding::unknown(group, name, why.clone());
    }
    if let Some(problem) = &status.problem {
        let what = format!("what is committed is not archived: {problem}");
        return Finding::attention(group, name, what)
            .remedy("journalctl -u cts says why, and since when");
    }
    let newest = status.newest.map(shown).unwrap_or_else(|| "nothing yet".into());
    let lag = status.lag_seconds.unwrap_or_default();
    let what = format!("{newest}, {}, current {lag:.0} s ago", Bytes(status.bytes));
    Finding::good(group, name, what)
}

fn reach(reaches: &Result<Vec<Reach>>) -> Option<Finding> {
    let (group, name) = (Group::Archive, "reach");
    let reaches = match reaches {
        Ok(reaches) => reaches,
        Err(error) if error.kind == Kind::Permission => return None,
        Err(error) => {
            let finding = Finding::attention(group, name, error.message());
            let remedy = "cts backups lists what can be restored; the service puts such an archive aside and begins a new one";
            return Some(finding.remedy(remedy));
        }
    };
    let (first, last) = (reaches.first()?, reaches.last()?);
    let gaps = match reaches.len() {
        1 => "without gaps".to_string(),
        2 => "with 1 gap".to_string(),
        count => format!("with {} gaps", count - 1),
    };
    let what = format!("from {} to {}, {gaps}", shown(first.from), shown(last.to));
    Some(Finding::good(group, name, what))
}

fn drill(status: &ArchiveStatus) -> Finding {
    let (group, name, what) = (Group::Archive, "trial", shown_drill(status.drill.as_ref()));
    match &status.drill {
        Some(drill) if drill.failure.is_none() => Finding::good(group, name, what),
        Some(_) => Finding::attention(group, name, what).remedy(
            "cts backup; the service begins the archive anew, and tries again within an hour",
        ),
        None => Finding::attention(group, name, format!("{what}: whether it can be is not known"))
            .remedy("the service does it once a day; journalctl -u cts says why not"),
    }
}

/// Whether the archive survives the disk of the database.
fn place(place: FolderPlace) -> Option<Finding> {
    let (group, name) = (Group::Archive, "disk");
    let what = match place {
        FolderPlace::Unknown => return None,
        FolderPlace::Elsewhere => {
            return Some(Finding::good(group, name, "another one than that of the database"));
        }
        FolderPlace::Memory => "in memory (tmpfs): lost at a reboot",
        FolderPlace::SameDisk => "that of the database: lost with it",
    };
    Some(
        Finding::attention(group, name, what)
            .remedy("set CTS_ARCHIVE_DIR to a folder on another disk, or on another machine"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::store::finding::Grade;

    #[test]
    fn what_is_not_current_damaged_or_open_to_others_needs_attention() {
        let folder = Path::new("/mnt/archive");
        let good = || Read {
            status: ArchiveStatus {
                problem: None,
                lag_seconds: Some(0.3),
                newest: Some(1000),
                ..ArchiveStatus::unread(folder, String::new())
            },
            reaches: Ok(vec![Reach { from: 0, to: 1000, gap: None }]),
            owner: Some(FolderOwner { uid: 1001, mode: 0o700 }),
            place: FolderPlace::Elsewhere,
        };
        let attention = |read: Read| -> Vec<String> {
            let all = findings(folder, &read, Some("1001"));
            let of = all.into_iter().filter(|found| found.grade == Grade::Attention);
            of.map(|found| found.name).collect()
        };
        assert_eq!(attention(good()), ["trial"]);
        let late = ArchiveStatus { problem: Some("nothing for 61 s".into()), ..good().status };
        assert_eq!(attention(Read { status: late, ..good() }), ["newest", "trial"]);
        let damaged = Err(Error::new(Kind::Data, "line 7 is damaged"));
        assert_eq!(attention(Read { reaches: damaged, ..good() }), ["reach", "trial"]);
        let open = Some(FolderOwner { uid: 1001, mode: 0o755 });
        assert_eq!(attention(Read { owner: open, ..good() }), ["trial", "folder"]);
        assert_eq!(attention(Read { place: FolderPlace::SameDisk, ..good() }), ["trial", "disk"]);
    }
}
