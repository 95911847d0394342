//! The `Host` header: which host a request addresses.

use std::net::IpAddr;

/// The host of a `Host` header without its port, an IPv6 address without its brackets; `None` if the
/// header is not valid.
pub fn name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.find(':').map_or((host, ""), |at| host.split_at(at)),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5;
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    has_port.then_some(name)
}

/// Whether a `Host` header names an IP address or `localhost`. Any other name may come from a web page
/// whose DNS name was made to resolve to this machine (DNS rebinding).
pub fn is_address_or_localhost(host: &str) -> bool {
    name(host).is_some_and(|name| {
        name.parse::<IpAddr>().is_ok()
            || name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_localhost_differ_from_other_names() {
        for host in
            ["127.0.0.1", "127.0.0.1:3000", "[::1]:3000", "[::1]", "localhost", "LocalHost:80"]
        {
            assert!(is_address_or_localhost(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "[::1",
            "127.0.0.1:x",
            "a:b:c",
        ] {
            assert!(!is_address_or_localhost(host), "{host}");
        }
    }
}
