//! A minimal HTTP client: one GET request, limited in time and size.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Maximum size of a response, head and body, in bytes.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// A response as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The HTTP status code.
    pub status_code: u16,
    /// The body; bytes that are not UTF-8 are replaced.
    pub body: String,
}

/// Whether this is the response of a cts to `GET /livez`.
pub fn is_alive(status_code: u16, body: &str) -> bool {
    let json = serde_json::from_str::<serde_json::Value>(body);
    status_code == 200 && json.is_ok_and(|json| json["status"] == "alive")
}

/// Sends `GET path` to a server and reads the response, both within `timeout`. The request is HTTP/1.0,
/// so that the response is not sent in chunks.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`] if the response is not complete in time or exceeds
/// [`RESPONSE_BYTES_MAX`], [`io::ErrorKind::InvalidData`] if it is not HTTP, and any error of the
/// connection.
pub fn get(
    address: SocketAddr,
    host: &str,
    path: &str,
    timeout: Duration,
) -> io::Result<HttpResponse> {
    let deadline = Instant::now() + timeout;
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, left())?;
    stream.set_write_timeout(Some(left()))?;
    stream.write_all(
        format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut response = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if Instant::now() >= deadline || response.len() > RESPONSE_BYTES_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => response.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    parse(&response).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// How long an address of a name may be silent before the next one is asked too (RFC 8305, 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Why no address of a name gave a response.
#[derive(Debug, Default)]
pub struct NoResponse(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for NoResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [] => f.write_str("no address answers in time"),
            [(_, error)] => write!(f, "{error}"),
            all => {
                let one =
                    |(address, error): &(SocketAddr, io::Error)| format!("{address}: {error}");
                f.write_str(&all.iter().map(one).collect::<Vec<_>>().join("; "))
            }
        }
    }
}

/// Asks the addresses of a name as [`get`] does, each on a thread of its own: the next one when one has failed
/// or is silent for [`ATTEMPT_DELAY`]. The first response that `is_wanted` is returned; where there is none
/// within `timeout`, any other response.
///
/// # Errors
///
/// The errors of all addresses that gave no response.
pub fn get_from_any(
    addresses: &[SocketAddr],
    host: &str,
    path: &str,
    timeout: Duration,
    is_wanted: impl Fn(&HttpResponse) -> bool,
) -> Result<HttpResponse, NoResponse> {
    let deadline = Instant::now() + timeout;
    let (sender, results) = mpsc::channel();
    let (mut unwanted, mut failures) = (None, NoResponse::default());
    let (mut next, mut running) = (addresses.iter().copied(), 0);
    let mut is_start_due = true;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if is_start_due && let Some(address) = next.next() {
            let (sender, host, path) = (sender.clone(), host.to_string(), path.to_string());
            let ask = move || drop(sender.send((address, get(address, &host, &path, left))));
            match thread::Builder::new().name("http client".into()).spawn(ask) {
                Ok(_) => running += 1,
                Err(error) => failures.0.push((address, error)),
            }
        }
        if running == 0 && next.len() == 0 || left.is_zero() {
            return unwanted.ok_or(failures);
        }
        let wait = if next.len() == 0 { left } else { left.min(ATTEMPT_DELAY) };
        is_start_due = true;
        match results.recv_timeout(wait) {
            Ok((_, Ok(response))) if is_wanted(&response) => return Ok(response),
            Ok((_, Ok(response))) => unwanted = unwanted.or(Some(response)),
            Ok((address, Err(error))) => failures.0.push((address, error)),
            Err(_) => continue,
        }
        running -= 1;
    }
}

fn parse(response: &[u8]) -> Option<HttpResponse> {
    let text = String::from_utf8_lossy(response);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status_code = head.split(' ').nth(1)?.parse().ok()?;
    Some(HttpResponse { status_code, body: body.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers the first connection with `body`, or never if there is none.
    fn server(body: Option<&'static str>) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            match body {
                Some(body) => {
                    let _ = stream.read(&mut [0; 4096]).unwrap();
                    write!(stream, "HTTP/1.0 200 OK\r\n\r\n{body}").unwrap();
                }
                None => drop(stream.read_to_end(&mut Vec::new())),
            }
        });
        address
    }

    #[test]
    fn every_address_of_a_name_is_asked_until_one_answers_as_wanted() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let limit = Duration::from_secs(20);
        let asked = |addresses: &[SocketAddr], limit| {
            get_from_any(addresses, "h", "/", limit, |response| response.body == "cts")
        };
        for first in [closed, server(None), server(Some("another program"))] {
            let start = Instant::now();
            assert_eq!(asked(&[first, server(Some("cts"))], limit).unwrap().body, "cts");
            assert!(start.elapsed() < limit / 2);
        }
        assert_eq!(asked(&[server(Some("other")), closed], limit).unwrap().body, "other");
        let text = asked(&[closed, closed], limit).unwrap_err().to_string();
        assert_eq!(text.matches("refused").count(), 2, "{text}");
        let start = Instant::now();
        assert!(asked(&[server(None)], Duration::from_millis(300)).is_err());
        assert!(start.elapsed() < limit);
    }

    #[test]
    fn a_response_has_a_status_code_and_a_body() {
        let response =
            parse(b"HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\n{}\r\n\r\n").unwrap();
        assert_eq!((response.status_code, response.body.as_str()), (503, "{}\r\n\r\n"));
        for other in ["", "SSH-2.0-x\r\n\r\n", "HTTP/1.0 ok\r\n\r\n", "HTTP/1.0 200 OK\r\n"] {
            assert_eq!(parse(other.as_bytes()), None, "{other:?}");
        }
    }
}
