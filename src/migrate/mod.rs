//! Brings a database to the schema of this binary. A plan is decided from a snapshot and facts
//! about the rows ([`plan`]), printed by a dry run, and executed in one transaction under the
//! migration lock ([`execute`]); what came of it is a list of events ([`event`]), rendered once
//! each for the log and for `site_logs` ([`render`]). Knows the store only through its seam.

mod acceptance;
mod adoption;
pub mod assessment;
mod correction;
pub mod event;
mod execute;
mod facts;
mod initialise;
mod online_healing;
pub mod outlook;
pub mod plan;
mod planner;
pub mod render;
mod statements;
pub mod step;

use std::sync::atomic::Ordering;

use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{
    Change, DatabaseIdentity, Obstacle, OpenDatabase, Origin, SiteLogEntry, Snapshot, Store,
    WaitPolicy, write_site_log,
};
use crate::system::version::VERSION;
pub use acceptance::accept;
use assessment::Assessment;
use cts_schema::catalog::{Drift, Object};
use event::{Event, Outcome, has_changes};
use execute::Execution;
use facts::Facts;
pub use initialise::{Initialised, initialise};
pub use online_healing::heal_online;
use plan::Plan;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Brings the schema up to date.
    Migrate,
    /// Also rebuilds damaged indexes, and enforces the rules that no row violates any longer.
    Repair,
}

/// The plan of a migration, decided without the lock and without changing anything.
///
/// # Errors
/// With why the database cannot be migrated, as a run would.
pub fn plan(database: &mut dyn OpenDatabase) -> Result<Plan> {
    let identity = database.identity();
    let snapshot = database.inspect_with_counters()?;
    let assessment = Assessment::of(identity.schema, &snapshot)?;
    let facts = Facts::gather(database, &identity, &snapshot, &assessment, &[])?;
    let mut plan = Plan::decide(&identity, &snapshot, &assessment, &facts)?;
    correction::add_to_plan(database, &identity, &mut plan)?;
    Ok(plan)
}

/// The plan for a database that does not exist.
///
/// # Errors
/// None is expected: nothing can be in the way.
pub fn plan_new(identity: &DatabaseIdentity) -> Result<Plan> {
    let snapshot = Snapshot::default();
    let assessment = Assessment::of(identity.schema, &snapshot)?;
    Plan::decide(identity, &snapshot, &assessment, &Facts::default())
}

/// Brings the database up to date. Whether there is work is first seen without the lock; what the
/// work is, is decided under it.
///
/// # Errors
/// Nothing was changed, except where the error says that earlier commits remain or that the commit
/// is in doubt.
pub fn run(store: &mut dyn Store, wait: &WaitPolicy<'_>, task: Task) -> Result<Outcome> {
    let identity = store.identity();
    let mut refusals = Refusals::default();
    let (mut outcome, online) =
        wait.retry_while_blocked(|| run_until_done(store, &identity, wait, task, &mut refusals))?;
    build_online(store, &identity, wait, online, &mut outcome)?;
    correction::correct(store, &identity, wait, task, &mut outcome)?;
    Ok(outcome)
}

/// Brings the database up to date inside a transaction that goes on afterwards. Nothing is left for later: a database
/// without rows needs no online index build.
///
/// # Errors
/// Where that fails, or not all of it can be done. The transaction has to be rolled back.
pub fn migrate_in(
    tx: &mut dyn Change,
    identity: &DatabaseIdentity,
    wait: &WaitPolicy<'_>,
) -> Result<()> {
    let snapshot = tx.inspect_with_counters()?;
    let mut execution = Execution::new(identity, wait, &snapshot);
    let mut refusals = Refusals::default();
    let drift = run_locked(tx, identity, &snapshot, Task::Migrate, &mut execution, &mut refusals)?;
    let outcome = Outcome { events: std::mem::take(&mut execution.events), drift };
    match outcome.not_restored().into_iter().next() {
        Some((object, error)) => Err(error.at(object)),
        None => Ok(()),
    }
}

