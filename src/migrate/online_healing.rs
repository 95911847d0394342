//! Healing while programs use the database: the steps of the plan that take milliseconds, each in a
//! transaction of its own, so that no program waits for the sum of them.

use super::assessment::Assessment;
use super::event::{Event, Outcome};
use super::execute::{Execution, object_of};
use super::facts::{Facts, is_of_object, refuse_damage};
use super::plan::Plan;
use super::step::{Action, Step};
use super::write_site_logs;
use crate::error::Result;
use crate::store::{
    DamageScope, DatabaseIdentity, Inspect, ONLINE_INDEX_ROWS_MAX, Snapshot, Store, WaitPolicy,
};

/// Restores what is missing where that takes milliseconds: tables, columns that can be added,
/// indexes of tables that are not large, and counters of ids. The events are restored objects and
/// advanced counters, and ones that could not be.
///
/// # Errors
/// Where the lock was not free in time, a page is damaged or the database cannot be written. The
/// steps before that are committed.
pub fn heal_online(store: &mut dyn Store, wait: &WaitPolicy<'_>) -> Result<Outcome> {
    let identity = store.identity();
    let snapshot = store.inspect_with_counters()?;
    let mut outcome = Outcome::default();
    for step in small_steps(store, &identity, &snapshot)? {
        if let Some(error) = &step.blocked {
            let object = object_of(&step.action);
            outcome.events.extend(object.map(|o| Event::NotRestored(o, error.clone())));
        } else {
            outcome.events.extend(execute_one(store, &identity, &step, wait)?);
        }
    }
    Ok(outcome)
}

/// The plan's steps that may be small; none where a migration is pending.
fn small_steps(
    database: &mut dyn Inspect,
    identity: &DatabaseIdentity,
    snapshot: &Snapshot,
) -> Result<Vec<Step>> {
    let assessment = Assessment::of(identity.schema, snapshot)?;
    if !assessment.pending.is_empty() || assessment.is_complete() {
        return Ok(Vec::new());
    }
    let facts = Facts::without_rows(database, identity, snapshot, &assessment)?;
    let plan = Plan::decide(identity, snapshot, &assessment, &facts)?;
    let is_small = |step: &Step| {
        matches!(
            step.action,
            Action::CreateTable(_)
                | Action::AddColumn(..)
                | Action::CreateIndex(..)
                | Action::AdvanceCounter(_)
        )
    };
    Ok(plan.steps.into_iter().filter(is_small).collect())
}

/// Executes a step in a transaction of its own, if it is still planned under the lock and small.
fn execute_one(
    store: &mut dyn Store,
    identity: &DatabaseIdentity,
    step: &Step,
    wait: &WaitPolicy<'_>,
) -> Result<Vec<Event>> {
    let mut tx = store.lock(wait)?;
    let snapshot = tx.inspect_with_counters()?;
    let planned = small_steps(&mut *tx, identity, &snapshot)?;
    let is_it = |other: &&Step| match (&other.action, &step.action) {
        // Rows may have come meanwhile.
        (Action::AdvanceCounter(now), Action::AdvanceCounter(then)) => {
            (&now.table, &now.column) == (&then.table, &then.column)
        }
        (now, then) => now == then,
    };
    let Some(step) = planned.iter().find(is_it) else { return Ok(Vec::new()) };
    if let Some(object) = object_of(&step.action) {
        refuse_damage(&tx.find_damage(DamageScope::Table(object.table()))?)?;
        if tx.has_more_rows(object.table(), ONLINE_INDEX_ROWS_MAX)? {
            return Ok(Vec::new());
        }
    }
    let plan = Plan { origin: snapshot.origin(), steps: vec![step.clone()], unchanged: Vec::new() };
    let mut execution = Execution::new(identity, wait, &snapshot);
    match execution.run(&mut *tx, &plan) {
        // The transaction is rolled back.
        Err(error) if is_of_object(&error) && !error.is_disk_full() => {
            let object = object_of(&step.action);
            return Ok(object
                .map(|object| Event::NotRestored(object, error))
                .into_iter()
                .collect());
        }
        done => done?,
    };
    let mut events = execution.events;
    // A column that needs a rebuild after all is left to the next run.
    if !matches!(events.as_slice(), [Event::Restored(_) | Event::CounterAdvanced(_)]) {
        let is_refused =
            |event: &Event| matches!(event, Event::NotRestored(..) | Event::CounterNotAdvanced(..));
        events.retain(is_refused);
        return Ok(events);
    }
    write_site_logs(&mut *tx, &mut events)?;
    tx.commit(wait)?;
    Ok(events)
}
