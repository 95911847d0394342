//! The open connections and the slots that they hold: which phase each is in, how long it has been
//! idle, and which is evicted when slots run out.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Idle time after which a connection may be evicted although its client keeps sending. A client that
/// sends a byte now and then always has unread bytes and would otherwise count as busy.
const EVICTION_IDLE_WHILE_SENDING: Duration = Duration::from_millis(500);

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client has not sent a complete request head.
    AwaitingRequest,
    /// The server reads bytes that have arrived, or produces the response.
    Processing,
    /// The response is being sent: the client has to read it and close the connection.
    SendingResponse,
    /// Shut down by another thread to free its slot; its own thread has not noticed yet.
    Evicted,
}

/// The connections that hold a slot, oldest first.
#[derive(Default)]
pub struct Slots {
    last_id: u64,
    connections: Vec<OpenConnection>,
    /// How many were evicted.
    evicted: Arc<AtomicU64>,
}

struct OpenConnection {
    id: u64,
    stream: Arc<TcpStream>,
    phase: Phase,
    /// Since when the client has been awaited: accepted, or the response begun.
    idle_since: Instant,
}

impl Slots {
    /// No connection. Evictions are added to `evicted`.
    pub fn counting(evicted: Arc<AtomicU64>) -> Slots {
        Slots { evicted, ..Slots::default() }
    }

    /// Slots in use.
    pub fn in_use(&self) -> usize {
        self.connections.len()
    }

    /// Gives a new connection a slot; returns its id.
    pub fn insert(&mut self, stream: &Arc<TcpStream>) -> u64 {
        self.last_id += 1;
        self.connections.push(OpenConnection {
            id: self.last_id,
            stream: Arc::clone(stream),
            phase: Phase::AwaitingRequest,
            idle_since: Instant::now(),
        });
        self.last_id
    }

    /// Frees the slot of a connection.
    pub fn remove(&mut self, id: u64) {
        self.connections.retain(|connection| connection.id != id);
    }

    /// Moves a connection to `phase`; `None` if it has been evicted.
    pub fn enter(&mut self, id: u64, phase: Phase) -> Option<()> {
        let is_it = |open: &&mut OpenConnection| open.id == id && open.phase != Phase::Evicted;
        let connection = self.connections.iter_mut().find(is_it)?;
        connection.phase = phase;
        if phase == Phase::SendingResponse {
            connection.idle_since = Instant::now();
        }
        Some(())
    }

    /// Whether a connection may still become a response: it awaits its request, or is being processed.
    pub fn has_unanswered(&self) -> bool {
        let is_unanswered = |phase| matches!(phase, Phase::AwaitingRequest | Phase::Processing);
        self.connections.iter().any(|connection| is_unanswered(connection.phase))
    }

    /// Whether an evicted connection still holds its slot.
    pub fn is_evicting(&self) -> bool {
        self.connections.iter().any(|connection| connection.phase == Phase::Evicted)
    }

    /// Shuts down up to `count` connections that have waited for their clients for at least `idle`,
    /// oldest first, never the connection `keep`. A slot becomes free when the thread of its connection
    /// ends, so that the number of threads stays bounded by the slots. Returns whether any was evicted.
    pub fn evict(&mut self, count: usize, idle: Duration, keep: Option<u64>) -> bool {
        let may_go = |open: &&mut OpenConnection| Some(open.id) != keep && open.is_idle(idle);
        let mut has_evicted = false;
        for connection in self.connections.iter_mut().filter(may_go).take(count) {
            connection.phase = Phase::Evicted;
            // Its thread is woken by the shutdown. An error means that the client has already gone.
            let _ = connection.stream.shutdown(Shutdown::Both);
            self.evicted.fetch_add(1, Ordering::Relaxed);
            has_evicted = true;
        }
        has_evicted
    }
}

impl OpenConnection {
    /// Whether its client has been awaited for at least this long.
    fn is_idle(&self, at_least: Duration) -> bool {
        let idle = self.idle_since.elapsed();
        let awaits_client = match self.phase {
            Phase::AwaitingRequest => {
                idle >= EVICTION_IDLE_WHILE_SENDING || !has_unread(&self.stream)
            }
            Phase::SendingResponse => true,
            Phase::Processing | Phase::Evicted => false,
        };
        idle >= at_least && awaits_client
    }
}

/// Whether bytes have arrived that the connection's thread has not read yet: then the server is late,
/// not the client.
fn has_unread(stream: &TcpStream) -> bool {
    rustix::io::ioctl_fionread(stream).is_ok_and(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Both ends of a connection; the server's is the one that takes a slot.
    fn connection(listener: &TcpListener) -> (TcpStream, Arc<TcpStream>) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, Arc::new(listener.accept().unwrap().0))
    }

    #[test]
    fn the_oldest_idle_connection_is_evicted_and_keeps_its_slot_until_removed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut slots = Slots::default();
        let pairs: Vec<_> = (0..3).map(|_| connection(&listener)).collect();
        let ids: Vec<u64> = pairs.iter().map(|(_, server)| slots.insert(server)).collect();
        assert!(!slots.evict(1, Duration::from_secs(60), None), "none has been idle for a minute");
        assert!(slots.evict(1, Duration::ZERO, Some(ids[0])));
        assert_eq!(slots.enter(ids[1], Phase::Processing), None);
        assert_eq!(slots.enter(ids[0], Phase::Processing), Some(()));
        assert_eq!((slots.in_use(), slots.is_evicting()), (3, true));
        slots.remove(ids[1]);
        assert_eq!((slots.in_use(), slots.is_evicting()), (2, false));
    }

    #[test]
    fn a_connection_that_is_processed_or_has_unread_bytes_is_not_evicted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut slots = Slots::default();
        let (_client, server) = connection(&listener);
        let processed = slots.insert(&server);
        slots.enter(processed, Phase::Processing);
        let (mut sending, server) = connection(&listener);
        slots.insert(&server);
        sending.write_all(b"GET").unwrap();
        while !has_unread(&server) {
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!slots.evict(2, Duration::ZERO, None));
        assert!(slots.has_unanswered());
        thread::sleep(EVICTION_IDLE_WHILE_SENDING);
        assert!(slots.evict(2, Duration::ZERO, None), "it has been sending for too long");
        assert_eq!(slots.enter(processed, Phase::SendingResponse), Some(()));
        assert!(!slots.has_unanswered());
    }
}