/// What was refused so that the transaction could not go on; the next one leaves it out.
#[derive(Default)]
struct Refusals {
    /// Objects of a database of ours that cannot be put back.
    objects: Vec<Obstacle>,
    /// Why the table `site_logs` takes no row.
    site_log: Option<Error>,
}

impl Refusals {
    fn add(&mut self, objects: Vec<Object>, error: &Error) {
        for object in objects {
            if !self.objects.iter().any(|known| known.object == object) {
                self.objects.push(Obstacle { object, error: error.clone() });
            }
        }
    }

    fn count(&self) -> usize {
        self.objects.len() + usize::from(self.site_log.is_some())
    }
}

/// Runs until nothing more is refused: what keeps one object from being put back does not keep the
/// others, nor the service that can do without it.
fn run_until_done(
    store: &mut dyn Store,
    identity: &DatabaseIdentity,
    wait: &WaitPolicy<'_>,
    task: Task,
    refusals: &mut Refusals,
) -> Result<(Outcome, Vec<Object>)> {
    loop {
        let known = refusals.count();
        let done = run_once(store, identity, wait, task, refusals);
        if done.is_ok() || refusals.count() == known {
            return done;
        }
    }
}

fn run_once(
    store: &mut dyn Store,
    identity: &DatabaseIdentity,
    wait: &WaitPolicy<'_>,
    task: Task,
    refusals: &mut Refusals,
) -> Result<(Outcome, Vec<Object>)> {
    match store.inspect_with_counters() {
        // A repair looks for damage too, and that only under the lock.
        Ok(_) if task == Task::Repair => {}
        Ok(snapshot) => {
            let assessment = Assessment::of(identity.schema, &snapshot)
                .map_err(|error| unchanged(error, identity))?;
            if assessment.is_complete() {
                let outcome = Outcome { drift: assessment.drift, ..Outcome::default() };
                return Ok((outcome, Vec::new()));
            }
        }
        // Another program is writing; the lock below waits for it.
        Err(error) if error.kind == Kind::TryAgain && !wait.cancelled.load(Ordering::Relaxed) => {}
        Err(error) => return Err(unchanged(error, identity)),
    }
    let mut tx = store.lock(wait)?;
    let snapshot = tx.inspect_with_counters().map_err(|error| unchanged(error, identity))?;
    let mut execution = Execution::new(identity, wait, &snapshot);
    let done = run_locked(&mut *tx, identity, &snapshot, task, &mut execution, refusals);
    let done = done.and_then(|drift| {
        if has_changes(&execution.events) { tx.commit(wait).map(|()| drift) } else { Ok(drift) }
    });
    finish(done, execution, identity)
}

/// Keeps the backup of a run that has committed; the one of a run that has not removes itself.
fn finish(
    done: Result<Drift>,
    mut execution: Execution<'_>,
    identity: &DatabaseIdentity,
) -> Result<(Outcome, Vec<Object>)> {
    match done {
        Ok(drift) => {
            if let Some(backup) = &mut execution.backup {
                backup.keep();
            }
            let events = std::mem::take(&mut execution.events);
            Ok((Outcome { events, drift }, execution.into_online_builds()))
        }
        // The server was lost; it knows whether the commit has reached it.
        Err(error) if error.kind == Kind::InDoubt => Err(error.at(&identity.location)),
        Err(error) => {
            let needs_room = error.is_disk_full() && execution.backup.is_some();
            let error = unchanged(error, identity);
            // The estimate of a full disk is that of a run which rebuilds nothing.
            Err(if needs_room { error.remedy(ROOM) } else { error })
        }
    }
}

