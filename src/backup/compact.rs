//! Making the file of a database smaller: after a proved backup, it is rebuilt beside itself, proved equal, and takes the
//! place of the one before. Until then the one before is in its place.

use std::path::Path;

use super::folder::BackupFolder;
use super::follow_up::follow_up;
use super::make::{BackupTarget, MadeBackup, lock, make_locked};
use super::name::folder_of;
use super::room::refuse_full_disk;
use super::settings::BackupSettings;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{CompactionPlace, Database, RebuiltDatabase, RestoreOrigin, WaitPolicy};
use crate::system::clock::UtcTime;

/// What is to be done, and what it was decided on.
#[derive(Clone, Debug)]
pub struct CompactionPlan {
    /// The database.
    pub place: CompactionPlace,
    /// The folder that the backup goes into.
    pub folder: BackupFolder,
}

/// A database that was rebuilt, and the backup that was made before.
#[derive(Debug)]
pub struct Compaction {
    /// The backup.
    pub backup: MadeBackup,
    /// The database.
    pub rebuilt: RebuiltDatabase,
}

/// Decides whether the database can be rebuilt now. Nothing is changed.
///
/// # Errors
/// Programs have it open, by name; it is on a server; there is no folder for the backup; or there is no room beside it.
pub fn plan_compaction(
    database: &dyn Database,
    settings: &BackupSettings,
    wait: &WaitPolicy<'_>,
) -> Result<CompactionPlan> {
    let place = database.compaction_place(wait)?;
    let Some(folder) = &settings.folder else {
        return Err(Error::new(
            Kind::Config,
            "no folder is set for the backup that is made before",
        )
        .leaving(StateLeft::Unchanged)
        .remedy("set CTS_BACKUP_DIR"));
    };
    let plan = CompactionPlan { place, folder: BackupFolder::at(folder) };
    plan.refuse_full_disk()?;
    Ok(plan)
}

impl CompactionPlan {
    /// The room is that of the new file, beside the present one, which stays until the new one has taken its place.
    fn refuse_full_disk(&self) -> Result<()> {
        let folder = folder_of(Path::new(&self.place.location));
        let what = "the rebuilt database, beside the present one,";
        let checked = refuse_full_disk(folder, what, self.place.needed_bytes);
        checked.map_err(|error| error.leaving(StateLeft::Unchanged))
    }

    /// Makes the backup, and rebuilds the database.
    ///
    /// # Errors
    /// The backup cannot be made or proved, or as [`Compact::compact`](crate::store::Compact::compact). The database before
    /// is in its place, unless the error says otherwise.
    pub fn execute(
        &self,
        database: &dyn Database,
        settings: &BackupSettings,
        wait: &WaitPolicy<'_>,
    ) -> Result<Compaction> {
        let held = lock(database, wait)?;
        let subject = database.backup_subject(wait)?;
        let target = BackupTarget::Folder(&self.folder);
        let backup = make_locked(database, &held, subject, target, settings.compress, wait)?;
        // The rules may keep fewer backups; what cannot be deleted now is deleted after the next one.
        let _ = follow_up(database, settings, &backup.backup, &held, wait);
        drop(held);
        self.refuse_full_disk()?;
        let origin = RestoreOrigin {
            backup: backup.backup.path.display().to_string(),
            made_at: Some(backup.backup.manifest.made_at.clone()),
            begun_at: UtcTime::now(),
        };
        let rebuilt = database.compact(&origin, wait)?;
        Ok(Compaction { backup, rebuilt })
    }
}
