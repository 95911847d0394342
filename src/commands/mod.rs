//! The verbs of the command line, each a thin shell round the store, the engine and the
//! report: what they print, log and return as an exit code.

pub mod check;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::config::Config;
use crate::error::Result;
use crate::health::render::drift_json;
use crate::health::{Report, Surroundings, examine};
use crate::migrate::progress::ProgressReporter;
use crate::migrate::{Outcome, Plan, bring_up_to_date, refuse_obstacles, repair as repair_all};
use crate::store::schema::Schema;
use crate::store::{
    DatabaseIdentity, OpenDatabase, Origin, Progress, Snapshot, Store, UpkeepOpener, WaitPolicy,
    WaitReason,
};
use crate::system::log::Log;
use crate::system::output::print;
use crate::system::signals::stop_flag;
use crate::system::version::VERSION;
use cts_schema::catalog::{Column, Drift, Object, Table, core_tables};
use cts_schema::constraint_exception::ConstraintException;

/// A database that is up to date and ready for service.
pub struct Initialised {
    /// The open database.
    pub store: Box<dyn Store>,
    /// What was done.
    pub outcome: Outcome,
    /// Opens its upkeep, where it needs one.
    pub upkeep: Option<UpkeepOpener>,
}

/// Opens the database, creating it where there is none, brings it up to date by `work` and makes
/// it fit for service. What was done is logged after it is done.
pub fn initialise(
    config: &Config,
    log: Log,
    wait: &WaitPolicy<'_>,
    work: fn(&mut dyn Store, &WaitPolicy<'_>) -> Result<Outcome>,
) -> Result<Initialised> {
    let mut built = None;
    let opened = config.database.open(wait, &mut |store| {
        built = Some(bring_up_to_date(store, wait)?);
        Ok(())
    })?;
    let mut store = opened.store;
    let DatabaseIdentity { schema, location, .. } = store.identity();
    log.info(format_args!("Database: {location}"));
    let (files, statements) = (schema.migrations.len(), schema.statements);
    log.detail(format_args!(
        "cts {VERSION} brings {files} migrations with {statements} statements"
    ));
    // A database that was just created is inspected too.
    let done = work(&mut *store, wait)?;
    let built = built.filter(|_| opened.is_new && done.applied() == 0);
    let outcome = built.unwrap_or(done);
    announce_outcome(log, &outcome);
    let settled = store.settle(wait)?;
    for message in settled.messages {
        log.info(message);
    }
    announce_totals(log, schema, &outcome);
    Ok(Initialised { store, outcome, upkeep: settled.upkeep })
}

fn announce_outcome(log: Log, outcome: &Outcome) {
    if let Some(backup) = &outcome.backup {
        log.info(format_args!("✓ The database as it was: {}", backup.location()));
    }
    for index in &outcome.reindexed {
        log.warn(format_args!("index {index} was damaged and has been built anew"));
    }
    for (table, rows) in &outcome.rebuilt {
        log.info(format_args!("✓ table {table} was rebuilt, {rows} rows, all kept"));
    }
    for run in &outcome.runs {
        let (name, applied, skipped) = (run.name, run.applied, run.skipped);
        let took = run.took.as_millis();
        log.info(format_args!("✓ {name}: {applied} applied, {skipped} skipped ({took} ms)"));
    }
    for object in &outcome.put_back {
        log.warn(format_args!("{object} was missing and has been put back"));
    }
    for object in &outcome.built {
        log.info(format_args!("✓ {object} was built while programs went on"));
    }
    for (object, error) in &outcome.left {
        log.error(format_args!("{object} is missing and cannot be put back: {error}"));
    }
    for alteration in &outcome.drift.altered {
        log.warn(alteration);
    }
    for rule in &outcome.dropped {
        log.warn(format_args!(
            "no longer holds, since the trading programs do not keep to it: {rule}"
        ));
    }
    for exception in &outcome.exceptions {
        log.warn(format_args!("relaxed, so that no row is lost: {exception}"));
    }
    for exception in &outcome.enforced {
        log.info(format_args!("✓ tightened: {}", exception.rule_text()));
    }
    if let Some(error) = &outcome.unnoted {
        log.warn(format_args!("table site_logs does not take a line of it: {error}"));
    }
}

fn announce_totals(log: Log, schema: &Schema, outcome: &Outcome) {
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

/// Logs what is waited for, and returns it as a sentence.
pub fn announce_wait(log: Log, wait: &WaitReason, waited: Duration) -> String {
    let text = format!("waiting for {wait}, for {} s so far", waited.as_secs());
    log.warn(&text);
    text
}

/// Runs `work` with a patience that ends at the first SIGTERM or SIGINT; the second one
/// ends the process.
fn interruptible<T>(
    config: &Config,
    log: Log,
    work: impl FnOnce(&WaitPolicy<'_>) -> Result<T>,
) -> Result<T> {
    let stop = stop_flag()?;
    let on_wait = |wait: &WaitReason, waited| drop(announce_wait(log, wait, waited));
    let teller = ProgressReporter::new(log);
    let on_progress = |progress: Progress<'_>| drop(teller.tell(progress));
    work(&WaitPolicy {
        timeout: Some(config.lock_timeout),
        cancelled: &stop,
        on_wait: &on_wait,
        on_progress: &on_progress,
    })
}

/// `cts migrate`.
pub fn migrate(config: &Config, log: Log) -> Result<u8> {
    log.info(format_args!(
        "Database Type: {}",
        config.database.identity().backend.name().to_uppercase()
    ));
    interruptible(config, log, |wait| {
        let ready = initialise(config, log, wait, bring_up_to_date)?;
        ready.store.close()?;
        Ok(0)
    })
}

/// `cts migrate --dry-run`.
pub fn plan(config: &Config) -> Result<u8> {
    let identity = config.database.identity();
    let (path, schema) = (&identity.location, identity.schema);
    let mut text = String::new();
    let stop = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(config.lock_timeout, &stop);
    let opened = config.database.open_read_only(&wait)?;
    if !opened.has_tables {
        let _ = writeln!(text, "{path}: {}; {}", identity.absent, identity.creation);
    }
    let mut store = opened.database;
    let snapshot = match &mut store {
        Some(store) => store.inspect()?,
        None => Snapshot::default(),
    };
    let plan = Plan::of(schema, &snapshot)?;
    if let Some(store) = store.as_deref_mut().filter(|_| snapshot.origin() != Origin::Ours) {
        refuse_obstacles(schema, &plan, store)?;
    }
    let is_older = snapshot.origin() == Origin::OlderCts;
    if is_older {
        let _ =
            writeln!(text, "{path}: of an older CTS; would be copied beside itself and adopted");
    }
    for migration in &plan.pending {
        let count = migration.statements().len();
        let _ = writeln!(text, "would apply {} ({count} statements)", migration.name);
    }
    let mut rebuilt = Vec::new();
    match &mut store {
        Some(store) if is_older => {
            for table in schema.expected.tables.iter() {
                plan_table(&mut **store, table, &plan.drift, &mut text)?;
            }
        }
        Some(store) => rebuilt = plan_rebuilds(&mut **store, &snapshot, &plan.drift, &mut text)?,
        None => {}
    }
    let stays = |object: &Object| !rebuilt.iter().any(|table| table == object.table());
    if !is_older && plan.pending.is_empty() {
        for object in plan.drift.missing.iter().filter(|object| stays(object)) {
            let _ = writeln!(text, "would put back {object}");
        }
    }
    if plan.is_empty() {
        let _ = writeln!(
            text,
            "{path}: nothing to do, {} migrations are applied",
            schema.migrations.len()
        );
    }
    if !is_older {
        for alteration in plan.drift.altered.iter().filter(|a| stays(&a.object)) {
            let _ = writeln!(text, "differs and would stay as it is: {alteration}");
        }
    }
    print(&(text + "nothing was changed\n"))?;
    Ok(0)
}

/// The tables that would be rebuilt, because a column that is missing cannot be added to them.
fn plan_rebuilds(
    store: &mut dyn OpenDatabase,
    snapshot: &Snapshot,
    drift: &Drift,
    text: &mut String,
) -> Result<Vec<String>> {
    let mut rebuilt = Vec::new();
    for table in store.identity().schema.expected.tables.iter() {
        let Some(found) = snapshot.catalog.table(&table.name) else { continue };
        let is_missing = |column: &&Column| {
            let object = Object::Column(table.name.to_string(), column.name.to_string());
            drift.missing.contains(&object)
        };
        let missing: Vec<&Column> = table.columns.iter().filter(is_missing).collect();
        let backend = store.identity().backend;
        let fit = |has_rows| missing.iter().all(|c| backend.can_add_column(found, c, has_rows));
        let must = !fit(false) || !fit(true) && store.has_more_rows(&table.name, 0)?;
        if must {
            if rebuilt.is_empty() {
                let _ = writeln!(
                    text,
                    "{}: would be copied beside itself first",
                    store.identity().location
                );
            }
            plan_table(store, table, drift, text)?;
            rebuilt.push(table.name.to_string());
        }
    }
    Ok(rebuilt)
}

/// What giving a table its shape would do, with the rows that are there.
fn plan_table(
    store: &mut dyn OpenDatabase,
    table: &Table,
    drift: &Drift,
    text: &mut String,
) -> Result<()> {
    let of_it = |object: &&Object| object.table().eq_ignore_ascii_case(&table.name);
    let missing: Vec<&Object> = drift.missing.iter().filter(of_it).collect();
    let altered: Vec<&Object> = drift.altered.iter().map(|a| &a.object).filter(of_it).collect();
    if let [Object::Table(name)] = missing.as_slice() {
        let _ = writeln!(text, "would create table {name}");
        return Ok(());
    }
    if missing.is_empty() && altered.is_empty() {
        return Ok(());
    }
    let forecast = store.forecast(table)?;
    let is_index = |object: &&&Object| matches!(object, Object::Index(..));
    let indexes = missing.iter().chain(&altered).filter(is_index).count();
    let changed = altered.iter().filter(|object| !is_index(object)).count();
    let added = missing.iter().filter(|object| !is_index(object)).count();
    let (name, rows) = (&table.name, forecast.rows);
    let _ = if changed + added > 0 {
        writeln!(
            text,
            "would rebuild table {name} ({rows} rows, all kept): {added} columns added, {changed} columns or constraints changed, {indexes} indexes made"
        )
    } else {
        writeln!(text, "would make {indexes} indexes on table {name} ({rows} rows)")
    };
    for rule in forecast.dropped {
        let _ = writeln!(text, "  would no longer hold: {rule}");
    }
    for exception in forecast.exceptions {
        let _ = writeln!(text, "  would relax: {exception}");
    }
    Ok(())
}

/// `cts status`.
pub fn status(config: &Config, as_json: bool) -> Result<u8> {
    let report = match open_read_only(config, config.lock_timeout)? {
        Some(mut store) => examine(&mut *store, Surroundings::default())?,
        None => Report::unreachable(&*config.database, &config.database.identity().absent_error()),
    };
    print(&if as_json {
        report.status_json() + "\n"
    } else {
        report.status_text(&config.database.identity().location)
    })?;
    Ok(u8::from(!report.is_complete()))
}

/// `cts verify`.
pub fn verify(config: &Config, as_json: bool) -> Result<u8> {
    let Some(mut store) = open_read_only(config, config.lock_timeout)? else {
        return Err(config.database.identity().absent_error());
    };
    let snapshot = store.inspect()?;
    let drift = snapshot.drift(store.identity().schema);
    print(&if as_json {
        drift_json(&drift, &snapshot.exceptions) + "\n"
    } else {
        drift_text(store.identity().schema, &drift, &snapshot.exceptions)
    })?;
    Ok(u8::from(!drift.is_none()))
}

/// `cts repair`.
pub fn repair(config: &Config, log: Log) -> Result<u8> {
    if open_read_only(config, Duration::ZERO).is_ok_and(|store| store.is_none()) {
        return Err(config.database.identity().absent_error());
    }
    interruptible(config, log, |wait| {
        let Initialised { mut store, outcome, .. } = initialise(config, log, wait, repair_all)?;
        let (exceptions, schema) = (store.inspect()?.exceptions, store.identity().schema);
        store.close()?;
        print(&drift_text(schema, &outcome.drift, &exceptions))?;
        Ok(u8::from(!outcome.drift.is_none()))
    })
}

fn drift_text(schema: &Schema, drift: &Drift, exceptions: &[ConstraintException]) -> String {
    let mut text = String::new();
    for object in &drift.missing {
        let _ = writeln!(text, "missing: {object}");
    }
    for alteration in &drift.altered {
        let _ = writeln!(text, "altered: {alteration}");
    }
    for object in &drift.extra {
        let _ = writeln!(text, "extra:   {object} (left alone)");
    }
    for exception in exceptions {
        let _ = writeln!(text, "relaxed: {exception}");
    }
    let expected = schema.expected;
    let indexes: usize = expected.tables.iter().map(|table| table.indexes.len()).sum();
    if drift.is_none() {
        let _ = writeln!(
            text,
            "no drift: {} tables and {indexes} indexes are as expected",
            expected.tables.len()
        );
    } else {
        let _ = writeln!(
            text,
            "drift: {} missing, {} altered; `cts repair` puts back what is missing",
            drift.missing.len(),
            drift.altered.len()
        );
    }
    text
}

/// Opens the database for a look, waiting at most `limit` for who has locked all of it;
/// `None` where there is none.
pub fn open_read_only(config: &Config, limit: Duration) -> Result<Option<Box<dyn OpenDatabase>>> {
    let stop = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(limit, &stop);
    let opened = config.database.open_read_only(&wait)?;
    Ok(opened.database.filter(|_| opened.has_tables))
}
