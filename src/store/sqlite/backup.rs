//! Backups of a SQLite database: SQLite's backup API, in steps, under one read transaction, so that the copy is that of one
//! moment and is never begun anew because programs write.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::connect::{connect, interrupt_when, with_common_flags};
use super::error::from_sqlite;
use super::file::{self, folder_of, path_to_open};
use super::file_error::unreadable;
use super::proof::{self, TrialFile};
use super::{DatabaseFile, Sqlite};
use crate::error::{Error, Kind, Result};
use crate::store::{
    BackUp, BackupContent, BackupLock, BackupSubject, Inspect, TrialDatabase, WaitPolicy,
};

/// Pages that are copied in one step: 1 MiB.
const PAGES_PER_STEP: i32 = 256;
/// Pause between two attempts to lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

impl BackUp for DatabaseFile {
    fn backup_extension(&self) -> &'static str {
        "db"
    }

    fn default_backup_folder(&self) -> Option<PathBuf> {
        Some(folder_of(&self.path).join("backups"))
    }

    /// The lock is one of flock(2) on the folder of the database, which needs no file and ends with its process.
    fn lock_backups(&self, wait: &WaitPolicy<'_>) -> Result<BackupLock> {
        let path = file::resolve(&self.path)?;
        let folder = folder_of(&path);
        let opened = File::open(folder).map_err(|e| unreadable(folder, &e))?;
        let start = Instant::now();
        loop {
            match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(BackupLock { _held: Box::new(opened) }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(e) => return Err(unreadable(folder, &e.into())),
            }
            if wait.timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return Err(Error::new(Kind::TryAgain, "another cts makes or restores a backup")
                    .at(path.display())
                    .remedy("try again when it has ended (`ps -C cts`)"));
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
        Ok(BackupSubject { database_id: snapshot.database_id(), size_bytes })
    }

    fn copy_to(&self, to: &Path, _: &File, wait: &WaitPolicy<'_>) -> Result<()> {
        let path = file::resolve(&self.path)?;
        let mut source = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY, wait)?;
        interrupt_when(&mut source, wait.cancelled).map_err(|e| from_sqlite(&path, &e))?;
        let failed = |e: &rusqlite::Error| from_sqlite(to, e);
        let flags = with_common_flags(OpenFlags::SQLITE_OPEN_READ_WRITE);
        let mut target =
            Connection::open_with_flags(path_to_open(to)?, flags).map_err(|e| failed(&e))?;
        // The file is worth nothing before it is complete and synced.
        target
            .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
            .map_err(|e| failed(&e))?;
        // The backup API begins anew when another connection writes between two steps, but not within a transaction.
        source
            .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;")
            .map_err(|e| from_sqlite(&path, &e))?;
        let backup = Backup::new(&source, &mut target).map_err(|e| failed(&e))?;
        loop {
            match backup.step(PAGES_PER_STEP).map_err(|e| failed(&e))? {
                StepResult::Done => break,
                StepResult::More => wait.check_cancelled()?,
                _ => wait.pause(LOCK_PAUSE)?,
            }
        }
        drop(backup);
        target.close().map_err(|(_, e)| failed(&e))
    }

    fn prove_backup(&self, file: &Path, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        proof::prove(file, wait)
    }

    fn restore_for_trial(&self, file: &Path, _: &WaitPolicy<'_>) -> Result<Box<dyn TrialDatabase>> {
        Ok(Box::new(TrialFile::at(file)))
    }
}

impl DatabaseFile {
    /// Opens it read-only.
    ///
    /// # Errors
    /// If it does not exist, or cannot be read.
    fn open_existing(&self, wait: &WaitPolicy<'_>) -> Result<Sqlite> {
        let opened = Sqlite::open_read_only(&self.path, self.access, wait)?;
        opened.ok_or_else(|| super::database::identity(&self.path).absent_error())
    }
}
