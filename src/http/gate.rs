//! The gate before the server: it alone meets strangers. It accepts for ever, gives each
//! connection a small thread, a deadline and one request, and when all places are taken it is the
//! one that has dawdled longest who leaves, not the one who comes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Kind, Result};
use crate::http::head::{self, Head, RequestRefusal};

/// How long a head may take in all, however its bytes come.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// The same where no thread could be made, and all who come wait for this one.
const HEAD_WITHIN_ALONE: Duration = Duration::from_millis(100);
/// How long writing the answer may take in all.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// How long it may be the client's turn before a connection is ended for another, while half the places
/// are taken, and while all are. A client that means it sends its request right after it has
/// connected.
const DAWDLES_AFTER: Duration = Duration::from_millis(50);
const DAWDLES_IN_A_CROWD_AFTER: Duration = Duration::from_millis(10);
/// The same for one that sends so much that there is always something to read.
const DAWDLES_HOWEVER_BUSY: Duration = Duration::from_millis(500);
/// How long who was let in before the gate closed may still take to ask.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked for one that dawdles while nothing else happens.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
/// While the system has no descriptors or memory to give.
const EXHAUSTED: Duration = Duration::from_millis(20);
/// A thread that answers needs little: it reads a head and writes a short text.
const STACK_BYTES: usize = 128 << 10;
/// What a client may still send after its answer, before the connection is cut: closing with
/// unread bytes resets the connection, and the answer may be lost with it.
const LINGER_BYTES: usize = 256 << 10;
const LINGER_WITHIN: Duration = Duration::from_millis(500);
/// Connections that the kernel keeps for us; it may allow fewer.
const QUEUE: i32 = 4096;
/// Connections that there is always a place for.
const LEAST: usize = 4;

/// Gives the bytes of the answer to a request, or to what is none.
pub trait Responder: Send + Sync + 'static {
    /// The answer.
    fn answer(
        &self,
        request: std::result::Result<&Head, RequestRefusal>,
        from: SocketAddr,
    ) -> Vec<u8>;
}

/// An open gate.
pub struct Gate {
    shared: Arc<Shared>,
    /// Wakes the thread that accepts when it is shut down.
    bell: UnixStream,
}

struct Shared {
    answers: Box<dyn Responder>,
    most: usize,
    is_closing: AtomicBool,
    connections: Mutex<Connections>,
    /// A place was given back, an answer is done, or the gate closes.
    changed: Condvar,
}

/// The connections that have a place.
#[derive(Default)]
struct Connections {
    next: u64,
    open: Vec<Connection>,
    /// Whether more may come.
    is_accepting: bool,
    /// Responder that are being made or written.
    answering: usize,
}

struct Connection {
    number: u64,
    stream: Arc<TcpStream>,
    turn: Turn,
    /// Since when it asks, or reads.
    since: Instant,
}

/// Whose turn it is in a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The client's, to ask.
    Asks,
    /// Ours, to answer.
    Ours,
    /// The client's, to read the answer and close.
    Reads,
    /// It was ended, and its thread is about to notice.
    Nobodys,
}

impl Gate {
    /// Opens the gate, with `most` connections at once, or fewer where descriptors are few. From
    /// half of that on, who dawdles is ended for who comes.
    pub fn open(listener: TcpListener, most: usize, answers: Box<dyn Responder>) -> Result<Gate> {
        let failed = |cause: &dyn std::fmt::Display| {
            Error::new(Kind::Unavailable, format!("connections cannot be accepted: {cause}"))
        };
        // What comes while the process stands still, or faster than it can be turned out, waits.
        rustix::net::listen(&listener, QUEUE).map_err(|e| failed(&e))?;
        listener.set_nonblocking(true).map_err(|e| failed(&e))?;
        let (bell, rings) = UnixStream::pair().map_err(|e| failed(&e))?;
        let shared = Arc::new(Shared {
            answers,
            most: most.min(spare_descriptors()).max(LEAST),
            is_closing: AtomicBool::new(false),
            connections: Mutex::new(Connections { is_accepting: true, ..Connections::default() }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::Builder::new()
            .name("accept".into())
            .spawn(move || {
                accepting.accept(&listener, &rings);
                drop(listener);
                accepting.connections().is_accepting = false;
                accepting.changed.notify_all();
            })
            .map_err(|e| failed(&e))?;
        Ok(Gate { shared, bell })
    }

    /// Takes no more connections and waits for the answers under way, at most `limit`: who was let in
    /// is answered too, if it asks soon.
    pub fn close(&self, limit: Duration) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        // The listener itself is only closed, not shut down: where systemd has handed it over,
        // what comes now waits in it for the next start.
        let _ = self.bell.shutdown(Shutdown::Both);
        self.shared.changed.notify_all();
        let start = Instant::now();
        let mut connections = self.shared.connections();
        while start.elapsed() < limit
            && (connections.answering > 0
                || connections.may_ask() && start.elapsed() < LAST_WORDS_WITHIN)
        {
            connections = self.shared.wait(connections);
        }
    }
}

/// Descriptors that connections may take: the database needs some at any time.
fn spare_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Never ends by a fault: each of them passes, or is the client's.
    fn accept(self: &Arc<Shared>, listener: &TcpListener, rings: &UnixStream) {
        while !self.is_closing() {
            match listener.accept() {
                Ok((stream, from)) => self.admit(stream, from),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let come = PollFd::new(listener, PollFlags::IN);
                    if poll(&mut [come, PollFd::new(rings, PollFlags::IN)], None).is_err() {
                        thread::sleep(EXHAUSTED);
                    }
                }
                Err(e) if is_passing(&e) => {}
                Err(_) if self.make_room(None) => {}
                Err(_) => thread::sleep(EXHAUSTED),
            }
        }
    }

