//! The PostgreSQL backend: a server, reached through a small pool of connections. The only file
//! of the binary, with those in `postgres/`, that knows the crates `postgres`, `r2d2` and
//! `rustls`; a build without the feature has none of it.

mod backup;
mod checkup;
mod conversion;
#[allow(dead_code, reason = "build.rs compiles this file too and uses the rest")]
mod expected;
mod expression;
mod fault;
mod ids;
mod index;
mod lock;
mod look;
mod names;
mod old;
mod reshape;
mod session;
mod tls;
mod url;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::{
    Backend, Clock, Damage, Database, Draft, Effect, Examination, Holder, LIGHT, Look, Note,
    Patience, Place, PoolState, Rebuilt, Server, Store, Tx, Upkeep, Wait,
};
use crate::catalog::{Column, Index, Table};
use crate::error::{Error, Kind, Result};
use crate::migration::{Migration, Statement, Subject};
use crate::relaxation::{Relaxation, Rule};
use crate::schema::{POSTGRES, Schema, VERSION};
use fault::is_lost;
use lock::Locked;
use look::{Found, RELAXATIONS};
pub use session::PoolSettings;
use session::{Session, Sessions, literal, quoted, to_write};
pub use url::Target;

/// How long a look may take. Less than the prober waits for it.
const LOOK_WITHIN: Duration = Duration::from_millis(2500);
/// How long a migration's statement waits for a lock. While it waits, every program that wants
/// the same table waits behind it; it goes back to the end of the queue then.
const LOCKS_WITHIN: Duration = Duration::from_millis(300);
/// How long a statement of a migration may run, indexes apart.
const STATEMENT_WITHIN: Duration = Duration::from_secs(60);
/// The first and the longest pause while a server is waited for.
const PAUSES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_millis(1000);
/// How often a wish to stop is looked for while the server works.
const BETWEEN_STOPS: Duration = Duration::from_millis(50);

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
            let found = look::look(session, true).map_err(|e| lock::explained(session, e))?;
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
        done.and_then(|()| reshape::forecast(&mut session, expected))
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
        let found = look::find_damage(&mut session)
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

/// A transaction under the migration lock; dropped before its commit, it rolls back.
struct PostgresTx {
    locked: Locked,
    is_open: bool,
    stop: Arc<AtomicBool>,
    /// Dropped, it ends the thread that ends the server's work when it is told to stop.
    _watch: Sender<()>,
}

impl PostgresTx {
    fn begin(
        mut locked: Locked,
        sessions: &Sessions,
        patience: &Patience<'_>,
    ) -> Result<PostgresTx> {
        let session = locked.session();
        let (watch, ended) = mpsc::channel::<()>();
        let (token, stop) = (session.client.cancel_token(), Arc::clone(patience.stop));
        let told = Arc::clone(&stop);
        let sessions = sessions.clone();
        let watching = move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BETWEEN_STOPS) {
                if told.load(Ordering::Relaxed) {
                    sessions.cancel(&token);
                }
            }
        };
        thread::Builder::new()
            .name("watch".into())
            .spawn(watching)
            .map_err(|e| Error::new(Kind::Io, format!("a thread cannot be started: {e}")))?;
        session.run(&format!(
            "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}; SET LOCAL synchronous_commit = on",
            LOCKS_WITHIN.as_millis(),
            STATEMENT_WITHIN.as_millis()
        ))?;
        Ok(PostgresTx { locked, is_open: true, stop, _watch: watch })
    }

    fn session(&mut self) -> &mut Session {
        self.locked.session()
    }

    /// Names who was in the way.
    fn explained(&mut self, error: Error) -> Error {
        if error.kind != Kind::Blocked {
            return error;
        }
        // The transaction can do nothing more; outside it the server can be asked.
        let _ = self.session().run("ROLLBACK");
        self.is_open = false;
        lock::explained(self.session(), error)
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        let done = self.session().run(sql);
        done.map_err(|error| self.explained(error))
    }

    /// Work that may take as long as the tables are large.
    fn unhurried<T>(&mut self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        self.run("SET LOCAL statement_timeout = 0")?;
        let done = work(self.session());
        let done = done.map_err(|error| self.explained(error))?;
        self.run(&format!("SET LOCAL statement_timeout = {}", STATEMENT_WITHIN.as_millis()))?;
        Ok(done)
    }
}

impl Drop for PostgresTx {
    fn drop(&mut self) {
        let is_undone = !self.is_open || self.session().run("ROLLBACK").is_ok();
        // A wish to end its work may still be on its way to the server.
        if !is_undone || self.stop.load(Ordering::Relaxed) {
            self.session().spoil();
        }
    }
}

impl Tx for PostgresTx {
    fn look(&mut self) -> Result<Look> {
        let found = look::look(self.session(), false).map_err(|error| self.explained(error))?;
        if found.invalid.is_empty() {
            return Ok(found.look);
        }
        // What a cut-off build has left is in the way of its name. On a table with many rows it
        // goes when the index is built.
        let heavy = self.heavy_tables(LIGHT)?;
        for (_, index) in found.invalid.iter().filter(|(table, _)| !heavy.contains(table)) {
            self.run(&format!("DROP INDEX {}", quoted(index)))?;
        }
        Ok(found.look)
    }

    fn refuse_taken(&mut self, look: &Look) -> Result<()> {
        names::refuse_taken(self.session(), look)
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        if !deep {
            return Ok(Damage::default());
        }
        self.unhurried(look::find_damaged_indexes)
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.unhurried(|session| session.run(&format!("REINDEX INDEX {index}")))
    }

