//! Attacks on the HTTP port: during each, a monitor gets every health answer within a second, and
//! afterwards all threads and descriptors are released. `cargo test attacks -- --ignored
//! --nocapture` prints a line of figures for each.

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

use crate::support::harness::{Machine, Run, Service, TIMEOUT, await_that, for_each, is_root};

const PLAIN: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
const HEALTH: &str = "GET /api/health/database HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// Longest time of a health answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);
const MOST_KIB: usize = 32 << 10;
/// A user id that is not used otherwise: limits on threads count by user.
const UNUSED_USER: u32 = 64_207;

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
    serde_json::from_str::<serde_json::Value>(body).unwrap_or_else(|e| panic!("{e}: {text:?}"));
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
    service.get("/livez");
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

/// Number of threads while no request is handled.
fn settled_threads(service: &Service) -> usize {
    let mut least = usize::MAX;
    for _ in 0..5 {
        least = least.min(Resources::by(service).threads);
        thread::sleep(Duration::from_millis(10));
    }
    least
}

/// Random numbers, the same in each run (SplitMix64).
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
fn two_thousand_idle_connections_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("2,000 idle connections", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
    assert_eq!(service.stop().0, Some(0));
}

#[test]
#[ignore = "sweep"]
fn a_continuous_flood_of_connections_does_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    let opened = attack("a new silent connection all the time for 3 s", &service, |address| {
        let start = Instant::now();
        let (mut opened, mut silent) = (0, VecDeque::new());
        while start.elapsed() < Duration::from_secs(3) {
            let stream = connect(address);
            // Leaves no connection in TIME_WAIT.
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
            silent.push_back(stream);
            opened += 1;
            if silent.len() > 2000 {
                silent.pop_front();
            }
        }
        opened
    });
    println!("  {opened} connections");
}

#[test]
#[ignore = "sweep"]
fn a_stop_does_not_wait_for_idle_connections() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
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
fn three_hundred_keep_alive_connections_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("300 keep-alive idlers", &service, |address| {
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
fn three_hundred_slow_senders_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("200 heads and 100 bodies at a byte a second", &service, |address| {
        let with_body = HEALTH.replace("\r\n\r\n", "\r\nContent-Length: 1000\r\n\r\n");
        let mut slow = idle(address, 300);
        for stream in &mut slow[200..] {
            let _ = stream.write_all(with_body.as_bytes());
        }
        for byte in HEALTH.as_bytes().iter().take(3) {
            for stream in &mut slow {
                // Some have been evicted.
                let _ = stream.write_all(&[*byte]);
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
}

#[test]
#[ignore = "sweep"]
fn clients_that_never_read_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("500 that ask and never read", &service, |address| {
        let unread: Vec<TcpStream> = (0..500).map(|_| asking(address, HEALTH)).collect();
        thread::sleep(Duration::from_secs(1));
        drop(unread);
    });
}

#[test]
#[ignore = "sweep"]
fn a_flood_with_few_descriptors_does_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let mut run = Run::of(Path::new("prlimit"), "--nofile=256").db(&machine.db());
    run.command.args([env!("CARGO_BIN_EXE_cts"), "serve", "--port", "0"]);
    let service = run.env("CTS_HTTP_CONNECTIONS", "4096").start();
    service.until_ready();
    attack("2,000 idle connections, 256 descriptors, 4,096 slots", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
}

#[test]
#[ignore = "sweep"]
fn a_flood_with_few_threads_does_not_delay_health() {
    let _turn = one_at_a_time();
    if !is_root() {
        println!("NOT TRIED: a limit on threads takes a user of its own");
        return;
    }
    let machine = Machine::new();
    fs::create_dir(machine.path("own")).unwrap();
    chown(machine.path("own"), Some(UNUSED_USER), Some(UNUSED_USER)).unwrap();
    machine.cts_as_nobody("--version").success();
    let as_unused_user = |program: &str, words: &str| {
        let mut run = Run::of(Path::new(program), words).db(&machine.path("own/cts.db"));
        run.command.uid(UNUSED_USER).gid(UNUSED_USER);
        run
    };
    let words = format!("--nproc=60 {} serve --port 0", machine.path("cts-for-all").display());
    let service = as_unused_user("prlimit", &words).start();
    service.until_ready();
    let before = settled_threads(&service);
    attack("2,000 idle connections, 60 threads", &service, |address| {
        let idle = idle(address, 2000);
        thread::sleep(Duration::from_secs(1));
        drop(idle);
    });
    let others: Vec<Service> = (0..60).map(|_| as_unused_user("sleep", "60").start()).collect();
    attack("no thread can be made", &service, |address| {
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
fn endless_heads_and_lines_are_refused() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("heads of 64 KiB and 10 MiB, a line without end", &service, |address| {
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
fn request_bodies_are_not_read() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    let length = 100 << 20;
    attack("bodies of 100 MB", &service, |address| {
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
            // Socket buffers take some.
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
fn of_pipelined_requests_only_the_first_is_answered() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("64 that pipeline 5,000 requests without reading", &service, |address| {
        let block = HEALTH.repeat(5000);
        let pipelined: Vec<TcpStream> = (0..64).map(|_| asking(address, &block)).collect();
        for stream in pipelined {
            assert_eq!(code(&rest(&stream)), 200);
        }
    });
}

#[test]
#[ignore = "sweep"]
fn four_thousand_resets_after_the_request_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("4,000 resets right after the request", &service, |address| {
        for _ in 0..4000 {
            let stream = asking(address, HEALTH);
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
    });
}

#[test]
#[ignore = "sweep"]
fn five_thousand_connects_and_closes_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("5,000 connects and closes", &service, |address| {
        for _ in 0..5000 {
            drop(connect(address));
        }
    });
}

#[test]
#[ignore = "sweep"]
fn six_hundred_simultaneous_requests_are_all_answered() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    attack("600 real requests at once, three times", &service, |address| {
        for _ in 0..3 {
            let crowd: Vec<TcpStream> = (0..600).map(|_| asking(address, HEALTH)).collect();
            let lost = crowd.iter().filter(|stream| rest(stream).is_empty()).count();
            assert_eq!(lost, 0, "so many had no answer");
        }
    });
}

#[test]
#[ignore = "sweep"]
fn requests_sent_while_the_process_was_stopped_are_answered() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
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
    assert!(took < ANSWER_WITHIN, "{took:?}");
    drop(silent);
}

/// A valid request head with random changes.
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

/// Whether a head announces a body, by an independent parser.
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
fn ten_thousand_malformed_requests_do_not_delay_health() {
    let _turn = one_at_a_time();
    let machine = Machine::new();
    let service = ready_service(&machine);
    let (answers, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    attack("10,000 requests of random bytes and mutated heads", &service, |address| {
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
                // An answer to HEAD has no body to check.
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
