//! The PostgreSQL backend: a server, reached through a small pool of connections. The only file
//! of the binary, with those in `postgres/`, that knows the crates `postgres`, `r2d2` and
//! `rustls`; a build without the feature has none of it.

mod backup;
mod checkup;
mod conversion;
mod error;
mod exceptions;
mod existing_table;
mod index;
mod inspect;
mod lock;
mod names;
mod rebuild;
mod refusals;
mod sequences;
mod session;
mod tls;
mod transaction;
mod url;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::wait::Clock;
use super::{
    Backend, Damage, Database, Draft, Examination, Holder, Look, Patience, Place, PoolState,
    Rebuilt, Server, Store, Tx, Upkeep, Wait,
};
use crate::error::{Error, Kind, Result};
use crate::store::schema::{POSTGRES, Schema};
use cts_schema::catalog::{Column, Index, Table};
use cts_schema::constraint_exception::Relaxation;
use error::is_lost;
use inspect::Found;
use lock::Locked;
pub use session::PoolSettings;
use session::{Sessions, to_write};
use transaction::PostgresTx;
pub use url::Target;

/// How long a look may take. Less than the prober waits for it.
const LOOK_WITHIN: Duration = Duration::from_millis(2500);
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
        let warnings = self.target.warnings.clone();
        let mut store = Postgres { location, sessions, warnings, state: Mutex::default() };
        store.find(limit).map_err(|error| match error.kind {
            // An ignored password file may be why.
            Kind::Permission if !store.warnings.is_empty() => {
                store.at(error.leaving(&store.warnings.join("; ")))
            }
            _ => store.at(error),
        })?;
        Ok(store)
    }

    /// Connects to a server that can be written.
    fn connect_to_write(&self) -> Result<Postgres> {
        let store = self.connect(self.pool.connect)?;
        match store.place().read_only {
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
        let what = format!("{}: there is no table of CTS", self.location());
        Error::new(Kind::Data, what)
            .remedy("create them with `cts migrate` or by starting cts, or correct the URL")
    }

    fn draft(&self, _: &Patience<'_>) -> Result<Option<Box<dyn Draft>>> {
        Ok(None)
    }

    fn open(&self, patience: &Patience<'_>) -> Result<Box<dyn Store>> {
        let mut clock = Clock::start();
        let mut pause = *PAUSES.start();
        let mut said = String::new();
        loop {
            match patience.until_unblocked(|| self.connect_to_write()) {
                Err(error) if is_lost(&error) && clock.waited() < self.wait => {
                    // Another reason is said at once.
                    if clock.is_time_to_speak() || said != error.what {
                        said.clone_from(&error.what);
                        (patience.on_wait)(&Wait::Other(error.what), clock.waited());
                    }
                    patience.pause(pause)?;
                    pause = (pause * 2).min(*PAUSES.end());
                }
                Err(error) if is_lost(&error) => {
                    let waited = humantime::format_duration(self.wait);
                    let error = error.leaving(&format!("waited {waited} (CTS_WAIT)"));
                    return Err(match error.remedy {
                        None => error.remedy("look whether the server runs (`pg_isready`), and at host and port in the URL"),
                        Some(_) => error,
                    });
                }
                Err(error) => return Err(error.leaving("nothing was changed")),
                Ok(store) => return Ok(Box::new(store)),
            }
        }
    }

    fn open_read_only(&self, patience: &Patience<'_>) -> Result<Option<Box<dyn Store>>> {
        // A server, unlike a lock, always takes a moment.
        let limit = patience.limit.map_or(self.pool.connect, |limit| limit.max(LOOK_WITHIN));
        let store = self.connect(limit.min(self.pool.connect))?;
        let is_there = store.state(|state| state.has_tables);
        Ok(is_there.then(|| Box::new(store) as Box<dyn Store>))
    }

    fn refuse_obstacles(&self, look: &Look) -> Result<()> {
        let store = self.connect(self.pool.connect)?;
        let mut session = store.sessions.get(LOOK_WITHIN).map_err(|error| store.at(error))?;
        names::refuse(&mut session, look).map_err(|error| store.at(error))
    }

    fn examine(&self, _: &Patience<'_>) -> Examination {
        checkup::examine(self)
    }

    fn migrating(&self) -> Option<Holder> {
        let sessions = Sessions::new(Arc::clone(&self.target), self.pool).ok()?;
        sessions.ask(LOOK_WITHIN, lock::holder).ok()?
    }
}

/// An open PostgreSQL database.
pub struct Postgres {
    location: String,
    sessions: Sessions,
    /// What in the configuration a person should look at.
    warnings: Vec<String>,
    state: Mutex<State>,
}

