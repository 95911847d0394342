//! Examines the file of a SQLite database for `cts doctor`: its folder, its modes and owners, its side
//! files and the file system that it is on. SQLite is not asked.

use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::process::geteuid;

use super::FileAccess;
use super::file::{folder_of, side_file};
use super::file_system::{file_system, magic_number};
use super::path_state::{Attributes, ClosedFolder, PathState};
use super::permissions::{file_mode, folder_mode};
use super::wal_length::LONG_WAL_BYTES;
use crate::error::{Error, Kind};
use crate::store::FileOwner;
use crate::store::finding::{Finding, Group};
use crate::system::shell::word;
use crate::system::size::Bytes;
use crate::system::users;

/// Write permission of all users in the mode of a folder.
const WRITE_BY_OTHERS: u32 = 0o002;
/// Write permission of its group.
const WRITE_BY_GROUP: u32 = 0o020;
/// All permissions of its group, and setgid.
const SHARED_WITH_GROUP: u32 = 0o2070;

/// What the file system shows of a database.
pub struct FileState {
    path: PathBuf,
    /// The user that this process runs as.
    uid: u32,
    folder: PathState,
    /// Whether this user can create the folder if it is missing.
    can_create_folder: bool,
    file: PathState,
    wal: PathState,
    shm: PathState,
    /// The magic number of the file system, if it can be read.
    magic: Option<u64>,
}

impl FileState {
    /// Reads it.
    pub fn read(path: &Path) -> FileState {
        let existing = path.ancestors().skip(1).find(|p| p.exists()).unwrap_or(path);
        let can_write = rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        FileState {
            path: path.to_path_buf(),
            uid: geteuid().as_raw(),
            folder: PathState::of(folder_of(path)),
            can_create_folder: can_write,
            file: PathState::of(path),
            wal: PathState::of(&side_file(path, "-wal")),
            shm: PathState::of(&side_file(path, "-shm")),
            magic: magic_number(path),
        }
    }

    /// A finding for each thing that can be wrong with the files.
    pub fn findings(&self, access: FileAccess) -> Vec<Finding> {
        let mut findings = vec![self.folder(access.group)];
        findings.extend(self.file(access.group));
        findings.extend(self.side_files(access.group));
        findings.extend(self.wal_size());
        findings
            .extend(self.magic.map(|magic| file_system(&self.path, magic, access.allow_network)));
        findings
    }

    fn folder(&self, group: bool) -> Finding {
        let (folder, name) = (folder_of(&self.path), "folder");
        let found = match &self.folder {
            PathState::Exists(found) => found,
            PathState::Hidden(..) => return self.hidden(name),
            PathState::Missing => return self.missing_folder(folder, group),
        };
        if !found.is_folder {
            let what = format!("{}: is a file, not a folder", folder.display());
            return Finding::bad(Group::Files, name, what)
                .remedy("set SQLITE_DB_PATH (or --db) to a file that is in a folder");
        }
        let owner = users::name(found.uid);
        let what = format!("{}, mode {:04o}, owner {owner}", folder.display(), found.mode);
        let why = if found.mode & WRITE_BY_OTHERS != 0 {
            "every user can replace the database by another file"
        } else if !group && found.mode & WRITE_BY_GROUP != 0 {
            "its group can replace the database by another file"
        } else if group && found.mode & SHARED_WITH_GROUP != SHARED_WITH_GROUP {
            "CTS_GROUP_ACCESS is on, and its group may not create files in it"
        } else {
            return Finding::good(Group::Files, name, what);
        };
        Finding::attention(Group::Files, name, format!("{what}: {why}")).remedy(format!(
            "chmod {:o} {}",
            folder_mode(group),
            word(folder)
        ))
    }

    fn missing_folder(&self, folder: &Path, group: bool) -> Finding {
        let mode = folder_mode(group);
        let create = format!("sudo install -d -o cts -g cts -m {mode:o} {}", word(folder));
        let shown = folder.display();
        if self.can_create_folder {
            let what =
                format!("{shown}: does not exist; a start of cts creates it, if its user may");
            Finding::attention(Group::Files, "folder", what).remedy(create)
        } else {
            let what = format!("{shown}: does not exist, and this user may not create it");
            Finding::bad(Group::Files, "folder", what).remedy(create)
        }
    }

