//! Asks the hosts of the URL what they are: all at the same time where a connection is needed and it is not known which
//! of them to use, and again and again while the service runs. A host that does not answer holds up nobody for long.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::answer_watch::AnswerBounds;
use super::cluster::{Cluster, FoundServer};
use super::connect::{connect, refresh_identity};
use super::error::no_answer;
use super::pool::SessionPool;
use super::server_record::ServerContent;
use super::session::Session;
use super::tls::Tls;
use super::url::{Host, Target};
use crate::error::Result;
use crate::store::{Upkeep, UpkeepTurn};
use crate::system::deadline::{BackgroundTask, NoResult};

/// How long the other hosts are waited for once one can be used, which may be an old primary.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long they are waited for before a commit. One that was promoted a moment ago, on a machine that is busy, takes its time,
/// and what is committed on an old primary is lost.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(4);
/// How often the service asks the hosts that are not in use: a standby that was promoted is used within this time.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long such a host may take to answer.
const WATCH_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to a host within the bounds, and finds out what it is.
///
/// # Errors
/// As [`connect`], and those of the queries. No connection is left.
pub fn ask(
    target: &Target,
    tls: &Tls,
    host: &Host,
    cluster: &Cluster,
    bounds: &AnswerBounds,
) -> Result<(Session, FoundServer)> {
    let mut session = connect(target, tls, host, bounds)?;
    let content = match cluster.is_known() {
        true => None,
        false => Some(ServerContent::read(&mut session)?),
    };
    let found = FoundServer { server: session.server.clone(), content };
    Ok((session, found))
}

impl SessionPool {
    /// Asks all hosts at the same time, and connects to the one to use.
    ///
    /// # Errors
    /// Where none can be used: one error that names each host.
    pub(super) fn survey(&self, limit: Duration) -> Result<Session> {
        let start = Instant::now();
        let (sender, answers) = mpsc::channel();
        for at in 0..self.target.hosts.len() {
            let sender = sender.clone();
            let asked = self.ask_in_background(at, limit, move |session| {
                // Nobody waits for an answer that comes late.
                let _ = sender.send((at, session));
            });
            if let Err(error) = asked {
                self.cluster.record(at, Err(error));
            }
        }
        drop(sender);
        let mut sessions: Vec<Option<Session>> = self.target.hosts.iter().map(|_| None).collect();
        let mut has_answered = vec![false; sessions.len()];
        let mut deadline = start + limit;
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        while let Ok((at, session)) = answers.recv_timeout(left(deadline)) {
            (has_answered[at], sessions[at]) = (true, session);
            if self.cluster.choose().is_ok_and(|chosen| sessions[chosen].is_some()) {
                deadline = deadline.min(Instant::now() + OTHERS_TIMEOUT);
            }
        }
        for at in (0..sessions.len()).filter(|at| !has_answered[*at]) {
            self.cluster.record(at, Err(no_answer(start.elapsed())));
        }
        let chosen = self.cluster.choose()?;
        let session = sessions.swap_remove(chosen).ok_or_else(|| no_answer(limit))?;
        self.cluster.use_host(chosen);
        Ok(session)
    }

    /// Asks a host on a thread of its own, which records what it finds and then gives its connection to `then`.
    fn ask_in_background(
        &self,
        at: usize,
        limit: Duration,
        then: impl FnOnce(Option<Session>) + Send + 'static,
    ) -> Result<()> {
        let bounds = AnswerBounds::within(limit, &self.stop);
        let (target, tls) = (Arc::clone(&self.target), Arc::clone(&self.tls));
        let cluster = Arc::clone(&self.cluster);
        BackgroundTask::start("query", move || {
            let asked = ask(&target, &tls, &target.hosts[at], &cluster, &bounds);
            let (session, found) = apart(asked);
            cluster.record(at, found);
            then(session);
        })
        .map(drop)
    }

