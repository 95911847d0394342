//! The pool of connections to the servers of a URL. It opens none in advance. Every query ends within
//! a limit, also where the server does not answer: a server that hangs must not hang the health
//! answers of cts.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use r2d2::{ManageConnection, NopErrorHandler, Pool, PooledConnection};
use scheduled_thread_pool::ScheduledThreadPool;

use super::answer_watch::AnswerBounds;
use super::cluster::Cluster;
use super::connect::SessionServer;
use super::error::is_lost;
use super::session::Session;
use super::survey::ask;
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
    pub(super) target: Arc<Target>,
    pub(super) tls: Arc<Tls>,
    /// What the process knows of the servers.
    pub(super) cluster: Arc<Cluster>,
    pool: Pool<SessionSource>,
    opened: OpenedSessions,
    connect_timeout: Duration,
    /// Becomes true when the work is told to stop, which ends every wait.
    pub(super) stop: Arc<AtomicBool>,
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

/// The threads that close idle connections, of all pools of the process. Each pool would start as many of its own, which end up
/// to half a minute after it. They open no connection: who needs one does.
static POOL_THREADS: LazyLock<Arc<ScheduledThreadPool>> =
    LazyLock::new(|| Arc::new(ScheduledThreadPool::new(3)));

impl SessionPool {
    /// A pool without a connection.
    ///
    /// # Errors
    /// `Kind::Config` if the certificates or keys that the URL names cannot be used.
    pub fn new(
        target: Arc<Target>,
        cluster: Arc<Cluster>,
        settings: PoolSettings,
    ) -> Result<SessionPool> {
        let tls = Arc::new(Tls::new(&target.tls)?);
        let opened = OpenedSessions::default();
        let pool = Pool::builder()
            .max_size(settings.max)
            .min_idle(Some(0))
            .idle_timeout(Some(settings.idle))
            .connection_timeout(settings.connect)
            .max_lifetime(None)
            .test_on_check_out(false)
            .thread_pool(Arc::clone(&POOL_THREADS))
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(SessionSource { opened: Arc::clone(&opened) });
        Ok(SessionPool {
            target,
            tls,
            cluster,
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
        let target = Arc::new(change(&self.target));
        let cluster = Arc::new(self.cluster.with_hosts_of(&target));
        Ok(SessionPool::new(target, cluster, settings)?.stopped_by(&self.stop))
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
            if self.cluster.admit(&idle.server).is_err() {
                // Else it would return to the pool.
                idle.mark_broken();
            }
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

    /// Opens a new connection in the place that a lost one has in the pool, within `limit` and the limit of the
    /// pool. The lost one is closed first: neither the pool nor the server has to have room for both.
    ///
    /// # Errors
    /// As [`SessionPool::get`]. The place then still has the lost one, closed.
    pub fn reopen(&self, lost: &mut PooledSession, limit: Duration) -> Result<()> {
        lost.close();
        **lost = self.open_replacement(limit.min(self.connect_timeout))?;
        *lost.bounds() = AnswerBounds::of_statements(&self.stop);
        Ok(())
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

    /// Connects to the host to use. Where that is not known, all are asked.
    fn open(&self, limit: Duration) -> Result<Session> {
        let start = Instant::now();
        if !self.cluster.has_several_hosts() {
            return self.open_at(0, limit);
        }
        if let Some(chosen) = self.cluster.chosen()
            && let Ok(session) = self.open_at(chosen, limit / 2)
        {
            return Ok(session);
        }
        self.survey(limit.saturating_sub(start.elapsed()))
    }

    /// Connects to a host, if it still is the one to use.
    fn open_at(&self, at: usize, limit: Duration) -> Result<Session> {
        let bounds = AnswerBounds::within(limit, &self.stop);
        let host = &self.target.hosts[at];
        let asked = ask(&self.target, &self.tls, host, &self.cluster, &bounds);
        let (session, found) = match asked {
            Ok((session, found)) => (Ok(session), Ok(found)),
            Err(error) => (Err(error.clone()), Err(error)),
        };
        self.cluster.record_and_use(at, found)?;
        session
    }

    /// Refuses to go on with a server that is no longer the one to use, after asking the others where what is known of
    /// them is old.
    ///
    /// # Errors
    /// `Kind::Unavailable`.
    pub fn confirm(&self, server: &SessionServer) -> Result<()> {
        self.refresh_others();
        self.cluster.admit(server)
    }

    /// Ends the connections that are not in use.
    pub fn close_idle(&self) {
        while let Some(mut idle) = self.pool.try_get() {
            // Else it would return to the pool.
            idle.mark_broken();
        }
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
