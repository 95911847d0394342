//! The gate before the server: it alone meets strangers. It accepts for ever, gives each
//! connection a small thread, a deadline and one request, and when all places are taken it is the
//! one that has dawdled longest who leaves, not the one who comes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use crate::error::{Error, Kind, Result};
use crate::head::{self, Head, Refusal};

/// How long a head may take in all, however its bytes come.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take in all, with the answer.
const ALL_WITHIN: Duration = Duration::from_secs(10);
/// How old an unfinished head must be before its connection may be ended for another.
const DAWDLES_AFTER: Duration = Duration::from_millis(50);
/// How long who was let in before the gate closed may still take to ask.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);
/// While the system has no descriptors, memory or threads to give.
const EXHAUSTED: Duration = Duration::from_millis(20);
/// A thread that answers needs little: it reads a head and writes a short text.
const STACK_BYTES: usize = 128 << 10;
/// What a client may still send after its answer, before the connection is cut: closing with
/// unread bytes resets the connection, and the answer may be lost with it.
const LINGER_BYTES: usize = 256 << 10;
const LINGER_WITHIN: Duration = Duration::from_millis(500);

/// Gives the bytes of the answer to a request, or to what is none.
pub trait Answers: Send + Sync + 'static {
    /// The answer.
    fn answer(&self, request: std::result::Result<&Head, Refusal>, from: SocketAddr) -> Vec<u8>;
}

/// An open gate.
pub struct Gate {
    shared: Arc<Shared>,
    /// Wakes the thread that accepts.
    wake: UnixStream,
}

struct Shared {
    answers: Box<dyn Answers>,
    most: usize,
    is_closing: AtomicBool,
    connections: Mutex<Connections>,
    changed: Condvar,
}

/// The connections that have a place, oldest first.
#[derive(Default)]
struct Connections {
    next: u64,
    open: Vec<Open>,
    /// Whether more may come.
    is_accepting: bool,
    /// Answers that are being made or written.
    answering: usize,
}

struct Open {
    number: u64,
    stream: Arc<TcpStream>,
    since: Instant,
    /// Whether its head is still being read.
    is_reading: bool,
}

impl Gate {
    /// Opens the gate, with `most` connections at once. From half of that on, who dawdles is
    /// ended for who comes.
    pub fn open(listener: TcpListener, most: usize, answers: Box<dyn Answers>) -> Result<Gate> {
        let failed = |cause: &dyn std::fmt::Display| {
            Error::new(Kind::Unavailable, format!("connections cannot be accepted: {cause}"))
        };
        // The longest queue that the kernel allows: what comes while the process stands still waits.
        rustix::net::listen(&listener, 1024).map_err(|e| failed(&e))?;
        listener.set_nonblocking(true).map_err(|e| failed(&e))?;
        let (wake, woken) = UnixStream::pair().map_err(|e| failed(&e))?;
        let shared = Arc::new(Shared {
            answers,
            most,
            is_closing: AtomicBool::new(false),
            connections: Mutex::new(Connections { is_accepting: true, ..Connections::default() }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("accept".into())
            .spawn(move || accepting.accept(listener, &woken))
            .map_err(|e| failed(&e))?;
        Ok(Gate { shared, wake })
    }

    /// Takes no more connections, and waits for the answers under way, at most `limit`.
    ///
    /// The listener is closed and not shut down: systemd may have it too, and keeps for the next
    /// start what is queued there.
    pub fn close(&self, limit: Duration) {
        let until = Instant::now() + limit;
        self.shared.is_closing.store(true, Ordering::SeqCst);
        let _ = self.wake.shutdown(Shutdown::Both);
        let wait = |connections, limit, is_busy: fn(&mut Connections) -> bool| {
            let waited = self.shared.changed.wait_timeout_while(connections, limit, is_busy);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        let connections =
            wait(self.shared.connections(), limit.min(LAST_WORDS_WITHIN), |connections| {
                connections.is_accepting || !connections.open.is_empty()
            });
        drop(wait(connections, left(until).unwrap_or_default(), |connections| {
            connections.answering > 0
        }));
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never ends by a fault: each of them passes, or is the client's.
    fn accept(self: &Arc<Shared>, listener: TcpListener, woken: &UnixStream) {
        while !self.is_closing.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, from)) => self.admit(stream, from),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let wait_for = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
                    // Where this fails, `accept` tells why.
                    let _ = poll(&mut [wait_for(listener.as_fd()), wait_for(woken.as_fd())], None);
                }
                Err(e) if is_passing(&e) => {}
                Err(_) => {
                    self.connections().evict(Duration::ZERO);
                    thread::sleep(EXHAUSTED);
                }
            }
        }
        drop(listener);
        self.connections().is_accepting = false;
        self.changed.notify_all();
    }

