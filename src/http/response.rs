//! The bytes of a response, written with `tiny_http`. Only the writer of that crate is used, and only
//! here: its server must not face a network (it has no timeouts and no limit on connections).

use std::borrow::Cow;

use tiny_http::{HTTPVersion, Header, Response};

use crate::http::reply::{ContentType, Reply};
use crate::system::clock::UtcTime;
use crate::system::visible::visible_json;

/// Headers of every response.
const COMMON_HEADERS: [(&str, &str); 3] =
    [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Server", "cts")];

/// Which form a response has to take for its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseFormat {
    /// HTTP/1.1, otherwise HTTP/1.0.
    pub is_http_1_1: bool,
    /// Without the body, as the response to HEAD; the headers are those of GET.
    pub omits_body: bool,
}

/// The bytes of a response, status line, headers and body. It ends with the connection.
pub fn serialize(reply: &Reply, format: ResponseFormat) -> Vec<u8> {
    let body = match reply.content_type {
        ContentType::Json => visible_json(&reply.body),
        ContentType::Html | ContentType::Metrics => Cow::Borrowed(&*reply.body),
    };
    let mut response = Response::from_string(body)
        .with_status_code(reply.status_code)
        .with_chunked_threshold(usize::MAX);
    // The crate would write the date itself, and does not know a clock before 1970.
    let date = UtcTime::now().http_date();
    let common = [("Content-Type", reply.content_type.header()), ("Date", &*date)];
    let own = reply.headers.iter().map(|field| (field.name, &*field.value));
    for (name, value) in common.into_iter().chain(COMMON_HEADERS).chain(own) {
        if let Ok(header) = Header::from_bytes(name, value) {
            response.add_header(header);
        }
    }
    let version = HTTPVersion(1, u8::from(format.is_http_1_1));
    let mut bytes = Vec::new();
    // Writing to memory does not fail.
    let _ = response.raw_print(&mut bytes, version, &[], format.omits_body, None);
    // The crate drops a `Connection` header that is added to the response.
    if let Some(line) = bytes.windows(2).position(|two| two == b"\r\n") {
        bytes.splice(line + 2..line + 2, *b"Connection: close\r\n");
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply::HeaderField;

    #[test]
    fn a_response_has_the_common_headers_and_its_own() {
        let reply = Reply::new(405, ContentType::Json, "{}".into())
            .with_header(HeaderField::new("Allow", "GET, HEAD"));
        let format = ResponseFormat { is_http_1_1: true, omits_body: false };
        let text = String::from_utf8(serialize(&reply, format)).unwrap();
        assert!(text.starts_with("HTTP/1.1 405 "), "{text}");
        assert!(text.ends_with("\r\n\r\n{}"), "{text}");
        for line in [
            "Allow: GET, HEAD",
            "Cache-Control: no-store",
            "Connection: close",
            "Content-Length: 2",
            "Content-Type: application/json",
            "Server: cts",
            "X-Content-Type-Options: nosniff",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in {text}");
        }
        let format = ResponseFormat { is_http_1_1: false, omits_body: true };
        let head = String::from_utf8(serialize(&reply, format)).unwrap();
        assert!(head.starts_with("HTTP/1.0 405 ") && head.ends_with("\r\n\r\n"), "{head}");
        assert!(head.contains("Content-Length: 2"), "{head}");
    }
}
