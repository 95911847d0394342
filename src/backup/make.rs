//! Making a backup: copied into a partial file, proved, described, and only then given its name. Whatever fails or kills
//! it before that leaves no backup.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::compressing::compress_copy;
use super::digest::{digest_line, sha256};
use super::failure::failed;
use super::folder::{BackupFolder, StoredBackup, read_manifest, write_manifest};
use super::manifest::{CopiedDatabase, FORMAT, KeptBy, Manifest};
use super::name::{DIGEST, MANIFEST, PLAIN, beside};
use super::partial::{PartialFile, write_whole};
use super::place::BackupPlace;
use super::room::refuse_full_disk;
use crate::error::{Error, Kind, Result};
use crate::store::{Backend, BackupLock, BackupSubject, Database, WaitPolicy};
use crate::system::clock::UtcTime;
use crate::system::size::Bytes;
use crate::system::version::VERSION;

/// Which part of the room of a copy its compressed form is taken to need, beside it, before it is known: half.
const COMPRESSED_SHARE: u64 = 2;
/// Pause between two attempts to begin while another cts migrates the database.
const MIGRATION_PAUSE: Duration = Duration::from_millis(200);

/// Where a backup is to be.
#[derive(Clone, Copy, Debug)]
pub enum BackupTarget<'t> {
    /// In this folder of backups, under a name of its own, kept by the rules.
    Folder(&'t BackupFolder),
    /// This file, kept until a person deletes it.
    File(&'t Path),
}

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct MadeBackup {
    /// The backup.
    pub backup: StoredBackup,
    /// How long copying took, until the copy was on its disk.
    pub copy_time: Duration,
    /// How long proving the copy took, and reading it for its SHA-256.
    pub proof_time: Duration,
    /// What to tell about folders and files that were given to another user.
    pub notes: Vec<String>,
}

/// Keeps other processes from making a backup of the same database until the lock is dropped, and waits for a migration
/// that another cts runs on it.
///
/// # Errors
/// [`Kind::TryAgain`] where one of them does not end within the time that `wait` allows.
pub fn lock(database: &dyn Database, wait: &WaitPolicy<'_>) -> Result<BackupLock> {
    let lock = database.lock_backups(wait)?;
    let is_free = || match database.migrating() {
        None => Ok(Some(())),
        Some(_) => wait.pause(MIGRATION_PAUSE).map(|()| None),
    };
    wait.until_unlocked(is_free, || database.migrating())?;
    Ok(lock)
}

/// Makes a backup of the database while programs write, and proves it, under a lock that its caller holds; `compress` makes
/// it smaller where its format does not compress by itself. `subject` is the database as it was examined under the lock.
/// Returns the backup.
///
/// # Errors
/// Where the database cannot be read, or the copy cannot be written or proved. Nothing is left behind then, and the backups
/// before are as they were.
pub fn make_locked(
    database: &dyn Database,
    _: &BackupLock,
    subject: BackupSubject,
    target: BackupTarget<'_>,
    compress: bool,
    wait: &WaitPolicy<'_>,
) -> Result<MadeBackup> {
    // `pg_dump` compresses by itself.
    let compress = compress && database.identity().backend == Backend::Sqlite;
    let made_at = UtcTime::now();
    let BackupPlace { folder, path, name, kept_by, mut notes } =
        BackupPlace::find(database, target, made_at, compress)?;
    let compressed_bytes = if compress { subject.size_bytes / COMPRESSED_SHARE } else { 0 };
    refuse_full_disk(folder.path(), "the backup", subject.size_bytes + compressed_bytes)?;
    let mut parts = Parts::create(&path)?;
    notes.extend(parts.note());
    let plain = if compress { Some(Parts::create(&beside(&path, PLAIN))?) } else { None };
    let start = Instant::now();
    let copy = plain.as_ref().unwrap_or(&parts).partial()?;
    copy_whole(database, copy, &subject, wait)?;
    let copy_time = start.elapsed();
    let start = Instant::now();
    let content = database.prove_backup(copy.path(), wait);
    let content = content.map_err(|error| explain_damage(database, error, wait))?;
    let uncompressed_bytes = match &plain {
        Some(_) => {
            let to = parts.partial()?;
            Some(compress_copy(copy.path(), to.path(), to.file(), wait)?)
        }
        None => None,
    };
    drop(plain);
    let serial = folder
        .list()?
        .last()
        .filter(|newest| newest.is_sealed)
        .map_or(1, |newest| newest.manifest.serial.saturating_add(1));
    let mut manifest = Manifest {
        file: name,
        serial,
        kept_by,
        ..describe(database, subject, made_at, parts.partial()?)?
    };
    if let Some(bytes) = uncompressed_bytes {
        manifest.uncompressed_bytes = bytes;
    }
    manifest.record_proof(content);
    let proof_time = start.elapsed();
    wait.check_cancelled()?;
    parts.publish(&manifest)?;
    folder.sync()?;
    Ok(MadeBackup {
        backup: StoredBackup { path, manifest, is_sealed: true },
        copy_time,
        proof_time,
        notes,
    })
}

/// What is known of a copy before it is proved.
fn describe(
    database: &dyn Database,
    subject: BackupSubject,
    made_at: UtcTime,
    copy: &PartialFile,
) -> Result<Manifest> {
    let found = copy.file().metadata().map_err(|e| failed(copy.path(), "cannot be read", &e))?;
    let identity = database.identity();
    Ok(Manifest {
        format: FORMAT,
        file: String::new(),
        database: CopiedDatabase {
            kind: identity.backend.name().into(),
            location: identity.location,
            id: subject.database_id,
        },
        serial: 0,
        made_at: made_at.rfc3339(),
        made_by: format!("cts {VERSION}"),
        kept_by: KeptBy::Rules,
        size_bytes: found.len(),
        sha256: sha256(copy.path())?,
        uncompressed_bytes: found.len(),
        migrations: Vec::new(),
        tables: Default::default(),
        proved_at: String::new(),
        drill: None,
    })
}

/// Copies the database, until the copy is on its disk.
fn copy_whole(
    database: &dyn Database,
    copy: &PartialFile,
    subject: &BackupSubject,
    wait: &WaitPolicy<'_>,
) -> Result<()> {
    let needed = Bytes(subject.size_bytes);
    let with_figures = |error: Error| match error.is_disk_full() {
        true => error.note(format!("the backup needs about {needed}")),
        false => error,
    };
    database.copy_to(copy.path(), copy.file(), wait).map_err(with_figures)?;
    let synced = copy.file().sync_all();
    synced.map_err(|e| with_figures(failed(copy.path(), "cannot be written", &e)))
}

/// A copy of a damaged database is damaged: that is what a person has to know then, and not the name of the copy.
fn explain_damage(database: &dyn Database, of_copy: Error, wait: &WaitPolicy<'_>) -> Error {
    if !of_copy.is_damage() {
        return of_copy;
    }
    match database.damage_before_backup(wait) {
        Ok(Some(of_database)) => {
            of_database.note("no backup was made of it, and those made before are as they were")
        }
        Ok(None) => of_copy
            .note("the database itself is sound")
            .remedy("check the disk and the memory of this machine (`dmesg`, `smartctl`), and make another backup on another disk"),
        Err(error) => error,
    }
}

/// The files of a backup that is not complete. Dropped before it is published, they are removed.
struct Parts {
    path: PathBuf,
    partial: Option<PartialFile>,
    /// Its companions.
    created: Vec<PathBuf>,
}

impl Parts {
    fn create(path: &Path) -> Result<Parts> {
        let partial = PartialFile::create(path).map_err(|e| match e.kind() {
            ErrorKind::ResourceBusy => {
                Error::new(Kind::TryAgain, "another cts is making a backup of this name")
                    .at(path.display())
                    .remedy("try again when it has ended (`ps -C cts`)")
            }
            ErrorKind::AlreadyExists => Error::new(
                Kind::CannotCreate,
                "a file that was not made here has its name with .partial behind it",
            )
            .at(path.display())
            .remedy("give the backup another name, or move that file away"),
            _ => failed(path, "cannot be created", &e),
        })?;
        Ok(Parts { path: path.into(), partial: Some(partial), created: Vec::new() })
    }

    fn note(&self) -> Option<String> {
        let note = self.partial.as_ref()?.note.as_ref()?;
        Some(format!("{}: {note}", self.path.display()))
    }

    fn partial(&self) -> Result<&PartialFile> {
        self.partial.as_ref().ok_or_else(|| gone(&self.path))
    }

    /// Gives the backup its name, after its companions are in place.
    fn publish(&mut self, manifest: &Manifest) -> Result<()> {
        let (path, digest) = (&self.path, beside(&self.path, DIGEST));
        self.created.extend([digest.clone(), beside(path, MANIFEST)]);
        write_whole(&digest, &digest_line(&manifest.sha256, &manifest.file))
            .map_err(|e| failed(&digest, "cannot be written", &e))?;
        write_manifest(path, manifest)
            .map_err(|e| failed(path, "its manifest cannot be written", &e))?;
        let partial = self.partial.take().ok_or_else(|| gone(path))?;
        partial.publish(path).map_err(|e| match e.kind() {
            ErrorKind::AlreadyExists => Error::new(
                Kind::CannotCreate,
                "another program has made a file of this name meanwhile",
            )
            .at(path.display())
            .remedy("give the backup another name, or move that file away"),
            _ => failed(path, "the backup cannot be given its name", &e),
        })?;
        self.created.clear();
        debug_assert!(read_manifest(path).is_some());
        Ok(())
    }
}

impl Drop for Parts {
    /// The companions go before the partial file, by which the next run would know whose they are.
    fn drop(&mut self) {
        for file in &self.created {
            let _ = fs::remove_file(file);
        }
    }
}

fn gone(path: &Path) -> Error {
    Error::new(Kind::Io, "the backup has its name already").at(path.display())
}
