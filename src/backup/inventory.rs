//! What a folder of backups holds, as far as it shows without reading the backups themselves: their manifests, and
//! whether their files are there and whole. Health answers and commands judge it; nothing is deleted by it.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::failure::failed;
use super::folder::{BackupFolder, read_manifest};
use super::manifest::{DatabasePlace, DrillResult, Manifest};
use super::name::{MANIFEST, beside, is_backup_name};
use crate::error::{Error, Kind, Result};
use crate::store::DatabaseIdentity;
use crate::system::deadline::BackgroundTask;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// How many entries of a folder are read, so that one that other programs fill does not hold up its readers.
const ENTRIES_MAX: usize = 50_000;
/// How many manifests are read: those with the latest names.
const MANIFESTS_MAX: usize = 1000;

/// What a folder of backups holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BackupInventory {
    /// The backups that have a manifest, in the order in which they were made; those with the latest names where there are
    /// more than are read.
    pub backups: Vec<BackupRecord>,
    /// Whether the folder exists.
    pub has_folder: bool,
}

/// What is known of one backup.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupRecord {
    /// The name of its file.
    pub file: String,
    /// The type of the database that it is of.
    pub database_type: String,
    /// What tells that database from others.
    pub database_id: String,
    /// Whether it is of the database in the place of the one that is asked for, and not of a copy of it.
    pub is_of_place: bool,
    /// The order in which the backups of a folder were made.
    pub serial: u64,
    /// When it was made; `None` if its manifest has no time.
    pub made_at: Option<SystemTime>,
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// When it was proved last. RFC 3339, UTC.
    pub proved_at: String,
    /// What came of restoring it for a trial.
    pub drill: Option<DrillResult>,
    /// Why it does not count as a backup, if it does not.
    pub fault: Option<String>,
}

/// The reading of a folder on a thread of its own, as one on a network may not answer.
pub type InventoryTask = BackgroundTask<Result<Arc<BackupInventory>>>;

impl BackupFolder {
    /// Reads what is in it, for this database, on a thread of its own.
    ///
    /// # Errors
    /// [`Kind::Io`] if the thread cannot be started.
    pub fn read_inventory(&self, identity: &DatabaseIdentity) -> Result<InventoryTask> {
        let (folder, identity) = (self.clone(), identity.clone());
        BackgroundTask::start("backups", move || folder.inventory(&identity).map(Arc::new))
    }

    /// The error of a folder that is not read within this time.
    pub fn unanswered(&self, limit: Duration) -> Error {
        let what = format!("the folder was not read within {} s", limit.as_secs());
        Error::new(Kind::Unavailable, what)
            .at(self.path().display())
            .remedy("check its disk or its server, and the mount (`findmnt -T`, `dmesg`)")
    }

    /// Reads what is in it, for this database. A folder that does not exist holds nothing.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn inventory(&self, identity: &DatabaseIdentity) -> Result<BackupInventory> {
        let failed = |e| failed(self.path(), "the folder cannot be read", &e);
        let entries = match fs::read_dir(self.path()) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(BackupInventory::default()),
            entries => entries.map_err(failed)?,
        };
        let mut described: Vec<OsString> = Vec::new();
        for entry in entries.take(ENTRIES_MAX) {
            let name = entry.map_err(failed)?.file_name();
            let described_file = name.to_str().and_then(|name| name.strip_suffix(MANIFEST));
            described.extend(described_file.map(OsString::from));
        }
        // Backups that a person named, and files of other programs, are read after those with our names.
        let order = |name: &OsString| (name.to_str().is_some_and(is_backup_name), name.clone());
        described.sort_by_cached_key(|name| Reverse(order(name)));
        described.truncate(MANIFESTS_MAX);
        let paths = described.iter().map(|name| self.path().join(name));
        let place = DatabasePlace::of(identity);
        let mut backups: Vec<BackupRecord> = Vec::new();
        for path in paths {
            refuse_unreadable(&path)?;
            backups.extend(record(&path, &place));
        }
        backups.sort_by_key(|backup| backup.serial);
        Ok(BackupInventory { backups, has_folder: true })
    }
}

/// Refuses a manifest that this user may not read: there is a backup then, of which nothing is known.
fn refuse_unreadable(backup: &Path) -> Result<()> {
    let path = beside(backup, MANIFEST);
    match small_file::read(&path, SETTINGS_BYTES_MAX) {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => {
            Err(failed(&path, "cannot be read", &e))
        }
        _ => Ok(()),
    }
}

/// What is known of the backup at this path; `None` if it is none, or has no file.
fn record(path: &Path, place: &DatabasePlace) -> Option<BackupRecord> {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let manifest = read_manifest(path)?;
    Some(BackupRecord::of(manifest, found.len(), place))
}

impl BackupRecord {
    /// The one of a backup whose file has so many bytes.
    pub fn of(manifest: Manifest, bytes: u64, place: &DatabasePlace) -> BackupRecord {
        let drill_failure = manifest.drill.as_ref().and_then(|drill| drill.failure.clone());
        let fault = match drill_failure {
            Some(why) => Some(format!("restoring it for a trial failed: {why}")),
            None if bytes != manifest.size_bytes => {
                Some(format!("its file has {bytes} bytes instead of {}", manifest.size_bytes))
            }
            None => None,
        };
        BackupRecord {
            made_at: manifest.made_at(),
            file: manifest.file,
            is_of_place: place.is_of(&manifest.database),
            database_type: manifest.database.kind,
            database_id: manifest.database.id,
            serial: manifest.serial,
            size_bytes: manifest.size_bytes,
            proved_at: manifest.proved_at,
            drill: manifest.drill,
            fault,
        }
    }

    /// How long restoring it took, in seconds, where that was tried and succeeded.
    pub fn restore_seconds(&self) -> Option<f64> {
        let drill = self.drill.as_ref().filter(|drill| drill.failure.is_none())?;
        drill.restore_seconds
    }
}
