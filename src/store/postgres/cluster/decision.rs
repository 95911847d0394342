//! Decides which host of the URL is used, from what was last found on each of them. Values only; nothing is asked here.

use super::super::connect::{ReadOnlyReason, SessionServer};
use super::super::error::is_lost;
use super::super::server_identity::ServerIdentity;
use super::super::server_record::ServerContent;
use super::super::url::SessionAttrs;
use crate::error::{Cause, Error, Kind, Result};

/// SQLSTATE of a server that has no database of this name.
const NO_SUCH_DATABASE: &str = "3D000";
const NAME_ONE_HOST: &str = "if it holds the database now (a restored dump, an upgraded server), start cts once with only this host in the URL";

/// What was found on a host that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundServer {
    /// The server.
    pub server: SessionServer,
    /// What its database says; read until the process knows its cluster.
    pub content: Option<ServerContent>,
}

impl FoundServer {
    fn is_writable(&self) -> bool {
        self.server.read_only.is_none()
    }

    fn has_tables(&self) -> bool {
        self.content.is_some_and(|content| content.tables > 0)
    }

    /// Whether two hosts of the URL lead to one server.
    fn is_same_server(&self, other: &FoundServer) -> bool {
        let (a, b) = (&self.server, &other.server);
        a.started_at == b.started_at && a.identity.system == b.identity.system
    }

    /// Whether the record in its database names this cluster, or another one.
    fn fits_record(&self) -> Option<bool> {
        let recorded = self.content?.recorded?.system?;
        Some(recorded == self.server.identity.system?)
    }
}

/// A host of the URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostState {
    /// Its name in messages.
    pub name: String,
    /// What was last found there; `None` where it has not been asked yet.
    pub found: Option<Result<FoundServer>>,
}

impl HostState {
    fn answer(&self) -> Option<&FoundServer> {
        self.found.as_ref()?.as_ref().ok()
    }
}

/// The cluster that the process works with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownCluster {
    /// Whether there is one yet: a server with tables of CTS was used, or some were created.
    pub is_set: bool,
    /// Its identifier, where it can be read.
    pub system: Option<i64>,
    /// The highest timeline on which a server of it could be written, and the host.
    pub highest: Option<(u32, String)>,
}

impl KnownCluster {
    /// Refuses a server of another cluster, and an old primary.
    ///
    /// # Errors
    /// `Kind::Unavailable`: another server may answer later.
    pub fn admit(&self, server: &SessionServer) -> Result<()> {
        if let (true, Some(ours), Some(its)) = (self.is_set, self.system, server.identity.system)
            && ours != its
        {
            let what = format!(
                "another cluster: its system_identifier is {its}, and that of the database in use {ours}"
            );
            return Err(Error::new(Kind::Unavailable, what).remedy(
                "take this host out of the URL; if it holds the database now (a restored dump, an upgraded server), restart cts with only this host in the URL",
            ));
        }
        match (&self.highest, primary_timeline(server, self.system)) {
            (Some((highest, host)), Some(its)) if its < *highest => {
                Err(old_primary(its, *highest, host))
            }
            _ => Ok(()),
        }
    }

    /// Raises the highest timeline by a server of the cluster that is a primary.
    pub fn learn(&mut self, server: &SessionServer) {
        if let Some(timeline) = primary_timeline(server, self.system).filter(|_| self.is_set)
            && self.highest.as_ref().is_none_or(|(highest, _)| timeline > *highest)
        {
            self.highest = Some((timeline, server.name.clone()));
        }
    }
}

fn is_standby(server: &SessionServer) -> bool {
    server.read_only == Some(ReadOnlyReason::Standby)
}

/// The timeline of a primary of this cluster. Without an identifier, timelines of two clusters would be compared.
fn primary_timeline(server: &SessionServer, cluster: Option<i64>) -> Option<u32> {
    let is_ours = cluster.is_some() && server.identity.system == cluster;
    server.identity.timeline.filter(|_| is_ours && !is_standby(server))
}

fn old_primary(its: u32, highest: u32, host: &str) -> Error {
    let what = format!(
        "an old primary: its timeline is {its}, and {host} has been promoted to timeline {highest}"
    );
    Error::new(Kind::Unavailable, what).remedy(
        "stop it or make it a standby of the new primary (`pg_rewind`), so that no program writes to it; if it is the right one after all, restart cts with only this host in the URL",
    )
}

/// What a choice is made from.
pub struct Choice<'c> {
    /// The cluster of the process.
    pub known: &'c KnownCluster,
    /// The host in use, by its place in the URL.
    pub used: Option<usize>,
    /// The hosts of the URL.
    pub hosts: &'c [HostState],
    /// Which servers the URL accepts.
    pub attrs: SessionAttrs,
}