    /// Asks the hosts that are not in use again, however lately they were asked: one of them may have been promoted.
    pub(super) fn refresh_others(&self) {
        if !self.cluster.has_several_hosts() {
            return;
        }
        let (sender, answers) = mpsc::channel();
        for at in (0..self.target.hosts.len()).filter(|at| !self.cluster.is_in_use(*at)) {
            let sender = sender.clone();
            let asked = self.ask_in_background(at, CONFIRM_TIMEOUT, move |_| {
                let _ = sender.send(());
            });
            if let Err(error) = asked {
                self.cluster.record(at, Err(error));
            }
        }
        drop(sender);
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        while answers.recv_timeout(left()).is_ok() {}
    }

    /// The watch over the hosts, for the service; `None` where there is one host only.
    pub(super) fn watch(&self) -> Option<HostWatch> {
        self.cluster.has_several_hosts().then(|| HostWatch {
            target: Arc::new(Target {
                application_name: format!("{} watch", self.target.application_name),
                connect_timeout: Some(WATCH_TIMEOUT),
                ..Target::clone(&self.target)
            }),
            tls: Arc::clone(&self.tls),
            cluster: Arc::clone(&self.cluster),
            hosts: self.target.hosts.iter().map(|_| WatchedHost::default()).collect(),
        })
    }
}

fn apart(asked: Result<(Session, FoundServer)>) -> (Option<Session>, Result<FoundServer>) {
    match asked {
        Ok((session, found)) => (Some(session), Ok(found)),
        Err(error) => (None, Err(error)),
    }
}

/// Asks the hosts that are not in use again and again, each on a connection of its own that stays open.
pub struct HostWatch {
    target: Arc<Target>,
    tls: Arc<Tls>,
    cluster: Arc<Cluster>,
    hosts: Vec<WatchedHost>,
}

#[derive(Default)]
struct WatchedHost {
    session: Option<Session>,
    /// The thread that asks, with the connection, and since when.
    asking: Option<(BackgroundTask<Option<Session>>, Instant)>,
}

impl WatchedHost {
    /// Takes the connection back from a thread that has ended. Whether it is still asking.
    fn is_asking(&mut self) -> bool {
        let Some((task, _)) = &self.asking else { return false };
        match task.within(Duration::ZERO) {
            Ok(session) => self.session = session.filter(|session| !session.is_old()),
            Err(NoResult::ThreadEnded) => {}
            Err(NoResult::DeadlinePassed) => return true,
        }
        self.asking = None;
        false
    }
}

impl Upkeep for HostWatch {
    /// Waits for no host: what a thread finds it records itself.
    fn turn(&mut self, _: &Arc<AtomicBool>) -> Result<UpkeepTurn> {
        for (at, host) in self.hosts.iter_mut().enumerate() {
            if host.is_asking() {
                if let Some((_, since)) = &host.asking
                    && since.elapsed() >= WATCH_TIMEOUT
                {
                    self.cluster.record(at, Err(no_answer(since.elapsed())));
                }
                continue;
            }
            if self.cluster.is_in_use(at) {
                host.session = None;
                continue;
            }
            let (target, tls) = (Arc::clone(&self.target), Arc::clone(&self.tls));
            let (cluster, session) = (Arc::clone(&self.cluster), host.session.take());
            let bounds = AnswerBounds::within(WATCH_TIMEOUT, &Arc::default());
            let task = BackgroundTask::start("watch", move || {
                let asked = match session {
                    Some(session) => ask_again(session, &bounds),
                    None => ask(&target, &tls, &target.hosts[at], &cluster, &bounds),
                };
                let (session, found) = apart(asked);
                cluster.record(at, found);
                session
            })?;
            host.asking = Some((task, Instant::now()));
        }
        Ok(UpkeepTurn { pause: WATCH_INTERVAL, was_tried: true })
    }
}

/// Asks on a connection that is open: a standby may have been promoted.
fn ask_again(mut session: Session, bounds: &AnswerBounds) -> Result<(Session, FoundServer)> {
    *session.bounds() = bounds.clone();
    refresh_identity(&mut session)?;
    let found = FoundServer { server: session.server.clone(), content: None };
    Ok((session, found))
}