    fn admit(self: &Arc<Shared>, stream: TcpStream, from: SocketAddr) {
        let stream = Arc::new(stream);
        let Some(number) = self.place(&stream) else { return };
        let place = Arc::new(Slot { shared: Arc::clone(self), number });
        loop {
            let (place, theirs) = (Arc::clone(&place), Arc::clone(&stream));
            let serve = move || place.shared.serve(number, &theirs, from, HEAD_WITHIN);
            let named = thread::Builder::new().name("request".into()).stack_size(STACK_BYTES);
            if named.spawn(serve).is_ok() || self.is_closing() {
                return;
            }
            // No thread can be made: another connection makes room for it. Where there is none,
            // other programs have the threads, and it is served here.
            if !self.make_room(Some(number)) {
                return self.serve(number, &stream, from, HEAD_WITHIN_ALONE);
            }
        }
    }

    /// A place for a connection, where need be that of one that dawdles; waits where there is
    /// none, because all are being answered. `None` when the gate closes.
    fn place(&self, stream: &Arc<TcpStream>) -> Option<u64> {
        let mut connections = self.connections();
        if connections.open.len() >= self.most / 2 {
            connections.evict(1, DAWDLES_AFTER, None);
        }
        while connections.open.len() >= self.most {
            if self.is_closing() {
                return None;
            }
            if !connections.is_one_leaving() {
                connections.evict(self.most / 4, DAWDLES_IN_A_CROWD_AFTER, None);
            }
            connections = self.wait(connections);
        }
        Some(connections.enter(stream))
    }

    /// Ends some connections, but not this one, and waits until they go. Whether there were any.
    fn make_room(&self, but: Option<u64>) -> bool {
        let mut connections = self.connections();
        let count = connections.open.len().div_ceil(4);
        let are_some =
            connections.is_one_leaving() || connections.evict(count, Duration::ZERO, but);
        let until = Instant::now() + EXHAUSTED;
        while connections.is_one_leaving() && Instant::now() < until {
            connections = self.wait(connections);
        }
        are_some
    }

    fn wait<'c>(&self, connections: MutexGuard<'c, Connections>) -> MutexGuard<'c, Connections> {
        let woken = self.changed.wait_timeout(connections, BETWEEN_LOOKS);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Reads one request and answers it. A client that has gone is no fault.
    fn serve(&self, number: u64, stream: &TcpStream, from: SocketAddr, head_within: Duration) {
        let until = Instant::now() + head_within;
        let Some(request) = self.read_head(number, stream, until) else { return };
        let answering = Answering::begin(self);
        let answer = self.answers.answer(request.as_ref().map_err(|refusal| *refusal), from);
        self.connections().give_turn(number, Turn::Reads);
        let is_written = write_all(stream, &answer, Instant::now() + WRITTEN_WITHIN).is_ok();
        drop(answering);
        if is_written {
            linger(stream);
        }
    }

    /// Reads until the head is complete or refused; `None` where the client is gone, too slow, or
    /// was ended for another.
    fn read_head(
        &self,
        number: u64,
        mut stream: &TcpStream,
        until: Instant,
    ) -> Option<std::result::Result<Head, RequestRefusal>> {
        let mut bytes = Vec::with_capacity(1024);
        let mut buffer = [0; 2048];
        loop {
            stream.set_read_timeout(Some(left(until)?)).ok()?;
            // The turn changes before the bytes are taken, so that at no time a client that has
            // asked looks like one that has not.
            stream.peek(&mut [0]).ok().filter(|count| *count > 0)?;
            self.connections().give_turn(number, Turn::Ours)?;
            let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
            bytes.extend_from_slice(buffer.get(..count)?);
            if let Some(end) = head::end(&bytes) {
                return Some(head::read(bytes.get(..end)?));
            }
            if let Err(refusal) = head::refuse_early(&bytes) {
                return Some(Err(refusal));
            }
            self.connections().give_turn(number, Turn::Asks)?;
        }
    }
}

/// An answer under way, which a stop waits for.
struct Answering<'s>(&'s Shared);

