//! The gate in front of the server: accepts connections until it is closed and gives each of them a
//! slot, a small thread, a deadline and one request. When the slots run out, it evicts the slowest
//! clients to admit new ones.
//!
//! One thread at a time holds the listener. It serves the connection that it accepts itself, after it has left the
//! listener to a thread that waits for it: a connection costs no start of a thread and no switch to another.

use std::fmt::Display;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, getrlimit};

use crate::error::{Error, Kind, Result};
use crate::http::exchange::{self, Request};
use crate::http::slots::{Phase, Slots};

/// Time limit for receiving a complete request head, however its bytes are spread.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a request that the accepting thread serves itself: no other client is admitted meanwhile.
const REQUEST_TIMEOUT_WITHOUT_THREAD: Duration = Duration::from_millis(100);
/// Time limit for sending the response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle time after which a connection may be evicted, once half of the slots are in use. An ordinary
/// client sends its request as soon as it is connected.
const EVICTION_IDLE_HALF_FULL: Duration = Duration::from_millis(50);
/// Idle time after which a connection may be evicted, once all slots are in use.
const EVICTION_IDLE_FULL: Duration = Duration::from_millis(10);
/// How long a close waits for requests of clients that were admitted before it.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// Interval between two attempts to free a slot, when no connection has ended meanwhile.
const EVICTION_INTERVAL: Duration = Duration::from_millis(5);
/// Pause while the system has no file descriptors, threads or memory to give.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(20);
/// Threads that serve no connection, one of them at the listener; more than two, because a thread comes back only when
/// its client has closed the connection, which may be after the next one has come.
const IDLE_THREADS_MAX: usize = 3;
/// Stack of a connection's thread: it reads a head and writes a short text.
const STACK_BYTES: usize = 128 << 10;
/// Connections that the kernel queues before they are accepted; `net.core.somaxconn` may reduce it.
const BACKLOG: i32 = 4096;
/// Slots that there are even where file descriptors are scarce.
const SLOTS_MIN: usize = 4;

/// Produces the response to a request.
pub trait Responder: Send + Sync + 'static {
    /// The bytes of the response to this request, or to what was refused as none.
    fn respond(&self, request: &Request, client: SocketAddr) -> Vec<u8>;

    /// The counter of the connections that are evicted.
    fn evicted(&self) -> Arc<AtomicU64>;
}

/// An open gate. Dropping it ends the acceptance of connections and waits for nothing.
pub struct Gate {
    shared: Arc<Shared>,
    /// Wakes the accepting thread when it is shut down.
    waker: UnixStream,
}

/// What the threads share.
struct Shared {
    responder: Box<dyn Responder>,
    /// Held by the thread that accepts; `None` once the gate is closed.
    entrance: Mutex<Option<Entrance>>,
    /// Threads that serve no connection: the one at the entrance, and those that wait for it.
    idle_threads: AtomicUsize,
    slots_max: usize,
    is_closing: AtomicBool,
    state: Mutex<State>,
    /// Notified when a slot is freed, a response has been sent, or the gate closes.
    changed: Condvar,
}

/// Where connections come in.
struct Entrance {
    listener: TcpListener,
    /// Becomes readable when the gate closes.
    wakes: UnixStream,
}

/// A connection that was accepted and holds a slot.
struct Admitted {
    stream: Arc<TcpStream>,
    client: SocketAddr,
    slot: SlotGuard,
}

struct State {
    slots: Slots,
    /// Whether new connections may still be accepted.
    is_accepting: bool,
    /// Responses being produced or sent.
    responses_in_progress: usize,
}

