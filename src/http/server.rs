//! The HTTP server: listens, lets the gate in front meet the clients, and writes the answers with
//! `tiny_http`. The only file that knows it; of that crate only the writer of answers is used, since
//! its reader of requests must not face a network.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tiny_http::{HTTPVersion, Header, Response};

use super::client::get;
use crate::config::Listen;
use crate::error::{Error, Kind, Result};
use crate::health::Report;
use crate::http::gate::{Gate, Responder};
use crate::http::head::{Head, RequestRefusal};
use crate::http::reply::{HttpAccess, Reply, RequestParts, answer, error};
use crate::system::log::Log;

/// The least time between two log lines about refusals for the same reason.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// A bound listener that answers.
pub struct HttpServer {
    gate: Gate,
    address: SocketAddr,
}

impl HttpServer {
    /// Binds the port, or takes the socket that systemd has bound, and begins to answer; `report`
    /// is asked for what a path needs.
    pub fn start<R>(listen: &Listen, access: HttpAccess, log: Log, report: R) -> Result<HttpServer>
    where
        R: Fn() -> Report + Send + Sync + 'static,
    {
        let listener = match handed_over()? {
            Some(listener) => listener,
            None => bind(&listen.host, listen.port)?,
        };
        let address = listener.local_addr().map_err(|cause| {
            Error::new(Kind::Unavailable, format!("the listener has no address: {cause}"))
        })?;
        let access = HttpAccess { loopback: address.ip().is_loopback(), ..access };
        let site = Site { access, report, log, said: Mutex::default() };
        let gate = Gate::open(listener, listen.connections, Box::new(site))?;
        Ok(HttpServer { gate, address })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a request to our own `/livez` is answered within `limit`: the way in is open.
    pub fn answers_itself(&self, limit: Duration) -> bool {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let address = SocketAddr::new(ip, self.address.port());
        get(address, &address.to_string(), "/livez", limit).is_ok_and(|(code, _)| code == 200)
    }

    /// Takes no more requests and waits for those under way, at most `limit`.
    pub fn stop(&self, limit: Duration) {
        self.gate.close(limit);
    }
}

/// The socket of `cts.socket`, where systemd has started us for it.
fn handed_over() -> Result<Option<TcpListener>> {
    let refused = |cause: &dyn std::fmt::Display| {
        let what = format!("the socket that systemd hands over cannot be used: {cause}");
        Error::new(Kind::Config, what)
            .remedy("let cts.socket listen on one TCP address (ListenStream=)")
    };
    let mut sockets = listenfd::ListenFd::from_env();
    if sockets.len() > 1 {
        // Nobody would answer on the others.
        return Err(refused(&format_args!("there are {}", sockets.len())));
    }
    sockets.take_tcp_listener(0).map_err(|cause| refused(&cause))
}

fn bind(host: &str, port: u16) -> Result<TcpListener> {
    let addresses = (host, port).to_socket_addrs().map_err(|e| {
        Error::new(Kind::Config, format!("HOST (or --host): {host:?} is no address: {e}"))
            .remedy("use an address of this machine, such as 127.0.0.1")
    })?;
    TcpListener::bind(addresses.collect::<Vec<_>>().as_slice()).map_err(|e| {
        let what = format!("{host}:{port}: cannot listen: {e}");
        match e.kind() {
            std::io::ErrorKind::AddrInUse => Error::new(Kind::Unavailable, what).remedy(format!(
                "see who uses the port (`ss -ltnp 'sport = :{port}'`), or set PORT (or --port) to another"
            )),
            std::io::ErrorKind::PermissionDenied => {
                Error::new(Kind::Permission, what).remedy("set PORT (or --port) to 1024 or higher")
            }
            std::io::ErrorKind::AddrNotAvailable => {
                Error::new(Kind::Config, what).remedy("set HOST (or --host) to an address of this machine")
            }
            _ => Error::new(Kind::Unavailable, what),
        }
    })
}

/// What is answered, and who is told of refusals.
struct Site<R> {
    access: HttpAccess,
    report: R,
    log: Log,
    said: Mutex<Said>,
}

/// What was logged of refusals.
#[derive(Default)]
struct Said {
    /// When one was last logged, and how many were not since, by status code.
    last: BTreeMap<u16, (Instant, u64)>,
    is_writing: bool,
}

impl Said {
    /// Whether a line may be written now: then, how many were not since the last. One writes at a
    /// time, so that a log that stands still holds up one client, not all.
    fn begin(&mut self, code: u16) -> Option<u64> {
        let last = self.last.get_mut(&code);
        if let Some((last, unsaid)) = last
            && (self.is_writing || last.elapsed() < BETWEEN_LINES)
        {
            *unsaid += 1;
            return None;
        }
        self.is_writing = true;
        self.last.insert(code, (Instant::now(), 0)).map(|(_, unsaid)| unsaid).or(Some(0))
    }
}

impl<R: Fn() -> Report + Send + Sync + 'static> Responder for Site<R> {
    fn answer(
        &self,
        request: std::result::Result<&Head, RequestRefusal>,
        from: SocketAddr,
    ) -> Vec<u8> {
        let (reply, is_1_1, is_head) = match request {
            Ok(head) => {
                let Head { method, target, host, authorization, is_1_1 } = head;
                let ask = RequestParts {
                    method,
                    target,
                    host: host.as_deref(),
                    authorization: authorization.as_deref(),
                };
                (answer(ask, &self.access, &self.report), *is_1_1, method == "HEAD")
            }
            Err(refusal) => {
                let (code, why) = refusal.status();
                (error(code, why), true, false)
            }
        };
        if reply.is_refusal() {
            self.tell(&reply, from);
        }
        written(&reply, is_1_1, is_head)
    }
}

impl<R> Site<R> {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs a refusal, unless one like it was logged just now.
    fn tell(&self, reply: &Reply, from: SocketAddr) {
        let Some(unsaid) = self.said().begin(reply.code) else { return };
        let more =
            if unsaid > 0 { format!(", after {unsaid} more like it") } else { String::new() };
        let (from, code) = (from.ip(), reply.code);
        self.log.warn(format_args!("refused {from} ({code}){more}: {:.300}", reply.body));
        self.said().is_writing = false;
    }
}

/// The bytes of an answer.
fn written(reply: &Reply, is_1_1: bool, is_head: bool) -> Vec<u8> {
    let fixed = [
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("HttpServer", "cts"),
    ];
    let mut response = Response::from_string(reply.body.as_str())
        .with_status_code(reply.code)
        .with_chunked_threshold(usize::MAX);
    for (name, value) in fixed.iter().chain(&reply.headers) {
        if let Ok(header) = Header::from_bytes(*name, *value) {
            response.add_header(header);
        }
    }
    let version = HTTPVersion(1, u8::from(is_1_1));
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = response.raw_print(&mut bytes, version, &[], is_head, None);
    // The crate takes this header for its own.
    if let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") {
        bytes.splice(line + 2..line + 2, *b"Connection: close\r\n");
    }
    bytes
}
