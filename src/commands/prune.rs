//! `cts prune`: counts what the settings of retention say is old, and deletes it while programs write.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{compact, interruptible};
use crate::backup::{Compaction, CompactionPlan, plan_compaction};
use crate::config::Config;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::retention::{
    ClockDoubt, ClockRecord, PositionAccess, PruneRun, RetentionSettings, SizeOutcome,
    TableOutcome, TrustedClock, WalkTask, deleted_sentence, give_back, read_settings, rows_text,
    time_text,
};
use crate::store::retention::RetentionStore;
use crate::store::{KeptFree, LongWork, Progress, SiteLogEntry, WaitPolicy};
use crate::system::clock::UtcTime;
use crate::system::log::Log;
use crate::system::output::{print_json, print_lines};
use crate::system::progress::{WorkDone, WorkUnit};
use crate::system::size::Bytes;
use crate::system::visible::Lines;

/// What `cts prune` is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneOptions {
    /// Count only, and change nothing.
    pub dry_run: bool,
    /// Take the machine's clock for right.
    pub trust_clock: bool,
    /// Rebuild the file afterwards, without its free pages.
    pub compact: bool,
    /// Print JSON.
    pub json: bool,
}

/// What was done so that the file becomes smaller.
#[derive(Default)]
struct FreedSpace {
    given_back_bytes: u64,
    compaction: Option<Compaction>,
    /// What a dry run would rebuild.
    planned: Option<CompactionPlan>,
}

/// Counts what is old and, unless this is a dry run, deletes it.
///
/// # Errors
/// Where the database does not exist, cannot be read or written, or is damaged; where the lock was not free in time; where
/// the clock cannot be right. What was deleted before remains so.
pub fn run(config: &Config, log: Log, options: PruneOptions) -> Result<u8> {
    interruptible(config.lock_timeout, log, |wait| {
        let database = &config.database;
        // What stands in its way is met before anything is deleted.
        let planned = options
            .compact
            .then(|| plan_compaction(&**database, &config.backups, wait))
            .transpose()?;
        let mut store = match options.dry_run {
            true => database.read_retention(wait)?,
            false => database.open_retention(wait)?,
        };
        let rows = read_settings(&mut *store)?;
        let settings = RetentionSettings::of(&rows);
        settings.faults.iter().for_each(|fault| log.warn(fault));
        let clock = clock(&mut *store, ClockRecord::find(&rows).as_ref(), options, log)?;
        if options.trust_clock && !options.dry_run {
            store.record(&[clock.record().row()], None)?;
        }
        let now = clock.now(SystemTime::now());
        let task = if options.dry_run { WalkTask::Count } else { WalkTask::Delete };
        let mut positions = PositionAccess::open(&**database, &settings, task, wait)?;
        let pruned = prune(&mut *store, &mut positions, &settings, now, options.dry_run, wait)?;
        // A database that is rebuilt must not be open here.
        drop(positions);
        if !options.dry_run {
            record(&mut *store, &clock, &pruned, log)?;
        }
        drop(store);
        let space = match options.dry_run {
            true => FreedSpace { planned, ..FreedSpace::default() },
            false => free_space(config, planned, log, wait)?,
        };
        match options.json {
            true => print_json(&json_of(&pruned, &space, &settings, now, options).to_string())?,
            false => {
                let mut lines = text_of(&pruned, options.dry_run);
                space_text(&space, &mut lines);
                print_lines(&lines)?;
            }
        }
        Ok(exit_code(&pruned, &settings))
    })
}

/// That of what could not be done.
fn exit_code(pruned: &Pruned, settings: &RetentionSettings) -> u8 {
    let refused = pruned.tables.iter().find_map(|table| table.refused.as_ref());
    let exceeded = pruned.size.as_ref().and_then(SizeOutcome::fault);
    match refused.or(exceeded.as_ref()).or(settings.faults.first()) {
        Some(error) => error.kind.exit_code(),
        None => 0,
    }
}