impl Gate {
    /// Starts to accept, with at most `slots_max` connections at once, or fewer where the limit on file
    /// descriptors is low. Once half of the slots are in use, idle connections are evicted.
    ///
    /// # Errors
    ///
    /// [`Kind::Unavailable`] if the listener cannot be used or the accepting thread cannot be started;
    /// nothing is accepted then.
    pub fn open(
        listener: TcpListener,
        slots_max: usize,
        responder: Box<dyn Responder>,
    ) -> Result<Gate> {
        let failed = |cause: &dyn Display| {
            Error::new(Kind::Unavailable, format!("cannot accept connections: {cause}"))
        };
        // Connections that arrive while the process is stopped, or faster than slots are freed, wait here.
        rustix::net::listen(&listener, BACKLOG).map_err(|e| failed(&e))?;
        listener.set_nonblocking(true).map_err(|e| failed(&e))?;
        let (waker, wakes) = UnixStream::pair().map_err(|e| failed(&e))?;
        let state = State {
            slots: Slots::counting(responder.evicted()),
            is_accepting: true,
            responses_in_progress: 0,
        };
        let shared = Arc::new(Shared {
            responder,
            entrance: Mutex::new(Some(Entrance { listener, wakes })),
            idle_threads: AtomicUsize::new(0),
            slots_max: slots_max.min(spare_descriptors()).max(SLOTS_MIN),
            is_closing: AtomicBool::new(false),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        for _ in 0..IDLE_THREADS_MAX {
            shared.start_thread().map_err(|e| failed(&e))?;
        }
        Ok(Gate { shared, waker })
    }

    /// Accepts no more connections and waits for the responses in progress, at most `timeout` and no longer
    /// than `is_hurried` is false. Clients that were admitted before are answered too if their request
    /// arrives within [`LAST_REQUEST_TIMEOUT`].
    pub fn close(&self, timeout: Duration, is_hurried: &AtomicBool) {
        self.stop_accepting();
        let start = Instant::now();
        let mut state = self.shared.state();
        while start.elapsed() < timeout
            && !is_hurried.load(Ordering::Relaxed)
            && (state.responses_in_progress > 0
                || state.may_receive_requests() && start.elapsed() < LAST_REQUEST_TIMEOUT)
        {
            state = self.shared.wait(state);
        }
    }

    fn stop_accepting(&self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        // The listening socket is closed but not shut down: if systemd owns it, connections that arrive
        // from now on wait in its backlog for the next start.
        let _ = self.waker.shutdown(Shutdown::Both);
        self.shared.changed.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}

impl State {
    fn may_receive_requests(&self) -> bool {
        self.is_accepting || self.slots.has_unanswered()
    }
}

/// File descriptors that connections may use: half of the limit, so that the database always finds some.
fn spare_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 2).unwrap_or(usize::MAX)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::SeqCst)
    }

    /// Starts a thread that accepts and serves connections as long as it is needed.
    fn start_thread(self: &Arc<Shared>) -> io::Result<()> {
        let shared = Arc::clone(self);
        self.idle_threads.fetch_add(1, Ordering::SeqCst);
        let work = move || {
            while let Some(Admitted { stream, client, slot }) = shared.next_connection() {
                shared.serve(slot.id, &stream, client, REQUEST_TIMEOUT);
                drop((slot, stream));
                if !shared.becomes_idle() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("request".into()).stack_size(STACK_BYTES);
        thread.spawn(work).map(drop).inspect_err(|_| {
            self.idle_threads.fetch_sub(1, Ordering::SeqCst);
        })
    }

    /// Counts this thread among the idle ones, if there may be one more of them.
    fn becomes_idle(&self) -> bool {
        let more = |idle: usize| (idle < IDLE_THREADS_MAX).then_some(idle + 1);
        self.idle_threads.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Waits for the entrance and there for a connection. `None` once the gate closes.
    fn next_connection(self: &Arc<Shared>) -> Option<Admitted> {
        let mut entrance = self.entrance.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = entrance.as_ref().and_then(|open| self.admit_from(open));
        if admitted.is_none() {
            *entrance = None;
            self.state().is_accepting = false;
            self.changed.notify_all();
        }
        admitted
    }

    /// Accepts until there is a connection to serve. No error ends it: each one passes, or concerns one client
    /// only. `None` once the gate closes.
    fn admit_from(self: &Arc<Shared>, entrance: &Entrance) -> Option<Admitted> {
        while !self.is_closing() {
            match entrance.listener.accept() {
                Ok((stream, client)) => match self.admit(stream, client) {
                    None => {}
                    admitted => return admitted,
                },
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let arrival = PollFd::new(&entrance.listener, PollFlags::IN);
                    let close = PollFd::new(&entrance.wakes, PollFlags::IN);
                    if poll(&mut [arrival, close], None).is_err() {
                        thread::sleep(EXHAUSTED_PAUSE);
                    }
                }
                Err(e) if is_transient(&e) => {}
                Err(_) if self.free_resources(None) => {}
                Err(_) => thread::sleep(EXHAUSTED_PAUSE),
            }
        }
        None
    }

    /// Gives a connection a slot, to be served by this thread, and sees to it that there is another one for the
    /// entrance. `None` if there is none and the connection was served here, or if the gate closes.
    fn admit(self: &Arc<Shared>, stream: TcpStream, client: SocketAddr) -> Option<Admitted> {
        let stream = Arc::new(stream);
        let id = self.acquire_slot(&stream)?;
        let slot = SlotGuard { shared: Arc::clone(self), id };
        self.idle_threads.fetch_sub(1, Ordering::SeqCst);
        while self.idle_threads.load(Ordering::SeqCst) == 0 && self.start_thread().is_err() {
            if self.is_closing() {
                break;
            }
            // No thread could be created. Another connection is evicted for its thread; if there is none,
            // other programs use up the limit, and the request is served before the next is accepted. A panic
            // must not end the thread that holds the entrance.
            if !self.free_resources(Some(id)) {
                let serve = || self.serve(id, &stream, client, REQUEST_TIMEOUT_WITHOUT_THREAD);
                let _ = catch_unwind(AssertUnwindSafe(serve));
                self.idle_threads.fetch_add(1, Ordering::SeqCst);
                return None;
            }
        }
        Some(Admitted { stream, client, slot })
    }

    /// A slot for a new connection, if necessary that of an idle one. Waits while all connections are
    /// being answered; `None` if the gate closes meanwhile.
    fn acquire_slot(&self, stream: &Arc<TcpStream>) -> Option<u64> {
        let mut state = self.state();
        if state.slots.in_use() >= self.slots_max / 2 {
            state.slots.evict(1, EVICTION_IDLE_HALF_FULL, None);
        }
        while state.slots.in_use() >= self.slots_max {
            if self.is_closing() {
                return None;
            }
            if !state.slots.is_evicting() {
                state.slots.evict(self.slots_max / 4, EVICTION_IDLE_FULL, None);
            }
            state = self.wait(state);
        }
        Some(state.slots.insert(stream))
    }

    /// Evicts a quarter of the connections other than `keep` for their descriptors and threads, however
    /// short they have been idle, and waits until these are free. Returns whether there were any.
    fn free_resources(&self, keep: Option<u64>) -> bool {
        let mut state = self.state();
        let count = state.slots.in_use().div_ceil(4);
        let has_evicted =
            state.slots.is_evicting() || state.slots.evict(count, Duration::ZERO, keep);
        let deadline = Instant::now() + EXHAUSTED_PAUSE;
        while state.slots.is_evicting() && Instant::now() < deadline {
            state = self.wait(state);
        }
        has_evicted
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let woken = self.changed.wait_timeout(state, EVICTION_INTERVAL);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Reads one request and answers it. A client that disconnects is not an error.
    fn serve(&self, id: u64, stream: &TcpStream, client: SocketAddr, timeout: Duration) {
        let enter = |phase| self.state().slots.enter(id, phase);
        let deadline = Instant::now() + timeout;
        let Some(request) = exchange::read_request(stream, deadline, enter) else { return };
        let in_progress = ResponseInProgress::begin(self);
        let response = self.responder.respond(&request, client);
        enter(Phase::SendingResponse);
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        let is_sent = exchange::send_response(stream, &response, deadline).is_ok();
        drop(in_progress);
        if is_sent {
            exchange::finish(stream);
        }
    }
}

/// Counts a response as in progress until it is dropped, also by a panic.
struct ResponseInProgress<'s>(&'s Shared);

impl<'s> ResponseInProgress<'s> {
    fn begin(shared: &'s Shared) -> ResponseInProgress<'s> {
        shared.state().responses_in_progress += 1;
        ResponseInProgress(shared)
    }
}

impl Drop for ResponseInProgress<'_> {
    fn drop(&mut self) {
        self.0.state().responses_in_progress -= 1;
        self.0.changed.notify_all();
    }
}

/// Frees the slot of a connection when it is dropped, also by a panic.
struct SlotGuard {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.shared.state().slots.remove(self.id);
        self.shared.changed.notify_all();
    }
}

/// Whether `accept` failed for a reason that concerns one connection only, or was interrupted.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind as E;
    matches!(error.kind(), E::ConnectionAborted | E::Interrupted | E::ConnectionReset)
}

#[cfg(test)]
mod tests;
