//! Network addresses: those of a name, and that of an own listener.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::system::deadline::BackgroundTask;

/// All addresses of a name or an address, in the order of the resolver and without repetitions; at least one.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`] if the resolver does not answer within `limit` ([`Duration::MAX`]: without
/// limit), [`io::ErrorKind::NotFound`] if the name has no address, or the error of the resolver.
pub fn resolve(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = host.to_string();
    let lookup = move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let task = BackgroundTask::start("resolver", lookup).map_err(io::Error::other)?;
    let found = task.within(limit).map_err(|_| {
        let what = format!("the name {host} was not resolved within {} s", limit.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, what)
    })??;
    let mut addresses = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))),
        false => Ok(addresses),
    }
}

/// The address at which this machine reaches its own listener: loopback instead of the unspecified address
/// (`0.0.0.0`, `::`), to which no client can connect everywhere.
pub fn of_own_listener(listener: SocketAddr) -> SocketAddr {
    let ip = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listener.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_all_its_addresses_and_an_address_needs_no_resolver() {
        let limit = Duration::from_secs(20);
        let all = resolve("localhost", 3000, limit).unwrap();
        assert!(all.iter().all(|address| address.ip().is_loopback() && address.port() == 3000));
        let address = resolve("::1", 80, Duration::ZERO).unwrap();
        assert_eq!(address, ["[::1]:80".parse().unwrap()]);
        assert!(resolve("no-such-host.invalid", 80, limit).is_err());
    }

    #[test]
    fn an_unspecified_address_is_reached_by_loopback_and_any_other_as_it_is() {
        for (listener, reached) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("192.0.2.7:80", "192.0.2.7:80"),
        ] {
            assert_eq!(of_own_listener(listener.parse().unwrap()), reached.parse().unwrap());
        }
    }
}
