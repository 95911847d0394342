//! What this process knows of the servers of its URL: what each host was last found to be, the cluster that it works
//! with, the highest timeline of it that was seen, and the host in use. One for each database, shared by all its pools,
//! so that no connection of the process uses a server that another one knows to be the wrong one.

mod decision;
#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connect::SessionServer;
use super::server_identity::ServerIdentity;
use super::url::{SessionAttrs, Target};
use crate::error::{Error, Kind, Result, StateLeft};
use decision::Choice;
pub use decision::{FoundServer, HostState, KnownCluster, described};

/// How old what is known of the other hosts may be for a connection to be made without asking them.
const FRESH: Duration = Duration::from_secs(3);

/// The servers of a URL.
#[derive(Debug)]
pub struct Cluster {
    attrs: SessionAttrs,
    state: Mutex<ClusterState>,
}

#[derive(Debug)]
struct ClusterState {
    known: KnownCluster,
    used: Option<usize>,
    hosts: Vec<HostState>,
    /// When each host was last asked.
    asked_at: Vec<Option<Instant>>,
    /// The most tables of CTS that this process has seen.
    tables: usize,
    /// What the database has recorded of its server, as far as this process knows.
    recorded: Option<ServerIdentity>,
    /// That the database was last used on another cluster, and is used here from now on.
    moved: Option<String>,
}

impl Cluster {
    /// One of whose servers nothing is known.
    pub fn new(target: &Target) -> Cluster {
        let host = |host: &super::url::Host| HostState { name: host.name(), found: None };
        let state = ClusterState {
            known: KnownCluster::default(),
            used: None,
            hosts: target.hosts.iter().map(host).collect(),
            asked_at: vec![None; target.hosts.len()],
            tables: 0,
            recorded: None,
            moved: None,
        };
        Cluster { attrs: target.session_attrs, state: Mutex::new(state) }
    }

    /// What is known of the cluster, for connections of another target of it, which may have fewer hosts.
    pub fn with_hosts_of(&self, target: &Target) -> Cluster {
        let other = Cluster::new(target);
        let (ours, mut theirs) = (self.state(), other.state());
        let used = ours.used.map(|at| &ours.hosts[at].name);
        theirs.used = theirs.hosts.iter().position(|host| Some(&host.name) == used);
        (theirs.known, theirs.tables) = (ours.known.clone(), ours.tables);
        drop((ours, theirs));
        other
    }

    fn state(&self) -> MutexGuard<'_, ClusterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the process knows which cluster it works with.
    pub fn is_known(&self) -> bool {
        self.state().known.is_set
    }

    /// Whether the URL has several hosts.
    pub fn has_several_hosts(&self) -> bool {
        self.state().hosts.len() > 1
    }

    /// Takes what was found on a host, by its place in the URL.
    pub fn record(&self, at: usize, found: Result<FoundServer>) {
        self.state().record(at, found);
    }

    /// The host to use, by its place in the URL.
    ///
    /// # Errors
    /// As [`Choice::make`].
    pub fn choose(&self) -> Result<usize> {
        self.state().choice(self.attrs).make()
    }

    /// Takes what was found on a host, and the host into use.
    ///
    /// # Errors
    /// Where another host is to be used, or none.
    pub fn record_and_use(&self, at: usize, found: Result<FoundServer>) -> Result<()> {
        let mut state = self.state();
        state.record(at, found);
        if state.choice(self.attrs).make()? != at {
            return Err(Error::new(Kind::Unavailable, "another host is to be used"));
        }
        state.use_host(at);
        Ok(())
    }

    /// The host to use, where that is known without asking the others.
    pub fn chosen(&self) -> Option<usize> {
        let state = self.state();
        let chosen = state.choice(self.attrs).make().ok()?;
        let is_fresh = |asked: &Option<Instant>| asked.is_some_and(|at| at.elapsed() < FRESH);
        let mut others = state.asked_at.iter().enumerate().filter(|(at, _)| *at != chosen);
        others.all(|(_, asked)| is_fresh(asked)).then_some(chosen)
    }

    /// Whether a host is in use and has answered when it was last asked.
    pub fn is_in_use(&self, at: usize) -> bool {
        let state = self.state();
        state.used == Some(at) && matches!(state.hosts[at].found, Some(Ok(_)))
    }

