//! Restoring backups of a SQLite database.

use super::DatabaseFile;
use crate::error::{Error, Kind, Result};
use crate::store::{Database, Restore, RestoreDraft, RestoreOrigin, RestorePlace, WaitPolicy};
use crate::system::clock::UtcTime;

impl Restore for DatabaseFile {
    fn restore_place(&self, _: UtcTime, _: &WaitPolicy<'_>) -> Result<RestorePlace> {
        Err(self.not_restored_here())
    }

    fn begin_restore<'d>(
        &'d self,
        _: &RestorePlace,
        _: &RestoreOrigin,
        _: &WaitPolicy<'_>,
    ) -> Result<Box<dyn RestoreDraft + 'd>> {
        Err(self.not_restored_here())
    }

    fn interrupted_restore(&self) -> Option<String> {
        None
    }
}

impl DatabaseFile {
    fn not_restored_here(&self) -> Error {
        Error::new(Kind::Usage, "cts restores no backups of a SQLite database yet")
            .at(self.identity().location)
            .remedy("stop cts and copy the file")
    }
}
