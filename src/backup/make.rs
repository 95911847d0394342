//! Making a backup: copied into a partial file, proved, described, and only then given its name. Whatever fails or kills
//! it before that leaves no backup.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::digest::{digest_line, sha256};
use super::failure::failed;
use super::folder::{BackupFolder, StoredBackup, read_manifest, write_manifest};
use super::manifest::{CopiedDatabase, FORMAT, KeptBy, Manifest};
use super::name::{DIGEST, MANIFEST, PARTIAL, backup_name, beside, folder_of};
use super::room::refuse_full_disk;
use crate::error::{Error, Kind, Result};
use crate::store::{Database, WaitPolicy};
use crate::system::clock::UtcTime;
use crate::system::new_file::create_file;
use crate::system::version::VERSION;

/// The mode of a backup: it holds keys of exchanges.
const FILE_MODE: u32 = 0o600;

/// Where a backup is to be.
#[derive(Clone, Copy, Debug)]
pub enum BackupTarget<'t> {
    /// In this folder of backups, under a name of its own, kept by the rules.
    Folder(&'t BackupFolder),
    /// This file, kept until a person deletes it.
    File(&'t Path),
}

/// Makes a backup of the database while programs write, and proves it. Returns it.
///
/// # Errors
/// Where the database cannot be read, the copy cannot be written or proved, or another backup of the same database is being
/// made. Nothing is left behind then, and the backups before are as they were.
pub fn make(
    database: &dyn Database,
    target: BackupTarget<'_>,
    wait: &WaitPolicy<'_>,
) -> Result<StoredBackup> {
    let subject = database.backup_subject(wait)?;
    let _lock = database.lock_backups(wait)?;
    let made_at = UtcTime::now();
    let (folder, path, kept_by) = match target {
        BackupTarget::Folder(folder) => {
            folder.create()?;
            (folder.clone(), free_name(folder, made_at, database.backup_extension()), KeptBy::Rules)
        }
        BackupTarget::File(path) => {
            refuse_existing(path)?;
            (BackupFolder::at(folder_of(path)), path.to_path_buf(), KeptBy::Hand)
        }
    };
    refuse_full_disk(folder.path(), "the backup", subject.size_bytes)?;
    let mut parts = Parts::of(&path);
    let (file, _) = create_file(&parts.partial, FILE_MODE)
        .map_err(|e| failed(&parts.partial, "cannot be created", &e))?;
    database.copy_to(&parts.partial, &file, wait)?;
    file.sync_all().map_err(|e| failed(&parts.partial, "cannot be written", &e))?;
    let content = database.prove_backup(&parts.partial, wait)?;
    let size_bytes =
        file.metadata().map_err(|e| failed(&parts.partial, "cannot be read", &e))?.len();
    let identity = database.identity();
    let mut manifest = Manifest {
        format: FORMAT,
        file: file_name(&path),
        database: CopiedDatabase {
            kind: identity.backend.name().into(),
            location: identity.location,
            id: subject.database_id,
        },
        serial: folder.list()?.last().map_or(1, |newest| newest.manifest.serial + 1),
        made_at: made_at.rfc3339(),
        made_by: format!("cts {VERSION}"),
        kept_by,
        size_bytes,
        sha256: sha256(&parts.partial)?,
        uncompressed_bytes: size_bytes,
        migrations: Vec::new(),
        tables: Default::default(),
        proved_at: String::new(),
        drill: None,
    };
    manifest.record_proof(content);
    parts.publish(&path, &manifest)?;
    folder.sync()?;
    Ok(StoredBackup { path, manifest })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn refuse_existing(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::new(Kind::CannotCreate, "there is a file of this name already")
            .at(path.display())
            .remedy("give the backup another name, or move that file away")),
    }
}

/// The path of a new backup of this time, which no file has yet.
fn free_name(folder: &BackupFolder, time: UtcTime, extension: &str) -> PathBuf {
    let path =
        |number| folder.path().join(backup_name(&time.for_file_name(), number, extension, false));
    (1..).map(path).find(|path| !path.exists()).unwrap_or_else(|| path(1))
}

/// The files of a backup that is not complete. Dropped before it is published, they are removed.
struct Parts {
    partial: PathBuf,
    /// The files to remove.
    created: Vec<PathBuf>,
}

impl Parts {
    fn of(path: &Path) -> Parts {
        let partial = beside(path, PARTIAL);
        // One that a killed process has left.
        let _ = fs::remove_file(&partial);
        Parts { created: vec![partial.clone()], partial }
    }

    /// Gives the backup its name, after its companions are in place.
    fn publish(&mut self, path: &Path, manifest: &Manifest) -> Result<()> {
        let digest = beside(path, DIGEST);
        self.created.extend([digest.clone(), beside(path, MANIFEST)]);
        write_whole(&digest, &digest_line(&manifest.sha256, &manifest.file))
            .map_err(|e| failed(&digest, "cannot be written", &e))?;
        write_manifest(path, manifest)
            .map_err(|e| failed(path, "its manifest cannot be written", &e))?;
        renameat_with(CWD, &self.partial, CWD, path, RenameFlags::NOREPLACE)
            .map_err(|e| failed(path, "the backup cannot be given its name", &e.into()))?;
        self.created.clear();
        debug_assert!(read_manifest(path).is_some());
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for file in &self.created {
            let _ = fs::remove_file(file);
        }
    }
}

/// Writes a small file beside a backup, whole or not at all, and syncs it.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let partial = beside(path, PARTIAL);
    if let Err(e) = fs::remove_file(&partial)
        && e.kind() != ErrorKind::NotFound
    {
        return Err(e);
    }
    let written = create_file(&partial, FILE_MODE).and_then(|(mut file, _): (File, _)| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    });
    written.inspect_err(|_| drop(fs::remove_file(&partial)))
}