    /// Takes a host into use.
    pub fn use_host(&self, at: usize) {
        self.state().use_host(at);
    }

    /// Refuses a server that is not, or is no longer, the one to use.
    ///
    /// # Errors
    /// `Kind::Unavailable`.
    pub fn admit(&self, server: &SessionServer) -> Result<()> {
        self.state().known.admit(server).map_err(|error| error.at(&server.name))
    }

    /// Takes what an inspection on a connection found.
    ///
    /// # Errors
    /// As [`Cluster::admit`].
    pub fn inspected(&self, server: &SessionServer, tables: usize) -> Result<()> {
        let mut state = self.state();
        state.known.admit(server).map_err(|error| error.at(&server.name))?;
        let at = state.hosts.iter().position(|host| host.name == server.name);
        if let Some(Some(Ok(found))) = at.map(|at| &mut state.hosts[at].found) {
            found.server = server.clone();
        }
        if tables > 0 {
            state.tables = state.tables.max(tables);
            state.know(server);
        }
        Ok(())
    }

    /// Refuses to create the tables: this process has seen them, or another host may hold them.
    ///
    /// # Errors
    /// `Kind::Unavailable`; nothing was changed.
    pub fn refuse_creation(&self) -> Result<()> {
        let state = self.state();
        if state.tables > 0 {
            let what = format!(
                "the database had {} tables of CTS, and now has none: none is created while cts runs",
                state.tables
            );
            return Err(Error::new(Kind::Unavailable, what)
                .leaving(StateLeft::Unchanged)
                .remedy("restore a backup, or start cts again, which creates them without rows"));
        }
        let refused = state.choice(self.attrs).refuse_creation();
        refused.map_err(|error| error.leaving(StateLeft::Unchanged))
    }

    /// Why a person should see to the servers.
    pub fn conflict(&self) -> Option<Error> {
        self.state().choice(self.attrs).conflict()
    }

    /// Whether the record in the database is to be written for this server.
    pub fn is_unrecorded(&self, identity: ServerIdentity) -> bool {
        identity.system.is_some() && self.state().recorded != Some(identity)
    }

    /// Takes that a transaction was committed on a server, with the record in it.
    pub fn committed(&self, server: &SessionServer) {
        let mut state = self.state();
        state.recorded = Some(server.identity);
        state.know(server);
    }

    /// The sentence that the database was last used on another cluster, once.
    pub fn take_moved(&self) -> Option<String> {
        self.state().moved.take()
    }

    /// The hosts, each with what was last found, and the place of the one in use.
    pub fn hosts(&self) -> (Vec<HostState>, Option<usize>) {
        let state = self.state();
        (state.hosts.clone(), state.used)
    }
}

impl ClusterState {
    fn choice(&self, attrs: SessionAttrs) -> Choice<'_> {
        Choice { known: &self.known, used: self.used, hosts: &self.hosts, attrs }
    }

    fn record(&mut self, at: usize, found: Result<FoundServer>) {
        if let Ok(found) = &found {
            self.known.learn(&found.server);
        }
        self.hosts[at].found = Some(found);
        self.asked_at[at] = Some(Instant::now());
    }

    fn use_host(&mut self, at: usize) {
        self.used = Some(at);
        let Some(Ok(found)) = self.hosts[at].found.clone() else { return };
        let Some(content) = found.content.filter(|_| !self.known.is_set) else { return };
        self.recorded = content.recorded;
        if content.tables == 0 {
            return;
        }
        self.tables = content.tables;
        if let Some(recorded) =
            content.recorded.filter(|it| it.system != found.server.identity.system)
        {
            let (then, now) = (described(recorded), described(found.server.identity));
            self.moved = Some(format!(
                "The database was last used on another server ({then}); from now on it is the one on {} ({now})",
                found.server.name
            ));
        }
        self.know(&found.server);
    }

    /// Takes the cluster of this server as the one that the process works with, if it knows none.
    fn know(&mut self, server: &SessionServer) {
        if !self.known.is_set {
            self.known.is_set = true;
            self.known.system = server.identity.system;
            // Hosts that were found before.
            let found: Vec<SessionServer> = self
                .hosts
                .iter()
                .filter_map(|host| Some(host.found.as_ref()?.as_ref().ok()?.server.clone()))
                .collect();
            found.iter().for_each(|server| self.known.learn(server));
        }
        self.known.learn(server);
    }
}
