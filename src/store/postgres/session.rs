//! Connections: to the first server of the URL that answers and fits, set up for what cts does,
//! and kept in a pool that opens none in advance. What cts asks is answered within a limit,
//! whatever the server does: a server that hangs must not hang its watcher.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{CancelToken, Client, Config, SimpleQueryMessage};
use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};

use super::error::{self as fault, is_lost};
use super::tls::Tls;
use super::url::{ChannelBinding, Endpoint, Host, Password, SessionAttrs, Target};
use crate::error::{Error, Kind, Result};
use crate::store::sql::quoted;
use cts_schema::catalog::Catalog;

/// Locks that a look waits for. A look that is held up longer says so.
const INSPECTION_LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the server works on one statement of a look.
const INSPECTION_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the server looks whether we are still there, while it works.
const CONNECTION_CHECK: Duration = Duration::from_secs(1);
/// A peer that is silent for so long is gone. (Idle, then probes.)
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// What was sent and is not acknowledged for so long is lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);
/// Questions that may wait for hanging servers at the same time, and attempts to connect that may
/// wait for one.
const HANGING_AT_MOST: usize = 4;
/// A connection is replaced after so long. What new ones cannot do any more (log in, write) is
/// found so, as the trading programs would find it.
const OLD: Duration = Duration::from_secs(30);
/// How long the server may take to end the connection that a new one replaces: where there are few
/// places, it may need that one.
const PLACE_FREE_WITHIN: Duration = Duration::from_millis(500);
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);
/// SQLSTATEs of notices which say that an object is in place: duplicate table (and index),
/// column, object. (PostgreSQL documentation, appendix A)
const IN_PLACE: [&str; 3] = ["42P07", "42701", "42710"];

/// The settings of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections at most.
    pub max: u32,
    /// How long an idle one is kept.
    pub idle: Duration,
    /// How long to wait for one.
    pub connect: Duration,
}

/// What a connection knows of its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionServer {
    /// Host and port, as the URL has them.
    pub name: String,
    /// `server_version_num`, such as 150004.
    pub version: u32,
    /// When it was started; another one after a restart or a failover.
    pub started: String,
    /// Why it cannot be written: a standby, or set read-only.
    pub read_only: Option<String>,
    /// The schema in which the tables are.
    pub schema: String,
}

/// One connection.
pub struct Session {
    /// The connection itself.
    pub client: Client,
    /// Its server.
    pub server: SessionServer,
    /// The catalogue as it was last read.
    pub known: Option<Known>,
    in_place: Arc<AtomicUsize>,
    is_broken: bool,
    since: Instant,
    /// What it logged in with, which no error may hold.
    secret: Option<Password>,
}

impl Session {
    /// Runs statements and gives the rows of each, as text.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<Vec<Row>>> {
        let mut results = vec![Vec::new()];
        for message in self.client.simple_query(sql).map_err(|e| self.fault(&e))? {
            match message {
                SimpleQueryMessage::Row(row) => {
                    let cells = (0..row.len()).map(|at| row.get(at).map(str::to_string));
                    if let Some(rows) = results.last_mut() {
                        rows.push(Row(cells.collect()));
                    }
                }
                SimpleQueryMessage::CommandComplete(_) => results.push(Vec::new()),
                _ => {}
            }
        }
        Ok(results)
    }

    /// Runs statements without looking at what they give.
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).map_err(|e| self.fault(&e))
    }

    /// Runs statements, and returns how many rows each of them changed.
    pub fn count(&mut self, sql: &str) -> Result<Vec<u64>> {
        let messages = self.client.simple_query(sql).map_err(|e| self.fault(&e))?;
        let count = |message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(rows),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(count).collect())
    }

    /// Lets a statement run as long as one of a look may, as at first.
    pub fn limit_statements(&mut self) -> Result<()> {
        self.run(&format!("SET statement_timeout = {}", INSPECTION_STATEMENT_TIMEOUT.as_millis()))
    }

    /// How often the server has said that an object is in place already.
    pub fn found_in_place(&self) -> usize {
        self.in_place.load(Ordering::Relaxed)
    }

    /// Lets the pool close it instead of keeping it.
    pub fn mark_broken(&mut self) {
        self.is_broken = true;
    }

    fn fault(&self, cause: &postgres::Error) -> Error {
        fault::error(cause, self.secret.as_ref())
    }

    fn is_usable(&self) -> bool {
        !self.is_broken && !self.client.is_closed()
    }

    fn is_old(&self) -> bool {
        self.since.elapsed() >= OLD
    }
}

