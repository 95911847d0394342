//! The HTTP server: `tiny_http` with a thread per request. The only file that knows it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Header, Request, Response};

use crate::error::{Error, Kind, Result};
use crate::health::Report;
use crate::reply::{AdminAccess, Ask, Reply, answer, error};

/// Requests answered at once; a further one gets 503.
const AT_ONCE: usize = 64;
/// A thread that answers needs little: it reads a request and writes a short text.
const STACK_BYTES: usize = 128 << 10;

/// A bound listener that answers.
pub struct Server {
    http: Arc<tiny_http::Server>,
    address: SocketAddr,
    under_way: Arc<UnderWay>,
}

impl Server {
    /// Binds the port and begins to answer; `report` is asked for what a path needs.
    pub fn start<R>(host: &str, port: u16, access: AdminAccess, report: R) -> Result<Server>
    where
        R: Fn() -> Report + Send + Sync + 'static,
    {
        let listener = bind(host, port)?;
        let failed = |cause: &dyn std::fmt::Display| {
            Error::new(Kind::Unavailable, format!("{host}:{port}: cannot listen: {cause}"))
        };
        let address = listener.local_addr().map_err(|e| failed(&e))?;
        let access = AdminAccess { loopback: address.ip().is_loopback(), ..access };
        let http = tiny_http::Server::from_listener(listener, None).map_err(|e| failed(&e))?;
        let server = Server { http: Arc::new(http), address, under_way: Arc::default() };
        let (http, under_way) = (Arc::clone(&server.http), Arc::clone(&server.under_way));
        let answers = Arc::new((access, report));
        thread::Builder::new()
            .name("accept".into())
            .spawn(move || accept(&http, &under_way, &answers))
            .map_err(|e| failed(&e))?;
        Ok(server)
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
        self.http.unblock();
        self.under_way.wait_until_none(limit);
    }
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

fn accept<R>(http: &tiny_http::Server, under_way: &Arc<UnderWay>, answers: &Arc<(AdminAccess, R)>)
where
    R: Fn() -> Report + Send + Sync + 'static,
{
    for request in http.incoming_requests() {
        let Some(place) = UnderWay::enter(under_way, AT_ONCE) else {
            respond(request, &error(503, "too many requests at once, try again"));
            continue;
        };
        let answers = Arc::clone(answers);
        // Where no thread can be made, the request is dropped and its connection closed.
        let _ = thread::Builder::new().name("request".into()).stack_size(STACK_BYTES).spawn(
            move || {
                let (access, report) = &*answers;
                let reply = answer_to(&request, access, report);
                respond(request, &reply);
                drop(place);
            },
        );
    }
}

fn answer_to(request: &Request, access: &AdminAccess, report: &dyn Fn() -> Report) -> Reply {
    let authorization = request
        .headers()
        .iter()
        .find(|header| header.field.equiv("Authorization"))
        .map(|h| h.value.as_str());
    let ask = Ask { method: request.method().as_str(), target: request.url(), authorization };
    answer(ask, access, report)
}

fn respond(request: Request, reply: &Reply) {
    let fixed = [
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    let mut response = Response::from_string(reply.body.as_str()).with_status_code(reply.code);
    for (name, value) in fixed.iter().chain(&reply.headers) {
        if let Ok(header) = Header::from_bytes(*name, *value) {
            response.add_header(header);
        }
    }
    // The client may have gone; there is nobody to tell.
    let _ = request.respond(response);
}

/// Asks a server for a path: status code and body. HTTP/1.0, so that a long answer is not
/// sent in chunks.
pub fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    limit: Duration,
) -> std::io::Result<(u16, String)> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left())?;
    stream.set_write_timeout(Some(left()))?;
    stream.write_all(
        format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if Instant::now() >= deadline || answer.len() > 1 << 20 {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or(std::io::ErrorKind::InvalidData)?, body.to_string()))
}

/// Counts the requests that are being answered.
#[derive(Default)]
struct UnderWay {
    count: Mutex<usize>,
    changed: Condvar,
}

/// One place among the requests under way, given back when dropped.
struct Place(Arc<UnderWay>);

impl UnderWay {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(this: &Arc<UnderWay>, most: usize) -> Option<Place> {
        let mut count = this.count();
        (*count < most).then(|| {
            *count += 1;
            Place(Arc::clone(this))
        })
    }

    fn wait_until_none(&self, limit: Duration) {
        let waited = self.changed.wait_timeout_while(self.count(), limit, |count| *count > 0);
        drop(waited);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.count() -= 1;
        self.0.changed.notify_all();
    }
}
