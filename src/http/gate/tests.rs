//! The gate before a responder that answers with the path it was asked for.

use std::io::{Read, Write};

use super::*;

/// Answers with the path, after doing what it says.
struct Echo;

impl Responder for Echo {
    fn respond(&self, request: &Request, _: SocketAddr) -> Vec<u8> {
        let path = request.as_ref().map_or("refused", |head| &head.target);
        match path {
            "/panic" => panic!("as asked"),
            "/slow" => thread::sleep(Duration::from_millis(300)),
            _ => {}
        }
        path.as_bytes().to_vec()
    }

    fn evicted(&self) -> Arc<AtomicU64> {
        Arc::default()
    }
}

fn gate() -> (Gate, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Gate::open(listener, SLOTS_MIN, Box::new(Echo)).unwrap(), address)
}

fn request(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream
}

fn response(mut stream: TcpStream) -> String {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn a_client_that_arrives_while_all_slots_are_being_answered_waits_and_is_answered() {
    let (_gate, address) = gate();
    let slow: Vec<TcpStream> = (0..3 * SLOTS_MIN).map(|_| request(address, "/slow")).collect();
    assert_eq!(response(request(address, "/quick")), "/quick");
    for stream in slow {
        assert_eq!(response(stream), "/slow");
    }
}

#[test]
fn a_responder_that_panics_costs_its_client_only() {
    let (gate, address) = gate();
    for _ in 0..3 * SLOTS_MIN {
        assert_eq!(response(request(address, "/panic")), "");
    }
    assert_eq!(response(request(address, "/quick")), "/quick");
    let start = Instant::now();
    gate.close(Duration::from_secs(5), &AtomicBool::new(false));
    assert!(start.elapsed() < Duration::from_secs(1), "a response stays in progress for ever");
}

#[test]
fn closing_waits_for_responses_and_for_nothing_else() {
    let (gate, address) = gate();
    let silent = TcpStream::connect(address).unwrap();
    let slow = request(address, "/slow");
    thread::sleep(Duration::from_millis(100));
    gate.close(Duration::from_secs(5), &AtomicBool::new(false));
    assert_eq!(response(slow), "/slow");
    let is_refused = || TcpStream::connect(address).is_err();
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_refused() {
        assert!(Instant::now() < deadline, "the listener stays open");
        thread::sleep(Duration::from_millis(5));
    }
    drop(silent);
}

#[test]
fn a_client_that_never_ends_its_request_is_evicted_for_another() {
    let (_gate, address) = gate();
    let dribble = |mut stream: TcpStream| {
        while stream.write_all(b"G").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    };
    let start = Instant::now();
    let dribbling: Vec<_> = (0..2 * SLOTS_MIN)
        .map(|_| TcpStream::connect(address).unwrap())
        .map(|stream| thread::spawn(move || dribble(stream)))
        .collect();
    assert_eq!(response(request(address, "/quick")), "/quick");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    drop(dribbling);
}