impl Choice<'_> {
    /// The host to use: of our cluster, accepted by the URL, with the highest timeline; among those that are equal, the
    /// one in use, else the first.
    ///
    /// # Errors
    /// One error that names each host; `Kind::Unavailable` if one of them may be used later.
    pub fn make(&self) -> Result<usize> {
        let admitted: Vec<Result<usize>> =
            (0..self.hosts.len()).map(|at| self.admit(at).map(|()| at)).collect();
        let cluster = self.cluster(admitted.iter().flatten().copied());
        let highest = self.highest(cluster);
        let (mut errors, mut usable, mut refused) = (Vec::new(), Vec::new(), None);
        for (host, admitted) in self.hosts.iter().zip(admitted) {
            let accepted = admitted.and_then(|at| {
                self.refuse_other(at, cluster)?;
                self.refuse_lower(at, cluster, highest)?;
                self.refuse_attrs(at).map(|()| at)
            });
            match accepted {
                Ok(at) => usable.push(at),
                Err(error) => {
                    if host.answer().is_some_and(FoundServer::is_writable) {
                        refused.get_or_insert(errors.len());
                    }
                    errors.push(error.at(&host.name));
                }
            }
        }
        let is_used =
            |at: &&usize| self.used == Some(**at) && self.attrs == SessionAttrs::ReadWrite;
        let chosen = usable.iter().find(is_used).or_else(|| usable.first()).copied();
        chosen.ok_or_else(|| one_of_all_hosts(errors, refused))
    }

    /// Refuses a host by itself: it has not answered, is not of the cluster of the process, or holds a copy.
    fn admit(&self, at: usize) -> Result<()> {
        let host = &self.hosts[at];
        let found = match &host.found {
            None => return Err(Error::new(Kind::Unavailable, "has not answered yet")),
            Some(found) => found.as_ref().map_err(Error::clone)?,
        };
        self.known.admit(&found.server)?;
        let recorded = found.content.and_then(|content| content.recorded);
        let Some(recorded) = recorded.filter(|_| self.hosts.len() > 1 && !self.known.is_set) else {
            return Ok(());
        };
        if let (Some(then), Some(now), Some(false)) =
            (recorded.system, found.server.identity.system, found.fits_record())
        {
            let what = format!(
                "another cluster: its system_identifier is {now}, and its database was last used on {then} (table cts_server)"
            );
            return Err(Error::new(Kind::Unavailable, what).remedy(NAME_ONE_HOST));
        }
        match (recorded.timeline, found.server.identity.timeline) {
            (Some(then), Some(now)) if now < then && !is_standby(&found.server) => {
                let what = format!(
                    "an old primary: its timeline is {now}, and its database was last used on timeline {then} (table cts_server)"
                );
                Err(Error::new(Kind::Unavailable, what).remedy(NAME_ONE_HOST))
            }
            _ => Ok(()),
        }
    }

    /// The cluster of the host that comes first while the process knows none: one that can be written, that has tables of
    /// CTS, whose record names its own cluster.
    fn cluster(&self, admitted: impl Iterator<Item = usize>) -> Option<i64> {
        if self.known.is_set {
            return self.known.system;
        }
        let found = admitted.filter_map(|at| self.hosts[at].answer());
        // The first of those that are equal.
        let preferred = found.min_by_key(|found| {
            (!found.is_writable(), !found.has_tables(), found.fits_record() != Some(true))
        });
        preferred?.server.identity.system
    }

    fn refuse_other(&self, at: usize, cluster: Option<i64>) -> Result<()> {
        let known = KnownCluster { is_set: true, system: cluster, highest: None };
        self.hosts[at].answer().map_or(Ok(()), |found| known.admit(&found.server))
    }

    /// The highest timeline of a primary of this cluster, and its host.
    fn highest(&self, cluster: Option<i64>) -> Option<(u32, &str)> {
        let timeline = |host: &'_ HostState| primary_timeline(&host.answer()?.server, cluster);
        let found = self.hosts.iter().filter_map(|host| Some((timeline(host)?, &*host.name)));
        found.max_by_key(|(timeline, _)| *timeline)
    }

    fn refuse_lower(
        &self,
        at: usize,
        cluster: Option<i64>,
        highest: Option<(u32, &str)>,
    ) -> Result<()> {
        let server = self.hosts[at].answer().map(|found| &found.server);
        match (server.and_then(|server| primary_timeline(server, cluster)), highest) {
            (Some(its), Some((highest, host))) if its < highest => {
                Err(old_primary(its, highest, host))
            }
            _ => Ok(()),
        }
    }

    fn refuse_attrs(&self, at: usize) -> Result<()> {
        let reason = self.hosts[at].answer().and_then(|found| found.server.read_only);
        match reason.filter(|_| self.attrs == SessionAttrs::ReadWrite) {
            Some(reason) => Err(reason.error()),
            None => Ok(()),
        }
    }

    /// Refuses to create the tables on the host in use where another host may hold them.
    ///
    /// # Errors
    /// `Kind::Unavailable`, naming that host.
    pub fn refuse_creation(&self) -> Result<()> {
        let used = self.used.map(|at| &self.hosts[at]);
        let Some((used, own)) = used.and_then(|host| Some((host, host.answer()?))) else {
            return Ok(());
        };
        let error = |other: &HostState, what: String| {
            let what =
                format!("there is no table of CTS on {}, and none is created: {what}", used.name);
            Error::new(Kind::Unavailable, what).remedy(format!(
                "start {}; to create the tables on {} all the same, name only that host in the URL",
                other.name, used.name
            ))
        };
        for (at, other) in self.hosts.iter().enumerate().filter(|(at, _)| self.used != Some(*at)) {
            match self.admit(at).err().filter(|_| other.answer().is_none()) {
                Some(why) if is_without_database(&why) => {}
                Some(why) => {
                    let what = format!("{} may hold them ({})", other.name, why.message());
                    return Err(error(other, what));
                }
                None => match other.answer() {
                    Some(found) if found.has_tables() && !found.is_same_server(own) => {
                        let tables = found.content.map_or(0, |content| content.tables);
                        let what = format!("{} holds {tables} of them", other.name);
                        return Err(error(other, what).remedy(format!(
                            "name only the host in the URL that the database is to be on: {} or {}",
                            other.name, used.name
                        )));
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    /// Why a person should see to the servers: more than one can be written, or a standby follows a primary that is not
    /// the one in use.
    pub fn conflict(&self) -> Option<Error> {
        let mut primaries: Vec<(usize, &FoundServer)> = Vec::new();
        let in_order =
            self.used.into_iter().chain((0..self.hosts.len()).filter(|at| self.used != Some(*at)));
        for at in in_order {
            let Some(found) = self.hosts[at].answer().filter(|found| found.is_writable()) else {
                continue;
            };
            if !primaries.iter().any(|(_, other)| other.is_same_server(found)) {
                primaries.push((at, found));
            }
        }
        if primaries.len() < 2 {
            return self.diverged_standby();
        }
        let shown: Vec<String> = primaries
            .iter()
            .map(|(at, found)| {
                let is_used = if self.used == Some(*at) { ", in use" } else { "" };
                format!("{} ({}{is_used})", self.hosts[*at].name, described(found.server.identity))
            })
            .collect();
        let what =
            format!("{} servers of the URL can be written: {}", shown.len(), shown.join(" and "));
        let remedy = "make sure that programs write to one of them only: stop the other, or make it a standby (`pg_rewind`), and take a server of another cluster out of the URL";
        Some(Error::new(Kind::Config, what).remedy(remedy))
    }

    fn diverged_standby(&self) -> Option<Error> {
        let used = self.hosts.get(self.used?)?;
        let own = used.answer().filter(|found| found.is_writable())?.server.identity;
        let is_ahead = |host: &&HostState| {
            host.answer().is_some_and(|found| {
                let its = found.server.identity;
                is_standby(&found.server)
                    && its.system.is_some()
                    && its.system == own.system
                    && its.timeline.zip(own.timeline).is_some_and(|(its, own)| its > own)
            })
        };
        let standby = self.hosts.iter().find(is_ahead)?;
        let its = standby.answer()?.server.identity;
        let what = format!(
            "{} is in use ({}), and {} is a standby on a later timeline ({}): another server has been promoted",
            used.name,
            described(own),
            standby.name,
            described(its)
        );
        Some(Error::new(Kind::Config, what).remedy(
            "find the server that was promoted and name it in the URL, or set the standby up anew",
        ))
    }
}

/// An identity in words.
pub fn described(identity: ServerIdentity) -> String {
    let timeline = identity.timeline.map_or("unknown".to_string(), |timeline| timeline.to_string());
    let system = identity.system.map_or("unknown".to_string(), |system| system.to_string());
    format!("timeline {timeline}, system_identifier {system}")
}

fn is_without_database(error: &Error) -> bool {
    matches!(error.cause.as_deref(), Some(Cause::SqlState(state)) if state == NO_SUCH_DATABASE)
}

/// One error for all hosts. Its kind and remedy are those of a host that may be used later, if there is one, so that it is
/// waited for: of one that was refused for what it is, else of the first. `refused` is the place of such a one.
fn one_of_all_hosts(mut errors: Vec<Error>, refused: Option<usize>) -> Error {
    let decisive = refused.or_else(|| errors.iter().position(is_lost)).unwrap_or_default();
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
