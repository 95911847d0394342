//! The gate on its worst day: while strangers do what they like to the port, a monitor that asks
//! how the database is gets its answer within a second, and nothing is left behind.
//!
//! `cargo test attacks -- --nocapture` prints a line of figures for each.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::support::harness::{Machine, PATIENCE, Run, Service, await_that, for_each, is_root};

const PLAIN: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HEALTH: &str = "GET /api/health/database HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// How soon a monitor has its answer.
const SOON: Duration = Duration::from_secs(1);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);
const MOST_KIB: usize = 32 << 10;
/// A user that nobody else is: limits on threads count by user.
const LONELY_USER: u32 = 64_207;

/// Attacks take turns, so that none makes another's second longer; and they need descriptors.
fn alone() -> MutexGuard<'static, ()> {
    static ATTACKS: Mutex<()> = Mutex::new(());
    let turn = ATTACKS.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    turn
}

fn started(machine: &Machine) -> Service {
    let service = machine.serve().start();
    service.until_ready();
    service
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Connections that say nothing.
fn idle(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(address)).collect()
}

/// A connection that has sent this much.
fn asking(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = connect(address);
    // Whoever was cut off finds out when it reads.
    let _ = stream.write_all(request.as_bytes());
    stream
}

/// What is read until the other side closes or resets.
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

/// The status code of an answer, which must be one answer and nothing else.
fn code(bytes: &[u8]) -> u16 {
    let text = std::str::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let first: Vec<&str> = head.split("\r\n").next().unwrap().splitn(3, ' ').collect();
    assert!(matches!(first[..], ["HTTP/1.0" | "HTTP/1.1", _, _]), "{text:?}");
    let headers = || head.split("\r\n").filter_map(|line| line.split_once(": "));
    let header = |name| headers().find(|(key, _)| *key == name).map(|(_, value)| value);
    assert_eq!(header("Connection"), Some("close"), "{text:?}");
    assert_eq!(header("Content-Length").unwrap().parse(), Ok(body.len()), "{text:?}");
    serde_json::from_str::<serde_json::Value>(body).unwrap_or_else(|e| panic!("{e}: {text:?}"));
    first[1].parse().unwrap()
}

/// What is counted of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    threads: usize,
    descriptors: usize,
}

impl Held {
    fn by(service: &Service) -> Held {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", service.child.id())).unwrap().count()
        };
        Held { threads: count("task"), descriptors: count("fd") }
    }
}

fn peak_kib(service: &Service) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// What a monitor saw while something was going on.
#[derive(Default)]
struct Seen {
    asked: usize,
    answered: usize,
    slowest: Duration,
    most_threads: usize,
    fault: Option<String>,
}

impl Seen {
    /// Asks afresh until it is told to stop, and at least five times.
    fn of(service: &Service, address: SocketAddr, is_over: &AtomicBool) -> Seen {
        let mut seen = Seen::default();
        while seen.asked < 5 || !is_over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let outcome = ask_soon(address);
            let took = start.elapsed();
            seen.asked += 1;
            seen.slowest = seen.slowest.max(took);
            match outcome {
                Ok(200) if took < SOON => seen.answered += 1,
                other => seen.fault = Some(format!("{other:?} after {took:?}")),
            }
            seen.most_threads = seen.most_threads.max(Held::by(service).threads);
            thread::sleep(BETWEEN_QUESTIONS.saturating_sub(took));
        }
        seen
    }
}

fn ask_soon(address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(HEALTH.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    if bytes.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(code(&bytes)) }
}

/// Does it to the service, and expects that a monitor does not notice and that all is given back.
fn under<T>(what: &str, service: &Service, attack: impl FnOnce(SocketAddr) -> T) -> T {
    let address = service.address();
    service.get("/livez");
    let rest = Held { threads: 0, ..Held::by(service) };
    let threads = settled_threads(service);
    let is_over = AtomicBool::new(false);
    let (done, seen) = thread::scope(|scope| {
        let monitor = scope.spawn(|| Seen::of(service, address, &is_over));
        thread::sleep(BETWEEN_QUESTIONS);
        // The monitor ends too where the attack fails.
        let over = Over(&is_over);
        let done = attack(address);
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
        let held = Held::by(service);
        held.threads <= threads && held.descriptors <= rest.descriptors
    });
    done
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How many threads there are when no request is under way.
fn settled_threads(service: &Service) -> usize {
    let mut least = usize::MAX;
    for _ in 0..5 {
        least = least.min(Held::by(service).threads);
        thread::sleep(Duration::from_millis(10));
    }
    least
}

/// A small random generator (SplitMix64); the same numbers every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most);
        (0..count).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

#[test]
#[ignore = "sweep"]
fn two_thousand_that_say_nothing() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("2,000 idle connections", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
    assert_eq!(service.stop().0, Some(0));
}

#[test]
#[ignore = "sweep"]
fn a_flood_that_does_not_end() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    let came = under("a new silent connection all the time for 3 s", &service, |address| {
        let start = Instant::now();
        let (mut came, mut silent) = (0, VecDeque::new());
        while start.elapsed() < Duration::from_secs(3) {
            let stream = connect(address);
            // Leaves no closed connection behind in the kernel.
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            silent.push_back(stream);
            came += 1;
            if silent.len() > 2000 {
                silent.pop_front();
            }
        }
        came
    });
    println!("  {came} came");
}