/// A catalogue that was read.
#[derive(Clone)]
pub struct Known {
    /// Moves with every change to it.
    pub fingerprint: String,
    /// The catalogue.
    pub catalog: Catalog,
    /// Indexes of our tables that a cut-off build has left behind: table, index.
    pub invalid: Vec<(String, String)>,
}

/// A row as text; `None` is NULL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Option<String>>);

impl Row {
    /// A cell; nothing where it is NULL.
    pub fn text(&self, at: usize) -> &str {
        self.get(at).unwrap_or_default()
    }

    /// A cell.
    pub fn get(&self, at: usize) -> Option<&str> {
        self.0.get(at)?.as_deref()
    }

    /// A boolean cell.
    pub fn is(&self, at: usize) -> bool {
        self.text(at) == "t"
    }

    /// A cell that holds a number.
    pub fn number<N: std::str::FromStr + Default>(&self, at: usize) -> N {
        self.text(at).parse().unwrap_or_default()
    }
}

/// The one error of all hosts.
fn refused(refusals: &[Error]) -> Error {
    // One that may be there later decides whether it is worth waiting.
    let worth_waiting = refusals.iter().position(is_lost).unwrap_or_default();
    let texts: Vec<String> = refusals.iter().map(Error::message).collect();
    let what = texts.join("; ");
    match refusals.get(worth_waiting) {
        Some(error) => Error { what, location: Vec::new(), cause: None, ..error.clone() },
        None => Error::new(Kind::Config, "the URL names no host"),
    }
}

/// A host with its port, for people.
pub fn name(host: &Host) -> String {
    match &host.endpoint {
        Endpoint::Tcp(name) if name.contains(':') => format!("[{name}]:{}", host.port),
        Endpoint::Tcp(name) => format!("{name}:{}", host.port),
        Endpoint::Unix(folder) => format!("{}/.s.PGSQL.{}", folder.display(), host.port),
    }
}

