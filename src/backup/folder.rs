//! A folder of backups: what is in it, and the files that a backup consists of.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::failure::failed;
use super::manifest::{DatabasePlace, FORMAT, Manifest};
use super::name::{MANIFEST, beside};
use super::partial::write_whole;
use super::seal::{is_sealed, sealed};
use crate::error::{Error, Kind, Result};
use crate::store::DatabaseIdentity;
use crate::system::errno::errno_of;
use crate::system::new_file::create_folders;
use crate::system::size::Bytes;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// The mode of a folder of backups: they hold keys of exchanges.
const FOLDER_MODE: u32 = 0o700;

/// A folder of backups.
#[derive(Clone, Debug)]
pub struct BackupFolder {
    path: PathBuf,
}

/// A backup that has a manifest.
#[derive(Clone, Debug)]
pub struct StoredBackup {
    /// The path of its file.
    pub path: PathBuf,
    /// What is known of it.
    pub manifest: Manifest,
    /// Whether the manifest is what cts wrote, byte by byte.
    pub is_sealed: bool,
}

impl StoredBackup {
    /// Whether it counts as a backup: its file has the size that it was made with, and no drill of it failed.
    pub fn is_good(&self) -> bool {
        let bytes = fs::symlink_metadata(&self.path).map(|found| found.len());
        self.manifest.is_good() && bytes.is_ok_and(|bytes| bytes == self.manifest.size_bytes)
    }

    /// What was made, for the log.
    pub fn summary(&self) -> String {
        let Manifest { size_bytes, tables, .. } = &self.manifest;
        let (size, rows) = (Bytes(*size_bytes), tables.values().sum::<u64>());
        let tables = tables.len();
        let path = self.path.display();
        format!("Backup {path}: {size}, {tables} tables with {rows} rows")
    }
}

impl BackupFolder {
    /// The folder at a path, which need not exist.
    pub fn at(path: &Path) -> BackupFolder {
        BackupFolder { path: path.to_path_buf() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates it, and the folders above it, if it does not exist. Returns the lines for the log about owners.
    ///
    /// # Errors
    /// It cannot be created, or something else has its name.
    pub fn create(&self) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        let mut existing: &Path = &self.path;
        while let Err(e) = fs::metadata(existing) {
            let (Some(name), Some(above), ErrorKind::NotFound) =
                (existing.file_name(), existing.parent(), e.kind())
            else {
                return Err(failed(&self.path, "the folder cannot be used", &e));
            };
            if fs::symlink_metadata(existing).is_ok() {
                return Err(Error::new(
                    Kind::CannotCreate,
                    "is a symbolic link to what does not exist",
                )
                .at(existing.display())
                .remedy(
                    "mount the file system that holds its target (`findmnt`), or correct the link",
                ));
            }
            missing.push(name.to_owned());
            existing = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        }
        if !existing.is_dir() {
            return Err(Error::new(Kind::CannotCreate, "is not a folder")
                .at(existing.display())
                .remedy("set CTS_BACKUP_DIR to a folder"));
        }
        create_folders(existing, missing.into_iter().rev(), FOLDER_MODE)
            .map_err(|e| failed(&self.path, "the folder cannot be created", &e))
    }

    /// The backups in it that have a manifest, in the order in which they were made; none where it does not exist. What is
    /// not a backup is passed over.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn list(&self) -> Result<Vec<StoredBackup>> {
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|e| failed(&self.path, "the folder cannot be read", &e))?,
        };
        let mut backups = Vec::new();
        for entry in entries {
            let path =
                entry.map_err(|e| failed(&self.path, "the folder cannot be read", &e))?.path();
            let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
            if let Some((manifest, is_sealed)) = is_file.then(|| read_sealed(&path)).flatten() {
                backups.push(StoredBackup { path, manifest, is_sealed });
            }
        }
        // The numbers that somebody has changed say nothing of the order.
        backups.sort_by_key(|backup| (backup.is_sealed, backup.manifest.serial));
        Ok(backups)
    }

    /// The newest backup of whatever database was in the place of this one; `None` where there is none, or that cannot be
    /// seen.
    pub fn newest_in_place_of(&self, identity: &DatabaseIdentity) -> Option<StoredBackup> {
        let place = DatabasePlace::of(identity);
        let is_here = |backup: &StoredBackup| place.is_of(&backup.manifest.database);
        self.list().ok()?.into_iter().rev().find(is_here)
    }

    /// Makes its entries last: a power loss after this call leaves what was renamed.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn sync(&self) -> Result<()> {
        match File::open(&self.path).and_then(|folder| folder.sync_all()) {
            // Some file systems, such as CIFS, sync no folders.
            Err(e) if matches!(errno_of(&e), Some(Errno::INVAL | Errno::NOTSUP)) => Ok(()),
            synced => synced.map_err(|e| failed(&self.path, "the folder cannot be synced", &e)),
        }
    }
}

/// The manifest beside a file, if it is one of a file of this name.
pub fn read_manifest(backup: &Path) -> Option<Manifest> {
    read_sealed(backup).map(|(manifest, _)| manifest)
}

/// The manifest beside a file, and whether it is what cts wrote.
fn read_sealed(backup: &Path) -> Option<(Manifest, bool)> {
    let text = small_file::read(&beside(backup, MANIFEST), SETTINGS_BYTES_MAX).ok()?;
    let manifest: Manifest = serde_json::from_slice(&text).ok()?;
    let is_its = backup.file_name().is_some_and(|name| name == manifest.file.as_str());
    (is_its && manifest.format == FORMAT).then(|| (manifest, is_sealed(&text)))
}

/// Writes the manifest beside a backup, whole or not at all.
///
/// # Errors
/// If it cannot be written. The one before is in place then.
pub fn write_manifest(backup: &Path, manifest: &Manifest) -> io::Result<()> {
    let text = sealed(&serde_json::to_string_pretty(manifest)?);
    write_whole(&beside(backup, MANIFEST), &text)
}