#[test]
#[ignore = "sweep"]
fn a_stop_does_not_wait_for_who_says_nothing() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    let idle = idle(service.address(), 2000);
    let start = Instant::now();
    let (code, log) = service.stop();
    println!("SIGTERM under 2,000 idle connections: {} ms", start.elapsed().as_millis());
    assert_eq!(code, Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    drop(idle);
}

#[test]
#[ignore = "sweep"]
fn three_hundred_that_stay_after_their_answer() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("300 keep-alive idlers", &service, |address| {
        let idlers: Vec<TcpStream> = (0..300)
            .map(|_| {
                let stream = asking(address, PLAIN);
                assert_eq!(code(&rest(&stream)), 200);
                stream
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        drop(idlers);
    });
}

#[test]
#[ignore = "sweep"]
fn three_hundred_that_send_a_byte_a_second() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("200 heads and 100 bodies at a byte a second", &service, |address| {
        let with_body = HEALTH.replace("\r\n\r\n", "\r\nContent-Length: 1000\r\n\r\n");
        let mut slow = idle(address, 300);
        for stream in &mut slow[200..] {
            let _ = stream.write_all(with_body.as_bytes());
        }
        for byte in HEALTH.as_bytes().iter().take(3) {
            for stream in &mut slow {
                // Some have been turned out.
                let _ = stream.write_all(&[*byte]);
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
}

#[test]
#[ignore = "sweep"]
fn readers_that_never_read() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("500 that ask and never read", &service, |address| {
        let deaf: Vec<TcpStream> = (0..500).map(|_| asking(address, HEALTH)).collect();
        thread::sleep(Duration::from_secs(1));
        drop(deaf);
    });
}

#[test]
#[ignore = "sweep"]
fn a_flood_with_few_descriptors() {
    let _turn = alone();
    let machine = Machine::new();
    let mut run = Run::of(Path::new("prlimit"), "--nofile=256").db(&machine.db());
    run.command.args([env!("CARGO_BIN_EXE_cts"), "serve", "--port", "0"]);
    let service = run.env("CTS_HTTP_CONNECTIONS", "4096").start();
    service.until_ready();
    under("2,000 idle connections, 256 descriptors, 4,096 places", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
}

#[test]
#[ignore = "sweep"]
fn a_flood_with_few_threads() {
    let _turn = alone();
    if !is_root() {
        println!("NOT TRIED: a limit on threads takes a user of its own");
        return;
    }
    let machine = Machine::new();
    fs::create_dir(machine.path("own")).unwrap();
    chown(machine.path("own"), Some(LONELY_USER), Some(LONELY_USER)).unwrap();
    machine.cts_as_nobody("--version").success();
    let as_lonely_user = |program: &str, words: &str| {
        let mut run = Run::of(Path::new(program), words).db(&machine.path("own/cts.db"));
        run.command.uid(LONELY_USER).gid(LONELY_USER);
        run
    };
    let words = format!("--nproc=60 {} serve --port 0", machine.path("cts-for-all").display());
    let service = as_lonely_user("prlimit", &words).start();
    service.until_ready();
    let before = settled_threads(&service);
    under("2,000 idle connections, 60 threads", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
    let others: Vec<Service> = (0..60).map(|_| as_lonely_user("sleep", "60").start()).collect();
    under("no thread can be made", &service, |address| {
        let idle = idle(address, 3);
        for _ in 0..50 {
            assert_eq!(code(&exchange(address, PLAIN.as_bytes())), 200);
        }
        assert_eq!(settled_threads(&service), before);
        drop(idle);
    });
    drop(others);
}

#[test]
#[ignore = "sweep"]
fn heads_and_lines_without_end() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("heads of 64 KiB and 10 MiB, a line without end", &service, |address| {
        for (length, filler) in [(64 << 10, "X: y\r\n"), (10 << 20, "X: y\r\n"), (10 << 20, "x")] {
            let mut head = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ".to_vec();
            head.extend(filler.bytes().cycle().take(length));
            head.extend(b"\r\n\r\n");
            assert_eq!(code(&exchange(address, &head)), 431, "{length}");
        }
    });
}

#[test]
#[ignore = "sweep"]
fn bodies_are_not_read() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    let length = 100 << 20;
    under("bodies of 100 MB", &service, |address| {
        for method in ["GET", "POST"] {
            let mut stream = connect(address);
            let head = format!(
                "{method} /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let block = vec![b'x'; 64 << 10];
            let mut sent = 0;
            while sent < length && stream.write_all(&block).is_ok() {
                sent += block.len();
            }
            // Buffers of the system take some.
            assert!(sent < length / 2, "{sent} bytes were taken");
            assert_eq!(code(&rest(&stream)), 413);
        }
        for length in ["99999999999999", "18446744073709551615", "99999999999999999999999999"] {
            let head = format!(
                "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nx"
            );
            assert_eq!(code(&exchange(address, head.as_bytes())), 413, "{length}");
        }
    });
}

#[test]
#[ignore = "sweep"]
fn of_many_requests_in_one_connection_the_first_is_answered() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("64 that pipeline 5,000 requests without reading", &service, |address| {
        let block = HEALTH.repeat(5000);
        let greedy: Vec<TcpStream> = (0..64).map(|_| asking(address, &block)).collect();
        for stream in greedy {
            assert_eq!(code(&rest(&stream)), 200);
        }
    });
}

#[test]
#[ignore = "sweep"]
fn four_thousand_that_reset_after_asking() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("4,000 resets right after the request", &service, |address| {
        for _ in 0..4000 {
            let stream = asking(address, HEALTH);
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    });
}

#[test]
#[ignore = "sweep"]
fn five_thousand_that_come_and_go() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("5,000 connects and closes", &service, |address| {
        for _ in 0..5000 {
            drop(connect(address));
        }
    });
}

#[test]
#[ignore = "sweep"]
fn all_that_ask_at_once_are_answered() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    under("600 real requests at once, three times", &service, |address| {
        for _ in 0..3 {
            let crowd: Vec<TcpStream> = (0..600).map(|_| asking(address, HEALTH)).collect();
            let lost = crowd.iter().filter(|stream| rest(stream).is_empty()).count();
            assert_eq!(lost, 0, "so many had no answer");
        }
    });
}

#[test]
#[ignore = "sweep"]
fn who_came_while_it_stood_still_is_answered() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    let address = service.address();
    service.signal(Signal::STOP);
    let silent = idle(address, 500);
    let real: Vec<TcpStream> = (0..20).map(|_| asking(address, HEALTH)).collect();
    service.signal(Signal::CONT);
    let start = Instant::now();
    for stream in &real {
        assert_eq!(code(&rest(stream)), 200);
    }
    let took = start.elapsed();
    println!(
        "20 behind 500 idle after a stall: answered 20 of 20, slowest {} ms",
        took.as_millis()
    );
    assert!(took < SOON, "{took:?}");
    drop(silent);
}

