//! The pool of connections to the servers of a URL. It opens none in advance. Every query ends within
//! a limit, also where the server does not answer: a server that hangs must not hang the health
//! answers of cts.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};

use super::answer_watch::AnswerBounds;
use super::connect::connect;
use super::error::is_lost;
use super::session::Session;
use super::tls::Tls;
use super::url::Target;
use crate::error::{Error, Kind, Result};
use crate::store::PoolState;

/// How long opening a connection in place of an old one is retried. A server at its connection
/// limit may need that long to end the old one.
const REPLACE_TIMEOUT: Duration = Duration::from_millis(500);
const REPLACE_PAUSE: Duration = Duration::from_millis(50);

/// The settings of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Maximum number of connections.
    pub max: u32,
    /// Idle time after which a connection is closed.
    pub idle: Duration,
    /// How long to wait for a connection.
    pub connect: Duration,
}

/// A connection of the pool; dropped, it returns to the pool.
pub type PooledSession = PooledConnection<SessionSource>;

/// The pool. The pool of `r2d2` opens connections in threads of its own, retries with growing
/// pauses and reports the last cause as a text; therefore the thread that needs a connection opens
/// it, and `r2d2` only keeps it.
#[derive(Clone)]
pub struct SessionPool {
    target: Arc<Target>,
    tls: Arc<Tls>,
    pool: Pool<SessionSource>,
    opened: OpenedSessions,
    connect_timeout: Duration,
    /// Becomes true when the work is told to stop, which ends every wait.
    stop: Arc<AtomicBool>,
}

/// Connections that are open and not yet in the pool.
type OpenedSessions = Arc<Mutex<Vec<Session>>>;

/// Gives the pool the connections that were opened for it.
pub struct SessionSource {
    opened: OpenedSessions,
}

fn locked(opened: &OpenedSessions) -> MutexGuard<'_, Vec<Session>> {
    opened.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ManageConnection for SessionSource {
    type Connection = Session;
    type Error = Error;

    fn connect(&self) -> Result<Session> {
        let none = || Error::new(Kind::Unavailable, "no connection was opened");
        locked(&self.opened).pop().ok_or_else(none)
    }

    fn is_valid(&self, _: &mut Session) -> Result<()> {
        Ok(())
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        !session.is_usable() || session.is_old()
    }
}

impl SessionPool {
    /// A pool without a connection.
    ///
    /// # Errors
    /// `Kind::Config` if the certificates or keys that the URL names cannot be used.
    pub fn new(target: Arc<Target>, settings: PoolSettings) -> Result<SessionPool> {
        let tls = Arc::new(Tls::new(&target.tls)?);
        let opened = OpenedSessions::default();
        let pool = Pool::builder()
            .max_size(settings.max)
            .min_idle(Some(0))
            .idle_timeout(Some(settings.idle))
            .connection_timeout(settings.connect)
            .max_lifetime(None)
            .test_on_check_out(false)
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(SessionSource { opened: Arc::clone(&opened) });
        Ok(SessionPool {
            target,
            tls,
            pool,
            opened,
            connect_timeout: settings.connect,
            stop: Arc::default(),
        })
    }

    /// The same pool for work that this flag tells to stop.
    pub fn stopped_by(self, stop: &Arc<AtomicBool>) -> SessionPool {
        SessionPool { stop: Arc::clone(stop), ..self }
    }

    /// How long to wait for a connection.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// What it connects to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A pool of one connection with another target, which `change` makes of this one's.
    ///
    /// # Errors
    /// Those of [`SessionPool::new`].
    pub fn single(&self, change: impl FnOnce(&Target) -> Target) -> Result<SessionPool> {
        let connect = self.connect_timeout;
        let settings = PoolSettings { max: 1, idle: connect, connect };
        Ok(SessionPool::new(Arc::new(change(&self.target)), settings)?.stopped_by(&self.stop))
    }