/// Gives free pages back, or rebuilds the file without them.
fn free_space(
    config: &Config,
    planned: Option<CompactionPlan>,
    log: Log,
    wait: &WaitPolicy<'_>,
) -> Result<FreedSpace> {
    if let Some(plan) = planned {
        let compaction = Some(compact::execute(&plan, config, log, wait)?);
        return Ok(FreedSpace { compaction, ..FreedSpace::default() });
    }
    let database = &*config.database;
    let given_back_bytes = give_back(database, KeptFree::Nothing, Duration::MAX, wait)?;
    Ok(FreedSpace { given_back_bytes, ..FreedSpace::default() })
}

fn space_text(space: &FreedSpace, lines: &mut Lines) {
    if space.given_back_bytes > 0 {
        let bytes = Bytes(space.given_back_bytes);
        lines.add(format_args!("{bytes} given back to the file system"));
    }
    if let Some(done) = &space.compaction {
        compact::add_text(done, lines);
    }
    if let Some(plan) = &space.planned {
        compact::add_plan(plan, lines);
    }
}

/// The clock by which rows are old. A dry run counts by a clock that nothing proves too, and says so.
fn clock(
    store: &mut dyn RetentionStore,
    record: Option<&ClockRecord>,
    options: PruneOptions,
    log: Log,
) -> Result<TrustedClock> {
    let wall = SystemTime::now();
    let started = match options.trust_clock {
        true => Ok(TrustedClock::trusting(wall)),
        false => TrustedClock::start(record, wall, store)?,
    };
    let (clock, doubt) = match started {
        Ok(clock) => (clock.clone(), clock.doubt(wall)),
        Err(doubt) => (TrustedClock::trusting(wall), Some(doubt)),
    };
    if let Some(set_back) = clock.set_back_sentence() {
        log.warn(set_back);
    }
    match doubt {
        Some(doubt @ ClockDoubt::BeforeBuild) => return Err(doubt.error(wall)),
        Some(doubt @ ClockDoubt::Unproved { .. }) if !options.dry_run => {
            return Err(doubt.error(wall));
        }
        Some(doubt) => log.warn(doubt.error(wall)),
        None => {}
    }
    Ok(clock)
}

/// What was counted or deleted.
struct Pruned {
    tables: Vec<TableOutcome>,
    size: Option<SizeOutcome>,
}

fn prune(
    store: &mut dyn RetentionStore,
    positions: &mut PositionAccess,
    settings: &RetentionSettings,
    now: SystemTime,
    is_dry_run: bool,
    wait: &WaitPolicy<'_>,
) -> Result<Pruned> {
    let (total, deleted) = (Cell::new(0), Cell::new(0));
    let mut report = |done| {
        deleted.set(done);
        let amount = WorkDone { done, total: total.get(), unit: WorkUnit::Rows };
        (wait.on_progress)(Progress { work: LongWork::Pruning, amount });
    };
    let mut run = PruneRun::new(store, positions, settings, now, wait);
    let counted = run.by_age(WalkTask::Count, None)?;
    if is_dry_run {
        let size = run.by_size(WalkTask::Count)?;
        return Ok(Pruned { tables: counted, size });
    }
    total.set(counted.iter().map(|table| table.rows).sum());
    run.on_rows = Some(&mut report);
    let tables = if total.get() == 0 { Ok(counted) } else { run.by_age(WalkTask::Delete, None) };
    run.on_rows = None;
    tables
        .and_then(|tables| Ok(Pruned { tables, size: run.by_size(WalkTask::Delete)? }))
        .map_err(|error| after_deleting(deleted.get(), error))
}

/// An error after this many rows were deleted.
fn after_deleting(rows: u64, error: Error) -> Error {
    let were = if rows == 1 { "was" } else { "were" };
    match rows {
        0 => error,
        _ => error
            .leaving(StateLeft::EarlierCommits)
            .note(format!("{} {were} deleted", rows_text(rows, "old "))),
    }
}

/// Records the clock and, where something was deleted, says that in the log and in `site_logs`.
fn record(
    store: &mut dyn RetentionStore,
    clock: &TrustedClock,
    pruned: &Pruned,
    log: Log,
) -> Result<()> {
    let deleted = deleted_sentence(&pruned.tables, pruned.size.as_ref());
    let entry = deleted.map(|message| {
        log.info(format_args!("✓ {message}"));
        SiteLogEntry { level: "info", message: format!("prune: {message}") }
    });
    match store.record(&[clock.record().row()], entry.as_ref()) {
        // Nothing of this run is lost with it.
        Err(error) if entry.is_none() && matches!(error.kind, Kind::TryAgain | Kind::Blocked) => {
            Ok(())
        }
        written => written,
    }
}