    fn is_light(&mut self, table: &str, rows: u32) -> Result<bool> {
        Ok(!self.heavy_tables(rows)?.iter().any(|heavy| heavy == table))
    }

    fn heavy_tables(&mut self, rows: u32) -> Result<Vec<String>> {
        let found = look::heavy_tables(self.session(), rows);
        found.map_err(|error| self.explained(error))
    }

    fn execute_all(&mut self, statements: &[Statement<'_>]) -> Result<Option<(usize, usize)>> {
        let texts: Vec<&str> = statements.iter().map(|statement| statement.sql).collect();
        let sql = format!("SAVEPOINT cts_all;\n{};\nRELEASE cts_all", texts.join(";\n"));
        let before = self.session().found_in_place();
        match self.session().count(&sql) {
            Ok(counts) => {
                let found = self.session().found_in_place() - before;
                let rows = statements.iter().zip(counts.iter().skip(1));
                let refused = rows.filter(|(statement, rows)| {
                    **rows == 0 && matches!(statement.subject(), Subject::Rows(_))
                });
                let skipped = found + refused.count();
                Ok(Some((statements.len().saturating_sub(skipped), skipped)))
            }
            Err(error) if error.kind == Kind::Data => {
                self.run("ROLLBACK TO cts_all; RELEASE cts_all").map(|()| None)
            }
            Err(error) => Err(self.explained(error)),
        }
    }

    fn execute(&mut self, statement: &Statement<'_>) -> Result<Effect> {
        let before = self.session().found_in_place();
        let counts = self.session().count(statement.sql).map_err(|error| self.explained(error))?;
        let is_refused = matches!(statement.subject(), Subject::Rows(_)) && counts == [0];
        let is_in_place = is_refused || self.session().found_in_place() > before;
        Ok(if is_in_place { Effect::Skipped } else { Effect::Applied })
    }

    fn add_column(&mut self, table: &str, column: &Column) -> Result<()> {
        let sql = reshape::put_column(table, column);
        self.run(&sql)
    }

    fn back_up(&mut self) -> Result<Option<String>> {
        self.unhurried(backup::back_up)
    }

    fn rebuild(&mut self, expected: &Table, patience: &Patience<'_>) -> Result<Rebuilt> {
        self.unhurried(|session| reshape::reshape(session, expected, patience.on_progress))
    }

    fn secure_ids(&mut self) -> Result<Vec<String>> {
        self.unhurried(ids::secure)
    }

    fn mismatched(&mut self) -> Result<Vec<String>> {
        // PostgreSQL has no foreign key to a column that is not unique.
        Ok(Vec::new())
    }

    fn put_index(
        &mut self,
        table: &str,
        index: &Index,
        patience: &Patience<'_>,
    ) -> Result<Option<Relaxation>> {
        self.unhurried(|session| reshape::put_index(session, table, index, patience.on_progress))
    }

    fn breaking(&mut self, expected: &Table, rule: &Rule) -> Result<u64> {
        self.unhurried(|session| reshape::breaking(session, expected, rule))
    }

    fn relax(&mut self, relaxation: &Relaxation) -> Result<()> {
        let done = reshape::record(self.session(), relaxation);
        done.map_err(|error| self.explained(error))
    }

    fn tighten(&mut self, relaxation: &Relaxation) -> Result<()> {
        let Relaxation { table, rule, .. } = relaxation;
        if let Rule::References(parent) = rule {
            self.unhurried(|session| reshape::validate(session, table, parent))?;
        }
        self.run(&format!(
            "DELETE FROM {RELAXATIONS} WHERE table_name = {} AND rule = {} AND object = {}",
            literal(table),
            literal(rule.kind()),
            literal(rule.object())
        ))
    }

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        self.run("SAVEPOINT cts_attempt")?;
        // What somebody's constraints put off to the commit would fail there.
        let done = work(self).and_then(|()| self.run("SET CONSTRAINTS ALL IMMEDIATE"));
        match &done {
            Ok(()) => self.run("RELEASE cts_attempt")?,
            Err(_) if !self.is_open => {}
            Err(error) if is_lost(error) => {}
            Err(_) => self.run("ROLLBACK TO cts_attempt; RELEASE cts_attempt")?,
        }
        done
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        let counts = self.session().count(&format!(
            "INSERT INTO migrations (name, checksum, executed_at, execution_time_ms, version) \
             VALUES ({}, {}, clock_timestamp(), {}, {})",
            literal(migration.name),
            literal(migration.checksum),
            took.as_millis(),
            literal(VERSION)
        ));
        match counts.map_err(|error| self.explained(error))?.as_slice() {
            [1] => Ok(()),
            _ => Err(Error::new(Kind::Data, "table migrations takes no row")
                .remedy("look for a trigger or a rule on it")),
        }
    }

    fn note(&mut self, note: &Note) -> Result<()> {
        self.run(&format!(
            "INSERT INTO site_logs (level, category, message) VALUES ({}, 'database', {})",
            literal(note.level),
            literal(&note.message)
        ))
    }

    fn commit(mut self: Box<Self>, _: &Patience<'_>) -> Result<()> {
        self.is_open = false;
        self.session().run("COMMIT").map_err(|error| match is_lost(&error) {
            true => Error::new(
                Kind::Unknown,
                format!("{}, and whether the last change was made is not known", error.what),
            )
            .remedy("run it again, which finds out"),
            false => error,
        })
    }
}
