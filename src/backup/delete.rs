//! Deleting the backups that no rule keeps. Only a file that cts made for this database, that it keeps by rules, and that is
//! to the bit what it made, is deleted; of whatever else is in the folder nothing is touched.

use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::KeepRules;
use super::failure::failed;
use super::folder::{BackupFolder, StoredBackup, read_manifest};
use super::manifest::{DatabasePlace, KeptBy, Manifest};
use super::name::{DIGEST, MANIFEST, PARTIAL, beside, folder_of, is_backup_name};
use super::proof::hash;
use super::retention::{DatedBackup, keep_reasons};
use crate::error::{Error, Kind, Result};
use crate::store::{Backend, BackupLock, Database, WaitPolicy};
use crate::system::file_handle::open_regular;

/// The database whose backups are deleted by rules.
pub struct BackupOwner {
    backend: Backend,
    place: DatabasePlace,
    database_id: String,
}

/// What came of deleting.
#[derive(Debug, Default)]
pub struct Deletions {
    /// The names of the files that were deleted.
    pub deleted: Vec<String>,
    /// Why others could not be. They are as they were.
    pub failures: Vec<Error>,
}

impl Deletions {
    /// What was deleted, for the log.
    pub fn summary(&self, rules: KeepRules) -> String {
        let names = self.deleted.join(", ");
        format!("Backups that no rule keeps ({rules}) were deleted: {names}")
    }
}

impl BackupOwner {
    /// The database with this id.
    pub fn new(database: &dyn Database, database_id: &str) -> BackupOwner {
        let identity = database.identity();
        let place = DatabasePlace::of(&identity);
        BackupOwner { backend: identity.backend, place, database_id: database_id.into() }
    }

    /// Whether the backup is one of this database, and not of a copy of it: one has the same id, and another place.
    pub fn owns(&self, manifest: &Manifest) -> bool {
        manifest.database.id == self.database_id && self.place.is_of(&manifest.database)
    }

    /// Whether it is one of the database before it was adopted, which had no migration of cts and may have the same id.
    pub fn is_from_before_adoption(&self, manifest: &Manifest) -> bool {
        self.backend == Backend::Sqlite && manifest.migrations.is_empty()
    }

    /// Whether the rules decide about the backup.
    pub fn is_kept_by_rules(&self, backup: &StoredBackup) -> bool {
        let manifest = &backup.manifest;
        is_backup_name(&manifest.file)
            && manifest.kept_by == KeptBy::Rules
            && backup.is_sealed
            && self.owns(manifest)
            && !self.is_from_before_adoption(manifest)
    }
}

fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// The backup as far as the rules are concerned; `None` for one whose file has not the size that it was made with, or has a
/// WAL beside it with what a program has written to it since: that is neither a backup to keep nor one to delete.
pub fn dated(backup: &StoredBackup) -> Option<DatedBackup> {
    let bytes = fs::symlink_metadata(&backup.path).ok()?.len();
    let Manifest { serial, size_bytes, .. } = backup.manifest;
    let made_at = backup.manifest.made_at();
    let is_good = backup.manifest.is_good();
    let is_tried = is_good && backup.manifest.drill.is_some();
    let has_wal = fs::symlink_metadata(beside(&backup.path, "-wal")).is_ok_and(|wal| wal.len() > 0);
    let is_as_made = bytes == size_bytes && !has_wal;
    is_as_made.then_some(DatedBackup { serial, made_at, is_good, is_tried })
}