/// A valid head, with something done to it.
fn mutated(random: &mut Random) -> Vec<u8> {
    let seeds = [
        PLAIN,
        HEALTH,
        "HEAD /readyz HTTP/1.0\r\n\r\n",
        "GET http://localhost/livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 7\r\nX: y\r\n\r\n1234567",
    ];
    let mut bytes = seeds[random.below(seeds.len())].as_bytes().to_vec();
    for _ in 0..random.below(4) {
        let (at, to) = (random.below(bytes.len()), random.below(bytes.len()));
        match random.below(5) {
            0 => bytes[at] = random.next().to_le_bytes()[0],
            1 => bytes[at] ^= 1 << random.below(8),
            2 => drop(bytes.drain(at.min(to)..at.max(to).min(at.min(to) + 4))),
            3 => bytes.insert(at, b"\r\n\t :,0/\0"[random.below(9)]),
            _ => {
                let part = bytes[at.min(to)..at.max(to)].to_vec();
                bytes.splice(at..at, part);
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Whether a head announces a body, by a reading of its own.
fn has_body(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let head = text.split("\r\n\r\n").next().unwrap();
    head.split("\r\n").any(|line| {
        let length = line.strip_prefix("content-length:");
        line.starts_with("transfer-encoding:")
            || length.is_some_and(|length| !length.trim().bytes().all(|byte| byte == b'0'))
    })
}

#[test]
#[ignore = "sweep"]
fn ten_thousand_that_make_no_sense() {
    let _turn = alone();
    let machine = Machine::new();
    let service = started(&machine);
    let (answers, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    under("10,000 requests of random bytes and mutated heads", &service, |address| {
        for_each(0..100, |seed| {
            let mut random = Random(seed);
            for _ in 0..100 {
                let request =
                    if random.below(4) == 0 { random.bytes(400) } else { mutated(&mut random) };
                let mut stream = connect(address);
                let _ = stream.write_all(&request);
                let _ = stream.shutdown(Shutdown::Write);
                let bytes = rest(&stream);
                let count = if bytes.is_empty() { &closed } else { &answers };
                count.fetch_add(1, Ordering::Relaxed);
                // An answer to HEAD has no body to look at.
                if bytes.is_empty() || request.starts_with(b"HEAD ") {
                    continue;
                }
                let code = code(&bytes);
                let wrong = code == 200 && has_body(&request);
                assert!(!wrong && code != 500, "{code}: {:?}", String::from_utf8_lossy(&request));
            }
        });
    });
    println!("  {answers:?} answered, {closed:?} closed");
    assert_eq!(answers.into_inner() + closed.into_inner(), 10_000);
    assert_eq!(service.stop().0, Some(0));
}
