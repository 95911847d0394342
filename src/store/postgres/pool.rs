//! The pool of connections to the servers of a URL. It opens none in advance. Every query ends within
//! a limit, also where the server does not answer: a server that hangs must not hang the health
//! answers of cts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use postgres::CancelToken;
use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};

use super::connect::connect;
use super::error::is_lost;
use super::session::Session;
use super::tls::Tls;
use super::url::Target;
use crate::error::{Error, Kind, Result};
use crate::store::PoolState;
use crate::system::deadline::{BackgroundTask, NoResult};

/// Threads that may wait at the same time for servers that do not answer; of attempts to connect,
/// for each host.
const UNANSWERED_MAX: usize = 4;
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
    /// Queries that a server has not answered within their limit.
    unanswered: Arc<AtomicUsize>,
    /// The same of attempts to connect, for each host.
    unanswered_connects: Vec<Arc<AtomicUsize>>,
    connect_timeout: Duration,
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
            unanswered_connects: target.hosts.iter().map(|_| Arc::default()).collect(),
            target,
            tls,
            pool,
            opened,
            unanswered: Arc::default(),
            connect_timeout: settings.connect,
        })
    }

    /// A connection, an idle one or a new one, within `limit` and the limit of the pool.
    ///
    /// # Errors
    /// Those of [`connect`], located at the host; with several hosts, one error that names each.
    /// `Kind::Unavailable` if all connections of the pool are in use.
    pub fn get(&self, limit: Duration) -> Result<PooledSession> {
        let limit = limit.min(self.connect_timeout);
        let mut has_replaced = false;
        while let Some(idle) = self.pool.try_get() {
            if idle.is_usable() && !idle.is_old() {
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
        self.pool.get_timeout(limit).map_err(|_| {
            let what = format!("all {} connections of the pool are in use", self.pool.max_size());
            Error::new(Kind::Unavailable, what).remedy("raise CTS_POOL_MAX")
        })
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
        let hosts = self.target.hosts.iter().zip(&self.unanswered_connects);
        for (hosts_left, (host, unanswered)) in
            (1..=self.target.hosts.len() as u32).rev().zip(hosts)
        {
            let share = deadline.saturating_duration_since(Instant::now()) / hosts_left;
            let (target, tls, at) = (Arc::clone(&self.target), Arc::clone(&self.tls), host.clone());
            match within(unanswered, share, move || connect(&target, &tls, &at)) {
                Ok(session) => return Ok(session),
                Err(error) => errors.push(error.at(host.name())),
            }
        }
        Err(one_of_all_hosts(errors))
    }

    /// Runs `work` on a connection of the pool, on a thread of its own, within `limit`. If the
    /// connection turns out to be lost, by a restart of the server for example, `work` runs once
    /// more on a new one.
    ///
    /// # Errors
    /// Those of [`SessionPool::get`] and of `work`; `Kind::Unavailable` after the limit. The thread
    /// then ends when the server answers or the connection is lost, and its result is discarded.
    pub fn run_within<T, W>(&self, limit: Duration, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: Fn(&mut Session) -> Result<T> + Clone + Send + 'static,
    {
        let deadline = Instant::now() + limit;
        let left = || deadline.saturating_duration_since(Instant::now());
        let once = |work: W| {
            let mut session = self.get(left())?;
            within(&self.unanswered, left(), move || {
                let done = work(&mut session);
                if done.as_ref().is_err_and(is_lost) {
                    session.mark_broken();
                }
                done
            })
        };
        match once(work.clone()) {
            Err(error) if is_lost(&error) && !left().is_zero() => once(work),
            other => other,
        }
    }

    /// Asks the server to cancel the statement that runs on a connection.
    pub fn cancel(&self, token: &CancelToken) {
        // Without an answer the statement ends with its connection.
        let _ = token.cancel_query(self.tls.connector());
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

/// Runs `work` on a thread of its own, and waits for its result until `limit` is over. `unanswered`
/// counts the threads whose result has not come.
fn within<T: Send + 'static>(
    unanswered: &Arc<AtomicUsize>,
    limit: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let no_answer = || {
        let what = format!("the server does not answer within {:.1} s", limit.as_secs_f32());
        Error::new(Kind::Unavailable, what).remedy("check the server and the network to it")
    };
    let counted = UnansweredThread::new(unanswered);
    if counted.before >= UNANSWERED_MAX {
        return Err(no_answer());
    }
    let task = BackgroundTask::start("query", move || {
        let result = work();
        drop(counted);
        result
    })?;
    task.within(limit).unwrap_or_else(|reason| match reason {
        NoResult::DeadlinePassed => Err(no_answer()),
        NoResult::ThreadEnded => {
            Err(Error::new(Kind::Io, "the thread that queried the server has ended"))
        }
    })
}

/// One of the counted threads, until it is dropped.
struct UnansweredThread {
    counter: Arc<AtomicUsize>,
    /// How many there were before it.
    before: usize,
}

impl UnansweredThread {
    fn new(counter: &Arc<AtomicUsize>) -> UnansweredThread {
        let before = counter.fetch_add(1, Ordering::Relaxed);
        UnansweredThread { counter: Arc::clone(counter), before }
    }
}

impl Drop for UnansweredThread {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Relaxed);
    }
}
