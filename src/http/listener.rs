//! The listening socket: bound here, or inherited from systemd (`cts.socket`).

use std::env;
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::config::Listen;
use crate::error::{Error, Kind, Result};
use crate::http::client::{get, is_alive};
use crate::system::address::{of_own_listener, resolve};

/// How long the resolver may take; longer than its own limit for two name servers (resolv.conf(5)).
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a cts that has the port may take to answer.
const OTHER_CTS_TIMEOUT: Duration = Duration::from_millis(500);

/// The socket that systemd passes to the service, or else one bound to the configured address.
///
/// # Errors
///
/// [`Kind::Config`] if systemd passes something other than one TCP socket, or the address does not belong
/// to this machine; [`Kind::Unavailable`] if the port is in use; [`Kind::Permission`] if it is reserved
/// for root.
pub fn listen(listen: &Listen) -> Result<TcpListener> {
    match inherited()? {
        Some(listener) => Ok(listener),
        None => bind(&listen.host, listen.port),
    }
}

/// The socket of `cts.socket`; `None` if systemd passes none. Sockets that are meant for another process, a
/// parent for example, are not believed in (sd_listen_fds(3)).
fn inherited() -> Result<Option<TcpListener>> {
    let is_ours = |pid: String| pid.parse() == Ok(std::process::id());
    if !env::var("LISTEN_PID").is_ok_and(is_ours) {
        return Ok(None);
    }
    let refused = |cause: &dyn Display| {
        let what = format!("the socket that systemd hands over cannot be used: {cause}");
        Error::new(Kind::Config, what)
            .remedy("let cts.socket listen on one TCP address (ListenStream=)")
    };
    let mut sockets = listenfd::ListenFd::from_env();
    if sockets.len() > 1 {
        // Connections to the others would never be accepted.
        return Err(refused(&format_args!("there are {} sockets", sockets.len())));
    }
    sockets.take_tcp_listener(0).map_err(|cause| refused(&cause))
}

fn bind(host: &str, port: u16) -> Result<TcpListener> {
    let addresses = resolve(host, port, RESOLVER_TIMEOUT).map_err(|e| {
        Error::new(Kind::Config, format!("HOST (or --host): cannot resolve {host:?}: {e}"))
            .remedy("use an address of this machine, such as 127.0.0.1")
    })?;
    let mut failures = Vec::new();
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failures.push((address, error)),
        }
    }
    Err(cannot_listen(host, port, &failures))
}

/// The error of a name at none of whose addresses cts can listen. The fault that may pass decides: a port that
/// is in use may become free, an address of another machine stays one.
fn cannot_listen(host: &str, port: u16, failures: &[(SocketAddr, io::Error)]) -> Error {
    let rank = |error: &io::Error| match error.kind() {
        ErrorKind::AddrInUse => 0,
        ErrorKind::PermissionDenied => 1,
        ErrorKind::AddrNotAvailable => 3,
        _ => 2,
    };
    let decisive = failures.iter().map(|(_, error)| error).min_by_key(|error| rank(error));
    let cause = match failures {
        [(address, error), _, ..] => {
            let rest =
                failures.iter().skip(1).map(|(address, error)| format!("; {address}: {error}"));
            format!("{address}: {error}{}", rest.collect::<String>())
        }
        _ => decisive.map(ToString::to_string).unwrap_or_default(),
    };
    let what = format!("{host}:{port}: cannot listen: {cause}");
    match decisive.map(io::Error::kind) {
        Some(ErrorKind::AddrInUse) => {
            let in_use = failures.iter().filter(|(_, error)| error.kind() == ErrorKind::AddrInUse);
            let served =
                in_use.map(|(address, _)| of_own_listener(*address)).find(is_served_by_cts);
            Error::new(Kind::Unavailable, what).remedy(remedy_in_use(port, served))
        }
        Some(ErrorKind::PermissionDenied) => {
            Error::new(Kind::Permission, what).remedy("set PORT (or --port) to 1024 or higher")
        }
        Some(ErrorKind::AddrNotAvailable) => Error::new(Kind::Config, what)
            .remedy("set HOST (or --host) to an address of this machine"),
        _ => Error::new(Kind::Unavailable, what),
    }
}

/// Whether a cts answers there.
fn is_served_by_cts(address: &SocketAddr) -> bool {
    get(*address, &address.to_string(), "/livez", OTHER_CTS_TIMEOUT)
        .is_ok_and(|response| is_alive(response.status_code, &response.body))
}

/// What to do where the port is in use, by the cts that serves at this address or by another program.
fn remedy_in_use(port: u16, served: Option<SocketAddr>) -> String {
    match served {
        Some(address) => format!(
            "a cts serves there already: ask it with `cts --check --url http://{address}`, or stop it first (`systemctl stop cts`, if it is the service), or set PORT (or --port) to another"
        ),
        None => format!(
            "find the program that uses the port (`ss -ltnp 'sport = :{port}'`), or set PORT (or --port) to another"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_addresses_the_fault_that_may_pass_decides() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let failures =
            [ErrorKind::AddrNotAvailable, ErrorKind::AddrInUse].map(|kind| (address, kind.into()));
        let error = cannot_listen("name", 1, &failures);
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.what.matches("127.0.0.1:1: ").count() == 2, "{error}");
        let error = cannot_listen("name", 1, &failures[..1]);
        assert_eq!(error.kind, Kind::Config);
    }
}
