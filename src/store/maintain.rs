//! Maintaining an open database: taking the migration lock, online index builds, proving that it
//! can be written, and its upkeep while programs use it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::archive::ArchiveSink;
use super::journal::ReadJournal;
use super::{Change, OpenDatabase, SiteLogEntry, WaitPolicy};
use crate::error::Result;
use cts_schema::catalog::Index;
use cts_schema::constraint_exception::ConstraintException;

/// The name of the thread that a service runs its upkeep on; other processes recognise a service by it.
pub const UPKEEP_THREAD: &str = "upkeep";

/// An open database that can be written.
pub trait Store: OpenDatabase + ReadJournal {
    /// Takes the migration lock and begins a write transaction.
    ///
    /// # Errors
    /// [`Kind::TryAgain`](crate::error::Kind) where the lock was not free within the time that
    /// `wait` allows, or `wait` was cancelled. Nothing is changed.
    fn lock<'s>(&'s mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Change + 's>>;

    /// Creates an index outside a transaction under the migration lock, so that programs can go on
    /// writing where the store allows that. It is not unique where rows share a key; that exception
    /// is recorded and returned.
    ///
    /// # Errors
    /// The index does not exist then, or its remains are found and dropped by the next run.
    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>>;

    /// Writes and rolls back, to prove that the database can be written. A lock that another
    /// program holds is not an error.
    ///
    /// # Errors
    /// Where it cannot be written. Nothing is changed.
    fn probe_write(&mut self) -> Result<()>;

    /// Prepares the database for service once its schema is in place: journal mode, file modes.
    ///
    /// # Errors
    /// Where a setting is refused. The settings before it are made.
    fn settle(&mut self, wait: &WaitPolicy<'_>) -> Result<Settled>;

    /// Checkpoints as far as other connections allow, and closes the database.
    ///
    /// # Errors
    /// Where the last checkpoint or the closing fails. Committed data is safe in the WAL.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Opens the upkeep of a database, on a connection of its own. It gives every change to the archive, if there is one.
pub type UpkeepOpener = Box<
    dyn FnOnce(&WaitPolicy<'_>, Option<Box<dyn ArchiveSink>>) -> Result<Box<dyn Upkeep>> + Send,
>;

/// A database that is ready for service.
pub struct Settled {
    /// What had to be changed, and what a person should check, one sentence each.
    pub messages: Vec<String>,
    /// Opens the upkeep that it needs while programs use it; `None` where the server does that.
    pub upkeep: Option<UpkeepOpener>,
}

/// How a turn of upkeep that did not fail went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpkeepTurn {
    /// The time until the next turn.
    pub pause: Duration,
    /// Whether the work was tried. Where another program held what it needs, this turn says nothing
    /// about whether it would have succeeded.
    pub was_tried: bool,
}

/// Work that keeps a database fit while programs use it, so that none of them has to do it.
pub trait Upkeep: Send {
    /// Does what is due. What waits for other programs ends once `stopping` is set.
    ///
    /// # Errors
    /// Where the work fails. It can be tried again.
    fn turn(&mut self, stopping: &Arc<AtomicBool>) -> Result<UpkeepTurn>;
}

/// Writes one row into `site_logs`, in a transaction of its own.
///
/// # Errors
/// Where the lock was not free in time, or the row cannot be written. Nothing is changed.
pub fn write_site_log(
    store: &mut dyn Store,
    wait: &WaitPolicy<'_>,
    entry: &SiteLogEntry,
) -> Result<()> {
    wait.retry_while_blocked(|| {
        let mut tx = store.lock(wait)?;
        tx.write_site_log(entry)?;
        tx.commit(wait)
    })
}
