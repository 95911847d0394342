//! Rebuilding a database into a smaller file, as far as it depends on the store. Backups and folders are not known here.

use super::{BackupContent, RestoreOrigin, WaitPolicy};
use crate::error::Result;

/// The database, as a rebuild finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionPlace {
    /// The path of its file.
    pub location: String,
    /// Bytes of the file, with its WAL.
    pub present_bytes: u64,
    /// Bytes that the rebuilt file needs, at most.
    pub needed_bytes: u64,
}

/// A database that was rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltDatabase {
    /// Bytes of the file before, and of the one that has taken its place.
    pub before_bytes: u64,
    /// Bytes of the one that has taken its place.
    pub after_bytes: u64,
    /// What it was found to hold.
    pub content: BackupContent,
}

/// Rebuilds a database into a new file without free pages, which takes the place of the old one.
pub trait Compact {
    /// Examines the database, before anything is changed.
    ///
    /// # Errors
    /// What stands in the way: programs that have it open, by name ([`Kind::TryAgain`](crate::error::Kind)); rights; a
    /// server, which does that by itself ([`Kind::Usage`](crate::error::Kind)). Nothing was changed.
    fn compaction_place(&self, wait: &WaitPolicy<'_>) -> Result<CompactionPlace>;

    /// Locks programs out, rebuilds the database beside itself, proves that the new file holds the same, puts it in the
    /// place in one step, and removes the old one. `origin` names the backup that was made before.
    ///
    /// # Errors
    /// As [`Compact::compaction_place`], or it is damaged, or the disk is full. The database before is in its place, unless
    /// the error says otherwise.
    fn compact(&self, origin: &RestoreOrigin, wait: &WaitPolicy<'_>) -> Result<RebuiltDatabase>;
}
