//! Renders plans and events: the text and the JSON of a dry run, the lines of the log, and the rows
//! of `site_logs`.

use serde_json::{Value, json};

use super::event::{Event, MigrationRun, Outcome};
use super::plan::Plan;
use super::step::{Action, Step, StepLine};
use crate::store::schema::Schema;
use crate::store::{DatabaseIdentity, Origin, SiteLogEntry};
use crate::system::count::counts;
use crate::system::log::Log;
use crate::system::version::VERSION;
use crate::system::visible::Lines;
use cts_schema::catalog::{Object, core_tables};

/// The text of a dry run.
pub fn plan_text(identity: &DatabaseIdentity, exists: bool, plan: &Plan) -> Lines {
    let (mut text, location) = (Lines::new(), &identity.location);
    if !exists {
        text.add(format_args!("{location}: {}; {}", identity.absent, identity.creation));
    }
    for step in &plan.steps {
        let line = StepLine(step, plan.origin);
        match (&step.action, plan.origin) {
            (Action::BackUp, Origin::OlderCts) => text.add(format_args!(
                "{location}: of an older CTS; would be backed up beside itself and adopted"
            )),
            (Action::BackUp, _) => text.add(format_args!("{location}: {line}")),
            _ => text.add(line),
        }
    }
    if plan.steps.is_empty() {
        let count = identity.schema.migrations.len();
        text.add(format_args!("{location}: nothing to do, {count} migrations are applied"));
    }
    for alteration in &plan.unchanged {
        let alteration = alteration.with_remedy();
        text.add(format_args!("differs and would stay as it is: {alteration}"));
    }
    text.add("nothing was changed");
    text
}

/// The JSON of a dry run.
pub fn plan_json(identity: &DatabaseIdentity, exists: bool, plan: &Plan) -> String {
    let origin = match plan.origin {
        Origin::Empty => "empty",
        Origin::OlderCts => "older",
        Origin::Ours => "current",
    };
    let unchanged: Vec<String> = plan.unchanged.iter().map(ToString::to_string).collect();
    json!({
        "success": true,
        "database": {
            "type": identity.backend.name(),
            "location": identity.location,
            "exists": exists,
            "origin": origin,
        },
        "steps": plan.steps.iter().map(step_json).collect::<Vec<_>>(),
        "unchanged": unchanged,
    })
    .to_string()
}

fn step_json(step: &Step) -> Value {
    json!({
        "action": step.action.name(),
        "object": step.action.object(),
        "reason": step.reason,
        "rows": step.rows,
        "blocksWriters": step.blocks_writers,
        "dependsOnData": step.depends_on_data,
        "blocked": step.blocked.as_ref().map(ToString::to_string),
    })
}

/// Logs what came of a run.
pub fn log_outcome(log: Log, outcome: &Outcome) {
    let mut events: Vec<&Event> = outcome.events.iter().collect();
    events.sort_by_key(|event| rank(event));
    let (first, last) = events.split_at(events.partition_point(|event| rank(event) < DROPPED));
    log_created(log, &outcome.events);
    first.iter().for_each(|event| log_event(log, event));
    for alteration in &outcome.drift.altered {
        log.warn(alteration.with_remedy());
    }
    last.iter().for_each(|event| log_event(log, event));
}

/// Logs how many objects were created; each of them is a detail.
fn log_created(log: Log, events: &[Event]) {
    let (mut tables, mut columns, mut indexes) = (0, 0, 0);
    for event in events {
        match event {
            Event::Created(Object::Table(_)) => tables += 1,
            Event::Created(Object::Column(..)) => columns += 1,
            Event::Created(Object::Index(..)) => indexes += 1,
            _ => {}
        }
    }
    let parts = [
        (tables, "table", "tables"),
        (columns, "column", "columns"),
        (indexes, "index", "indexes"),
    ];
    if tables + columns + indexes > 0 {
        log.info(format_args!("✓ Created {}", counts(&parts)));
    }
}

/// The rank of a dropped constraint; alterations that stay are logged before those.
const DROPPED: u8 = 7;

/// The log names what happened by kind, not by time.
fn rank(event: &Event) -> u8 {
    match event {
        Event::BackedUp(_) => 0,
        Event::Reindexed(_) => 1,
        Event::Rebuilt { .. } => 2,
        Event::Applied(_) => 3,
        Event::Created(_) | Event::Restored(_) => 4,
        Event::BuiltOnline(_) => 5,
        Event::Corrected(_) => 5,
        Event::NotRestored(..) | Event::NotCorrected(..) => 6,
        Event::ConstraintDropped(_) => DROPPED,
        Event::ExceptionRecorded(_) => 8,
        Event::Enforced(_) => 9,
        Event::CounterAdvanced(_) | Event::CounterNotAdvanced(..) => 10,
        Event::NotChecked(_) => 11,
        Event::SiteLogFailed(_) => 12,
    }
}

