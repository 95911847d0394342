//! Restoring a backup: what is to be done is decided first, as a list of steps; `--dry-run` prints them, and a run
//! executes them. Until the last one, the database in the place is as it was.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::name::folder_of;
use super::proof::ExaminedBackup;
use super::room::RESERVE_BYTES;
use crate::error::{Cause, Error, Kind, Result, StateLeft};
use crate::migrate::{Task, run as migrate};
use crate::store::{
    Backend, BackupContent, BackupSource, Database, RestoreDraft, RestoreOrigin, RestorePlace,
    SiteLogEntry, Store, WaitPolicy, interrupted, write_site_log,
};
use crate::system::clock::UtcTime;
use crate::system::size::Bytes;
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
    /// The kind of database.
    pub backend: Backend,
    /// The backup.
    pub origin: RestoreOrigin,
    /// What the backup was found to hold; `None` where it is built and proved only while it is restored.
    pub content: Option<BackupContent>,
    /// The place.
    pub place: RestorePlace,
    /// The steps, in order.
    pub steps: Vec<RestoreStep>,
}

impl RestorePlan {
    /// Decides the steps. A server restores into an empty schema, in which nothing is kept or replaced.
    fn decide(
        backend: Backend,
        origin: RestoreOrigin,
        content: Option<BackupContent>,
        place: RestorePlace,
    ) -> RestorePlan {
        let mut steps = vec![RestoreStep::LockOut, RestoreStep::Fill, RestoreStep::Migrate];
        if place.kept_as.is_some() {
            steps.push(RestoreStep::Keep);
        }
        if backend == Backend::Sqlite {
            steps.push(RestoreStep::PutInPlace);
        }
        RestorePlan { backend, origin, content, place, steps }
    }

    /// A step as a sentence.
    pub fn describe(&self, step: &RestoreStep) -> String {
        let RestorePlace { location, kept_as, .. } = &self.place;
        let backup = &self.origin.backup;
        match (step, self.backend) {
            (RestoreStep::LockOut, Backend::Sqlite) => format!("lock programs out of {location}"),
            (RestoreStep::LockOut, Backend::Postgresql) => {
                format!("keep other restores away from {location}")
            }
            (RestoreStep::Fill, Backend::Sqlite) => {
                format!("copy {backup} into a new database beside it")
            }
            (RestoreStep::Fill, Backend::Postgresql) => {
                format!("restore {backup} into the empty schema, in one transaction")
            }
            (RestoreStep::Migrate, _) => {
                format!("bring it up to the schema of cts {VERSION}, and check all of it")
            }
            (RestoreStep::Keep, _) => {
                let kept = kept_as.as_deref().unwrap_or_default();
                format!("keep the database that is there now as {kept}")
            }
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

/// Proves a backup and plans to put it in the place of the database. Nothing is changed.
///
/// # Errors
/// It is no sound backup of such a database, or what stands in the way.
pub fn plan(
    database: &dyn Database,
    backup: &ExaminedBackup,
    wait: &WaitPolicy<'_>,
) -> Result<RestorePlan> {
    let location = database.identity().location;
    refuse_itself(&backup.path, Path::new(&location))?;
    let folder = Path::new(&location).parent().filter(|folder| folder.is_dir());
    let content = backup.prove(database, folder.unwrap_or(folder_of(&backup.path)), wait)?;
    refuse_newer(database, backup, &content)?;
    let origin = RestoreOrigin {
        backup: backup.path.display().to_string(),
        made_at: backup.manifest.as_ref().map(|manifest| manifest.made_at.clone()),
        begun_at: UtcTime::now(),
    };
    plan_of(database, origin, Some(content), backup.content_bytes, wait)
}

/// Plans to put a database in the place that is built only then, of so many bytes at most, and proved before it takes the place.
/// `name` says what it is.
///
/// # Errors
/// What stands in the way.
pub fn plan_unbuilt(
    database: &dyn Database,
    name: String,
    size_bytes: u64,
    wait: &WaitPolicy<'_>,
) -> Result<RestorePlan> {
    let origin = RestoreOrigin { backup: name, made_at: None, begun_at: UtcTime::now() };
    plan_of(database, origin, None, size_bytes, wait)
}

fn plan_of(
    database: &dyn Database,
    origin: RestoreOrigin,
    content: Option<BackupContent>,
    needed: u64,
    wait: &WaitPolicy<'_>,
) -> Result<RestorePlan> {
    let place = database.restore_place(origin.begun_at, wait)?;
    if let Some(free) = place.free_bytes.filter(|free| *free < needed.saturating_add(RESERVE_BYTES))
    {
        let (needed, free, reserve) = (Bytes(needed), Bytes(free), Bytes(RESERVE_BYTES));
        let what = format!(
            "the restored database needs about {needed} beside the one that is kept, and {free} are free there, of which {reserve} are to stay free"
        );
        return Err(Error::new(Kind::Io, what)
            .at(place.location)
            .caused_by(Cause::DiskFull)
            .leaving(StateLeft::Unchanged)
            .remedy("free some space on that disk"));
    }
    Ok(RestorePlan::decide(database.identity().backend, origin, content, place))
}

/// Refuses a backup whose ledger knows a migration that this cts does not. A migration that was edited is refused when the
/// copy is brought up to date.
fn refuse_newer(
    database: &dyn Database,
    backup: &ExaminedBackup,
    content: &BackupContent,
) -> Result<()> {
    let schema = database.identity().schema;
    let is_known = |name: &String| {
        let mut known = schema.migrations.iter().chain([&schema.fallback]);
        known.any(|migration| migration.name == *name)
    };
    let Some(name) = content.migrations.iter().find(|name| !is_known(name)) else { return Ok(()) };
    let maker = backup.manifest.as_ref().map_or("a newer cts", |manifest| &manifest.made_by);
    let what =
        format!("is newer than this cts ({VERSION}), which does not know its migration {name}");
    Err(Error::new(Kind::Data, what)
        .at(backup.path.display())
        .leaving(StateLeft::Unchanged)
        .remedy(format!(
            "restore it with the version that made it, {maker}, or use an older backup"
        )))
}

/// Refuses a backup that is the very file in the place.
fn refuse_itself(backup: &Path, location: &Path) -> Result<()> {
    let file = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    match (file(backup), file(location)) {
        (Some(one), Some(other)) if one == other => {
            Err(Error::new(Kind::Usage, "is the database itself, not a backup of it")
                .at(backup.display())
                .leaving(StateLeft::Unchanged)
                .remedy("name a backup (`cts backups` lists them)"))
        }
        _ => Ok(()),
    }
}

/// Executes the steps of a plan.
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
    let mut content = plan.content.clone().unwrap_or_default();
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
