//! The thread that deletes old rows while the service runs. It has no connection in between. Whatever fails in it is a
//! condition and never ends the service.
//!
//! Its priority is that of the service: a thread that waits for the processor while it holds the write lock would have the
//! trading programs wait for it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::health::{Conditions, FigureWatch, Subject};
use crate::retention::{
    ClockDoubt, ClockRecord, PositionAccess, PruneRun, RetentionNotice, RetentionSettings,
    SizeOutcome, TableOutcome, TrustedClock, WalkMemory, WalkTask, announcement_sentence,
    deleted_sentence, give_back, prunable_tables, read_settings,
};
use crate::service::work_thread::{WorkEnd, WorkThread};
use crate::store::retention::{RetentionStore, StoredSetting};
use crate::store::{Database, KeptFree, SiteLogEntry, WaitPolicy};
use crate::system::clock::since_boot;
use crate::system::log::Log;
use crate::system::size::Bytes;

/// The name of the thread.
const THREAD: &str = "retention";
/// The time from the start to the first pass: programs connect first.
const DELAY: Duration = Duration::from_secs(3);
/// The interval between two passes.
const INTERVAL: Duration = Duration::from_secs(60);
/// The interval after damage was met, which does not pass.
const DAMAGE_INTERVAL: Duration = Duration::from_secs(3600);
/// How long a lock is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where free pages are given back: the next pass goes on with it.
const SPACE_LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How long free pages are given back in a pass.
const SPACE_TIME: Duration = Duration::from_secs(30);
/// How often the clock is recorded, and deleted rows are logged.
const RECORD_INTERVAL: Duration = Duration::from_secs(3600);
/// How often deleted rows become a row of `site_logs`.
const ENTRY_INTERVAL: Duration = Duration::from_secs(86_400);
/// How long nothing is looked for that may go for the size, where nothing was found.
const EXCEEDED_INTERVAL: Duration = Duration::from_secs(600);
/// How long the end of the thread is waited for when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts to delete the old rows of a database that this process has open.
///
/// # Errors
/// [`Kind::Io`](crate::error::Kind::Io) if the thread cannot be started; nothing is deleted then.
pub fn start(
    database: Arc<dyn Database>,
    conditions: Conditions,
    figures: FigureWatch,
    log: Log,
) -> Result<WorkThread> {
    for table in prunable_tables() {
        figures.add_deleted(table, 0);
    }
    WorkThread::start(THREAD, STOP_TIMEOUT, move |end| {
        let mut own = AutomaticPruning {
            database,
            conditions,
            figures,
            log,
            end,
            clock: None,
            recorded: None,
            memory: WalkMemory::default(),
            deleted: Vec::new(),
            logged_at: None,
            entered_at: None,
            exceeded: ExceededSize::default(),
        };
        own.run();
    })
}

/// What the thread owns.
struct AutomaticPruning {
    database: Arc<dyn Database>,
    conditions: Conditions,
    figures: FigureWatch,
    log: Log,
    end: WorkEnd,
    clock: Option<TrustedClock>,
    /// The record of the clock as it was read or written last, and when it was written, as the time since the machine
    /// was started.
    recorded: Option<(ClockRecord, Duration)>,
    memory: WalkMemory,
    /// What was deleted and not written into `site_logs` yet.
    deleted: Vec<TableOutcome>,
    logged_at: Option<Duration>,
    entered_at: Option<Duration>,
    exceeded: ExceededSize,
}

impl AutomaticPruning {
    fn run(&mut self) {
        let mut pause = DELAY;
        while self.end.pause(pause) {
            let done = self.pass();
            pause = match &done {
                Err(error) if error.is_damage() => DAMAGE_INTERVAL,
                _ => INTERVAL,
            };
            let done = done.and_then(|()| self.give_back());
            self.conditions.record(Subject::Retention, &done);
            if done.is_ok() {
                self.figures.note_retention();
            }
        }
    }

