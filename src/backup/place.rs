//! Where a backup is put: a name of its own in the folder of backups, or the file that a person names.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::failure::failed;
use super::folder::BackupFolder;
use super::make::BackupTarget;
use super::manifest::KeptBy;
use super::name::{DIGEST, MANIFEST, backup_name, beside};
use super::partial::{clean, clean_one};
use crate::error::{Error, Kind, Result};
use crate::store::Database;
use crate::system::clock::UtcTime;

/// What to do about a name that is taken.
const OTHER_NAME: &str = "give the backup another name, or move that file away";

/// Where a new backup is put.
pub struct BackupPlace {
    /// The folder.
    pub folder: BackupFolder,
    /// The path of the backup, which no file has yet.
    pub path: PathBuf,
    /// The name of its file.
    pub name: String,
    /// By which rule it is kept.
    pub kept_by: KeptBy,
    /// What to tell about folders that were created.
    pub notes: Vec<String>,
}

impl BackupPlace {
    /// The place for a backup of this time. What killed processes have left there is removed.
    ///
    /// # Errors
    /// The folder cannot be created, or the file cannot have this name; no file was changed then.
    pub fn find(
        database: &dyn Database,
        target: BackupTarget<'_>,
        made_at: UtcTime,
        compress: bool,
    ) -> Result<BackupPlace> {
        let place = match target {
            BackupTarget::Folder(folder) => {
                let notes = folder.create()?;
                clean(folder.path());
                let (path, name) =
                    free_name(folder, made_at, database.backup_extension(), compress);
                BackupPlace { folder: folder.clone(), path, name, kept_by: KeptBy::Rules, notes }
            }
            BackupTarget::File(path) => {
                let path = std::path::absolute(path)
                    .map_err(|e| failed(path, "cannot be the name of a backup", &e))?;
                let name = file_name(&path)?;
                let above = path.parent().unwrap_or(Path::new("/"));
                let folder = existing_folder(above)?;
                clean_one(&path);
                refuse_existing(&path)?;
                BackupPlace { folder, path, name, kept_by: KeptBy::Hand, notes: Vec::new() }
            }
        };
        database.refuse_as_backup(&place.path)?;
        Ok(place)
    }
}

/// The name of a file that a person names. A path that ends with a slash is that of a folder.
fn file_name(path: &Path) -> Result<String> {
    let is_folder = path.as_os_str().as_bytes().ends_with(b"/") || path.is_dir();
    match path.file_name() {
        Some(name) if !is_folder => name.to_str().map(str::to_string).ok_or_else(|| {
            Error::new(Kind::CannotCreate, "the name is not UTF-8")
                .at(path.display())
                .remedy("give the backup a name in UTF-8, which its manifest can hold")
        }),
        _ => Err(Error::new(Kind::CannotCreate, "is a folder, not the name of a file")
            .at(path.display())
            .remedy("name a file in it, or set CTS_BACKUP_DIR to it and name none")),
    }
}

fn existing_folder(path: &Path) -> Result<BackupFolder> {
    let found = fs::metadata(path).map_err(|e| failed(path, "the folder cannot be used", &e))?;
    if !found.is_dir() {
        return Err(Error::new(Kind::CannotCreate, "is not a folder")
            .at(path.display())
            .remedy("name a file in a folder"));
    }
    Ok(BackupFolder::at(path))
}

/// The files of a backup.
fn companions(path: &Path) -> [PathBuf; 3] {
    [path.to_path_buf(), beside(path, DIGEST), beside(path, MANIFEST)]
}

/// Refuses a name that a file has, or one that a companion of the backup would have.
fn refuse_existing(path: &Path) -> Result<()> {
    for path in companions(path) {
        match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&path, "cannot be the name of a backup", &e)),
            Ok(_) => {
                return Err(Error::new(Kind::CannotCreate, "there is a file of this name already")
                    .at(path.display())
                    .remedy(OTHER_NAME));
            }
        }
    }
    Ok(())
}

/// The path of a new backup of this time, which no file has yet, and its name.
fn free_name(
    folder: &BackupFolder,
    time: UtcTime,
    extension: &str,
    compress: bool,
) -> (PathBuf, String) {
    let named = |number| {
        let name = backup_name(&time.for_file_name(), number, extension, compress);
        (folder.path().join(&name), name)
    };
    // Where a folder may not be entered, no file can be created either, which is said then.
    let is_taken =
        |path: &Path| companions(path).iter().any(|path| fs::symlink_metadata(path).is_ok());
    (1..=u32::MAX).map(named).find(|(path, _)| !is_taken(path)).unwrap_or_else(|| named(1))
}