    fn admit(self: &Arc<Shared>, stream: TcpStream, from: SocketAddr) {
        let stream = Arc::new(stream);
        let Some(number) = self.connections().enter(&stream, self.most) else { return };
        let place = Arc::new(Place { shared: Arc::clone(self), number });
        loop {
            let (place, theirs) = (Arc::clone(&place), Arc::clone(&stream));
            let serve = move || place.shared.serve(number, &theirs, from);
            let named = thread::Builder::new().name("request".into()).stack_size(STACK_BYTES);
            if named.spawn(serve).is_ok() {
                return;
            }
            // No thread can be made: one that dawdles makes room for it.
            let has_gone = self.connections().evict(Duration::ZERO) == Some(number);
            if has_gone || self.is_closing.load(Ordering::SeqCst) {
                return;
            }
            thread::sleep(EXHAUSTED);
        }
    }

    /// Reads one request and answers it. A client that has gone is no fault.
    fn serve(&self, number: u64, stream: &TcpStream, from: SocketAddr) {
        let start = Instant::now();
        let mut bytes = Vec::with_capacity(1024);
        let Some(request) = read_head(stream, &mut bytes, start + HEAD_WITHIN) else { return };
        let Some(answering) = Answering::begin(self, number) else { return };
        let answer = self.answers.answer(request.as_ref().map_err(|refusal| *refusal), from);
        let is_written = write_all(stream, &answer, start + ALL_WITHIN).is_ok();
        drop(answering);
        let rest = head::end(&bytes).map_or(bytes.len(), |end| bytes.len() - end);
        let may_send_more = request.is_err() || rest > 0;
        if is_written && may_send_more {
            linger(stream);
        }
    }
}

/// An answer under way, whose place cannot be taken.
struct Answering<'s> {
    shared: &'s Shared,
    number: u64,
}

impl<'s> Answering<'s> {
    /// `None` where the place is taken already.
    fn begin(shared: &'s Shared, number: u64) -> Option<Answering<'s>> {
        let mut connections = shared.connections();
        connections.open.iter_mut().find(|open| open.number == number)?.is_reading = false;
        connections.answering += 1;
        Some(Answering { shared, number })
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let mut connections = self.shared.connections();
        connections.answering -= 1;
        if let Some(open) = connections.open.iter_mut().find(|open| open.number == self.number) {
            open.is_reading = true;
        }
        self.shared.changed.notify_all();
    }
}

/// A place among the connections, given back however the thread ends.
struct Place {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.connections().open.retain(|open| open.number != self.number);
        self.shared.changed.notify_all();
    }
}

/// What happens to `accept` without anything being wrong here.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionAborted | E::Interrupted | E::ConnectionReset)
}

impl Connections {
    /// A place for a connection, where need be that of one that dawdles; `None` where there is
    /// none, because all are being answered.
    fn enter(&mut self, stream: &Arc<TcpStream>, most: usize) -> Option<u64> {
        if self.open.len() >= most / 2 {
            self.evict(DAWDLES_AFTER);
        }
        if self.open.len() >= most {
            self.evict(Duration::ZERO)?;
        }
        self.next += 1;
        let open = Open {
            number: self.next,
            stream: Arc::clone(stream),
            since: Instant::now(),
            is_reading: true,
        };
        self.open.push(open);
        Some(self.next)
    }

    /// Ends the connection that has read its head for longest, if that is longer than `age`.
    fn evict(&mut self, age: Duration) -> Option<u64> {
        let at = self.open.iter().position(|open| open.is_reading)?;
        if self.open.get(at)?.since.elapsed() < age {
            return None;
        }
        let open = self.open.remove(at);
        let _ = open.stream.shutdown(Shutdown::Both);
        Some(open.number)
    }
}

/// Reads until the head is complete or refused; `None` where the client is gone or too slow.
fn read_head(
    mut stream: &TcpStream,
    bytes: &mut Vec<u8>,
    until: Instant,
) -> Option<std::result::Result<Head, Refusal>> {
    let mut buffer = [0; 2048];
    loop {
        stream.set_read_timeout(Some(left(until)?)).ok()?;
        let count = match stream.read(&mut buffer) {
            Ok(0) => return None,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return None,
        };
        bytes.extend_from_slice(buffer.get(..count)?);
        match head::end(bytes) {
            Some(end) => return Some(head::read(bytes.get(..end)?)),
            None => {
                if let Err(refusal) = head::refuse_early(bytes) {
                    return Some(Err(refusal));
                }
            }
        }
    }
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8], until: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until).ok_or(io::ErrorKind::TimedOut)?))?;
        match stream.write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// What is left of the time, if anything is.
fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// Says that the answer is complete, and reads a little of what the client still sends.
fn linger(mut stream: &TcpStream) {
    let until = Instant::now() + LINGER_WITHIN;
    let mut read = 0;
    let mut buffer = [0; 4096];
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    while let Some(left) = left(until).filter(|_| read < LINGER_BYTES) {
        let is_set = stream.set_read_timeout(Some(left)).is_ok();
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 && is_set => read += count,
            _ => return,
        }
    }
}