fn log_event(log: Log, event: &Event) {
    match event {
        Event::BackedUp(location) => {
            log.info(format_args!("✓ The database as it was: {location}"));
        }
        Event::Reindexed(index) => {
            log.warn(format_args!("index {index} was damaged and has been rebuilt"));
        }
        Event::Rebuilt { table, rows } => {
            log.info(format_args!("✓ table {table} was rebuilt, {rows} rows, all kept"));
        }
        Event::Applied(MigrationRun { name, applied, skipped, took }) => {
            let took_ms = took.as_millis();
            let done =
                counts(&[(*applied, "applied", "applied"), (*skipped, "skipped", "skipped")]);
            log.info(format_args!("✓ {name}: {done} ({took_ms} ms)"));
        }
        Event::Created(object) => log.detail(format_args!("✓ {object} was created")),
        Event::Restored(object) => {
            log.warn(format_args!("{object} was missing and has been put back"));
        }
        Event::BuiltOnline(object) => {
            log.info(format_args!("✓ {object} was built online, while programs wrote"));
        }
        Event::NotRestored(object, error) => {
            log.error(format_args!("{object} is missing and cannot be put back: {error}"));
        }
        Event::Corrected(correction) => {
            log.warn(format_args!("altered table put right: {correction}"));
        }
        Event::NotCorrected(correction, error) => {
            log.warn(format_args!("cannot {correction}: {error}"));
        }
        Event::ConstraintDropped(constraint) => log.warn(format_args!(
            "constraint dropped, because the schema of this version does not have it: {constraint}"
        )),
        Event::ExceptionRecorded(exception) => {
            log.warn(format_args!(
                "constraint exception recorded, so that every row is kept: {exception}"
            ));
        }
        Event::Enforced(exception) => {
            log.info(format_args!("✓ constraint enforced again: {}", exception.rule_text()));
        }
        Event::CounterAdvanced(fault) => {
            log.warn(format_args!("{fault}; they now go on past those of the rows"));
        }
        Event::CounterNotAdvanced(fault, error) => {
            log.error(format_args!("{fault}, and they cannot go on: {error}"));
        }
        Event::NotChecked(unchecked) => log.warn(unchecked),
        Event::SiteLogFailed(error) => {
            log.warn(format_args!("cannot write to table site_logs: {error}"));
        }
    }
}

/// Logs the totals of a run.
pub fn log_totals(log: Log, schema: &Schema, outcome: &Outcome) {
    let applied = outcome.applied();
    let skipped = schema.statements.saturating_sub(applied);
    log.info(format_args!("✓ Unified setup complete: {applied} applied, {skipped} skipped"));
    let core = core_tables().count();
    let missing = |name: &&str| outcome.drift.missing.contains(&Object::Table((*name).into()));
    match core_tables().filter(missing).count() {
        0 => log.info(format_args!("✓ All {core} critical tables verified")),
        lost => log.error(format_args!("{lost} of {core} critical tables are missing")),
    }
}

/// The rows for `site_logs` about a run.
pub fn site_log_entries(events: &[Event]) -> Vec<SiteLogEntry> {
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_key(|event| rank(event));
    let mut entries: Vec<SiteLogEntry> = ordered.into_iter().filter_map(site_log_entry).collect();
    let (mut created, mut restored) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Created(object) => created.push(object.to_string()),
            Event::Restored(object) => restored.push(object.to_string()),
            _ => {}
        }
    }
    for (level, done, objects) in [("info", "created", created), ("warn", "put back", restored)] {
        if !objects.is_empty() {
            let message = format!("cts {VERSION} {done}: {}", objects.join(", "));
            entries.push(SiteLogEntry { level, message });
        }
    }
    entries
}

/// The row about one event. Objects that were created or put back have one row together; what is
/// known only after the transaction has none.
fn site_log_entry(event: &Event) -> Option<SiteLogEntry> {
    let (level, message) = match event {
        Event::BackedUp(location) => ("info", format!("copied the database to {location} first")),
        Event::Reindexed(index) => ("warn", format!("rebuilt damaged index {index}")),
        Event::Rebuilt { table, rows } => {
            ("warn", format!("rebuilt table {table}: {rows} rows, all kept"))
        }
        Event::Applied(MigrationRun { name, applied, skipped, took }) => {
            let took_ms = took.as_millis();
            let done =
                counts(&[(*applied, "applied", "applied"), (*skipped, "skipped", "skipped")]);
            ("info", format!("applied {name}: {done}, {took_ms} ms"))
        }
        Event::ConstraintDropped(rule) => ("warn", format!("dropped constraint: {rule}")),
        Event::ExceptionRecorded(exception) => {
            ("warn", format!("recorded constraint exception: {exception}"))
        }
        Event::Corrected(correction) => {
            ("warn", format!("put an altered table right: {correction}"))
        }
        Event::Enforced(exception) => ("info", format!("enforced constraint again: {exception}")),
        Event::CounterAdvanced(fault) => ("warn", format!("advanced the {fault}")),
        Event::CounterNotAdvanced(..)
        | Event::NotChecked(_)
        | Event::Created(_)
        | Event::Restored(_)
        | Event::BuiltOnline(_)
        | Event::NotRestored(..)
        | Event::NotCorrected(..)
        | Event::SiteLogFailed(_) => return None,
    };
    Some(SiteLogEntry { level, message: format!("cts {VERSION} {message}") })
}
