//! Starts the thread that owns the database: it opens it, brings it up to date, proves that it can be
//! written, starts the upkeep, and then answers the prober.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::thread;

use crate::config::{Config, warn_of_other_databases};
use crate::error::{Error, Kind, Result};
use crate::health::{Conditions, Subject};
use crate::migrate::{Initialised, Task, initialise};
use crate::service::appliance::ServiceEvent;
use crate::service::prober::Prober;
use crate::service::upkeep::UpkeepThread;
use crate::store::{Progress, SiteLogEntry, Store, WaitPolicy, WaitReason, write_site_log};
use crate::system::deadline::cannot_start_thread;
use crate::system::log::Log;
use crate::system::progress::{ProgressReporter, log_wait};
use crate::system::version::VERSION;

/// Starts the thread; what comes of it is sent as an event.
///
/// # Errors
///
/// [`Kind::Io`] if the thread cannot be started; the database has not been opened then.
pub fn open_database(
    config: &Config,
    log: Log,
    prober: &Prober,
    cancelled: &Arc<AtomicBool>,
    events: Sender<ServiceEvent>,
) -> Result<()> {
    let (config, prober, cancelled) = (config.clone(), prober.clone(), Arc::clone(cancelled));
    let own = move || match prepare(&config, log, &prober, &cancelled) {
        Ok(Prepared { store, upkeep, is_new }) => {
            let is_ready = || drop(events.send(ServiceEvent::Ready { is_new }));
            prober.run(store, upkeep, log, is_ready);
        }
        Err(error) => drop(events.send(ServiceEvent::Failed(error))),
    };
    let thread = thread::Builder::new().name("database".into()).spawn(own);
    thread.map(|_| ()).map_err(|e| cannot_start_thread(&e))
}

/// A database that is ready for service.
struct Prepared {
    store: Box<dyn Store>,
    upkeep: Option<UpkeepThread>,
    /// Whether there was no database before.
    is_new: bool,
}

/// Everything that must succeed before the service is ready.
fn prepare(
    config: &Config,
    log: Log,
    prober: &Prober,
    cancelled: &Arc<AtomicBool>,
) -> Result<Prepared> {
    prober.set_activity("opening the database and reading its ledger");
    let on_wait = |reason: &WaitReason, waited| prober.set_activity(log_wait(log, reason, waited));
    let reporter = ProgressReporter::new(log);
    let on_progress = |Progress { work, amount }: Progress<'_>| {
        if let Some(text) = reporter.report(&work, amount) {
            prober.set_activity(text);
        }
    };
    let wait = WaitPolicy {
        timeout: None,
        is_configured: false,
        cancelled,
        on_wait: &on_wait,
        on_progress: &on_progress,
    };
    let Initialised { mut store, outcome, is_new, upkeep } =
        initialise(&*config.database, log, &wait, Task::Migrate)?;
    if is_new {
        warn_of_other_databases(config, log);
    }
    let conditions = prober.conditions();
    conditions.record_refused(outcome.not_restored());
    prove_writable(&mut *store, conditions, &wait)?;
    let id = prober.archive().map(|_| store.inspect().map(|found| found.database_id()));
    let archive = prober.archive().zip(id.transpose()?).map(|(archive, id)| archive.sink(id));
    let upkeep = upkeep
        .map(|open| open(&wait, archive))
        .transpose()?
        .map(|upkeep| UpkeepThread::start(upkeep, conditions.clone()))
        .transpose()?;
    Ok(Prepared { store, upkeep, is_new })
}

/// The entry of `site_logs` that records the start.
pub fn start_entry() -> SiteLogEntry {
    SiteLogEntry { level: "info", message: format!("the service started (cts {VERSION})") }
}

/// Records the start in `site_logs`, which takes the write lock and a commit, and rolls back a write that is
/// larger than a cache. A table `site_logs` that refuses rows is a condition and does not stop the start.
fn prove_writable(
    store: &mut dyn Store,
    conditions: &Conditions,
    wait: &WaitPolicy<'_>,
) -> Result<()> {
    let written = write_site_log(store, wait, &start_entry());
    conditions.record(Subject::SiteLog, &written);
    match written {
        Err(Error { kind: Kind::Data, .. }) => {}
        other => other?,
    }
    store.probe_write()
}
