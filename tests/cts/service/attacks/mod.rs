//! Attacks on the HTTP port: during each, a monitor gets every health answer within a second, and
//! afterwards all threads and descriptors are released. `cargo test attacks -- --ignored
//! --nocapture` prints a line of figures for each.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::harness::{Machine, Service, TIMEOUT, await_that};

mod connections;
mod requests;

const PLAIN: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HEALTH: &str = "GET /api/health/database HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Longest time of a health answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);
const MOST_KIB: usize = 32 << 10;

/// Runs one attack at a time, so that none delays the answers of another, and raises the limit on
/// descriptors.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ATTACKS: Mutex<()> = Mutex::new(());
    let turn = ATTACKS.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    turn
}

fn ready_service(machine: &Machine) -> Service {
    let service = machine.serve().start();
    service.until_ready();
    service
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Connections that send nothing.
fn idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(address)).collect()
}

/// A connection that has sent this request.
fn asking(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = connect(address);
    // A connection that was closed shows it when read.
    let _ = stream.write_all(request.as_bytes());
    stream
}

/// Reads until the other side closes or resets.
fn rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    let _ = stream.write_all(request);
    rest(&stream)
}

/// The status code of the answer. There must be exactly one complete answer.
fn code(bytes: &[u8]) -> u16 {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let first: Vec<&str> = head.split("\r\n").next().unwrap().splitn(3, ' ').collect();
    assert!(matches!(first[..], ["HTTP/1.0" | "HTTP/1.1", _, _]), "{text:?}");
    let headers = || head.split("\r\n").filter_map(|line| line.split_once(": "));
    let header = |name| headers().find(|(key, _)| *key == name).map(|(_, value)| value);
    assert_eq!(header("Connection"), Some("close"), "{text:?}");
    assert_eq!(header("Content-Length").unwrap().parse(), Ok(body.len()), "{text:?}");
    match header("Content-Type").unwrap() {
        "application/json" => {
            let json = serde_json::from_str::<serde_json::Value>(body);
            assert!(json.is_ok(), "{json:?}: {text:?}");
        }
        // A mutated request may ask for the status page or for the metrics.
        "text/html; charset=utf-8" => assert!(body.ends_with("</html>\n"), "{text:?}"),
        other => assert!(other.starts_with("text/plain") && body.ends_with('\n'), "{text:?}"),
    }
    first[1].parse().unwrap()
}

/// Threads and descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Resources {
    threads: usize,
    descriptors: usize,
}

impl Resources {
    fn by(service: &Service) -> Resources {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", service.child.id())).unwrap().count()
        };
        Resources { threads: count("task"), descriptors: count("fd") }
    }
}

fn peak_kib(service: &Service) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// The answers that a monitor got during an attack.
#[derive(Default)]
struct Monitor {
    asked: usize,
    answered: usize,
    slowest: Duration,
    most_threads: usize,
    fault: Option<String>,
}

impl Monitor {
    /// Sends requests on new connections until the attack is over, at least five.
    fn of(service: &Service, address: SocketAddr, is_over: &AtomicBool) -> Monitor {
        let mut seen = Monitor::default();
        while seen.asked < 5 || !is_over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let outcome = ask_in_time(address);
            let took = start.elapsed();
            seen.asked += 1;
            seen.slowest = seen.slowest.max(took);
            match outcome {
                Ok(200) if took < ANSWER_WITHIN => seen.answered += 1,
                other => seen.fault = Some(format!("{other:?} after {took:?}")),
            }
            seen.most_threads = seen.most_threads.max(Resources::by(service).threads);
            thread::sleep(BETWEEN_QUESTIONS.saturating_sub(took));
        }
        seen
    }
}

fn ask_in_time(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(HEALTH.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    if bytes.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(code(&bytes)) }
}

/// Runs an attack, and expects that a monitor gets all its answers in time and that all resources
/// are released.
fn attack<T>(what: &str, service: &Service, act: impl FnOnce(SocketAddr) -> T) -> T {
    let address = service.address();
    // The connection on which the tables are measured for the first time leaves a descriptor, which the next one uses:
    // SQLite closes none of a file while it has a lock on it (sqlite.org/src, os_unix.c, "setPendingFd").
    // So do the first connections of retention and of the statistics.
    await_that("each thread has had its connection", || {
        let metrics = service.get("/metrics").body;
        let done = ["tables_measured", "retention_last_success", "statistics_last_success"];
        done.iter().all(|what| metrics.contains(&format!("\ncts_{what}_timestamp_seconds ")))
    });
    let rest = Resources { threads: 0, ..Resources::by(service) };
    let threads = settled_threads(service);
    let is_over = AtomicBool::new(false);
    let (done, seen) = thread::scope(|scope| {
        let monitor = scope.spawn(|| Monitor::of(service, address, &is_over));
        thread::sleep(BETWEEN_QUESTIONS);
        // The monitor ends too if the attack panics.
        let over = SetOnDrop(&is_over);
        let done = act(address);
        drop(over);
        (done, monitor.join().unwrap())
    });
    let peak = peak_kib(service);
    println!(
        "{what}: answered {} of {}, slowest {} ms, peak {:.1} MiB, {} threads",
        seen.answered,
        seen.asked,
        seen.slowest.as_millis(),
        peak as f64 / 1024.0,
        seen.most_threads,
    );
    assert_eq!(seen.answered, seen.asked, "{what}: {:?}\n{}", seen.fault, service.log());
    assert!(peak < MOST_KIB, "{what}: {peak} KiB");
    await_that(&format!("{what}: {threads} threads, {rest:?}, as before"), || {
        let used = Resources::by(service);
        used.threads <= threads && used.descriptors <= rest.descriptors
    });
    done
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Number of threads while no request is handled, once the last one of the start runs: the service is ready before it
/// begins to look after its backups.
fn settled_threads(service: &Service) -> usize {
    let tasks = format!("/proc/{}/task", service.child.id());
    let name =
        |task: io::Result<fs::DirEntry>| fs::read_to_string(task.unwrap().path().join("comm"));
    let is_last = |name: io::Result<String>| name.is_ok_and(|name| name.trim() == "auto-backup");
    await_that("the thread for backups runs", || {
        fs::read_dir(&tasks).unwrap().any(|task| is_last(name(task)))
    });
    let mut least = usize::MAX;
    for _ in 0..5 {
        least = least.min(Resources::by(service).threads);
        thread::sleep(Duration::from_millis(10));
    }
    least
}
