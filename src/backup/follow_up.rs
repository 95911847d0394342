//! What precedes and follows each backup into the folder: what is no longer needed is removed, and a file tells other programs,
//! such as the one that copies backups off the machine, that there is a new one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::delete::{BackupOwner, Deletions, delete_old};
use super::failure::failed;
use super::folder::{BackupFolder, StoredBackup, read_manifest};
use super::name::{DIGEST, MANIFEST, PARTIAL, beside, folder_of};
use super::partial::{clean, write_whole};
use super::settings::BackupSettings;
use super::trial_folder::remove_abandoned;
use crate::error::{Error, Kind, Result};
use crate::store::{BackupLock, Database, WaitPolicy};

/// The file in a folder of backups that is written after each success. It holds the name of the new backup.
pub const LAST_SUCCESS: &str = "last-success";

/// Removes what takes room on the disk of backups for nothing: partial files and trials of processes that were killed, and
/// the backups of this database that no rule keeps.
///
/// # Errors
/// The folder cannot be read, or `wait` was cancelled. What cannot be removed stays and is no error.
pub fn clear_room(
    database: &dyn Database,
    settings: &BackupSettings,
    folder: &BackupFolder,
    database_id: &str,
    lock: &BackupLock,
    wait: &WaitPolicy<'_>,
) -> Result<Deletions> {
    clean(folder.path());
    remove_abandoned(folder.path());
    delete_old(folder, &BackupOwner::new(database, database_id), settings.keep, lock, wait)
}

/// Deletes by rule, and then tells other programs of the new backup. Where they cannot be told, that is one of the failures.
///
/// # Errors
/// The folder cannot be read, or `wait` was cancelled. The new backup is in place.
pub fn follow_up(
    database: &dyn Database,
    settings: &BackupSettings,
    backup: &StoredBackup,
    lock: &BackupLock,
    wait: &WaitPolicy<'_>,
) -> Result<Deletions> {
    let folder = BackupFolder::at(folder_of(&backup.path));
    let owner = BackupOwner::new(database, &backup.manifest.database.id);
    let deletions = delete_old(&folder, &owner, settings.keep, lock, wait);
    // What the drill has found is in its manifest.
    if !read_manifest(&backup.path).is_some_and(|manifest| manifest.is_good()) {
        return deletions;
    }
    let marker = folder.path().join(LAST_SUCCESS);
    let told = write_whole(&marker, &format!("{}\n", backup.manifest.file));
    let mut deletions = deletions?;
    deletions.failures.extend(told.err().map(|e| failed(&marker, "cannot be written", &e)));
    Ok(deletions)
}

/// A backup that this process has made, under the lock that it still holds.
pub struct NewBackup {
    /// The backup.
    pub backup: StoredBackup,
    /// The device and inode of its file.
    identity: Option<(u64, u64)>,
}

impl NewBackup {
    /// Takes note of which file it is; to be called right after it was made.
    pub fn of(backup: StoredBackup) -> NewBackup {
        NewBackup { identity: identity(&backup.path), backup }
    }

    /// Whether this path is its file still.
    fn is_at(&self, path: &Path) -> bool {
        self.identity.is_some() && identity(path) == self.identity
    }

    /// It first gets the name of a file that is not complete: if this process is killed, the next one takes all of it away.
    fn remove(&self) -> Result<()> {
        let path = &self.backup.path;
        let made = &self.backup.manifest;
        let is_described = read_manifest(path)
            .is_some_and(|found| found.sha256 == made.sha256 && found.serial == made.serial);
        let partial = beside(path, PARTIAL);
        if !self.is_at(path) || !is_described || fs::symlink_metadata(&partial).is_ok() {
            return Err(replaced(path));
        }
        let cannot = |e| failed(path, "cannot be removed", &e);
        fs::rename(path, &partial).map_err(cannot)?;
        // Another file may have been put at the path meanwhile.
        if !self.is_at(&partial) {
            fs::rename(&partial, path).map_err(cannot)?;
            return Err(replaced(path));
        }
        for file in [beside(path, DIGEST), beside(path, MANIFEST), partial] {
            fs::remove_file(&file).map_err(|e| failed(&file, "cannot be removed", &e))?;
        }
        Ok(())
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn replaced(path: &Path) -> Error {
    Error::new(Kind::Data, "was changed by another program since it was made, and is not removed")
        .at(path.display())
        .remedy("find out which program writes into the folder of backups, and move the file away")
}

/// Removes a new backup whose drill has failed, with its companions, where an earlier one of this database whose drill failed
/// is there for the person who looks into that: one is enough for that, and each is as large as the database. Returns
/// the path of the earlier one; `None` where there is none, and the new one stays.
///
/// # Errors
/// The folder cannot be read, or the backup cannot be removed.
pub fn remove_failed(
    database: &dyn Database,
    new: &NewBackup,
    _: &BackupLock,
) -> Result<Option<PathBuf>> {
    let made = &new.backup.manifest;
    let owner = BackupOwner::new(database, &made.database.id);
    let folder = BackupFolder::at(folder_of(&new.backup.path));
    let has_failed_before = |other: &StoredBackup| {
        other.manifest.serial < made.serial
            && !other.manifest.is_good()
            && owner.is_kept_by_rules(other)
    };
    let Some(earlier) = folder.list()?.into_iter().find(has_failed_before) else {
        return Ok(None);
    };
    new.remove()?;
    folder.sync()?;
    Ok(Some(earlier.path))
}
