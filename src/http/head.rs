//! Reads the head of an HTTP request, strictly (RFC 9112): what is not clearly one request without
//! a body is refused, and why is said. Bytes in, a value out; no socket.

use std::net::IpAddr;

/// Bytes that a head may have.
pub const MOST: usize = 8 << 10;
/// Header lines that a head may have.
const LINES: usize = 100;

/// The head of a request that may be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: String,
    /// The path, with its query if there is one.
    pub target: String,
    /// Whether it is HTTP/1.1, not 1.0.
    pub is_1_1: bool,
    /// The host that the client believes to speak to; none may stand in HTTP/1.0.
    pub host: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestRefusal {
    /// It is not HTTP, or could be read in two ways.
    Malformed(&'static str),
    /// It has a body.
    Body,
    /// Its head is too long.
    TooLong,
    /// Its version is neither 1.0 nor 1.1.
    Version,
}

impl RequestRefusal {
    /// Status code and sentence.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            RequestRefusal::Malformed(why) => (400, why),
            RequestRefusal::Body => (413, "a request with a body is not served"),
            RequestRefusal::TooLong => (431, "the head of the request is longer than 8 KiB"),
            RequestRefusal::Version => (505, "only HTTP/1.0 and HTTP/1.1 are served"),
        }
    }
}

/// Where the head in these bytes ends, and the next thing begins; `None` as long as it does not.
pub fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Whether more bytes can still make a request of what has come so far.
pub fn refuse_early(bytes: &[u8]) -> Result<(), RequestRefusal> {
    if bytes.len() > MOST {
        return Err(RequestRefusal::TooLong);
    }
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | 0x20..=0x7e | 0x80..);
    if !bytes.iter().all(is_text) {
        return Err(RequestRefusal::Malformed("the request holds a control character"));
    }
    // Some programs take half a line end for a whole one. (RFC 9112, 2.2)
    let is_half = |two: &[u8]| two.starts_with(b"\r") != two.ends_with(b"\n");
    if bytes.starts_with(b"\n") || bytes.windows(2).any(is_half) {
        return Err(RequestRefusal::Malformed("a line of the request does not end with CR LF"));
    }
    Ok(())
}

/// Reads a head, up to and with the empty line.
pub fn read(bytes: &[u8]) -> Result<Head, RequestRefusal> {
    refuse_early(bytes)?;
    let malformed = RequestRefusal::Malformed;
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the request is not UTF-8"))?;
    let text = text.strip_suffix("\r\n\r\n").ok_or(malformed("the head has no end"))?;
    let mut lines = text.split("\r\n");
    let (method, target, is_1_1) = request_line(lines.next().unwrap_or_default())?;
    let mut head = Head {
        method: method.into(),
        target: target.into(),
        is_1_1,
        host: None,
        authorization: None,
    };
    let mut length = None;
    for (count, line) in lines.enumerate() {
        if count >= LINES {
            return Err(RequestRefusal::TooLong);
        }
        let (name, value) = header(line)?;
        match name.to_ascii_lowercase().as_str() {
            "host" => once(&mut head.host, value, "the request names two hosts")?,
            "authorization" => {
                once(&mut head.authorization, value, "the request has two authorizations")?;
            }
            "content-length" => once(&mut length, value, "the request has two lengths")?,
            "transfer-encoding" => return Err(RequestRefusal::Body),
            _ => {}
        }
    }
    refuse_body(length.as_deref())?;
    if head.is_1_1 && head.host.is_none() {
        return Err(malformed("the request names no host"));
    }
    absolute(&mut head)?;
    Ok(head)
}

fn once(place: &mut Option<String>, value: &str, why: &'static str) -> Result<(), RequestRefusal> {
    match place.replace(value.to_string()) {
        None => Ok(()),
        Some(_) => Err(RequestRefusal::Malformed(why)),
    }
}

fn request_line(line: &str) -> Result<(&str, &str, bool), RequestRefusal> {
    let malformed = RequestRefusal::Malformed("the first line is not METHOD TARGET VERSION");
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(malformed);
    };
    let is_target = !target.is_empty() && target.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if !is_token(method) || !is_target {
        return Err(malformed);
    }
    match version {
        "HTTP/1.1" => Ok((method, target, true)),
        "HTTP/1.0" => Ok((method, target, false)),
        _ if version.starts_with("HTTP/") => Err(RequestRefusal::Version),
        _ => Err(malformed),
    }
}

/// A header's name and value. No white space before the colon, and no line that goes on in the
/// next: both are read differently by different programs. (RFC 9112, 5.1 and 5.2)
fn header(line: &str) -> Result<(&str, &str), RequestRefusal> {
    let malformed = RequestRefusal::Malformed("a header line is not NAME: VALUE");
    let (name, value) = line.split_once(':').ok_or(malformed)?;
    if is_token(name) { Ok((name, value.trim_matches([' ', '\t']))) } else { Err(malformed) }
}

/// (RFC 9110, 5.6.2)
fn is_token(word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_part)
}

fn refuse_body(length: Option<&str>) -> Result<(), RequestRefusal> {
    match length {
        None => Ok(()),
        Some(length) if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(RequestRefusal::Malformed("the length of the body is no number"))
        }
        Some(length) if length.bytes().all(|byte| byte == b'0') => Ok(()),
        Some(_) => Err(RequestRefusal::Body),
    }
}

