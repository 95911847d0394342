//! Backups of a PostgreSQL database.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::database::DatabaseServer;
use crate::error::{Error, Kind, Result};
use crate::store::{
    BackUp, BackupContent, BackupLock, BackupSubject, Database, TrialDatabase, WaitPolicy,
};

impl BackUp for DatabaseServer {
    fn backup_extension(&self) -> &'static str {
        "dump"
    }

    fn default_backup_folder(&self) -> Option<PathBuf> {
        None
    }

    fn lock_backups(&self, _: &WaitPolicy<'_>) -> Result<BackupLock> {
        Err(self.not_made_here())
    }

    fn backup_subject(&self, _: &WaitPolicy<'_>) -> Result<BackupSubject> {
        Err(self.not_made_here())
    }

    fn copy_to(&self, _: &Path, _: &File, _: &WaitPolicy<'_>) -> Result<()> {
        Err(self.not_made_here())
    }

    fn prove_backup(&self, _: &Path, _: &WaitPolicy<'_>) -> Result<BackupContent> {
        Err(self.not_made_here())
    }

    fn restore_for_trial(&self, _: &Path, _: &WaitPolicy<'_>) -> Result<Box<dyn TrialDatabase>> {
        Err(self.not_made_here())
    }
}

impl DatabaseServer {
    fn not_made_here(&self) -> Error {
        Error::new(Kind::Usage, "cts makes no backups of a PostgreSQL database yet")
            .at(self.identity().location)
            .remedy("use pg_dump")
    }
}