fn run_locked(
    tx: &mut dyn Change,
    identity: &DatabaseIdentity,
    snapshot: &Snapshot,
    task: Task,
    execution: &mut Execution<'_>,
    refusals: &mut Refusals,
) -> Result<Drift> {
    let assessment = Assessment::of(identity.schema, snapshot)?;
    let facts = match task {
        Task::Migrate => Facts::gather(tx, identity, snapshot, &assessment, &refusals.objects)?,
        Task::Repair => {
            Facts::gather_for_repair(tx, identity, snapshot, &assessment, &refusals.objects)?
        }
    };
    let plan = Plan::decide(identity, snapshot, &assessment, &facts)?;
    execution.events.extend(facts.unchecked.iter().cloned().map(Event::NotChecked));
    if plan.steps.is_empty() {
        return Ok(assessment.drift);
    }
    let drift = execution.run(tx, &plan).inspect_err(|error| {
        if plan.origin == Origin::Ours && facts::is_of_object(error) {
            refusals.add(std::mem::take(&mut execution.failed), error);
        }
    })?;
    if !facts.damaged_indexes.is_empty() {
        facts::refuse_damage(&tx.find_damage(crate::store::DamageScope::Everything)?)?;
    }
    match &refusals.site_log {
        Some(error) => execution.events.push(Event::SiteLogFailed(error.clone())),
        None => write_site_logs(tx, &mut execution.events)
            .inspect_err(|error| refusals.site_log = is_refused(error).then(|| error.clone()))?,
    }
    Ok(drift)
}

/// Writes the events into `site_logs`. A table that somebody has changed, so that it does not take
/// the rows, must not stop the box.
fn write_site_logs(tx: &mut dyn Change, events: &mut Vec<Event>) -> Result<()> {
    let entries = render::site_log_entries(events);
    match tx.attempt(&mut |tx| entries.iter().try_for_each(|entry| tx.write_site_log(entry))) {
        Err(error) if is_refused(&error) && tx.is_open() => {
            events.push(Event::SiteLogFailed(error));
            Ok(())
        }
        other => other,
    }
}

fn is_refused(error: &Error) -> bool {
    matches!(error.kind, Kind::Data | Kind::Permission)
}

/// Builds the indexes that the transaction has left out, because it would have kept programs from
/// writing.
fn build_online(
    store: &mut dyn Store,
    identity: &DatabaseIdentity,
    wait: &WaitPolicy<'_>,
    indexes: Vec<Object>,
    outcome: &mut Outcome,
) -> Result<()> {
    if indexes.is_empty() {
        return Ok(());
    }
    for object in indexes {
        let Object::Index(table, name) = &object else { continue };
        let expected = identity.schema.expected.table(table);
        let Some(index) = expected.and_then(|table| table.index(name)) else { continue };
        match store.build_index(table, index, wait) {
            Ok(exception) => {
                let message = format!("cts {VERSION} built {object} online, while programs wrote");
                match write_site_log(store, wait, &SiteLogEntry { level: "info", message }) {
                    Err(error) if is_refused(&error) => {
                        outcome.events.push(Event::SiteLogFailed(error));
                    }
                    written => written?,
                }
                outcome.events.extend(exception.map(Event::ExceptionRecorded));
                outcome.events.push(Event::BuiltOnline(object));
            }
            Err(error) if facts::is_of_object(&error) => {
                outcome.events.push(Event::NotRestored(object, error));
            }
            // This attempt changed nothing, but what was committed before it did.
            Err(error) => {
                let error = error.at(&object).at(&identity.location);
                return Err(error.leaving(StateLeft::EarlierCommits));
            }
        }
    }
    outcome.drift = store.inspect()?.drift(identity.schema);
    Ok(())
}

/// 2,000,000 indications of 166 MB became 313 MB, beside their copy and the journal of both.
const ROOM: &str = "free some space: the copy, the tables as they are rebuilt and the journal need about four times the \
                    size of the database. Then run it again";

/// Everything runs in one transaction, so an error leaves what was there before.
fn unchanged(error: Error, identity: &DatabaseIdentity) -> Error {
    error.at(&identity.location).leaving(StateLeft::Unchanged)
}
