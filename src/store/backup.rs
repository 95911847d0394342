//! Backups, as far as they depend on the store: what the copy of a database is made with, what proves it, and how it is
//! restored. Files, names, rules and schedules are not known here.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Database, Orphans, Snapshot, WaitPolicy};
use crate::error::{Error, Result};

/// Bytes of a digest that are enough to tell databases apart.
const ID_BYTES: usize = 16;

/// A table of ours, with its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// Its name.
    pub table: String,
    /// The number of its rows.
    pub rows: u64,
}

/// What a backup was found to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupContent {
    /// The migrations of cts in its ledger, in the order in which they were applied. Empty in the copy of a database of
    /// an older CTS.
    pub migrations: Vec<String>,
    /// Our tables, by name; empty where a backup can be read only by restoring it.
    pub tables: Vec<TableRows>,
    /// Rows whose foreign key refers to no row, as in the database that was copied.
    pub orphans: Vec<Orphans>,
}

impl BackupContent {
    /// The rows of all tables together.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// What is known of a database before it is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSubject {
    /// Tells this database from one that is created anew at its location: text that stays the same as long as the
    /// database lives, on whatever machine.
    pub database_id: String,
    /// About how many bytes a backup of it will have, uncompressed.
    pub size_bytes: u64,
}

impl Snapshot {
    /// Tells this database from others: a digest of the first row of its ledger, whose time no other database has; that
    /// row stays as it is as long as the database lives.
    pub fn database_id(&self) -> String {
        let first = self.ledger.first().map(|row| (row.id, &row.name, &row.executed_at));
        short_digest(&format!("{first:?}"))
    }
}

/// A digest that is long enough to tell databases apart.
pub fn short_digest(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// Holds off other backups of the database while it exists.
pub struct BackupLock {
    /// What the lock is on; dropping it releases the lock.
    pub _held: Box<dyn Send>,
}

/// A database that a backup was restored to for a trial. Dropping it removes it, except for the file that it was restored from.
pub trait TrialDatabase {
    /// The database, to be opened and migrated.
    fn database(&self) -> &dyn Database;

    /// Proves, while nobody has it open, that nothing in it is damaged, and counts its rows.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind) with the damage; or where it cannot be read.
    fn prove(&self, wait: &WaitPolicy<'_>) -> Result<BackupContent>;
}

/// Makes and proves backups of a database.
pub trait BackUp {
    /// The end of a backup's name that tells its format, without the dot.
    fn backup_extension(&self) -> &'static str;

    /// The folder of its backups where none is configured; `None` if it has none then.
    fn default_backup_folder(&self) -> Option<PathBuf>;

    /// Refuses a path that a backup of this store cannot have.
    ///
    /// # Errors
    /// Why it cannot.
    fn refuse_as_backup(&self, path: &Path) -> Result<()>;

    /// Keeps other processes from making a backup of the same database, and from restoring one, until it is dropped.
    ///
    /// # Errors
    /// [`Kind::TryAgain`](crate::error::Kind) where another process is making one and does not end within the time that
    /// `wait` allows.
    fn lock_backups(&self, wait: &WaitPolicy<'_>) -> Result<BackupLock>;

    /// Examines the database before it is copied.
    ///
    /// # Errors
    /// Where it does not exist, cannot be read, or is not one of ours.
    fn backup_subject(&self, wait: &WaitPolicy<'_>) -> Result<BackupSubject>;

    /// Copies the database, as it is at one moment, into an empty file, while programs write.
    ///
    /// # Errors
    /// Where it cannot be read, the file cannot be written, or `wait` was cancelled. What the file holds is of no use then.
    fn copy_to(&self, file: &Path, opened: &File, wait: &WaitPolicy<'_>) -> Result<()>;

    /// Looks for damage in the database itself, after a copy of it was found to be damaged. Returns the error of a
    /// damaged database; `None` where it is sound.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn damage_before_backup(&self, wait: &WaitPolicy<'_>) -> Result<Option<Error>>;

    /// Proves that a file is a complete backup of a database of CTS: nothing in it is damaged, and this cts can restore
    /// it. The file is not changed, and nothing is created beside it.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind) with why it is not; or where it cannot be read.
    fn prove_backup(&self, file: &Path, wait: &WaitPolicy<'_>) -> Result<BackupContent>;

    /// Restores a plain backup, which nobody else has open and which may be changed by it, to a database of its own.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind) where the backup is at fault; or why there can be no such database here. Nothing is left
    /// behind then.
    fn restore_for_trial(
        &self,
        file: &Path,
        wait: &WaitPolicy<'_>,
    ) -> Result<Box<dyn TrialDatabase>>;
}
