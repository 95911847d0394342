//! Attacks by requests: without end, with large bodies, pipelined, or malformed.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::support::harness::{Machine, for_each};
use crate::support::random::Random;

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
