//! Conditional requests: a client that has the body already, as its entity tag shows, gets none. (RFC 9110, 13)

use crate::http::reply::Reply;

/// The reply, or 304 in its place where its entity tag is among those that the client has.
/// `if_none_match` is the header of that name.
pub fn apply(reply: Reply, if_none_match: Option<&str>) -> Reply {
    let is_known = reply.status_code == 200
        && reply.header("ETag").zip(if_none_match).is_some_and(|(tag, known)| is_among(tag, known));
    match is_known {
        true => Reply { status_code: 304, body: String::new(), ..reply },
        false => reply,
    }
}

/// Whether a list of entity tags has this one, by the weak comparison. (RFC 9110, 8.8.3.2)
fn is_among(tag: &str, list: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_string();
    list.trim() == "*" || list.split(',').any(|known| opaque(known) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::reply::{ContentType, HeaderField};

    #[test]
    fn a_body_that_the_client_has_is_not_sent_again() {
        let reply = |status_code| {
            Reply::new(status_code, ContentType::Json, "{}".into())
                .with_header(HeaderField::new("ETag", "\"a1\""))
        };
        for known in ["\"a1\"", "W/\"a1\"", "\"b2\", \"a1\"", "*"] {
            let conditional = apply(reply(200), Some(known));
            assert_eq!((conditional.status_code, &*conditional.body), (304, ""), "{known}");
            assert_eq!(conditional.header("etag"), Some("\"a1\""), "{known}");
        }
        for other in [None, Some("\"b2\""), Some("a1"), Some("")] {
            assert_eq!(apply(reply(200), other), reply(200), "{other:?}");
        }
        assert_eq!(apply(reply(401), Some("*")), reply(401));
        let untagged = Reply::new(200, ContentType::Json, "{}".into());
        assert_eq!(apply(untagged.clone(), Some("*")), untagged);
    }
}
