//! A minimal HTTP client: one GET request, limited in time and size.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
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

fn parse(response: &[u8]) -> Option<HttpResponse> {
    let text = String::from_utf8_lossy(response);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status_code = head.split(' ').nth(1)?.parse().ok()?;
    Some(HttpResponse { status_code, body: body.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

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
