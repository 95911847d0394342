//! Restoring a backup, as far as it depends on the store: what is in the place of the database, the database that is
//! prepared apart from it, and the moment when that one takes the place. Files and names of backups are not known here.

use std::path::Path;

use super::{BackupContent, Database, WaitPolicy};
use crate::error::{Error, Kind, Result};
use crate::system::clock::UtcTime;

/// The place of the database, as a restore finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlace {
    /// Where the restored database will be: the path of its file, or the URL without secrets.
    pub location: String,
    /// What is there now, and what becomes of it, as a sentence; `None` if nothing is there.
    pub present: Option<String>,
    /// Where the database that is there now is kept; `None` if there is none that is kept.
    pub kept_as: Option<String>,
    /// The bytes that are free for the restored database, if they are known.
    pub free_bytes: Option<u64>,
}

/// Which backup is restored, for the record of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOrigin {
    /// The path of its file.
    pub backup: String,
    /// When it was made, if that is known. RFC 3339, UTC.
    pub made_at: Option<String>,
    /// When this restore was begun.
    pub begun_at: UtcTime,
}

/// How a database is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofDepth {
    /// Each page, and that each index has the rows of its table, which takes most of the time.
    Everything,
    /// Each page: each is compared with its checksum anyway.
    Pages,
}

/// The content of a backup that was proved.
pub trait BackupSource {
    /// Its file, if that holds the content as it is; `None` if the content is compressed.
    fn plain_file(&self) -> Option<&Path>;

    /// How the database that is restored from it has to be proved.
    fn proof(&self) -> ProofDepth {
        ProofDepth::Everything
    }

    /// Writes the content to a file that does not exist, mode 0600, and syncs it.
    ///
    /// # Errors
    /// Where the backup cannot be read, or is another than the one that was proved; or the file cannot be written, or `wait`
    /// was cancelled. No file is there then.
    fn unpack(&self, to: &Path, wait: &WaitPolicy<'_>) -> Result<()>;
}

/// Restores backups of a database.
pub trait Restore {
    /// Examines the place of the database, before anything is changed in it.
    ///
    /// # Errors
    /// What stands in the way of a restore: programs that have the database open, by name
    /// ([`Kind::TryAgain`](crate::error::Kind)); rights; tables in the schema of a server. Nothing was changed.
    fn restore_place(&self, begun_at: UtcTime, wait: &WaitPolicy<'_>) -> Result<RestorePlace>;

    /// Takes the lock of [`BackUp::lock_backups`](super::BackUp::lock_backups), locks programs out where the store can, and
    /// begins a database apart from the one that is in the place.
    ///
    /// # Errors
    /// As [`Restore::restore_place`], or the place is not as it was examined, or the database cannot be created. The one in the
    /// place is as it was.
    fn begin_restore<'d>(
        &'d self,
        place: &RestorePlace,
        origin: &RestoreOrigin,
        wait: &WaitPolicy<'_>,
    ) -> Result<Box<dyn RestoreDraft + 'd>>;

    /// The same kind of database at another path.
    ///
    /// # Errors
    /// The database is not a file.
    fn elsewhere(&self, path: &Path) -> Result<Box<dyn Database>> {
        Err(Error::new(Kind::Usage, "the database is on a server, and is not restored into a file")
            .at(path.display())
            .remedy("set DATABASE_URL to another database"))
    }

    /// What a restore that was killed has left, as a sentence that says which database is in the place; `None` if there is
    /// nothing. Changes nothing.
    fn interrupted_restore(&self) -> Option<String>;
}

/// A database that is restored apart from the one in the place. Dropped before it is put there, it is removed, and the
/// database is as it was.
pub trait RestoreDraft {
    /// Fills it with the content of a proved backup. Called once, first.
    ///
    /// # Errors
    /// Where the backup cannot be read or the draft cannot be written, or `wait` was cancelled.
    fn fill(&mut self, backup: &dyn BackupSource, wait: &WaitPolicy<'_>) -> Result<()>;

    /// The draft as a database, to be migrated and verified. No connection to it may be left at the next step.
    fn database(&self) -> &dyn Database;

    /// Checks all of the draft, once nobody has it open, and counts its rows.
    ///
    /// # Errors
    /// It is damaged, or cannot be read.
    fn prove(&self, wait: &WaitPolicy<'_>) -> Result<BackupContent>;

    /// Keeps the database that is in the place, without taking it away.
    ///
    /// # Errors
    /// Where it cannot be kept. It is as it was.
    fn keep_present(&mut self, wait: &WaitPolicy<'_>) -> Result<()>;

    /// Puts the draft in the place, in one step, and makes that last.
    ///
    /// # Errors
    /// The database before is in its place, unless the error says otherwise.
    fn put_in_place(&mut self, wait: &WaitPolicy<'_>) -> Result<()>;
}
