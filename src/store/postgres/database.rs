//! A PostgreSQL database as it is configured: a URL.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::error::is_lost;
use super::session::PoolSettings;
use super::session::{Sessions, to_write};
use super::store::{INSPECTION_TIMEOUT, Postgres};
use super::url::Target;
use super::{checkup, lock, names};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::schema::{POSTGRES, Schema};
use crate::store::wait::WaitClock;
use crate::store::{
    Backend, Database, Draft, Examination, Holder, Snapshot, Store, WaitPolicy, WaitReason,
};

/// The first and the longest pause while a server is waited for.
const PAUSES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_millis(1000);

/// A PostgreSQL database as it is configured: a URL.
#[derive(Debug)]
pub struct DatabaseServer {
    /// Where it is, and how it is reached.
    pub target: Arc<Target>,
    /// How long to wait for a server that is down.
    pub wait: Duration,
    /// The settings of the pool.
    pub pool: PoolSettings,
}

impl DatabaseServer {
    fn connect(&self, limit: Duration) -> Result<Postgres> {
        let location = self.target.location();
        let sessions = Sessions::new(Arc::clone(&self.target), self.pool)?;
        let warnings = self.target.warnings.iter().map(ToString::to_string).collect();
        let mut store = Postgres { location, sessions, warnings, state: Mutex::default() };
        store.find(limit).map_err(|error| match error.kind {
            // An ignored password file may be why.
            Kind::Permission if !store.warnings.is_empty() => {
                store.at(error.note(store.warnings.join("; ")))
            }
            _ => store.at(error),
        })?;
        Ok(store)
    }

    /// Connects to a server that can be written.
    fn connect_to_write(&self) -> Result<Postgres> {
        let store = self.connect(self.pool.connect)?;
        match store.storage_status().read_only {
            None => Ok(store),
            Some(why) => {
                let remedy = to_write(&why);
                Err(store.at(Error::new(Kind::Unavailable, why).remedy(remedy)))
            }
        }
    }
}

impl Database for DatabaseServer {
    fn backend(&self) -> Backend {
        Backend::Postgresql
    }

    fn schema(&self) -> &'static Schema {
        &POSTGRES
    }

    fn location(&self) -> String {
        self.target.location()
    }

    fn making(&self) -> &'static str {
        "there is no table of CTS; they would be created"
    }

    fn silence(&self) -> &'static str {
        "look at the server, and at the network between"
    }

    fn missing(&self) -> Error {
        Error::new(Kind::Data, "there is no table of CTS")
            .at(self.location())
            .remedy("create them with `cts migrate` or by starting cts, or correct the URL")
    }

    fn draft(&self, _: &WaitPolicy<'_>) -> Result<Option<Box<dyn Draft>>> {
        Ok(None)
    }

    fn open(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Store>> {
        let mut clock = WaitClock::start();
        let mut pause = *PAUSES.start();
        let mut said: Option<Error> = None;
        loop {
            match wait.retry_while_blocked(|| self.connect_to_write()) {
                Err(error) if is_lost(&error) && clock.waited() < self.wait => {
                    // Another reason is said at once.
                    if clock.is_report_due() || said.as_ref() != Some(&error) {
                        (wait.on_wait)(&WaitReason::Other(error.message()), clock.waited());
                        said = Some(error);
                    }
                    wait.pause(pause)?;
                    pause = (pause * 2).min(*PAUSES.end());
                }
                Err(error) if is_lost(&error) => {
                    let waited = humantime::format_duration(self.wait);
                    let error = error.note(format!("waited {waited} (CTS_WAIT)"));
                    return Err(match error.remedy {
                        None => error.remedy("look whether the server runs (`pg_isready`), and at host and port in the URL"),
                        Some(_) => error,
                    });
                }
                Err(error) => return Err(error.leaving(StateLeft::Unchanged)),
                Ok(store) => return Ok(Box::new(store)),
            }
        }
    }

    fn open_read_only(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn Store>>> {
        // A server, unlike a lock, always takes a moment.
        let limit = wait.timeout.map_or(self.pool.connect, |limit| limit.max(INSPECTION_TIMEOUT));
        let store = self.connect(limit.min(self.pool.connect))?;
        let is_there = store.state(|state| state.has_tables);
        Ok(is_there.then(|| Box::new(store) as Box<dyn Store>))
    }

    fn refuse_obstacles(&self, snapshot: &Snapshot) -> Result<()> {
        let store = self.connect(self.pool.connect)?;
        let mut session =
            store.sessions.get(INSPECTION_TIMEOUT).map_err(|error| store.at(error))?;
        names::refuse(&mut session, snapshot).map_err(|error| store.at(error))
    }

    fn examine(&self, _: &WaitPolicy<'_>) -> Examination {
        checkup::examine(self)
    }

    fn migrating(&self) -> Option<Holder> {
        let sessions = Sessions::new(Arc::clone(&self.target), self.pool).ok()?;
        sessions.ask(INSPECTION_TIMEOUT, lock::holder).ok()?
    }
}