impl<'s> Answering<'s> {
    fn begin(shared: &'s Shared) -> Answering<'s> {
        shared.connections().answering += 1;
        Answering(shared)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.connections().answering -= 1;
        self.0.changed.notify_all();
    }
}

/// A place among the connections, given back however the thread ends.
struct Slot {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Slot {
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
    /// Whether a request may still come, or is being read.
    fn may_ask(&self) -> bool {
        let asks = |open: &Connection| matches!(open.turn, Turn::Asks | Turn::Ours);
        self.is_accepting || self.open.iter().any(asks)
    }

    fn enter(&mut self, stream: &Arc<TcpStream>) -> u64 {
        self.next += 1;
        let (stream, since) = (Arc::clone(stream), Instant::now());
        self.open.push(Connection { number: self.next, stream, turn: Turn::Asks, since });
        self.next
    }

    /// `None` where the connection was ended.
    fn give_turn(&mut self, number: u64, turn: Turn) -> Option<()> {
        let is_it = |open: &&mut Connection| open.number == number && open.turn != Turn::Nobodys;
        let open = self.open.iter_mut().find(is_it)?;
        open.turn = turn;
        if turn == Turn::Reads {
            open.since = Instant::now();
        }
        Some(())
    }

    fn is_one_leaving(&self) -> bool {
        self.open.iter().any(|open| open.turn == Turn::Nobodys)
    }

    /// Ends as many connections, other than `but`, in which it has been the client's turn for
    /// longer than `age`, those that came first before others. Their places are free when their
    /// threads end, so that threads do not pile up behind places. Whether there were any.
    fn evict(&mut self, count: usize, age: Duration, but: Option<u64>) -> bool {
        let dawdles = |open: &&mut Connection| {
            let passed = open.since.elapsed();
            let is_theirs = match open.turn {
                Turn::Asks => passed >= DAWDLES_HOWEVER_BUSY || !has_unread(&open.stream),
                Turn::Reads => true,
                Turn::Ours | Turn::Nobodys => false,
            };
            Some(open.number) != but && passed >= age && is_theirs
        };
        let mut are_some = false;
        for open in self.open.iter_mut().filter(dawdles).take(count) {
            open.turn = Turn::Nobodys;
            let _ = open.stream.shutdown(Shutdown::Both);
            are_some = true;
        }
        are_some
    }
}

/// Whether bytes have come that its thread had no time to read: then it is not the client who
/// dawdles.
fn has_unread(stream: &TcpStream) -> bool {
    rustix::io::ioctl_fionread(stream).is_ok_and(|count| count > 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Responder with the path, after what it says.
    struct Echo;

    impl Responder for Echo {
        fn answer(
            &self,
            request: std::result::Result<&Head, RequestRefusal>,
            _: SocketAddr,
        ) -> Vec<u8> {
            let path = request.map_or("refused", |head| &head.target);
            match path {
                "/panic" => panic!("as asked"),
                "/slow" => thread::sleep(Duration::from_millis(300)),
                _ => {}
            }
            path.as_bytes().to_vec()
        }
    }

    fn gate() -> (Gate, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Gate::open(listener, LEAST, Box::new(Echo)).unwrap(), address)
    }

    fn asking(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        stream
    }

    fn answer(mut stream: TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn who_comes_while_all_are_being_answered_waits_and_is_answered() {
        let (_gate, address) = gate();
        let slow: Vec<TcpStream> = (0..3 * LEAST).map(|_| asking(address, "/slow")).collect();
        assert_eq!(answer(asking(address, "/quick")), "/quick");
        for stream in slow {
            assert_eq!(answer(stream), "/slow");
        }
    }

    #[test]
    fn an_answer_that_panics_costs_its_client_only() {
        let (gate, address) = gate();
        for _ in 0..3 * LEAST {
            assert_eq!(answer(asking(address, "/panic")), "");
        }
        assert_eq!(answer(asking(address, "/quick")), "/quick");
        let start = Instant::now();
        gate.close(Duration::from_secs(5));
        assert!(start.elapsed() < Duration::from_secs(1), "an answer counts as under way for ever");
    }

    #[test]
    fn closing_waits_for_answers_and_for_nothing_else() {
        let (gate, address) = gate();
        let silent = TcpStream::connect(address).unwrap();
        let slow = asking(address, "/slow");
        thread::sleep(Duration::from_millis(100));
        gate.close(Duration::from_secs(5));
        assert_eq!(answer(slow), "/slow");
        let is_refused = || TcpStream::connect(address).is_err();
        let until = Instant::now() + Duration::from_secs(5);
        while !is_refused() {
            assert!(Instant::now() < until, "the listener stays open");
            thread::sleep(Duration::from_millis(5));
        }
        drop(silent);
    }

    #[test]
    fn who_sends_without_end_is_ended_for_another() {
        let (_gate, address) = gate();
        let dribble = |mut stream: TcpStream| {
            while stream.write_all(b"G").is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let start = Instant::now();
        let dribbling: Vec<_> = (0..2 * LEAST)
            .map(|_| TcpStream::connect(address).unwrap())
            .map(|stream| thread::spawn(move || dribble(stream)))
            .collect();
        assert_eq!(answer(asking(address, "/quick")), "/quick");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        drop(dribbling);
    }
}
