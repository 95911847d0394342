//! The drill: a backup is restored to a temporary place, migrated by this cts, compared with what it was made with, and
//! taken away. A backup that has passed is known to restore, and how long that takes.

use std::path::Path;
use std::time::{Duration, Instant};

use super::folder::{StoredBackup, write_manifest};
use super::manifest::{DrillResult, Manifest};
use super::name::folder_of;
use super::proof::{ExaminedBackup, USE_ANOTHER, examine, refused};
use super::trial_folder::TrialFolder;
use crate::error::{Error, Kind, Result};
use crate::migrate::{self, Task};
use crate::store::{BackupContent, BackupSource, Database, Snapshot, WaitPolicy};
use crate::system::clock::UtcTime;
use cts_schema::catalog::{Drift, Object};

/// What restoring a backup for a trial has shown.
#[derive(Debug)]
pub struct RestoredTrial {
    /// What it holds.
    pub content: BackupContent,
    /// How long it took, from the file to a database that is migrated and compared.
    pub took: Duration,
}

/// Restores a backup of the folder for a trial, and records in its manifest what came of it.
///
/// # Errors
/// Where it could not be tried: no room, no right, `wait` was cancelled. Nothing is recorded then, and nothing left behind.
pub fn drill(
    database: &dyn Database,
    backup: &StoredBackup,
    wait: &WaitPolicy<'_>,
) -> Result<DrillResult> {
    let tried = examine(&backup.path, wait)
        .and_then(|examined| restore_for_trial(database, &examined, folder_of(&backup.path), wait));
    let (restore_seconds, failure) = match tried {
        Ok(trial) => (Some(trial.took.as_secs_f64()), None),
        Err(error) if is_of_backup(&error) => (None, Some(error.message())),
        Err(error) => return Err(error),
    };
    let result = DrillResult { at: UtcTime::now().rfc3339(), restore_seconds, failure };
    record(&backup.path, &backup.manifest, result.clone())?;
    Ok(result)
}

/// Whether the backup is at fault, and not the place where it was to be tried.
pub fn is_of_backup(error: &Error) -> bool {
    error.kind == Kind::Data || error.is_damage()
}

/// Records in a backup's manifest what a drill has shown.
///
/// # Errors
/// If it cannot be written. The one before is in place then.
pub fn record(backup: &Path, manifest: &Manifest, result: DrillResult) -> Result<()> {
    let mut manifest = manifest.clone();
    if result.failure.is_none() {
        manifest.proved_at.clone_from(&result.at);
    }
    manifest.drill = Some(result);
    write_manifest(backup, &manifest).map_err(|e| {
        super::failure::failed(
            backup,
            "the result of the drill cannot be recorded in its manifest",
            &e,
        )
    })
}

/// Restores a backup for a trial, in a new folder within `folder`, and takes it away again.
///
/// # Errors
/// [`Kind::Data`] where the backup is at fault; else why it could not be tried. Nothing is left behind.
pub fn restore_for_trial(
    database: &dyn Database,
    backup: &ExaminedBackup,
    folder: &Path,
    wait: &WaitPolicy<'_>,
) -> Result<RestoredTrial> {
    backup.refuse_other_store(database)?;
    let start = Instant::now();
    let place = TrialFolder::create(folder)?;
    let plain = place.path().join(format!("cts.{}", database.backup_extension()));
    backup.unpack(&plain, wait)?;
    let content = try_out(database, backup, &plain, wait)?;
    drop(place);
    Ok(RestoredTrial { content, took: start.elapsed() })
}

fn try_out(
    database: &dyn Database,
    backup: &ExaminedBackup,
    plain: &Path,
    wait: &WaitPolicy<'_>,
) -> Result<BackupContent> {
    let listed = backup.prove_plain(database, plain, wait)?;
    let at_fault = |error| backup.at_fault(error, plain);
    let trial = database.restore_for_trial(plain, wait).map_err(at_fault)?;
    // What can be read only by restoring it has told nothing of its rows yet.
    let restored = match listed.tables.is_empty() {
        true => trial.prove(wait).map_err(at_fault)?,
        false => listed,
    };
    backup.compare_content(&restored)?;
    let database = trial.database();
    let before = inspect(database, wait).map_err(at_fault)?;
    let migrated = migrate_trial(database, wait).map_err(|error| {
        // What stands in the way of a migration has a remedy of its own.
        let remedy = error.remedy.clone().unwrap_or_else(|| USE_ANOTHER.into());
        at_fault(error).remedy(remedy)
    })?;
    compare_drift(&backup.path, &before, &migrated.drift)?;
    if migrated.has_changed {
        let after = trial.prove(wait).map_err(at_fault)?;
        compare_rows(&backup.path, &restored, &after)?;
    }
    Ok(restored)
}

/// Ledger, catalogue and counters before the migration, and the drift that they have.
struct Before {
    snapshot: Snapshot,
    drift: Drift,
}

fn inspect(database: &dyn Database, wait: &WaitPolicy<'_>) -> Result<Before> {
    let identity = database.identity();
    let opened = database.open_read_only(wait)?.database;
    let snapshot = opened.ok_or_else(|| identity.absent_error())?.inspect_with_counters()?;
    let drift = snapshot.drift(identity.schema);
    Ok(Before { snapshot, drift })
}

/// What the migration has left.
struct MigratedTrial {
    drift: Drift,
    has_changed: bool,
}

/// Brings it up to date as a start of the service would, without its log.
fn migrate_trial(database: &dyn Database, wait: &WaitPolicy<'_>) -> Result<MigratedTrial> {
    let mut store = database.open(wait, &mut |_| Ok(()))?.store;
    let outcome = migrate::run(&mut *store, wait, Task::Migrate)?;
    let has_changed = migrate::event::has_changes(&outcome.events);
    let drift = store.inspect_with_counters()?.drift(store.identity().schema);
    store.settle(wait)?;
    store.close()?;
    Ok(MigratedTrial { drift, has_changed })
}

/// Refuses drift that the backup has only after its migration.
fn compare_drift(path: &Path, before: &Before, after: &Drift) -> Result<()> {
    let was_missing = |object: &Object| {
        before.drift.missing.contains(object)
            || before.snapshot.catalog.table(object.table()).is_none()
    };
    let was_altered = |object: &Object| before.drift.altered.iter().any(|a| a.object == *object);
    let missing = after.missing.iter().find(|object| !was_missing(object));
    let altered = after.altered.iter().find(|a| !was_altered(&a.object));
    let counter = after.counters.iter().find(|fault| !before.drift.counters.contains(fault));
    let what = match (missing, altered, counter) {
        (Some(object), ..) => format!("{object} is missing"),
        (_, Some(altered), _) => altered.to_string(),
        (.., Some(counter)) => counter.to_string(),
        _ => return Ok(()),
    };
    Err(refused(path, &format!("after its migration {what}, which was not so before")))
}

/// Refuses a migration that has lost rows. Rows whose foreign key refers to nothing may become more by one: where an older CTS
/// had no such key, adoption records the exception.
fn compare_rows(path: &Path, before: &BackupContent, after: &BackupContent) -> Result<()> {
    for table in &before.tables {
        let rows = after.tables.iter().find(|t| t.table == table.table).map_or(0, |t| t.rows);
        if rows < table.rows {
            let what = format!(
                "table {} has {} rows, and {rows} after its migration",
                table.table, table.rows
            );
            return Err(refused(path, &what));
        }
    }
    Ok(())
}