fn text_of(pruned: &Pruned, is_dry_run: bool) -> Lines {
    let mut lines = Lines::new();
    let verb = if is_dry_run { "would be deleted" } else { "deleted" };
    for table in &pruned.tables {
        if table.rows > 0 {
            lines.add(format_args!("{}: {}", table.table, table_text(table, verb)));
        }
        if let Some(kept) = table.refused.as_ref().or(table.kept.as_ref()) {
            lines.add(format_args!("{}: not all {verb}: {kept}", table.table));
        }
    }
    if pruned.tables.iter().all(|table| table.rows == 0 && table.refused.is_none()) {
        lines.add("no row is old enough to be deleted");
    }
    if let Some(size) = &pruned.size {
        size_text(size, is_dry_run, &mut lines);
    }
    lines
}

fn table_text(table: &TableOutcome, verb: &str) -> String {
    let times = table.oldest.zip(table.newest);
    let times = times
        .map(|(oldest, newest)| format!(", from {} to {}", time_text(oldest), time_text(newest)));
    format!("{} {verb}{}", rows_text(table.rows, ""), times.unwrap_or_default())
}

fn size_text(size: &SizeOutcome, is_dry_run: bool, lines: &mut Lines) {
    let (before, max) = (Bytes(size.before_bytes), Bytes(size.max_bytes));
    for table in size.tables.iter().filter(|table| table.rows > 0) {
        lines.add(format_args!("{}: {} for the size", table.table, table_text(table, "deleted")));
    }
    match size.fault() {
        Some(fault) => lines.add(fault),
        None if is_dry_run => lines.add(format_args!(
            "rows and indexes occupy {before}, above database_max_bytes ({max}): the oldest log lines, expired indications and closed positions would be deleted until they do not"
        )),
        None => lines.add(format_args!(
            "rows and indexes occupied {before}, above database_max_bytes ({max}); now {}",
            Bytes(size.after_bytes)
        )),
    }
}

fn json_of(
    pruned: &Pruned,
    space: &FreedSpace,
    settings: &RetentionSettings,
    now: SystemTime,
    options: PruneOptions,
) -> Value {
    let set = settings.by_key().into_iter();
    // What cannot be used is null.
    let value = |key, value: Option<u64>| match settings.unusable.contains(&key) {
        true => Value::Null,
        false => json!(value.unwrap_or_default()),
    };
    let set: serde_json::Map<String, Value> =
        set.map(|(key, set)| (key.to_string(), value(key, set))).collect();
    let faults: Vec<String> = settings.faults.iter().map(ToString::to_string).collect();
    let size = pruned.size.as_ref().map(|size| {
        json!({
            "maxBytes": size.max_bytes,
            "beforeBytes": size.before_bytes,
            "afterBytes": size.after_bytes,
            "exceeded": size.is_exceeded(),
            "tables": tables_json(&size.tables),
        })
    });
    json!({
        "dryRun": options.dry_run,
        "now": UtcTime::of(now).rfc3339(),
        "settings": set,
        "faults": faults,
        "tables": tables_json(&pruned.tables),
        "size": size,
        "givenBackBytes": space.given_back_bytes,
        "compaction": space
            .compaction
            .as_ref()
            .map(compact::json_of)
            .or_else(|| space.planned.as_ref().map(compact::plan_json)),
    })
}

fn tables_json(tables: &[TableOutcome]) -> Vec<Value> {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let table = |table: &TableOutcome| {
        json!({
            "table": table.table,
            "rows": table.rows,
            "oldest": table.oldest.map(time_text),
            "newest": table.newest.map(time_text),
            "longestLockMs": milliseconds(table.longest_lock),
            "refused": table.refused.as_ref().map(ToString::to_string),
            "kept": table.kept.as_ref().map(ToString::to_string),
        })
    };
    tables.iter().map(table).collect()
}