/// `http://host/path`, as it is sent to a proxy, means that host and that path. (RFC 9112, 3.2.2)
fn absolute(head: &mut Head) -> Result<(), RequestRefusal> {
    if head.target.starts_with('/') {
        return Ok(());
    }
    let rest = head.target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = rest.and(head.target.get(7..)).map(str::to_owned);
    let rest = rest.ok_or(RequestRefusal::Malformed("the target is no path"))?;
    let (host, path) = rest.find(['/', '?']).map_or((&*rest, ""), |at| rest.split_at(at));
    head.target = if path.starts_with('/') { path.into() } else { format!("/{path}") };
    head.host = Some(host.to_owned());
    Ok(())
}

/// The name in a `Host` header, without its port; `None` where it cannot be one.
pub fn name(host: &str) -> Option<&str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => host.find(':').map_or((host, ""), |at| host.split_at(at)),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5;
    let has_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    has_port.then_some(name)
}

/// Whether a `Host` can only be meant for a server at an address, not for one by a name that a
/// stranger's DNS may lead here.
pub fn is_address(host: &str) -> bool {
    name(host).is_some_and(|name| {
        name.parse::<IpAddr>().is_ok()
            || name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
    })
}

/// Holds whatever the bytes are, or panics; whether they are a request. For the test below and for
/// the fuzzer in `fuzz/`.
#[cfg(any(test, fuzzing))]
pub fn promise(bytes: &[u8]) -> bool {
    let whole = &bytes[..end(bytes).unwrap_or(bytes.len())];
    let Ok(head) = read(whole) else { return false };
    assert!(refuse_early(&whole[..whole.len() / 2]).is_ok(), "its first half is refused");
    let text = String::from_utf8_lossy(whole).to_ascii_lowercase();
    let given = |name: &str| -> Vec<String> {
        let value = |line: &str| line.strip_prefix(name).map(|value| value.trim().to_string());
        text.split("\r\n").skip(1).filter_map(value).collect()
    };
    assert!(given("transfer-encoding:").is_empty(), "a body is read past");
    assert!(given("content-length:").concat().bytes().all(|byte| byte == b'0'), "as above");
    assert!(given("host:").len() == 1 || !head.is_1_1 && given("host:").is_empty(), "hosts");
    assert!(
        head.target.starts_with('/') && head.target.bytes().all(|byte| byte.is_ascii_graphic())
    );
    let version = u8::from(head.is_1_1);
    let mut again = format!("{} {} HTTP/1.{version}\r\n", head.method, head.target);
    for (name, value) in [("Host", &head.host), ("Authorization", &head.authorization)] {
        again.extend(value.iter().map(|value| format!("{name}: {value}\r\n")));
    }
    assert_eq!(read((again + "\r\n").as_bytes()), Ok(head), "read otherwise the second time");
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small random generator (SplitMix64); the same numbers every time.
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
    fn whatever_is_done_to_a_head_it_is_read_in_one_way_or_refused() {
        let mut random = Random(9112);
        let mut taken = 0;
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
            taken += usize::from(promise(&bytes));
        }
        // Both outcomes are tried often.
        assert!((20_000..180_000).contains(&taken), "{taken} of 200,000 were taken");
    }

    fn of(text: &str) -> Result<Head, RequestRefusal> {
        read(text.as_bytes())
    }

    #[test]
    fn plain_requests_are_read() {
        let head =
            of("GET /livez?x HTTP/1.1\r\nHost: a:1\r\nAuthorization:\tBearer x \r\n\r\n").unwrap();
        assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/livez?x"));
        assert_eq!((head.host.as_deref(), head.is_1_1), (Some("a:1"), true));
        assert_eq!(head.authorization.as_deref(), Some("Bearer x"));
        assert!(!of("HEAD / HTTP/1.0\r\n\r\n").unwrap().is_1_1);
        let head = of("GET HTTP://b:2/livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!((head.target.as_str(), head.host.as_deref()), ("/livez", Some("b:2")));
        assert_eq!(of("GET http://b?x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().target, "/?x");
        assert!(of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n").is_ok());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
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
                matches!(of(text), Err(RequestRefusal::Malformed(_))),
                "{text:?}: {:?}",
                of(text)
            );
        }
    }

    #[test]
    fn bodies_versions_and_lengths_have_their_codes() {
        let code = |text: &str| of(text).unwrap_err().status().0;
        assert_eq!(
            code("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n"),
            413
        );
        assert_eq!(code("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), 413);
        assert_eq!(code("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), 505);
        assert_eq!(code(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(MOST))), 431);
        assert_eq!(
            code(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101))),
            431
        );
    }

    #[test]
    fn addresses_are_told_from_names() {
        for host in
            ["127.0.0.1", "127.0.0.1:3000", "[::1]:3000", "[::1]", "localhost", "LocalHost:80"]
        {
            assert!(is_address(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "[::1",
            "127.0.0.1:x",
            "a:b:c",
        ] {
            assert!(!is_address(host), "{host}");
        }
    }
}
