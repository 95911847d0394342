//! Opens a database for maintenance that goes on beside the programs that use it: deleting old rows, calculating statistics,
//! giving free pages back.

use rusqlite::OpenFlags;

use super::open_here::is_open_here;
use super::restore::refuse_running;
use super::running::other_services;
use super::{DatabaseFile, Sqlite, file};
use crate::error::Result;
use crate::store::{Database, WaitPolicy};

/// A database that is open for maintenance.
pub struct OpenBeside {
    /// The database, on a connection of its own.
    pub store: Sqlite,
    /// Whether the upkeep of a service checkpoints what is written.
    pub has_upkeep: bool,
}

impl DatabaseFile {
    /// Opens it. A commit is not waited for until it is on the disk: what a power failure takes away is done again. Where a
    /// service runs, its upkeep alone checkpoints: it compares the file first, and cannot reset the WAL while another
    /// connection checkpoints.
    ///
    /// # Errors
    /// There is no database, a restore is running, it cannot be opened, or what ends the waiting for a lock.
    pub(super) fn open_beside(&self, wait: &WaitPolicy<'_>) -> Result<OpenBeside> {
        let path = file::resolve(&self.path)?;
        let is_in_service = is_open_here(&path);
        let store = if is_in_service {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
            let mut store = Sqlite::open_with(path, self.access, flags, wait)?;
            store.link = Some(self.path.clone());
            store
        } else {
            refuse_running(self)?;
            if !path.exists() {
                return Err(self.identity().absent_error());
            }
            Sqlite::open(&self.path, self.access, wait)?
        };
        let has_upkeep = is_in_service || !other_services(&store.path).is_empty();
        if has_upkeep {
            store.leave_checkpoints_to_upkeep()?;
        }
        let settings = "PRAGMA synchronous = NORMAL";
        store.conn.execute_batch(settings).map_err(|e| store.error(&e))?;
        Ok(OpenBeside { store, has_upkeep })
    }
}
