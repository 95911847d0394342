//! Backups of a SQLite database: what is copied, its proof, and the lock that holds off other backups.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::OpenFlags;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::backup_copy::Copy;
use super::connect::{connect, interrupt_when};
use super::error::from_sqlite;
use super::file::{self, FileIdentity, PATH_BYTES_MAX, SIDE_FILES, folder_of, side_file};
use super::file_error::unreadable;
use super::open_here::is_open_here;
use super::proof::{self, TrialFile};
use super::{DatabaseFile, Sqlite};
use crate::error::{Cause, Error, Kind, Result};
use crate::store::backup::short_digest;
use crate::store::wait::WaitClock;
use crate::store::{
    BackUp, BackupContent, BackupLock, BackupSubject, DamageScope, Inspect, ProofDepth, Snapshot,
    TrialDatabase, WaitPolicy, WaitReason,
};

/// Pause between two attempts to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// What the names of files end with that belong to a backup or to its copy that is not complete, in bytes at most.
const ENDING_BYTES_MAX: usize = 16;

impl BackUp for DatabaseFile {
    fn backup_extension(&self) -> &'static str {
        "db"
    }

    fn default_backup_folder(&self) -> Option<PathBuf> {
        Some(folder_of(&self.path).join("backups"))
    }

    fn refuse_as_backup(&self, path: &Path) -> Result<()> {
        refuse_as_backup(path)
    }

    /// The lock is one of flock(2) on the folder of the database, which needs no file and ends with its process.
    fn lock_backups(&self, wait: &WaitPolicy<'_>) -> Result<BackupLock> {
        let path = file::resolve(&self.path)?;
        let folder = folder_of(&path);
        let opened = File::open(folder).map_err(|e| match e.kind() {
            ErrorKind::NotFound => super::database::identity(&self.path).absent_error(),
            _ => unreadable(folder, &e),
        })?;
        let mut clock = WaitClock::start();
        loop {
            match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(BackupLock { _held: Box::new(opened) }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return Err(unreadable(folder, &e.into())),
            }
            if wait.timeout.is_some_and(|timeout| clock.waited() >= timeout) {
                let remedy = wait.with_setting("try again when it has ended (`ps -C cts`)");
                return Err(Error::new(Kind::TryAgain, "another cts makes or restores a backup")
                    .at(path.display())
                    .remedy(remedy));
            }
            if clock.is_report_due() {
                let what = "another cts, which makes or restores a backup of the same database";
                (wait.on_wait)(&WaitReason::Other(what.into()), clock.waited());
            }
            wait.pause(LOCK_PAUSE)?;
        }
    }

    fn backup_subject(&self, wait: &WaitPolicy<'_>) -> Result<BackupSubject> {
        let mut source = self.open_existing(wait)?;
        let snapshot = source.inspect()?;
        let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
        let size_bytes =
            source.conn.query_row(pages, [], |row| row.get(0)).map_err(|e| source.error(&e))?;
        Ok(BackupSubject { database_id: database_id(&snapshot, &source.path), size_bytes })
    }

    fn copy_to(&self, to: &Path, opened: &File, wait: &WaitPolicy<'_>) -> Result<()> {
        let path = file::resolve(&self.path)?;
        Copy { path: &path, to, file: opened, wait }.make()
    }

    fn damage_before_backup(&self, wait: &WaitPolicy<'_>) -> Result<Option<Error>> {
        let mut source = self.open_existing(wait)?;
        let damage = source.find_damage(DamageScope::Everything)?;
        Ok(damage.pages.first().map(|line| {
            Error::new(Kind::Data, format!("the database is damaged: {line}"))
                .at(source.path.display())
                .caused_by(Cause::Damage)
                .remedy(
                    "stop the trading programs, keep a copy of the file, its -wal and its -shm as they are, and restore the newest backup (`cts backups`); without one, `sqlite3 FILE .recover` saves what can be read",
                )
        }))
    }

    fn prove_backup(&self, file: &Path, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        proof::prove(file, ProofDepth::Everything, wait)
    }

    fn restore_for_trial(&self, file: &Path, _: &WaitPolicy<'_>) -> Result<Box<dyn TrialDatabase>> {
        Ok(Box::new(TrialFile::at(file)))
    }
}

impl DatabaseFile {
    /// Opens it read-only. A database that this process has open is opened by SQLite alone.
    ///
    /// # Errors
    /// If it does not exist, or cannot be read.
    pub(super) fn open_existing(&self, wait: &WaitPolicy<'_>) -> Result<Sqlite> {
        let path = file::resolve(&self.path)?;
        if is_open_here(&path) {
            let mut conn = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, wait)?;
            interrupt_when(&mut conn, wait.cancelled).map_err(|e| from_sqlite(&path, &e))?;
            return Ok(Sqlite::new(conn, path, self.access));
        }
        let opened = Sqlite::open_read_only(&self.path, self.access, wait)?;
        opened.ok_or_else(|| super::database::identity(&self.path).absent_error())
    }
}

/// Refuses a path where SQLite would take a file beside it for the WAL or the journal of the backup, or the backup for
/// that of another database; and one that is too long for SQLite.
fn refuse_as_backup(path: &Path) -> Result<()> {
    let refused = |what: String, remedy: &str| {
        Err(Error::new(Kind::CannotCreate, what).at(path.display()).remedy(remedy))
    };
    let name = path.file_name().unwrap_or_default().as_bytes();
    if let Some(ending) = SIDE_FILES.iter().find(|ending| name.ends_with(ending.as_bytes())) {
        let what = format!("SQLite takes a file whose name ends with {ending} for one of its own");
        return refused(what, "give the backup another name, such as one that ends with .db");
    }
    for ending in SIDE_FILES {
        let beside = side_file(path, ending);
        if fs::symlink_metadata(&beside).is_ok() {
            let what = format!("SQLite would take {} for a part of the backup", beside.display());
            return refused(what, "move that file away, or give the backup another name");
        }
    }
    if path.as_os_str().len() + ENDING_BYTES_MAX > PATH_BYTES_MAX {
        let most = PATH_BYTES_MAX - ENDING_BYTES_MAX;
        let what = format!("the path is longer than the {most} bytes that SQLite accepts");
        return refused(what, "give the backup a shorter path");
    }
    Ok(())
}

/// Tells the database from others. Without a ledger, as one of an older CTS may be, by which file it is: it is another one
/// after its adoption, whose rules delete no backup from before.
fn database_id(snapshot: &Snapshot, path: &Path) -> String {
    match FileIdentity::of(path).filter(|_| snapshot.ledger.is_empty()) {
        None => snapshot.database_id(),
        Some(file) => short_digest(&format!("{file:?} {}", path.display())),
    }
}