    /// A connection, an idle one or a new one, within `limit` and the limit of the pool.
    ///
    /// # Errors
    /// Those of [`connect`], located at the host; with several hosts, one error that names each.
    /// `Kind::Unavailable` if all connections of the pool are in use.
    pub fn get(&self, limit: Duration) -> Result<PooledSession> {
        let limit = limit.min(self.connect_timeout);
        let mut has_replaced = false;
        while let Some(mut idle) = self.pool.try_get() {
            if idle.is_usable() && !idle.is_old() {
                *idle.bounds() = AnswerBounds::of_statements(&self.stop);
                return Ok(idle);
            }
            has_replaced |= idle.is_usable();
        }
        let has_room = self.pool.state().connections < self.pool.max_size();
        if has_room && locked(&self.opened).is_empty() {
            let session = match has_replaced {
                true => self.open_replacement(limit),
                false => self.open(limit),
            }?;
            locked(&self.opened).push(session);
        }
        let mut session = self.pool.get_timeout(limit).map_err(|_| {
            let what = format!("all {} connections of the pool are in use", self.pool.max_size());
            Error::new(Kind::Unavailable, what).remedy("raise CTS_POOL_MAX")
        })?;
        *session.bounds() = AnswerBounds::of_statements(&self.stop);
        Ok(session)
    }

    /// Opens a connection in place of one that was just closed, and that the server may still
    /// count against its connection limit.
    fn open_replacement(&self, limit: Duration) -> Result<Session> {
        let start = Instant::now();
        loop {
            match self.open(limit.saturating_sub(start.elapsed())) {
                Err(error) if is_lost(&error) && start.elapsed() < REPLACE_TIMEOUT.min(limit) => {
                    thread::sleep(REPLACE_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Connects to the first host that can be used. A host that does not answer leaves time for
    /// those after it.
    fn open(&self, limit: Duration) -> Result<Session> {
        let deadline = Instant::now() + limit;
        let mut errors: Vec<Error> = Vec::new();
        let hosts = &self.target.hosts;
        for (hosts_left, host) in (1..=hosts.len() as u32).rev().zip(hosts) {
            let share = deadline.saturating_duration_since(Instant::now()) / hosts_left;
            let bounds = AnswerBounds::within(share, &self.stop);
            match connect(&self.target, &self.tls, host, &bounds) {
                Ok(session) => return Ok(session),
                Err(error) => errors.push(error.at(host.name())),
            }
        }
        Err(one_of_all_hosts(errors))
    }

    /// Runs `work` on a connection of the pool within `limit`. If the connection turns out to be lost,
    /// by a restart of the server for example, `work` runs once more on a new one.
    ///
    /// # Errors
    /// Those of [`SessionPool::get`] and of `work`; `Kind::Unavailable` after the limit. The connection is
    /// closed then.
    pub fn run_within<T, W>(&self, limit: Duration, work: W) -> Result<T>
    where
        W: Fn(&mut Session) -> Result<T>,
    {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        let once = || {
            let mut session = self.get(left())?;
            session.bounds().deadline = Some((deadline, limit));
            let done = work(&mut session);
            if done.as_ref().is_err_and(is_lost) {
                session.mark_broken();
            }
            done
        };
        match once() {
            Err(error) if is_lost(&error) && !left().is_zero() => once(),
            other => other,
        }
    }

    /// The connections of the pool.
    pub fn state(&self) -> PoolState {
        let state = self.pool.state();
        PoolState {
            connections: state.connections,
            idle: state.idle_connections,
            max: self.pool.max_size(),
        }
    }
}

/// One error for all hosts. Its kind and remedy are those of a host that may answer later, if there
/// is one, so that it is waited for.
fn one_of_all_hosts(mut errors: Vec<Error>) -> Error {
    let decisive = errors.iter().position(is_lost).unwrap_or_default();
    match errors.len() {
        0 => Error::new(Kind::Config, "the URL names no host"),
        1 => errors.remove(0),
        _ => {
            let texts: Vec<String> = errors.iter().map(Error::message).collect();
            let decisive = errors.swap_remove(decisive);
            Error {
                what: texts.join("; "),
                location: Vec::new(),
                notes: Vec::new(),
                cause: None,
                ..decisive
            }
        }
    }
}
