//! Restoring a backup: what is to be done is decided first, as a list of steps; `--dry-run` prints them, and a run
//! executes them. Until the last one, the database in the place is as it was.

use super::choose::ChosenBackup;
use crate::error::{Error, Kind, Result};
use crate::migrate::{Task, run as migrate};
use crate::store::{
    BackupContent, BackupSource, Database, RestoreDraft, RestoreOrigin, RestorePlace, SiteLogEntry,
    Store, WaitPolicy, interrupted, write_site_log,
};
use crate::system::clock::UtcTime;
use crate::system::version::VERSION;

/// One thing that a restore does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreStep {
    /// Locks programs out of the database in the place.
    LockOut,
    /// Copies the content of the backup apart from the database in the place.
    Fill,
    /// Brings the copy up to the schema of this cts, and checks it.
    Migrate,
    /// Keeps the database that is in the place.
    Keep,
    /// Puts the copy in the place.
    PutInPlace,
}

/// What a restore does, and what it was decided on.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// The backup.
    pub origin: RestoreOrigin,
    /// What the backup was found to hold.
    pub content: BackupContent,
    /// The place.
    pub place: RestorePlace,
    /// The steps, in order.
    pub steps: Vec<RestoreStep>,
}

impl RestorePlan {
    /// Decides the steps.
    fn decide(origin: RestoreOrigin, content: BackupContent, place: RestorePlace) -> RestorePlan {
        let mut steps = vec![RestoreStep::LockOut, RestoreStep::Fill, RestoreStep::Migrate];
        if place.kept_as.is_some() {
            steps.push(RestoreStep::Keep);
        }
        steps.push(RestoreStep::PutInPlace);
        RestorePlan { origin, content, place, steps }
    }

    /// A step as a sentence.
    pub fn describe(&self, step: &RestoreStep) -> String {
        let RestorePlace { location, kept_as, .. } = &self.place;
        match (step, kept_as) {
            (RestoreStep::LockOut, _) => format!("lock programs out of {location}"),
            (RestoreStep::Fill, _) => {
                format!("copy {} into a new database beside it", self.origin.backup)
            }
            (RestoreStep::Migrate, _) => {
                format!(
                    "bring the new database up to the schema of cts {VERSION}, and check all of it"
                )
            }
            (RestoreStep::Keep, Some(kept)) => {
                format!("keep the database that is there now as {kept}")
            }
            (RestoreStep::Keep, None) => "keep nothing".into(),
            (RestoreStep::PutInPlace, _) => {
                format!("put the new database in its place at {location}, in one step")
            }
        }
    }
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What was done.
    pub plan: RestorePlan,
    /// The rows of each table of the restored database.
    pub content: BackupContent,
}

/// Plans to put a proved backup in the place of the database. Nothing is changed.
///
/// # Errors
/// What stands in the way.
pub fn plan(
    database: &dyn Database,
    backup: &ChosenBackup,
    content: BackupContent,
    wait: &WaitPolicy<'_>,
) -> Result<RestorePlan> {
    let origin = RestoreOrigin {
        backup: backup.path.display().to_string(),
        made_at: backup.manifest.as_ref().map(|manifest| manifest.made_at.clone()),
        begun_at: UtcTime::now(),
    };
    let place = database.restore_place(origin.begun_at, wait)?;
    Ok(RestorePlan::decide(origin, content, place))
}

/// Executes the steps of a plan. [`BackUp::lock_backups`](crate::store::BackUp::lock_backups) is held by the caller.
///
/// # Errors
/// The database before is in its place, unless the error says otherwise.
pub fn execute(
    database: &dyn Database,
    plan: RestorePlan,
    source: &dyn BackupSource,
    wait: &WaitPolicy<'_>,
) -> Result<Restored> {
    let mut draft: Option<Box<dyn RestoreDraft + '_>> = None;
    let mut content = plan.content.clone();
    for step in &plan.steps {
        wait.check_cancelled().map_err(|_| interrupted())?;
        match (step, &mut draft) {
            (RestoreStep::LockOut, _) => {
                draft = Some(database.begin_restore(&plan.place, &plan.origin, wait)?);
            }
            (RestoreStep::Fill, Some(draft)) => draft.fill(source, wait)?,
            (RestoreStep::Migrate, Some(draft)) => content = complete(&**draft, &plan, wait)?,
            (RestoreStep::Keep, Some(draft)) => draft.keep_present(wait)?,
            (RestoreStep::PutInPlace, Some(draft)) => draft.put_in_place(wait)?,
            (_, None) => {}
        }
    }
    drop(draft);
    Ok(Restored { plan, content })
}

/// Brings the draft up to date, records the restore in it, and checks all of it. Returns what it holds.
fn complete(
    draft: &dyn RestoreDraft,
    plan: &RestorePlan,
    wait: &WaitPolicy<'_>,
) -> Result<BackupContent> {
    let mut store = draft.database().open(wait, &mut |_| Ok(()))?.store;
    migrate(&mut *store, wait, Task::Migrate)?.refuse_missing_rights()?;
    store.settle(wait)?;
    record(&mut *store, plan, wait)?;
    store.close()?;
    draft.prove(wait)
}

/// Writes what matters later of the restore into the restored database. A table `site_logs` that somebody has changed, so
/// that it does not take the row, must not keep the database from being restored.
fn record(store: &mut dyn Store, plan: &RestorePlan, wait: &WaitPolicy<'_>) -> Result<()> {
    let RestorePlan { origin, place, .. } = plan;
    let made = origin.made_at.as_ref().map(|at| format!(", made {at}")).unwrap_or_default();
    let kept = match &place.kept_as {
        Some(kept) => format!("; the database before is kept as {kept}"),
        None => String::new(),
    };
    let message = format!("restored by cts {VERSION} from {}{made}{kept}", origin.backup);
    match write_site_log(store, wait, &SiteLogEntry { level: "warn", message }) {
        Err(Error { kind: Kind::Data, .. }) => Ok(()),
        written => written,
    }
}
