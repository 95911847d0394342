//! What follows each backup into the folder: those that no rule keeps are deleted, and a file tells other programs, such as
//! the one that copies backups off the machine, that there is a new one.

use super::delete::{BackupOwner, Deletions, delete_old};
use super::failure::failed;
use super::folder::{BackupFolder, StoredBackup, read_manifest};
use super::partial::write_whole;
use super::settings::BackupSettings;
use crate::error::Result;
use crate::store::{BackupLock, Database, WaitPolicy};

/// The file in a folder of backups that is written after each success. It holds the name of the new backup.
pub const LAST_SUCCESS: &str = "last-success";

/// Deletes by rule, and then tells other programs of the new backup.
///
/// # Errors
/// The folder cannot be read or written, or `wait` was cancelled. The new backup is in place.
pub fn follow_up(
    database: &dyn Database,
    settings: &BackupSettings,
    backup: &StoredBackup,
    lock: &BackupLock,
    wait: &WaitPolicy<'_>,
) -> Result<Deletions> {
    let folder = BackupFolder::at(backup.path.parent().unwrap_or(&backup.path));
    let owner = BackupOwner::new(database, &backup.manifest.database.id);
    let deletions = delete_old(&folder, &owner, settings.keep, lock, wait);
    // What the drill has found is in its manifest.
    if !read_manifest(&backup.path).is_some_and(|manifest| manifest.is_good()) {
        return deletions;
    }
    let marker = folder.path().join(LAST_SUCCESS);
    write_whole(&marker, &format!("{}\n", backup.manifest.file))
        .map_err(|e| failed(&marker, "cannot be written", &e))?;
    deletions
}
