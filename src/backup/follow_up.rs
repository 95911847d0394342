//! What precedes and follows each backup into the folder: what is no longer needed is removed, and a file tells other programs,
//! such as the one that copies backups off the machine, that there is a new one.

use super::delete::{BackupOwner, Deletions, delete_old};
use super::failure::failed;
use super::folder::{BackupFolder, StoredBackup, read_manifest};
use super::name::folder_of;
use super::partial::{clean, write_whole};
use super::settings::BackupSettings;
use super::trial_folder::remove_abandoned;
use crate::error::Result;
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