/// Deletes those backups of the folder that no rule keeps. The lock keeps other processes from making one meanwhile.
///
/// # Errors
/// The folder cannot be read, or `wait` was cancelled. One that cannot be deleted is no error.
pub fn delete_old(
    folder: &BackupFolder,
    owner: &BackupOwner,
    rules: KeepRules,
    _: &BackupLock,
    wait: &WaitPolicy<'_>,
) -> Result<Deletions> {
    let backups = folder.list()?.into_iter().filter(|backup| owner.is_kept_by_rules(backup));
    let (dated, backups): (Vec<DatedBackup>, Vec<StoredBackup>) =
        backups.filter_map(|backup| Some((dated(&backup)?, backup))).unzip();
    let mut deletions = Deletions::default();
    for (backup, reasons) in backups.iter().zip(keep_reasons(&dated, rules)) {
        if reasons.is_empty() {
            match wait.check_cancelled().and_then(|()| delete(backup, wait)) {
                Ok(()) => deletions.deleted.push(backup.manifest.file.clone()),
                // What was deleted before is told all the same.
                Err(error) if error.kind == Kind::Stopped && deletions.deleted.is_empty() => {
                    return Err(error);
                }
                Err(error) if error.kind == Kind::Stopped => break,
                Err(error) => deletions.failures.push(error),
            }
        }
    }
    if !deletions.deleted.is_empty() {
        deletions.failures.extend(folder.sync().err());
    }
    Ok(deletions)
}

/// Deletes one backup with its companions, after it is found to be what its manifest says.
fn delete(backup: &StoredBackup, wait: &WaitPolicy<'_>) -> Result<()> {
    let StoredBackup { path, manifest, .. } = backup;
    let unreadable = |e| failed(path, "cannot be read", &e);
    let mut file = open_regular(path, OpenOptions::new().read(true)).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    let is_as_made = found.len() == manifest.size_bytes
        && hash(path, &mut file, wait)? == manifest.sha256
        && read_manifest(path).as_ref() == Some(manifest);
    if !is_as_made {
        return Err(changed(path));
    }
    remove(path, &found)
}

/// Removes a backup with its companions, if its file is still the one that was `found`.
///
/// It first gets the name of a file that is not complete: if this process is killed, the next one takes all of it away.
fn remove(path: &Path, found: &Metadata) -> Result<()> {
    let partial = beside(path, PARTIAL);
    if fs::symlink_metadata(&partial).is_ok() {
        return Err(Error::new(Kind::CannotCreate, "a file of this name is in the way")
            .at(partial.display())
            .remedy("move that file away"));
    }
    let cannot = |e| failed(path, "cannot be deleted", &e);
    fs::rename(path, &partial).map_err(cannot)?;
    // Another file may have been put at the path after this one was read.
    if !fs::symlink_metadata(&partial).is_ok_and(|renamed| is_same_file(&renamed, found)) {
        fs::rename(&partial, path).map_err(cannot)?;
        return Err(changed(path));
    }
    for companion in [beside(path, DIGEST), beside(path, MANIFEST), partial] {
        if let Err(e) = fs::remove_file(&companion)
            && e.kind() != std::io::ErrorKind::NotFound
        {
            return Err(failed(&companion, "cannot be deleted", &e));
        }
    }
    Ok(())
}

fn changed(path: &Path) -> Error {
    Error::new(Kind::Data, "is no longer what cts made, and is kept although no rule keeps it")
        .at(path.display())
        .remedy("find out what has changed it (`cts backup --verify` on it), then delete it or move it away")
}

/// A backup that this process has made, under the lock that it still holds.
pub struct NewBackup {
    /// The backup.
    pub backup: StoredBackup,
    /// Its file, as it was right after it was made.
    made: Option<Metadata>,
}

impl NewBackup {
    /// Takes note of which file it is; to be called right after it was made.
    pub fn of(backup: StoredBackup) -> NewBackup {
        NewBackup { made: fs::symlink_metadata(&backup.path).ok(), backup }
    }

    /// Removes it, as it is the one that was made; its content may have been damaged since.
    fn remove(&self) -> Result<()> {
        let StoredBackup { path, manifest, .. } = &self.backup;
        let is_described = read_manifest(path).is_some_and(|found| {
            found.sha256 == manifest.sha256 && found.serial == manifest.serial
        });
        let made = self.made.as_ref().filter(|_| is_described).ok_or_else(|| changed(path))?;
        remove(path, made)
    }
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