fn connect_to(target: &Target, tls: &Tls, host: &Host) -> Result<Session> {
    let mut config = config(target, host);
    let in_place = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&in_place);
    config.notice_callback(move |notice| {
        if IN_PLACE.contains(&notice.code().code()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    config.ssl_mode(tls.negotiation(host));
    let secret = host.password.as_ref();
    let refused = |e: postgres::Error| {
        tls.explain(&e, name(host)).unwrap_or_else(|| fault::error(&e, secret))
    };
    let client = config.connect(tls.connector()).map_err(refused)?;
    let server = SessionServer {
        name: name(host),
        version: 0,
        started: String::new(),
        read_only: None,
        schema: String::new(),
    };
    let mut session = Session {
        client,
        server,
        known: None,
        in_place,
        is_broken: false,
        since: Instant::now(),
        secret: secret.cloned(),
    };
    set_up(&mut session)?;
    match &session.server.read_only {
        Some(why) if target.session_attrs == SessionAttrs::ReadWrite => {
            Err(Error::new(Kind::Unavailable, why.clone()).remedy(to_write(why)))
        }
        _ => Ok(session),
    }
}

fn config(target: &Target, host: &Host) -> Config {
    let mut config = Config::new();
    match &host.endpoint {
        Endpoint::Tcp(name) => config.host(name),
        Endpoint::Unix(folder) => config.host_path(folder),
    };
    if let Some(address) = host.address {
        config.hostaddr(address);
    }
    config.port(host.port).user(&target.user).dbname(&target.database);
    config.application_name(&target.application_name);
    if let Some(password) = &host.password {
        config.password(password.expose());
    }
    if let Some(options) = &target.options {
        config.options(options);
    }
    if let Some(limit) = target.connect_timeout {
        config.connect_timeout(limit);
    }
    config.channel_binding(match target.channel_binding {
        ChannelBinding::Disable => postgres::config::ChannelBinding::Disable,
        ChannelBinding::Prefer => postgres::config::ChannelBinding::Prefer,
        ChannelBinding::Require => postgres::config::ChannelBinding::Require,
    });
    let keepalives = &target.keepalives;
    config
        .keepalives(keepalives.on)
        .keepalives_idle(keepalives.idle.unwrap_or(KEEPALIVE_IDLE))
        .keepalives_interval(keepalives.interval.unwrap_or(KEEPALIVE_INTERVAL))
        .keepalives_retries(keepalives.count.unwrap_or(KEEPALIVE_PROBES))
        .tcp_user_timeout(target.tcp_user_timeout.unwrap_or(UNACKNOWLEDGED));
    config
}

/// The first schema of the search path that is there; asked where none of them can be used.
const UNUSABLE: &str = "SELECT n.nspname \
     FROM unnest(string_to_array(current_setting('search_path'), ',')) WITH ORDINALITY p(name, place) \
         JOIN pg_namespace n ON n.nspname = CASE btrim(p.name) WHEN '\"$user\"' THEN current_user::text \
             ELSE replace(btrim(btrim(p.name), '\"'), '\"\"', '\"') END \
     ORDER BY place LIMIT 1";

/// Learns what the server is, and sets what every connection of ours has. Names are looked up in
/// one schema only, the first of the search path that is there.
fn set_up(session: &mut Session) -> Result<()> {
    let rows = session.ask(
        "SELECT current_setting('server_version_num'), pg_postmaster_start_time(), \
         pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
         current_schema(), current_setting('search_path')",
    )?;
    let row = rows.into_iter().flatten().next().unwrap_or(Row(Vec::new()));
    let Some(schema) = row.get(4) else {
        if let Some(row) = session.ask(UNUSABLE)?.into_iter().flatten().next() {
            let what = format!("permission denied for schema {}", row.text(0));
            let remedy = fault::to_grant(&what);
            return Err(Error::new(Kind::Permission, what).remedy(remedy));
        }
        let what = format!("no schema of the search path ({}) exists", row.text(5));
        return Err(Error::new(Kind::Config, what).remedy(
            "create it (`CREATE SCHEMA cts AUTHORIZATION …`), or name one in the URL: options=-csearch_path%3Dcts",
        ));
    };
    let server = &mut session.server;
    server.version = row.number(0);
    server.started = row.text(1).to_string();
    server.read_only = read_only(row.is(2), row.is(3));
    server.schema = schema.to_string();
    if server.version < 130_000 {
        let what = format!("PostgreSQL {} is too old", server.version / 10_000);
        return Err(Error::new(Kind::Config, what).remedy("use PostgreSQL 13 or later"));
    }
    let check = match server.version {
        140_000.. => {
            format!(
                "SET client_connection_check_interval = {}; SET idle_session_timeout = 0; ",
                CONNECTION_CHECK.as_millis()
            )
        }
        _ => String::new(),
    };
    let sql = format!(
        "{check}SET search_path = {}; SET timezone = 'UTC'; SET datestyle = 'ISO'; \
         SET standard_conforming_strings = on; SET client_min_messages = notice; \
         SET default_transaction_isolation = 'read committed'; SET quote_all_identifiers = off; \
         SET idle_in_transaction_session_timeout = 0; SET row_security = off; \
         SET lock_timeout = {}; SET statement_timeout = {}",
        quoted(schema),
        INSPECTION_LOCK_TIMEOUT.as_millis(),
        INSPECTION_STATEMENT_TIMEOUT.as_millis()
    );
    session.run(&sql)
}

const READ_ONLY: &str = "default_transaction_read_only";

/// Why such a server cannot be written.
pub fn read_only(in_recovery: bool, set_so: bool) -> Option<String> {
    match (in_recovery, set_so) {
        (true, _) => Some("the server is in recovery (a standby) and cannot be written".into()),
        (_, true) => Some(format!("the server is set read-only ({READ_ONLY})")),
        _ => None,
    }
}

/// What makes such a server one that can be written.
pub fn to_write(why: &str) -> &'static str {
    match why.contains(READ_ONLY) {
        true => {
            "`ALTER ROLE … RESET default_transaction_read_only`, or ALTER DATABASE, or ALTER SYSTEM, where it is set"
        }
        false => "look which server is the primary, whether it runs, and name it in the URL",
    }
}

/// The number of the schema, for SQL.
pub const SCHEMA: &str = "(SELECT oid FROM pg_namespace WHERE nspname = current_schema())";

/// A connection out of the pool; it goes back when it is dropped.
pub type Pooled = PooledConnection<SessionSource>;

/// The pool of connections to one target. The pool's own way of opening connections tries again
/// and again with growing pauses and tells the last cause as a text; a connection is therefore
/// opened by who needs it, and handed over.
#[derive(Clone)]
pub struct Sessions {
    target: Arc<Target>,
    tls: Arc<Tls>,
    pool: Pool<SessionSource>,
    handed: Handed,
    hanging: Arc<AtomicUsize>,
    /// The attempts to connect that hang, for each host.
    connecting: Vec<Arc<AtomicUsize>>,
    connect: Duration,
}

type Handed = Arc<Mutex<Vec<Session>>>;

/// Gives the pool the connections that were handed over.
pub struct SessionSource {
    handed: Handed,
}

fn held(handed: &Handed) -> MutexGuard<'_, Vec<Session>> {
    handed.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ManageConnection for SessionSource {
    type Connection = Session;
    type Error = Error;

    fn connect(&self) -> Result<Session> {
        let none = || Error::new(Kind::Unavailable, "no connection was opened");
        held(&self.handed).pop().ok_or_else(none)
    }

    fn is_valid(&self, _: &mut Session) -> Result<()> {
        Ok(())
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_usable() || session.is_old()
    }
}

impl Sessions {
    /// A pool without a connection. Fails where certificates cannot be read.
    pub fn new(target: Arc<Target>, settings: PoolSettings) -> Result<Sessions> {
        let tls = Arc::new(Tls::new(&target.tls)?);
        let handed = Handed::default();
        let connecting = target.hosts.iter().map(|_| Arc::default()).collect();
        let pool = Pool::builder()
            .max_size(settings.max)
            .min_idle(Some(0))
            .idle_timeout(Some(settings.idle))
            .connection_timeout(settings.connect)
            .max_lifetime(None)
            .test_on_check_out(false)
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(SessionSource { handed: Arc::clone(&handed) });
        Ok(Sessions {
            target,
            tls,
            pool,
            handed,
            hanging: Arc::default(),
            connecting,
            connect: settings.connect,
        })
    }

    /// A connection, an idle one or a new one, within `limit` and the pool's own.
    pub fn get(&self, limit: Duration) -> Result<Pooled> {
        let limit = limit.min(self.connect);
        let mut has_replaced = false;
        while let Some(idle) = self.pool.try_get() {
            if idle.is_usable() && !idle.is_old() {
                return Ok(idle);
            }
            has_replaced |= idle.is_usable();
        }
        let has_room = self.pool.state().connections < self.pool.max_size();
        if has_room && held(&self.handed).is_empty() {
            let session = match has_replaced {
                true => self.open_in_place(limit),
                false => self.open(limit),
            }?;
            held(&self.handed).push(session);
        }
        self.pool.get_timeout(limit).map_err(|_| {
            let what = format!("all {} connections of the pool are in use", self.pool.max_size());
            Error::new(Kind::Unavailable, what).remedy("raise CTS_POOL_MAX")
        })
    }

    /// Connects where a connection has just been given up, whose place may not be free yet.
    fn open_in_place(&self, limit: Duration) -> Result<Session> {
        let start = Instant::now();
        loop {
            match self.open(limit.saturating_sub(start.elapsed())) {
                Err(error) if is_lost(&error) && start.elapsed() < PLACE_FREE_WITHIN.min(limit) => {
                    thread::sleep(BETWEEN_ATTEMPTS);
                }
                other => return other,
            }
        }
    }

    /// Connects to the first host that answers and fits; else says of each why not. One that hangs
    /// leaves time for those behind it.
    fn open(&self, limit: Duration) -> Result<Session> {
        let until = Instant::now() + limit;
        let mut refusals: Vec<Error> = Vec::new();
        for (left, (host, hanging)) in (1..=self.connecting.len() as u32)
            .rev()
            .zip(self.target.hosts.iter().zip(&self.connecting))
        {
            let share = until.saturating_duration_since(Instant::now()) / left;
            let (target, tls, at) = (Arc::clone(&self.target), Arc::clone(&self.tls), host.clone());
            match bounded(hanging, share, move || connect_to(&target, &tls, &at)) {
                Ok(session) => return Ok(session),
                Err(error) => refusals.push(error.at(name(host))),
            }
        }
        Err(refused(&refusals))
    }

    /// Asks on a connection, within `limit`. One that had been closed meanwhile, by a restart of
    /// the server for example, is replaced once.
    pub fn ask<T, W>(&self, limit: Duration, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: Fn(&mut Session) -> Result<T> + Clone + Send + 'static,
    {
        let until = Instant::now() + limit;
        let once = |work: W| {
            let mut session = self.get(until.saturating_duration_since(Instant::now()))?;
            let limit = until.saturating_duration_since(Instant::now());
            bounded(&self.hanging, limit, move || {
                let done = work(&mut session);
                if done.as_ref().is_err_and(is_lost) {
                    session.mark_broken();
                }
                done
            })
        };
        match once(work.clone()) {
            Err(error) if is_lost(&error) && Instant::now() < until => once(work),
            other => other,
        }
    }

    /// Ends what a connection is doing.
    pub fn cancel(&self, token: &CancelToken) {
        // What cannot be ended so ends with the connection.
        let _ = token.cancel_query(self.tls.connector());
    }

    /// Connections, idle ones among them, and the most there can be.
    pub fn state(&self) -> (u32, u32, u32) {
        let state = self.pool.state();
        (state.connections, state.idle_connections, self.pool.max_size())
    }
}

/// Does work on a thread of its own, and goes on without it when it takes longer. `hanging` counts
/// those that it went on without.
fn bounded<T: Send + 'static>(
    hanging: &Arc<AtomicUsize>,
    limit: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let unanswered = || {
        let what = format!("the server does not answer within {:.1} s", limit.as_secs_f32());
        Error::new(Kind::Unavailable, what).remedy("look at the server, and at the network between")
    };
    if hanging.fetch_add(1, Ordering::Relaxed) >= HANGING_AT_MOST {
        hanging.fetch_sub(1, Ordering::Relaxed);
        return Err(unanswered());
    }
    let (sender, receiver) = mpsc::channel();
    let counted = Arc::clone(hanging);
    let run = move || {
        let done = work();
        counted.fetch_sub(1, Ordering::Relaxed);
        // Nobody waits for an answer that comes too late.
        let _ = sender.send(done);
    };
    let started = thread::Builder::new().name("question".into()).spawn(run);
    started.map_err(|e| Error::new(Kind::Io, format!("a thread cannot be started: {e}")))?;
    match receiver.recv_timeout(limit) {
        Ok(done) => done,
        Err(RecvTimeoutError::Timeout) => Err(unanswered()),
        Err(RecvTimeoutError::Disconnected) => {
            Err(Error::new(Kind::Io, "the thread that asked the server has ended"))
        }
    }
}
