//! The appliance from start to stop: bind, bring the database up to date, prove it, tell
//! systemd, serve, and leave everything tidy.

mod prober;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::commands::{announce_wait, initialise};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::http::server::HttpServer;
use crate::migrate::bring_up_to_date;
use crate::migrate::progress::ProgressReporter;
use crate::service::prober::Prober;
use crate::service::upkeep::UpkeepThread;
use crate::store::{Progress, SiteLogEntry, Store, WaitPolicy, WaitReason, write_site_log};
use crate::system::deadline::cannot_start_thread;
use crate::system::log::Log;
use crate::system::signals::{StopSignal, watch_stop_signals};
use crate::system::systemd::Notifier;
use crate::system::version::VERSION;

/// How long requests under way may take after a signal.
const REQUESTS_END_WITHIN: Duration = Duration::from_secs(5);
/// How long the database may take to close; systemd's patience is longer.
const CLOSES_WITHIN: Duration = Duration::from_secs(15);
/// How often systemd is asked for more time while the database is not ready.
const BETWEEN_EXTENSIONS: Duration = Duration::from_secs(5);
/// A look or a write that takes longer counts as a hang.
const HANGS_AFTER: Duration = Duration::from_secs(20);

enum ServiceEvent {
    /// The database is ready.
    Ready,
    /// It cannot be made ready.
    Failed(Error),
    /// A signal asks to stop.
    Signal(StopSignal),
}

/// Runs until a signal. Everything that can fail has a place before `READY=1`.
pub fn serve(config: &Config, log: Log) -> Result<()> {
    let manager = Notifier::from_environment();
    let (events, received) = mpsc::channel();
    let stop = Arc::new(AtomicBool::new(false));
    let signals = events.clone();
    watch_stop_signals(move |signal| drop(signals.send(ServiceEvent::Signal(signal))))?;

    let prober = Prober::new(Arc::clone(&config.database));
    let answers = prober.clone();
    log.info(format_args!(
        "Database Type: {}",
        config.database.identity().backend.name().to_uppercase()
    ));
    let server = HttpServer::start(config, log, move || answers.report())?;
    log.info(format_args!("Listening on http://{}", server.address()));
    own_database(config, log, &prober, &stop, events)?;

    let ended = Appliance { log, manager, server, prober, stop }.run(&received);
    log.info("Stopped");
    ended
}

/// Starts the thread that owns the database.
fn own_database(
    config: &Config,
    log: Log,
    prober: &Prober,
    stop: &Arc<AtomicBool>,
    events: Sender<ServiceEvent>,
) -> Result<()> {
    let (config, prober, stop) = (config.clone(), prober.clone(), Arc::clone(stop));
    let own = move || {
        prober.doing("opening the database and looking for migrations");
        let on_wait = |wait: &WaitReason, waited| prober.doing(announce_wait(log, wait, waited));
        let teller = ProgressReporter::new(log);
        let on_progress = |progress: Progress<'_>| {
            if let Some(text) = teller.tell(progress) {
                prober.doing(text);
            }
        };
        let wait = WaitPolicy {
            timeout: None,
            cancelled: &stop,
            on_wait: &on_wait,
            on_progress: &on_progress,
        };
        let ready = initialise(&config, log, &wait, bring_up_to_date).and_then(|ready| {
            let mut store = ready.store;
            prove_writing(&mut *store, log, &wait)?;
            let upkeep = ready.upkeep.map(|open| open(&wait)).transpose()?;
            let keeper = upkeep.map(|upkeep| UpkeepThread::start(upkeep, log)).transpose()?;
            Ok((store, keeper))
        });
        match ready {
            Ok((store, keeper)) => {
                prober.run(store, keeper, log, || drop(events.send(ServiceEvent::Ready)))
            }
            Err(error) => drop(events.send(ServiceEvent::Failed(error))),
        }
    };
    thread::Builder::new()
        .name("database".into())
        .spawn(own)
        .map(|_| ())
        .map_err(|e| cannot_start_thread(&e))
}

/// Notes the start, which takes the write lock and a commit, and undoes a write that is
/// larger than a cache. A `site_logs` that somebody has changed must not stop the box.
fn prove_writing(store: &mut dyn Store, log: Log, wait: &WaitPolicy<'_>) -> Result<()> {
    let message = format!("the service started (cts {VERSION})");
    match write_site_log(store, wait, &SiteLogEntry { level: "info", message }) {
        Err(error) if error.kind == Kind::Data => {
            log.warn(format_args!("table site_logs does not take a line: {error}"));
        }
        other => other?,
    }
    store.probe_write()
}

struct Appliance {
    log: Log,
    manager: Notifier,
    server: HttpServer,
    prober: Prober,
    stop: Arc<AtomicBool>,
}

impl Appliance {
    fn run(&self, events: &Receiver<ServiceEvent>) -> Result<()> {
        if let Some(signal) = self.until_ready(events)? {
            return self.end(signal);
        }
        self.log.info("✓ Application Ready for Production");
        self.manager.ready(&format!("serving on {}", self.server.address()));
        let signal = self.until_signal(events)?;
        self.end(signal)
    }

    /// Waits until the database is ready (`None`) or a signal comes.
    fn until_ready(&self, events: &Receiver<ServiceEvent>) -> Result<Option<StopSignal>> {
        let mut asked_to_stop = None;
        loop {
            match events.recv_timeout(BETWEEN_EXTENSIONS) {
                Ok(ServiceEvent::Ready) => return Ok(asked_to_stop),
                Ok(ServiceEvent::Signal(signal)) => {
                    asked_to_stop = Some(signal);
                    self.stop.store(true, Ordering::Relaxed);
                }
                Ok(ServiceEvent::Failed(error)) if error.kind == Kind::Stopped => {
                    return Ok(asked_to_stop);
                }
                Ok(ServiceEvent::Failed(error)) => {
                    self.manager.status(&error.to_string());
                    return Err(error);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.manager.extend_start(BETWEEN_EXTENSIONS * 6, &self.prober.what_is_done());
                }
                Err(RecvTimeoutError::Disconnected) => return Err(lost_thread()),
            }
        }
    }

    fn until_signal(&self, events: &Receiver<ServiceEvent>) -> Result<StopSignal> {
        let interval = self.manager.watchdog.map_or(Duration::from_secs(60), |every| every / 3);
        loop {
            match events.recv_timeout(interval) {
                Ok(ServiceEvent::Signal(signal)) => return Ok(signal),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => self.tell_watchdog(interval),
                Err(RecvTimeoutError::Disconnected) => return Err(lost_thread()),
            }
        }
    }

    /// Only while requests get in and the database has lately been looked at.
    fn tell_watchdog(&self, interval: Duration) {
        if self.manager.watchdog.is_none() {
            return;
        }
        let silent = self.prober.silent_for();
        if silent > HANGS_AFTER {
            self.log
                .error(format_args!("the database has not answered for {} s", silent.as_secs()));
        } else if !self.server.answers_itself(interval) {
            self.log.error(format_args!("{} does not answer", self.server.address()));
        } else {
            self.manager.alive();
        }
    }

    fn end(&self, signal: StopSignal) -> Result<()> {
        self.log.info(format_args!("Stopping ({})", signal.name()));
        self.manager.stopping("finishing requests and emptying the WAL");
        self.server.stop(REQUESTS_END_WITHIN);
        self.prober.close(CLOSES_WITHIN)
    }
}

fn lost_thread() -> Error {
    Error::new(Kind::Io, "the thread that owns the database has ended").remedy("start cts again")
}
