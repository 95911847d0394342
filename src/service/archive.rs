//! The archive of every change, while the service runs: its thread, the one that records how it is doing, and the one that compacts
//! it and restores it for a trial.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::archive::{ArchiveDrill, ArchiveFolder, ArchiveSettings, ArchiveStatus, ArchiveWriter};
use crate::error::{Error, Kind, Result};
use crate::health::{Conditions, Subject};
use crate::service::work_thread::{WorkEnd, WorkThread, be_nice};
use crate::store::WaitPolicy;
use crate::system::clock::unix_milliseconds;
use crate::system::log::Log;

/// How often it is looked how far the archive is.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often that is written for the commands, where nothing else has changed than the time.
const WRITE_INTERVAL: Duration = Duration::from_secs(20);
/// How often aged segments are merged.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(60);
/// The time between two drills, and after a second one in a row that has failed or could not be tried.
const DRILL_INTERVAL: Duration = Duration::from_secs(24 * 3600);
const DRILL_RETRY_INTERVAL: Duration = Duration::from_secs(3600);
/// How long a lock is waited for during a drill.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a drill for which no moment could be seen.
const DRILL_RETRY_PAUSE: Duration = Duration::from_secs(300);
/// The names of the threads.
const WATCH_THREAD: &str = "archive watch";
const UPKEEP_THREAD: &str = "archive upkeep";
/// How long the end of a thread is waited for.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// The trading programs go first.
const NICE: i32 = 10;

/// Starts the thread that writes the archive.
///
/// # Errors
/// The thread cannot be started.
pub fn start(settings: &ArchiveSettings) -> Result<Arc<ArchiveWriter>> {
    ArchiveWriter::start(&ArchiveFolder::at(&settings.folder)).map(Arc::new)
}

/// The running threads. Dropped, they are asked to end, and waited for.
pub struct ArchiveThreads {
    _watch: WorkThread,
    _upkeep: WorkThread,
}

/// Starts the thread that records how the archive is doing, and the one that compacts it and restores it for a trial, which may
/// take long.
///
/// # Errors
/// A thread cannot be started.
pub fn start_threads(
    archive: &Arc<ArchiveWriter>,
    keep: Duration,
    conditions: &Conditions,
    log: Log,
) -> Result<ArchiveThreads> {
    archive.note_drill(ArchiveStatus::last_drill(archive.folder().path()));
    let mut watch = ArchiveWatch {
        archive: Arc::clone(archive),
        conditions: conditions.clone(),
        written: None,
    };
    let watch = move |end: WorkEnd| {
        while end.pause(LOOK_INTERVAL) {
            watch.turn();
        }
    };
    let now = Instant::now();
    let mut upkeep = ArchiveUpkeep {
        archive: Arc::clone(archive),
        keep,
        conditions: conditions.clone(),
        log,
        // At first soon: a service that is started often would never do it.
        compaction_due: now,
        drill_due: now,
        failures: 0,
    };
    let upkeep = move |end: WorkEnd| {
        be_nice(NICE);
        while end.pause(LOOK_INTERVAL) {
            upkeep.turn(&end);
        }
    };
    Ok(ArchiveThreads {
        _watch: WorkThread::start(WATCH_THREAD, STOP_TIMEOUT, watch)?,
        _upkeep: WorkThread::start(UPKEEP_THREAD, STOP_TIMEOUT, upkeep)?,
    })
}

/// Records how the archive is doing.
struct ArchiveWatch {
    archive: Arc<ArchiveWriter>,
    conditions: Conditions,
    /// When the status was last given to be written, and that status.
    written: Option<(Instant, ArchiveStatus)>,
}

impl ArchiveWatch {
    fn turn(&mut self) {
        let state = self.archive.state();
        self.conditions.record(Subject::Archive, &state.problem().map_or(Ok(()), Err));
        let status = self.archive.status();
        let is_same = |written: &ArchiveStatus| {
            (&written.problem, &written.drill, written.makes_base, written.gaps)
                == (&status.problem, &status.drill, status.makes_base, status.gaps)
        };
        let is_known = self
            .written
            .as_ref()
            .is_some_and(|(at, written)| at.elapsed() < WRITE_INTERVAL && is_same(written));
        if !is_known {
            self.archive.write_status(status.clone());
            self.written = Some((Instant::now(), status));
        }
    }
}

/// Compacts the archive, and restores it for a trial.
struct ArchiveUpkeep {
    archive: Arc<ArchiveWriter>,
    keep: Duration,
    conditions: Conditions,
    log: Log,
    compaction_due: Instant,
    /// Not before.
    drill_due: Instant,
    /// How many drills have failed since one has not.
    failures: u32,
}

impl ArchiveUpkeep {
    fn turn(&mut self, end: &WorkEnd) {
        let state = self.archive.state();
        if !state.is_current() {
            return;
        }
        if Instant::now() >= self.compaction_due {
            let compacted = self.compact(end);
            self.compaction_due = Instant::now() + COMPACTION_INTERVAL;
            self.conditions.record(Subject::ArchiveCompaction, &compacted);
        }
        if Instant::now() >= self.drill_due && is_due(state.drill.as_ref()) {
            self.drill(end);
        }
    }

    fn compact(&self, end: &WorkEnd) -> Result<()> {
        while self.archive.compact(self.keep)? && end.pause(Duration::ZERO) {}
        Ok(())
    }

    fn drill(&mut self, end: &WorkEnd) {
        let wait = WaitPolicy::silent(LOCK_TIMEOUT, &end.cancelled);
        let shown = match self.archive.drill(&wait) {
            _ if wait.check_cancelled().is_err() => return,
            // No moment could be seen, or the archive became faulty meanwhile, which is said already.
            Err(error) if error.kind == Kind::TryAgain || self.archive.state().fault.is_some() => {
                self.drill_due = Instant::now() + DRILL_RETRY_PAUSE;
                return;
            }
            Err(error) => Err(error),
            Ok(drill) => {
                self.archive.note_drill(Some(drill.clone()));
                match &drill.failure {
                    Some(failure) => Err(Error::new(Kind::Data, failure.clone())
                        .note("the archive begins anew with a full copy")),
                    None => Ok(drill),
                }
            }
        };
        // The full copy with which the archive begins anew is tried at once; what fails again has a cause that a person has to find.
        self.failures = if shown.is_ok() { 0 } else { self.failures + 1 };
        let pause = if self.failures > 1 { DRILL_RETRY_INTERVAL } else { Duration::ZERO };
        self.drill_due = Instant::now() + pause;
        if let Ok(ArchiveDrill {
            restore_seconds: Some(seconds), compared: Some(compared), ..
        }) = &shown
        {
            self.log.info(format_args!(
                "✓ Archive restored for a trial in {seconds:.1} s: {} of {} tables, {} rows, are those of the live database",
                compared.compared, compared.tables, compared.rows
            ));
        }
        self.conditions.record(Subject::ArchiveDrill, &shown);
    }
}

/// Whether a day has passed since the last drill, or it has failed. One in the future is not believed.
fn is_due(last: Option<&ArchiveDrill>) -> bool {
    let Some(last) = last.filter(|last| last.failure.is_none()) else { return true };
    match u64::try_from(unix_milliseconds() - last.at) {
        Ok(age) => Duration::from_millis(age) >= DRILL_INTERVAL,
        Err(_) => true,
    }
}
