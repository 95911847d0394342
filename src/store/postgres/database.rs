//! A PostgreSQL database as it is configured: a URL.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::client_program::ProgramPlaces;
use super::cluster::Cluster;
use super::error::is_lost;
use super::pool::{PoolSettings, SessionPool};
use super::store::{INSPECTION_TIMEOUT, Postgres};
use super::url::{Target, WarningSubject};
use super::{checkup, lock, pooler};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::schema::POSTGRES;
use crate::store::wait::WaitClock;
use crate::store::{
    Backend, Database, DatabaseIdentity, Examination, Holder, OpenFreePages, Opened,
    OpenedReadOnly, Store, WaitPolicy, WaitReason,
};

/// The first and the longest pause while a server is waited for.
const PAUSES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_millis(1000);

/// A PostgreSQL database as it is configured: a URL.
#[derive(Debug)]
pub struct DatabaseServer {
    /// The servers, and how to connect to them.
    pub target: Arc<Target>,
    /// What is known of the servers.
    pub(super) cluster: Arc<Cluster>,
    /// How long to wait for a server that is down.
    pub wait: Duration,
    /// The settings of the pool.
    pub pool: PoolSettings,
    /// Where the programs for backups are looked for.
    pub programs: ProgramPlaces,
}

impl DatabaseServer {
    /// The database at a URL, of which nothing is known yet.
    pub fn new(
        target: Target,
        wait: Duration,
        pool: PoolSettings,
        programs: ProgramPlaces,
    ) -> DatabaseServer {
        let cluster = Arc::new(Cluster::new(&target));
        DatabaseServer { target: Arc::new(target), cluster, wait, pool, programs }
    }

    /// A pool for work that this flag tells to stop.
    ///
    /// # Errors
    /// Those of [`SessionPool::new`].
    pub(super) fn session_pool(&self, stop: &Arc<AtomicBool>) -> Result<SessionPool> {
        let (target, cluster) = (Arc::clone(&self.target), Arc::clone(&self.cluster));
        Ok(SessionPool::new(target, cluster, self.pool)?.stopped_by(stop))
    }

    /// Connects and inspects the database, within `limit`. `stop` ends every wait on its connections.
    pub(super) fn connect(&self, limit: Duration, stop: &Arc<AtomicBool>) -> Result<Postgres> {
        self.connect_with(self.session_pool(stop)?, limit)
    }

    /// The same with connections of this pool.
    fn connect_with(&self, pool: SessionPool, limit: Duration) -> Result<Postgres> {
        let location = self.target.location();
        let warnings = self.target.warnings.iter().map(ToString::to_string).collect();
        let state = Mutex::default();
        let inspection_timeout = INSPECTION_TIMEOUT;
        let mut store = Postgres { location, pool, inspection_timeout, warnings, state };
        let deadline = Instant::now() + limit;
        let found = store.find(limit).map_err(|error| {
            let left = deadline.saturating_duration_since(Instant::now());
            pooler::explain_lost_transaction(&store.pool, error, left)
        });
        found.map_err(|error| match error.kind {
            // A password file that is ignored, or a variable that is not read, may be the reason.
            Kind::Permission => {
                let warnings = self.target.warnings.iter();
                let of_login = warnings.filter(|warning| warning.subject != WarningSubject::Url);
                let notes = of_login.map(ToString::to_string).collect::<Vec<_>>().join("; ");
                store.at(if notes.is_empty() { error } else { error.note(notes) })
            }
            _ => store.at(error),
        })?;
        Ok(store)
    }

    /// Connects to a server that accepts writes. Where it has no table of CTS, they may be created there.
    pub(super) fn connect_to_write(&self, pool: SessionPool) -> Result<Postgres> {
        let mut store = self.connect_with(pool, self.pool.connect)?;
        store.inspection_timeout = self.pool.connect.max(INSPECTION_TIMEOUT);
        if let Some(reason) = store.state(|state| state.read_only) {
            return Err(store.at(reason.error()));
        }
        if !store.state(|state| state.has_tables) {
            self.cluster.refuse_creation().map_err(|error| store.at(error))?;
        }
        Ok(store)
    }

    /// Connects to a server that accepts writes, and waits for one that is down.
    fn connect_until_available(&self, wait: &WaitPolicy<'_>) -> Result<Postgres> {
        let mut clock = WaitClock::start();
        let mut pause = *PAUSES.start();
        let mut reported: Option<Error> = None;
        // One for all attempts: the threads of a pool stay for up to 30 s after it was dropped.
        let pool =
            self.session_pool(wait.cancelled).map_err(|e| e.leaving(StateLeft::Unchanged))?;
        loop {
            let error = match wait.retry_while_blocked(|| self.connect_to_write(pool.clone())) {
                Err(error) if is_lost(&error) => error,
                Err(error) => return Err(error.leaving(StateLeft::Unchanged)),
                Ok(store) => return Ok(store),
            };
            if clock.waited() >= self.wait {
                return Err(self.waited_too_long(error));
            }
            // Another reason is reported at once.
            if clock.is_report_due() || reported.as_ref() != Some(&error) {
                (wait.on_wait)(&WaitReason::Other(error.message()), clock.waited());
                reported = Some(error);
            }
            wait.pause(pause)?;
            pause = (pause * 2).min(*PAUSES.end());
        }
    }

    fn waited_too_long(&self, error: Error) -> Error {
        let waited = humantime::format_duration(self.wait);
        error.note(format!("waited {waited} (CTS_WAIT)"))
    }
}

impl OpenFreePages for DatabaseServer {}

impl Database for DatabaseServer {
    fn identity(&self) -> DatabaseIdentity {
        identity(self.target.location())
    }

    /// A database of a server is created in place, in the transaction of its migrations.
    fn open(
        &self,
        wait: &WaitPolicy<'_>,
        _: &mut dyn FnMut(&mut dyn Store) -> Result<()>,
    ) -> Result<Opened> {
        let store = Box::new(self.connect_until_available(wait)?);
        let messages = self.cluster.take_moved().into_iter().collect();
        Ok(Opened { store, is_new: false, created_folder: None, messages })
    }

    fn open_read_only(&self, wait: &WaitPolicy<'_>) -> Result<OpenedReadOnly> {
        // The timeout of the policy is for locks; connecting to a server always takes a while.
        let limit = wait.timeout.map_or(self.pool.connect, |limit| limit.max(INSPECTION_TIMEOUT));
        let store = self.connect(limit.min(self.pool.connect), wait.cancelled)?;
        let has_tables = store.state(|state| state.has_tables);
        Ok(OpenedReadOnly { database: Some(Box::new(store)), has_tables })
    }

    fn prove_writable(&self) -> Result<()> {
        self.connect_to_write(self.session_pool(&Arc::default())?).map(drop)
    }

    fn examine(&self, wait: &WaitPolicy<'_>) -> Examination {
        checkup::examine(self, wait)
    }

    fn migrating(&self) -> Option<Holder> {
        let pool = self.session_pool(&Arc::default()).ok()?;
        pool.run_within(INSPECTION_TIMEOUT, lock::holder).ok()?
    }
}

/// The identity of the database at a URL, given without its secrets.
pub fn identity(location: String) -> DatabaseIdentity {
    DatabaseIdentity {
        backend: Backend::Postgresql,
        schema: &POSTGRES,
        location,
        absent: "there is no table of CTS",
        creation: "they would be created",
        absent_remedy: "create them with `cts migrate` or by starting cts, or correct the URL",
        no_answer_remedy: "check the server and the network to it",
    }
}
