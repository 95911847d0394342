//! Verifying a backup by hand: everything that a restore would refuse, its companions word by word, and the drill.

use std::path::Path;

use super::companions;
use super::drill::{RestoredTrial, is_of_backup, record, restore_for_trial};
use super::folder::read_manifest;
use super::manifest::{DrillResult, Manifest};
use super::name::folder_of;
use super::proof::{ExaminedBackup, examine};
use crate::error::{Error, Kind, Result};
use crate::store::{Database, WaitPolicy};
use crate::system::clock::UtcTime;
use crate::system::version::VERSION;

/// A backup that was verified.
#[derive(Debug)]
pub struct VerifiedBackup {
    /// Its file.
    pub examined: ExaminedBackup,
    /// What restoring it for a trial has shown.
    pub trial: RestoredTrial,
    /// Why its manifest does not tell so, where there is one.
    pub not_recorded: Option<Error>,
}

/// Verifies a backup. It is restored for a trial in the folder of backups if there is one, else beside the file. Nothing is
/// changed, except that its manifest, where there is one, records what came of it.
///
/// # Errors
/// [`Kind::Data`] with why it is no sound backup of such a database; or why that cannot be found out.
pub fn verify(
    database: &dyn Database,
    file: &Path,
    folder: Option<&Path>,
    wait: &WaitPolicy<'_>,
) -> Result<VerifiedBackup> {
    let _lock = match database.lock_backups(wait) {
        Err(error) if matches!(error.kind, Kind::TryAgain | Kind::Stopped) => return Err(error),
        // A backup can be verified where there is no place for its database.
        lock => lock.ok(),
    };
    let tried = try_restoring(database, file, folder, wait);
    let result = |restore_seconds, failure| DrillResult {
        at: UtcTime::now().rfc3339(),
        restore_seconds,
        failure,
    };
    match tried {
        Ok((examined, trial)) => {
            companions::refuse_changed(&examined.path, &examined.sha256)?;
            let took = Some(trial.took.as_secs_f64());
            let recorded = examined
                .manifest
                .as_ref()
                .map_or(Ok(()), |manifest| record(&examined.path, manifest, result(took, None)));
            Ok(VerifiedBackup { examined, trial, not_recorded: recorded.err() })
        }
        Err(error) => {
            if let Some(manifest) =
                read_manifest(file).filter(|m| is_judged_here(database, m, &error))
            {
                // The error itself says what matters.
                let _ = record(file, &manifest, result(None, Some(error.message())));
            }
            Err(error)
        }
    }
}

/// Whether the error is recorded as a failure of the backup: it is one of the backup itself, and another cts than this one would
/// not restore what this one does not.
fn is_judged_here(database: &dyn Database, manifest: &Manifest, error: &Error) -> bool {
    is_of_backup(error)
        && manifest.database.kind == database.identity().backend.name()
        && manifest.made_by == format!("cts {VERSION}")
}

fn try_restoring(
    database: &dyn Database,
    file: &Path,
    folder: Option<&Path>,
    wait: &WaitPolicy<'_>,
) -> Result<(ExaminedBackup, RestoredTrial)> {
    let examined = examine(file, wait)?;
    let own = folder_of(&examined.path).to_path_buf();
    let tried = match folder.filter(|folder| folder.is_dir() && **folder != own) {
        Some(folder) => match restore_for_trial(database, &examined, folder, wait) {
            Err(error) if is_of_place(&error) => restore_for_trial(database, &examined, &own, wait),
            tried => tried,
        },
        None => restore_for_trial(database, &examined, &own, wait),
    };
    tried.map(|trial| (examined, trial))
}

/// Whether another folder may be better.
fn is_of_place(error: &Error) -> bool {
    matches!(error.kind, Kind::Io | Kind::Permission | Kind::CannotCreate)
}