    /// Gives back to the file system what deleted rows have left, whoever deleted them.
    fn give_back(&self) -> Result<()> {
        let wait = WaitPolicy::silent(SPACE_LOCK_TIMEOUT, &self.end.cancelled);
        match give_back(&*self.database, KeptFree::ForReuse, SPACE_TIME, &wait)? {
            0 => {}
            bytes => {
                self.log.info(format_args!("✓ {} given back to the file system", Bytes(bytes)))
            }
        }
        Ok(())
    }

    /// Deletes what is old, if that was announced a day before; else announces it.
    fn pass(&mut self) -> Result<()> {
        let cancelled = Arc::clone(&self.end.cancelled);
        let wait = WaitPolicy::silent(LOCK_TIMEOUT, &cancelled);
        let mut store = self.database.open_retention(&wait)?;
        let rows = read_settings(&mut *store)?;
        let settings = RetentionSettings::of(&rows);
        self.conditions.record(Subject::RetentionSettings, &settings.fault().map_or(Ok(()), Err));
        let Some(now) = self.now(&mut *store, &rows)? else { return Ok(()) };
        let announced = RetentionNotice::find(&rows).filter(|found| found.covers(&settings, now));
        let task = WalkTask::Delete;
        let mut positions = PositionAccess::open(&*self.database, &settings, task, &wait)?;
        let positions = &mut positions;
        match announced {
            None => self.announce(&mut *store, positions, &settings, now, &wait),
            Some(found) => {
                if let Some(looser) = found.with(&settings) {
                    store.record(&[looser.row()], None)?;
                }
                match now >= found.begins_at() {
                    true => self.prune(&mut *store, positions, &settings, now, &wait),
                    false => Ok(()),
                }
            }
        }
    }

    /// The time by which rows are old; `None` where the clock cannot be right, or nothing proves it.
    fn now(
        &mut self,
        store: &mut dyn RetentionStore,
        rows: &[StoredSetting],
    ) -> Result<Option<SystemTime>> {
        let (wall, found) = (SystemTime::now(), ClockRecord::find(rows));
        // Another process may have written it: a person who says that the clock is right.
        let is_own = self.recorded.as_ref().is_some_and(|(own, _)| Some(own) == found.as_ref());
        let mut doubt = None;
        if self.clock.is_none() || !is_own {
            let started = TrustedClock::start(found.as_ref(), wall, store)?;
            doubt = started.as_ref().err().copied();
            self.clock = started.ok();
            if let Some(set_back) = self.clock.as_ref().and_then(TrustedClock::set_back_sentence) {
                self.log.info(format_args!("Retention: {set_back}"));
            }
        }
        if let Some(clock) = &mut self.clock {
            clock.observe(wall);
            doubt = clock.doubt(wall);
        }
        let doubted = doubt.map_or(Ok(()), |doubt| Err(doubt.error(wall)));
        self.conditions.record(Subject::RetentionClock, &doubted);
        let clock = self.clock.as_ref().filter(|_| doubt != Some(ClockDoubt::BeforeBuild));
        let Some(clock) = clock else { return Ok(None) };
        let is_due =
            self.recorded.as_ref().is_none_or(|(_, written)| is_over(*written, RECORD_INTERVAL));
        if is_due || !is_own {
            let record = clock.record();
            store.record(&[record.row()], None)?;
            // As it is read back.
            self.recorded = ClockRecord::parse(&record.text()).map(|own| (own, since_boot()));
        }
        Ok(Some(clock.now(wall)))
    }

