//! The head of an HTTP request (request line and header lines), parsed strictly after RFC 9112: anything
//! that two programs could read differently, or that has a body, is refused with the reason. Bytes in, a
//! value out; no socket.

/// Maximum size of a request head, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Maximum number of header lines in a request head.
const HEADER_LINES_MAX: usize = 100;

/// The head of a request that may be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, such as `GET`.
    pub method: String,
    /// The path, with the query if there is one.
    pub target: String,
    /// Whether the version is HTTP/1.1; otherwise it is HTTP/1.0.
    pub is_http_1_1: bool,
    /// The host that the request addresses; HTTP/1.0 requests may have none.
    pub host: Option<String>,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The header `If-None-Match`; several lines of it are one list. (RFC 9110, 5.3)
    pub if_none_match: Option<String>,
}

impl RequestHead {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Why a request is refused before its path is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestRefusal {
    /// Not HTTP, or ambiguous.
    Malformed(&'static str),
    /// The request has a body.
    Body,
    /// The head exceeds [`HEAD_BYTES_MAX`] or [`HEADER_LINES_MAX`].
    TooLong,
    /// A version other than 1.0 and 1.1.
    Version,
}

impl RequestRefusal {
    /// The HTTP status code of the reply.
    pub fn status_code(self) -> u16 {
        match self {
            RequestRefusal::Malformed(_) => 400,
            RequestRefusal::Body => 413,
            RequestRefusal::TooLong => 431,
            RequestRefusal::Version => 505,
        }
    }

    /// The reason, as a sentence for the client.
    pub fn reason(self) -> &'static str {
        match self {
            RequestRefusal::Malformed(reason) => reason,
            RequestRefusal::Body => "requests with a body are not accepted",
            RequestRefusal::TooLong => "the request head exceeds 8 KiB or 100 header lines",
            RequestRefusal::Version => "only HTTP/1.0 and HTTP/1.1 are supported",
        }
    }
}

/// Length of the head at the start of these bytes, including its final empty line; `None` while it is
/// incomplete.
pub fn find_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Checks an incomplete head, so that a request that can no longer become valid is refused without
/// waiting for its end.
///
/// # Errors
///
/// The head is too long, holds a control character, or has a line that does not end with CR LF.
pub fn check_prefix(bytes: &[u8]) -> Result<(), RequestRefusal> {
    if bytes.len() > HEAD_BYTES_MAX {
        return Err(RequestRefusal::TooLong);
    }
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | 0x20..=0x7e | 0x80..);
    if !bytes.iter().all(is_text) {
        return Err(RequestRefusal::Malformed("the request contains a control character"));
    }
    // Some programs accept a lone CR or LF as the end of a line. (RFC 9112, 2.2)
    let is_half = |two: &[u8]| two.starts_with(b"\r") != two.ends_with(b"\n");
    if bytes.starts_with(b"\n") || bytes.windows(2).any(is_half) {
        return Err(RequestRefusal::Malformed("a line of the request does not end with CR LF"));
    }
    Ok(())
}

/// Parses a complete head, including its final empty line.
///
/// # Errors
///
/// The head is not exactly one request without a body.
pub fn parse(bytes: &[u8]) -> Result<RequestHead, RequestRefusal> {
    check_prefix(bytes)?;
    let malformed = RequestRefusal::Malformed;
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the request is not UTF-8"))?;
    let text = text.strip_suffix("\r\n\r\n").ok_or(malformed("the request head has no end"))?;
    let mut lines = text.split("\r\n");
    let mut head = parse_request_line(lines.next().unwrap_or_default())?;
    let mut length = None;
    for (count, line) in lines.enumerate() {
        if count >= HEADER_LINES_MAX {
            return Err(RequestRefusal::TooLong);
        }
        let (name, value) = parse_header_line(line)?;
        match name.to_ascii_lowercase().as_str() {
            "host" => set_once(&mut head.host, value, "the request has more than one Host header")?,
            "authorization" => {
                let reason = "the request has more than one Authorization header";
                set_once(&mut head.authorization, value, reason)?;
            }
            "if-none-match" => append(&mut head.if_none_match, value),
            "content-length" => {
                set_once(&mut length, value, "the request has more than one Content-Length header")?
            }
            "transfer-encoding" => return Err(RequestRefusal::Body),
            _ => {}
        }
    }
    refuse_body(length.as_deref())?;
    if head.is_http_1_1 && head.host.is_none() {
        return Err(malformed("the request has no Host header"));
    }
    resolve_absolute_target(&mut head)?;
    Ok(head)
}

