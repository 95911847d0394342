//! Where a server is, and the way to it: name lookup, socket, TLS and login. It opens connections for
//! statements and for cancel requests alike.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_postgres::{CancelToken, Config};

use super::answer_watch::{AnswerBounds, LOOK_INTERVAL};
use super::client::{ClientError, OpenedConnection, drive};
use super::copy_state::CopyState;
use super::tls::LoginWatch;
use super::url::{Endpoint, Host};
use crate::system::deadline::{BackgroundTask, NoResult};

/// Lookups of one name that may be under way at the same time. The library of the operating system ends one
/// that is not answered after up to half a minute, and it cannot be interrupted.
const LOOKUPS_MAX: usize = 4;

/// How long a cancel request may take. A server that is frozen does not end its connection.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(1);

/// A server whose address is known.
#[derive(Clone)]
pub struct ServerAddress {
    /// Settings, login and the addresses, which are tried in turn.
    config: Config,
    login: LoginWatch,
    /// The file of the socket, where the server is reached through one.
    socket: Option<PathBuf>,
}

impl ServerAddress {
    /// Looks a host up, within the bounds. `config` has no host yet.
    ///
    /// # Errors
    /// [`ClientError::System`] if there is no such host or no thread can be started,
    /// [`ClientError::NoAnswer`] if nothing answers in time.
    pub fn find(
        mut config: Config,
        login: LoginWatch,
        host: &Host,
        bounds: &AnswerBounds,
    ) -> Result<ServerAddress, ClientError> {
        config.port(host.port);
        let name = match &host.endpoint {
            Endpoint::Tcp(name) => name,
            // (PostgreSQL documentation, "Database Connection Control Functions", `host`)
            Endpoint::Unix(folder) => {
                let socket = Some(folder.join(format!(".s.PGSQL.{}", host.port)));
                return Ok(ServerAddress { config, login, socket });
            }
        };
        let addresses = match host.address.or_else(|| name.parse().ok()) {
            Some(address) => vec![address],
            None => look_up(name, host.port, bounds)?,
        };
        for address in addresses {
            config.host(name).hostaddr(address);
        }
        Ok(ServerAddress { config, login, socket: None })
    }

    /// Opens a connection and logs in.
    ///
    /// # Errors
    /// [`ClientError::System`] or [`ClientError::Server`]; no connection is left.
    pub async fn open(&self) -> Result<OpenedConnection, ClientError> {
        let copy = Arc::<CopyState>::default();
        let login = LoginWatch { copy: Arc::clone(&copy), ..self.login.clone() };
        let Some(file) = &self.socket else {
            let (requests, connection) = self.config.connect(login).await?;
            return Ok(OpenedConnection { requests, drive: drive(connection), copy });
        };
        let socket = UnixStream::connect(file).await.map_err(ClientError::System)?;
        let (requests, connection) = self.config.connect_raw(socket, login.of_host("")).await?;
        Ok(OpenedConnection { requests, drive: drive(connection), copy })
    }

    /// Whether the server answers a connection of its own: with a login, or with a refusal.
    pub async fn answers(&self) -> bool {
        match self.open().await {
            Ok(_) => true,
            Err(ClientError::Server(error)) => error.as_db_error().is_some(),
            Err(_) => false,
        }
    }

    /// Asks the server to cancel what runs on a connection, and waits a moment until it has ended the connection of the
    /// request.
    ///
    /// # Errors
    /// As [`ServerAddress::open`]. Whether it was cancelled is not known otherwise either.
    pub async fn cancel(&self, token: &CancelToken) -> Result<(), ClientError> {
        let sent = timeout(CANCEL_TIMEOUT, self.send_cancel(token)).await;
        sent.unwrap_or(Ok(()))
    }

    async fn send_cancel(&self, token: &CancelToken) -> Result<(), ClientError> {
        let Some(file) = &self.socket else {
            return Ok(token.cancel_query(self.login.clone()).await?);
        };
        let socket = UnixStream::connect(file).await.map_err(ClientError::System)?;
        Ok(token.cancel_query_raw(socket, self.login.of_host("")).await?)
    }
}

/// Looks a name up, on a thread of its own.
fn look_up(name: &str, port: u16, bounds: &AnswerBounds) -> Result<Vec<IpAddr>, ClientError> {
    let lookup = loop {
        if let Some(lookup) = Lookup::start(name) {
            break lookup;
        }
        bounds.check_connecting()?;
        thread::sleep(LOOK_INTERVAL);
    };
    let owned = name.to_string();
    let task = BackgroundTask::start("lookup", move || {
        let found = (owned.as_str(), port).to_socket_addrs();
        drop(lookup);
        found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>())
    });
    let task = task.map_err(|error| ClientError::System(io::Error::other(error.message())))?;
    loop {
        match task.within(LOOK_INTERVAL) {
            Ok(found) => return found.map_err(ClientError::System),
            Err(NoResult::DeadlinePassed) => bounds.check_connecting()?,
            Err(NoResult::ThreadEnded) => {
                return Err(ClientError::System(io::Error::other("the name lookup has ended")));
            }
        }
    }
}

/// The lookups that are under way, by name.
static LOOKUPS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn lookups() -> MutexGuard<'static, BTreeMap<String, usize>> {
    LOOKUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lookup, counted until it is dropped.
struct Lookup(String);

impl Lookup {
    /// Counts one more, unless there are as many as may be.
    fn start(name: &str) -> Option<Lookup> {
        let mut lookups = lookups();
        let under_way = lookups.entry(name.to_string()).or_default();
        if *under_way >= LOOKUPS_MAX {
            return None;
        }
        *under_way += 1;
        Some(Lookup(name.to_string()))
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let mut lookups = lookups();
        if let Some(under_way) = lookups.get_mut(&self.0) {
            *under_way -= 1;
            if *under_way == 0 {
                lookups.remove(&self.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_lookups_of_a_name_are_limited_and_those_of_another_are_not_held_up() {
        let first: Vec<_> = (0..LOOKUPS_MAX).map(|_| Lookup::start("a.invalid")).collect();
        assert!(first.iter().all(Option::is_some));
        assert!(Lookup::start("a.invalid").is_none());
        assert!(Lookup::start("b.invalid").is_some());
        drop(first);
        assert!(Lookup::start("a.invalid").is_some());
    }

    #[test]
    fn a_lookup_waits_for_one_of_those_under_way_to_end() {
        let under_way: Vec<_> = (0..LOOKUPS_MAX).map(|_| Lookup::start("localhost")).collect();
        let bounds = |limit| AnswerBounds::within(limit, &Arc::default());
        let found = look_up("localhost", 1, &bounds(LOOK_INTERVAL));
        assert!(matches!(found, Err(ClientError::NoAnswer(LOOK_INTERVAL))));
        let (started, is_started) = mpsc::channel();
        let waiting = thread::spawn(move || {
            started.send(()).unwrap();
            look_up("localhost", 1, &bounds(Duration::from_secs(60)))
        });
        is_started.recv().unwrap();
        thread::sleep(2 * LOOK_INTERVAL);
        drop(under_way);
        assert!(waiting.join().unwrap().is_ok());
    }
}