    /// Announces what will be deleted, where there is something.
    fn announce(
        &mut self,
        store: &mut dyn RetentionStore,
        positions: &mut PositionAccess,
        settings: &RetentionSettings,
        now: SystemTime,
        wait: &WaitPolicy<'_>,
    ) -> Result<()> {
        let mut run = PruneRun::new(store, positions, settings, now, wait).gently();
        let found = run.by_age(WalkTask::Count, Some(&mut self.memory))?;
        let size = self.exceeded.of(&mut run, WalkTask::Count, &self.conditions)?;
        let size = size.filter(|size| size.has_more);
        if size.is_none() && found.iter().all(|table| table.rows == 0) {
            return Ok(());
        }
        let all = run.by_age(WalkTask::Count, None)?;
        // What was counted is deleted from the beginning.
        self.memory = WalkMemory::default();
        let announcement = RetentionNotice::of(settings, now);
        let message = announcement_sentence(&all, size.as_ref(), announcement.begins_at());
        let entry = SiteLogEntry { level: "warn", message: format!("retention: {message}") };
        store.record(&[announcement.row()], Some(&entry))?;
        self.log.info(format_args!("Retention: {message}"));
        Ok(())
    }

    fn prune(
        &mut self,
        store: &mut dyn RetentionStore,
        positions: &mut PositionAccess,
        settings: &RetentionSettings,
        now: SystemTime,
        wait: &WaitPolicy<'_>,
    ) -> Result<()> {
        let mut run = PruneRun::new(store, positions, settings, now, wait).gently();
        let tables = run.by_age(WalkTask::Delete, Some(&mut self.memory))?;
        let refused = |table: &TableOutcome| table.refused.clone().or(table.kept.clone());
        let refused = tables.iter().find_map(refused);
        let size = self.exceeded.of(&mut run, WalkTask::Delete, &self.conditions)?;
        let by_size = size.iter().flat_map(|size| size.tables.clone());
        for outcome in tables.into_iter().chain(by_size).filter(|outcome| outcome.rows > 0) {
            self.figures.add_deleted(outcome.table, outcome.rows);
            match self.deleted.iter_mut().find(|known| known.table == outcome.table) {
                Some(known) => known.join(outcome),
                None => self.deleted.push(outcome),
            }
        }
        self.report(store)?;
        refused.map_or(Ok(()), Err)
    }

    /// Logs what was deleted, at most once an hour, and writes it into `site_logs`, at most once a day.
    fn report(&mut self, store: &mut dyn RetentionStore) -> Result<()> {
        let Some(message) = deleted_sentence(&self.deleted, None) else { return Ok(()) };
        if self.logged_at.is_none_or(|at| is_over(at, RECORD_INTERVAL)) {
            self.log.info(format_args!("✓ {message}"));
            self.logged_at = Some(since_boot());
        }
        if self.entered_at.is_none_or(|at| is_over(at, ENTRY_INTERVAL)) {
            let entry = SiteLogEntry { level: "info", message: format!("retention: {message}") };
            store.record(&[], Some(&entry))?;
            self.entered_at = Some(since_boot());
            self.deleted.clear();
        }
        Ok(())
    }
}

/// Whether so much time has passed since then, which is a time since the start of the machine.
fn is_over(since: Duration, interval: Duration) -> bool {
    since_boot().saturating_sub(since) >= interval
}

/// The last time at which the database was too large and nothing more might be deleted.
#[derive(Default)]
struct ExceededSize(Option<(u64, Duration)>);

impl ExceededSize {
    /// Does what is to be done about the size, unless nothing might be deleted of late.
    fn of(
        &mut self,
        run: &mut PruneRun<'_>,
        task: WalkTask,
        conditions: &Conditions,
    ) -> Result<Option<SizeOutcome>> {
        let max_bytes = run.settings.database_max_bytes;
        let is_known =
            |(of, at): (u64, Duration)| Some(of) == max_bytes && !is_over(at, EXCEEDED_INTERVAL);
        if self.0.is_some_and(is_known) {
            return Ok(None);
        }
        let size = run.by_size(task)?;
        let fault = size.as_ref().and_then(SizeOutcome::fault);
        self.0 = max_bytes.filter(|_| fault.is_some()).map(|of| (of, since_boot()));
        conditions.record(Subject::DatabaseSize, &fault.map_or(Ok(()), Err));
        Ok(size)
    }
}
