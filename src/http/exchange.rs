//! One request and one response on a socket, each within a deadline. It knows bytes and heads, nothing
//! of slots or of what is answered.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::http::head::{self, RequestHead, RequestRefusal};
use crate::http::slots::Phase;

/// Bytes that a client may send after its request and still receive the response. Closing a socket
/// with unread bytes resets the connection, and the response may be lost with it.
const DRAIN_BYTES_MAX: usize = 256 << 10;
/// Time limit for reading those bytes.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// A request that may be answered, or why it is refused.
pub type Request = Result<RequestHead, RequestRefusal>;

/// Reads until the head is complete or refused. `enter` announces each change of phase and returns
/// `None` if the connection has been evicted.
///
/// `None` if the client has closed the connection, the deadline has passed, or the connection has been
/// evicted.
pub fn read_request(
    mut stream: &TcpStream,
    deadline: Instant,
    enter: impl Fn(Phase) -> Option<()>,
) -> Option<Request> {
    let mut bytes = Vec::with_capacity(1024);
    let mut buffer = [0; 2048];
    loop {
        stream.set_read_timeout(Some(remaining(deadline)?)).ok()?;
        // The phase changes before the bytes are taken: a client whose request has arrived never looks
        // like one that has sent nothing.
        stream.peek(&mut [0]).ok().filter(|count| *count > 0)?;
        enter(Phase::Processing)?;
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(buffer.get(..count)?);
        if let Some(end) = head::find_end(&bytes) {
            return Some(head::parse(bytes.get(..end)?));
        }
        if let Err(refusal) = head::check_prefix(&bytes) {
            return Some(Err(refusal));
        }
        enter(Phase::AwaitingRequest)?;
    }
}

/// Sends a response.
///
/// # Errors
///
/// If the client has gone, or the deadline passes; part of the response may have been sent.
pub fn send_response(
    mut stream: &TcpStream,
    mut bytes: &[u8],
    deadline: Instant,
) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(remaining(deadline).ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Ends the response and discards what the client still sends, up to [`DRAIN_BYTES_MAX`].
pub fn finish(mut stream: &TcpStream) {
    let deadline = Instant::now() + DRAIN_TIMEOUT;
    let mut discarded_bytes = 0;
    let mut buffer = [0; 4096];
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    while let Some(left) = remaining(deadline).filter(|_| discarded_bytes < DRAIN_BYTES_MAX) {
        let is_set = stream.set_read_timeout(Some(left)).is_ok();
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 && is_set => discarded_bytes += count,
            _ => return,
        }
    }
}

/// Time until the deadline; `None` if it has passed.
fn remaining(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A client that has sent this, and the server's end of its connection.
    fn sent(bytes: &[u8]) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(100)
    }

    #[test]
    fn a_request_is_read_up_to_its_end_and_refused_as_early_as_possible() {
        let (_client, server) = sent(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n");
        let request = read_request(&server, soon(), |_| Some(())).unwrap().unwrap();
        assert_eq!(request.target, "/a");
        let (_client, server) = sent(b"\x16\x03\x01");
        assert!(read_request(&server, soon(), |_| Some(())).unwrap().is_err());
    }

    #[test]
    fn a_client_that_is_late_or_evicted_has_no_request() {
        let (_client, server) = sent(b"GET / HTTP/1.1\r\n");
        let start = Instant::now();
        assert!(read_request(&server, soon(), |_| Some(())).is_none());
        assert!(start.elapsed() < Duration::from_secs(5));
        let (_client, server) = sent(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(read_request(&server, soon(), |_| None).is_none());
    }
}
