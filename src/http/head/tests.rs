//! Requests that are parsed, ambiguous ones that are refused, and mutations of both.

use super::*;

/// A random number generator (SplitMix64) with a fixed seed, so that each run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).unwrap()
    }
}

const SEEDS: [&str; 5] = [
    "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /x?y HTTP/1.0\r\nAuthorization: Bearer x\r\n\r\n",
    "GET http://b:2/z HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n",
    "GET / HTTP/1.1\r\nTransfer-Encoding: x\r\nHost: a\r\n\r\n",
];
const PIECES: [&[u8]; 12] = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\0",
    b"\xff",
    b"0",
    b"/",
    b"\r\nHost: b",
    b"http://",
    b"\r\ncontent-length: 0",
];

#[test]
fn any_mutation_of_a_head_is_parsed_in_one_way_or_refused() {
    let mut random = Random(9112);
    let mut valid = 0;
    for _ in 0..200_000 {
        let mut bytes = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
        for _ in 0..random.below(4) {
            let (at, length) = (random.below(bytes.len()), random.below(4));
            let piece = PIECES[random.below(PIECES.len())];
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => drop(bytes.splice(at..at, piece.iter().copied())),
                2 => drop(bytes.splice(at..(at + length).min(bytes.len()), [])),
                _ => bytes[at] = piece[0],
            }
        }
        valid += usize::from(check_invariants(&bytes));
    }
    // Both outcomes occur often.
    assert!((20_000..180_000).contains(&valid), "{valid} of 200,000 were valid");
}

fn parsed(text: &str) -> Result<RequestHead, RequestRefusal> {
    parse(text.as_bytes())
}

#[test]
fn ordinary_requests_are_parsed() {
    let head =
        parsed("GET /livez?x HTTP/1.1\r\nHost: a:1\r\nAuthorization:\tBearer x \r\n\r\n").unwrap();
    assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/livez?x"));
    assert_eq!((head.host.as_deref(), head.is_http_1_1), (Some("a:1"), true));
    assert_eq!(head.authorization.as_deref(), Some("Bearer x"));
    assert!(!parsed("HEAD / HTTP/1.0\r\n\r\n").unwrap().is_http_1_1);
    let head = parsed("GET HTTP://b:2/livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.target.as_str(), head.host.as_deref()), ("/livez", Some("b:2")));
    assert_eq!(parsed("GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().target, "/?x");
    assert!(parsed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n").is_ok());
}

#[test]
fn an_ambiguous_request_is_refused() {
    for text in [
        "",
        "\r\n\r\n",
        "GET /\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "G T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \0\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert!(
            matches!(parsed(text), Err(RequestRefusal::Malformed(_))),
            "{text:?}: {:?}",
            parsed(text)
        );
    }
}

#[test]
fn bodies_versions_and_lengths_have_their_status_codes() {
    let code = |text: &str| parsed(text).unwrap_err().status_code();
    assert_eq!(code("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n"), 413);
    assert_eq!(code("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), 413);
    assert_eq!(code("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
    assert_eq!(code(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD_BYTES_MAX))), 431);
    assert_eq!(code(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101))), 431);
}