    /// The finding for what this user may not see. Its owner may.
    fn hidden(&self, name: &str) -> Finding {
        let (path, uid) = match (&self.folder, &self.file) {
            (PathState::Hidden(ClosedFolder { path, uid }), _)
            | (_, PathState::Hidden(ClosedFolder { path, uid })) => (path, *uid),
            (_, PathState::Exists(found)) => (&self.path, found.uid),
            _ => (&self.path, 0),
        };
        let (owner, user) = (users::name(uid), users::name(self.uid));
        let what = format!("{}: owned by {owner}, and not accessible to {user}", path.display());
        Finding::unknown(Group::Files, name, what).remedy(self.as_user(uid))
    }

    /// The command that examines the database as another user.
    fn as_user(&self, uid: u32) -> String {
        format!("{} cts doctor --db {}", users::sudo(uid), word(&self.path))
    }

    fn file(&self, group: bool) -> Option<Finding> {
        let name = "file";
        match &self.file {
            PathState::Missing => None,
            // The finding of the folder says it.
            PathState::Hidden(..) if matches!(self.folder, PathState::Hidden(..)) => None,
            PathState::Hidden(..) => Some(self.hidden(name)),
            PathState::Exists(found) => Some(mode(name, &self.path, *found, group)),
        }
    }

    /// What is wrong with the side files, whose owner and mode must be those of the database.
    fn side_files(&self, group: bool) -> Vec<Finding> {
        let PathState::Exists(database) = self.file else { return Vec::new() };
        let finding = |(suffix, state): (&str, &PathState)| {
            let PathState::Exists(found) = state else { return None };
            let path = side_file(&self.path, suffix);
            if found.uid != database.uid {
                let (owner, wanted) = (users::name(found.uid), users::name(database.uid));
                let what =
                    format!("{} is owned by {owner}, the database by {wanted}", path.display());
                let finding = Finding::attention(Group::Files, suffix, what);
                return Some(finding.remedy(format!(
                    "chown --reference={} {}",
                    word(&self.path),
                    word(&path)
                )));
            }
            let finding = mode(suffix, &path, *found, group);
            finding.remedy.is_some().then_some(finding)
        };
        [("-wal", &self.wal), ("-shm", &self.shm)].into_iter().filter_map(finding).collect()
    }

    /// The size of the WAL. `None` if it is long: the status of the storage says why.
    fn wal_size(&self) -> Option<Finding> {
        let PathState::Exists(found) = self.wal else { return None };
        let what = Bytes(found.size_bytes).to_string();
        (found.size_bytes < LONG_WAL_BYTES).then(|| Finding::good(Group::Files, "WAL", what))
    }

    /// The finding for a database that could not be read. `None` if another finding says it. That
    /// another user may not read it is no fault of the database.
    pub fn unreadable_contents(&self, error: Error) -> Option<Finding> {
        let (group, name) = (Group::Database, "database");
        let (kind, what, remedy) = (error.kind, error.message(), error.remedy);
        Some(match &self.file {
            PathState::Hidden(..) => return None,
            PathState::Exists(found) if kind == Kind::Permission && found.uid != self.uid => {
                Finding::unknown(group, name, what).remedy(self.as_user(found.uid))
            }
            PathState::Exists(_) if kind == Kind::TryAgain => {
                Finding { remedy, ..Finding::unknown(group, name, what) }
            }
            _ => Finding { remedy, ..Finding::bad(group, name, what) },
        })
    }

    /// The owner of the database file. `None` if it does not exist or cannot be seen.
    pub fn owner(&self, access: FileAccess) -> Option<FileOwner> {
        let (PathState::Exists(found), PathState::Exists(folder)) = (&self.file, &self.folder)
        else {
            return None;
        };
        Some(FileOwner {
            path: word(&self.path),
            uid: found.uid,
            shared: access.group,
            folder: word(folder_of(&self.path)),
            folder_uid: folder.uid,
            folder_mode: folder.mode,
        })
    }
}

/// The finding for the mode of a file of the database.
fn mode(name: &str, path: &Path, found: Attributes, group: bool) -> Finding {
    let (allowed, mode) = (file_mode(group), found.mode & 0o777);
    let what = format!(
        "{}, mode {mode:04o}, owner {}, {}",
        path.display(),
        users::name(found.uid),
        Bytes(found.size_bytes)
    );
    let why = if mode & !allowed != 0 {
        "other users have access"
    } else if group && mode != allowed {
        "its group has no access, though CTS_GROUP_ACCESS is on"
    } else {
        return Finding::good(Group::Files, name, what);
    };
    let remedy = format!("chmod {allowed:o} {}, which a start of cts does too", word(path));
    Finding::attention(Group::Files, name, format!("{what}: {why}")).remedy(remedy)
}

#[cfg(test)]
mod tests;
