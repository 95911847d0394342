//! The appliance: binds the port, brings the database up to date, proves that it can be written, notifies
//! systemd, serves until a signal, and closes the database.

mod appliance;
mod archive;
mod backup_watch;
mod backups;
mod database_thread;
mod figures;
mod first_start;
mod prober;
mod retention;
mod start;
mod statistics;
mod upkeep;
mod work_thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use crate::config::Config;
use crate::error::Result;
use crate::health::Conditions;
use crate::http::server::HttpServer;
use crate::service::appliance::{Appliance, ServiceEvent};
use crate::service::backup_watch::BackupWatch;
use crate::service::prober::Prober;
use crate::service::start::open_database;
use crate::system::log::Log;
use crate::system::signals::{HangupMeaning, watch_signals};
use crate::system::systemd::Notifier;

/// `cts serve`: runs until a signal asks it to stop.
///
/// # Errors
///
/// Before the service is ready: why it cannot be, with the state that the failed migration left; the port
/// is answered until then. After a signal: the error of a database that could not be closed in time; what
/// was committed remains in its WAL.
pub fn serve(config: &Config, log: Log) -> Result<()> {
    let notifier = Notifier::from_environment();
    let (events, received) = mpsc::channel();
    let cancelled = Arc::new(AtomicBool::new(false));
    let is_hurried = Arc::new(AtomicBool::new(false));
    let (signals, hurry) = (events.clone(), Arc::clone(&is_hurried));
    watch_signals(log, HangupMeaning::of_service(), move |signal| {
        hurry.store(signal.is_repeated, Ordering::Relaxed);
        // The receiver has ended with the service.
        let _ = signals.send(ServiceEvent::Signal(signal));
    })?;

    let conditions = Conditions::new(log);
    let backups = BackupWatch::start(&config.backups, config.database.identity());
    let archive = config.archive.as_ref().map(archive::start).transpose()?;
    let prober = Prober::new(Arc::clone(&config.database), conditions.clone(), backups, archive);
    log.info(format_args!(
        "Database Type: {}",
        config.database.identity().backend.name().to_uppercase()
    ));
    let server = HttpServer::start(config, log, prober.clone(), prober.counters().clone())?;
    let page = match server.lacks_token {
        true => {
            "the status page needs CTS_ADMIN_TOKEN, since other machines can reach this address"
        }
        false => "status page",
    };
    log.info(format_args!("Listening on http://{}/ ({page})", server.address()));
    open_database(config, log, &prober, &cancelled, events)?;

    let appliance = Appliance {
        database: Arc::clone(&config.database),
        backups: config.backups.clone(),
        archive_keep: config.archive.as_ref().map(|settings| settings.keep),
        prunes: config.prunes,
        log,
        notifier,
        server,
        prober,
        conditions,
        cancelled,
        is_hurried,
    };
    let result = appliance.run(&received);
    log.info("Stopped");
    result
}