fn set_once(
    header: &mut Option<String>,
    value: &str,
    reason: &'static str,
) -> Result<(), RequestRefusal> {
    match header.replace(value.to_string()) {
        None => Ok(()),
        Some(_) => Err(RequestRefusal::Malformed(reason)),
    }
}

fn append(list: &mut Option<String>, value: &str) {
    match list {
        None => *list = Some(value.to_string()),
        Some(list) => *list = format!("{list}, {value}"),
    }
}

/// The head with what its first line says and no headers yet.
fn parse_request_line(line: &str) -> Result<RequestHead, RequestRefusal> {
    let malformed = RequestRefusal::Malformed("the request line is not METHOD TARGET VERSION");
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
    let is_http_1_1 = match version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ if version.starts_with("HTTP/") => return Err(RequestRefusal::Version),
        _ => return Err(malformed),
    };
    let (method, target) = (method.into(), target.into());
    Ok(RequestHead { method, target, is_http_1_1, ..RequestHead::default() })
}

/// A header's name and value. White space before the colon and a value folded over several lines are
/// refused, since programs differ in how they read them. (RFC 9112, 5.1 and 5.2)
fn parse_header_line(line: &str) -> Result<(&str, &str), RequestRefusal> {
    let malformed = RequestRefusal::Malformed("a header line is not NAME: VALUE");
    let (name, value) = line.split_once(':').ok_or(malformed)?;
    if is_token(name) { Ok((name, value.trim_matches([' ', '\t']))) } else { Err(malformed) }
}

/// Whether it is a token of RFC 9110, 5.6.2.
fn is_token(word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_part)
}

/// Refuses a `Content-Length` other than zero.
fn refuse_body(length: Option<&str>) -> Result<(), RequestRefusal> {
    match length {
        None => Ok(()),
        Some(length) if length.is_empty() || !length.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(RequestRefusal::Malformed("Content-Length is not a number"))
        }
        Some(length) if length.bytes().all(|byte| byte == b'0') => Ok(()),
        Some(_) => Err(RequestRefusal::Body),
    }
}

/// Splits a target of the form `http://host/path`, as clients send it to a proxy, into host and path.
/// (RFC 9112, 3.2.2)
fn resolve_absolute_target(head: &mut RequestHead) -> Result<(), RequestRefusal> {
    if head.target.starts_with('/') {
        return Ok(());
    }
    let rest = head.target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = rest.and(head.target.get(7..)).map(str::to_owned);
    let rest = rest.ok_or(RequestRefusal::Malformed("the request target is not a path"))?;
    let (host, path) = rest.find(['/', '?']).map_or((&*rest, ""), |at| rest.split_at(at));
    head.target = if path.starts_with('/') { path.into() } else { format!("/{path}") };
    head.host = Some(host.to_owned());
    Ok(())
}

/// Checks the invariants of the parser on any bytes and panics where one is violated; returns whether
/// the bytes are a valid request. For the test below and the fuzz target in `fuzz/`.
#[cfg(any(test, fuzzing))]
pub fn check_invariants(bytes: &[u8]) -> bool {
    let whole = &bytes[..find_end(bytes).unwrap_or(bytes.len())];
    let Ok(head) = parse(whole) else { return false };
    assert!(check_prefix(&whole[..whole.len() / 2]).is_ok(), "its first half is refused");
    let text = String::from_utf8_lossy(whole).to_ascii_lowercase();
    let values = |name: &str| -> Vec<String> {
        let value = |line: &str| line.strip_prefix(name).map(|value| value.trim().to_string());
        text.split("\r\n").skip(1).filter_map(value).collect()
    };
    assert!(values("transfer-encoding:").is_empty(), "a body is ignored");
    assert!(
        values("content-length:").concat().bytes().all(|byte| byte == b'0'),
        "a body is ignored"
    );
    assert!(
        values("host:").len() == 1 || !head.is_http_1_1 && values("host:").is_empty(),
        "number of hosts"
    );
    assert!(
        head.target.starts_with('/') && head.target.bytes().all(|byte| byte.is_ascii_graphic())
    );
    let version = u8::from(head.is_http_1_1);
    let mut again = format!("{} {} HTTP/1.{version}\r\n", head.method, head.target);
    for (name, value) in [
        ("Host", &head.host),
        ("Authorization", &head.authorization),
        ("If-None-Match", &head.if_none_match),
    ] {
        again.extend(value.iter().map(|value| format!("{name}: {value}\r\n")));
    }
    assert_eq!(parse((again + "\r\n").as_bytes()), Ok(head), "parsed differently the second time");
    true
}

#[cfg(test)]
mod tests;
