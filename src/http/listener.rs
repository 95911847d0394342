//! The listening socket: bound here, or inherited from systemd (`cts.socket`).

use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{TcpListener, ToSocketAddrs};

use crate::config::Listen;
use crate::error::{Error, Kind, Result};

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

/// The socket of `cts.socket`; `None` if systemd passes none.
fn inherited() -> Result<Option<TcpListener>> {
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
    let addresses = (host, port).to_socket_addrs().map_err(|e| {
        Error::new(Kind::Config, format!("HOST (or --host): cannot resolve {host:?}: {e}"))
            .remedy("use an address of this machine, such as 127.0.0.1")
    })?;
    TcpListener::bind(addresses.collect::<Vec<_>>().as_slice()).map_err(|e| {
        let what = format!("{host}:{port}: cannot listen: {e}");
        match e.kind() {
            ErrorKind::AddrInUse => Error::new(Kind::Unavailable, what).remedy(format!(
                "find the program that uses the port (`ss -ltnp 'sport = :{port}'`), or set PORT (or --port) to another"
            )),
            ErrorKind::PermissionDenied => {
                Error::new(Kind::Permission, what).remedy("set PORT (or --port) to 1024 or higher")
            }
            ErrorKind::AddrNotAvailable => Error::new(Kind::Config, what)
                .remedy("set HOST (or --host) to an address of this machine"),
            _ => Error::new(Kind::Unavailable, what),
        }
    })
}