/// What the last look has found beside ledger and catalogue.
#[derive(Clone, Debug, Default)]
struct State {
    read_only: Option<String>,
    has_tables: bool,
    server: Option<Server>,
}

impl Postgres {
    fn at(&self, error: Error) -> Error {
        if error.what.contains(&self.location) { error } else { error.at(&self.location) }
    }

    fn state<T>(&self, of: impl FnOnce(&mut State) -> T) -> T {
        of(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find(&mut self, limit: Duration) -> Result<Found> {
        let (found, server) = self.sessions.ask(limit, |session| {
            let found = inspect::look(session, true).map_err(|e| lock::explained(session, e))?;
            if found.read_only.is_some() {
                // What sets it so may hold for this connection only, as a role's setting does.
                session.spoil();
            }
            let found_at = &session.server;
            let (name, started) = (found_at.name.clone(), found_at.started.clone());
            Ok((found, Server { name, started }))
        })?;
        self.state(|state| {
            state.read_only.clone_from(&found.read_only);
            state.has_tables = !found.look.catalog.is_empty();
            state.server = Some(server);
        });
        Ok(found)
    }
}

impl Store for Postgres {
    fn backend(&self) -> Backend {
        Backend::Postgresql
    }

    fn schema(&self) -> &'static Schema {
        &POSTGRES
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn look(&mut self) -> Result<Look> {
        self.find(LOOK_WITHIN).map(|found| found.look).map_err(|error| self.at(error))
    }

    fn lock<'s>(&'s mut self, patience: &Patience<'_>) -> Result<Box<dyn Tx + 's>> {
        let locked = Locked::take(&self.sessions, patience).map_err(|error| self.at(error))?;
        let tx = PostgresTx::begin(locked, &self.sessions, patience);
        tx.map(|tx| Box::new(tx) as Box<dyn Tx>).map_err(|error| self.at(error))
    }

    fn try_write(&mut self) -> Result<()> {
        // A number that no row of a program has, another one each time, so that two who try at
        // once do not wait for one another.
        let sql = "BEGIN; \
             INSERT INTO site_logs (id, level, category, message) \
             VALUES (-1 - (random() * 9e15)::bigint, 'info', 'database', 'a write that is undone'); ROLLBACK";
        let tried = self.sessions.ask(LOOK_WITHIN, move |session| {
            session.run(sql).inspect_err(|_| {
                let _ = session.run("ROLLBACK");
            })
        });
        match tried {
            // Locks are no fault, nor is a table that lacks or refuses rows: looks tell that.
            Err(error) if matches!(error.kind, Kind::Blocked | Kind::TryAgain | Kind::Data) => {
                Ok(())
            }
            other => other.map_err(|error| self.at(error)),
        }
    }

    fn place(&self) -> Place {
        let read_only = self.state(|state| state.read_only.clone());
        let (connections, idle, max) = self.sessions.state();
        Place { read_only, pool: Some(PoolState { connections, idle, max }), ..Place::default() }
    }

    fn server(&self) -> Option<Server> {
        self.state(|state| state.server.clone())
    }

    fn forecast(&mut self, expected: &Table) -> Result<Rebuilt> {
        let mut session = self.sessions.get(LOOK_WITHIN).map_err(|error| self.at(error))?;
        // It may take as long as the table is large.
        session.spoil();
        let done = session.run("SET statement_timeout = 0");
        done.and_then(|()| rebuild::forecast(&mut session, expected))
            .map_err(|error| self.at(error))
    }

    fn can_add(&self, found: &Table, column: &Column, rows: u64) -> bool {
        let has_key = found.columns.iter().any(|column| column.key > 0);
        let fits_rows = !column.not_null || column.default.is_some();
        !(column.key > 0 && has_key) && (rows == 0 || fits_rows)
    }

    fn discard_backup(&self, _: &str) {
        // The copies were made in the transaction, and went with it.
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        if !deep {
            return Ok(Damage::default());
        }
        let mut session = self.sessions.get(LOOK_WITHIN).map_err(|error| self.at(error))?;
        let found = inspect::find_damage(&mut session)
            .and_then(|damage| session.limit_statements().map(|()| damage));
        if found.is_err() {
            session.spoil();
        }
        found.map_err(|error| self.at(error))
    }

    fn settle(&mut self, _: &Patience<'_>) -> Result<Vec<String>> {
        Ok(self.warnings.clone())
    }

    fn upkeep(&self, _: &Patience<'_>) -> Result<Option<Box<dyn Upkeep>>> {
        // Autovacuum does it, on the server.
        Ok(None)
    }

    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        patience: &Patience<'_>,
    ) -> Result<Option<Relaxation>> {
        index::build(&self.sessions, table, index, patience)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
