//! Which reply each request gets, as values: testable without a socket.

use serde_json::{Value, json};

use crate::health::{Report, Status};
use crate::http::access::HttpAccess;
use crate::http::head::RequestHead;

/// The paths that every client may ask for.
const HEALTH_PATHS: [&str; 3] = ["/api/health/database", "/livez", "/readyz"];
/// The path for administrators.
const STATUS_PATH: &str = "/api/admin/migrations/status";

/// A reply. The body is always JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status code.
    pub status_code: u16,
    /// Headers besides those of every response.
    pub headers: Vec<HeaderField>,
    /// The body.
    pub body: String,
}

/// One header of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// The name.
    pub name: &'static str,
    /// The value.
    pub value: &'static str,
}

impl Reply {
    /// A JSON error.
    pub fn error(status_code: u16, message: &str) -> Reply {
        let body = format!("{{\"success\":false,\"error\":{}}}", Value::from(message));
        Reply { status_code, headers: Vec::new(), body }
    }

    /// 200, or 503 if the answer is negative.
    fn of(is_ok: bool, body: String) -> Reply {
        Reply { status_code: if is_ok { 200 } else { 503 }, headers: Vec::new(), body }
    }

    /// Whether the request was at fault: not permitted, not known, or not supported.
    pub fn is_refusal(&self) -> bool {
        (400..500).contains(&self.status_code) || self.status_code == 505
    }
}

/// The reply to a request; `report` is called only if the path needs it.
pub fn reply_to(head: &RequestHead, access: &HttpAccess, report: &dyn Fn() -> Report) -> Reply {
    let path = head.target.split('?').next().unwrap_or_default();
    refuse(head, path, access).unwrap_or_else(|| match path {
        "/livez" => Reply::of(true, json!({"status": "alive"}).to_string()),
        "/readyz" => readiness(&report()),
        STATUS_PATH => {
            let report = report();
            Reply::of(report.connected, report.status_json())
        }
        _ => {
            let report = report();
            Reply::of(report.status().is_usable(), report.health_json())
        }
    })
}

/// Why a request is refused; `None` if it is answered.
fn refuse(head: &RequestHead, path: &str, access: &HttpAccess) -> Option<Reply> {
    let is_health = HEALTH_PATHS.contains(&path);
    let checks_host = !is_health || access.is_loopback;
    if checks_host && !access.allows_host(head.host.as_deref()) {
        return Some(Reply::error(
            421,
            "unknown host name; use an IP address, or add the name to CTS_ALLOWED_HOSTS",
        ));
    }
    if !is_health && path != STATUS_PATH {
        return Some(Reply::error(404, &format!("unknown path {path}")));
    }
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        let message = format!("method {} is not supported; use GET or HEAD", head.method);
        let mut reply = Reply::error(405, &message);
        reply.headers.push(HeaderField { name: "Allow", value: "GET, HEAD" });
        return Some(reply);
    }
    if is_health { None } else { access.refuse_admin(head.authorization.as_deref()) }
}

fn readiness(report: &Report) -> Reply {
    let status: Status = report.status();
    let mut body = json!({"ready": status.is_usable(), "status": status.name()});
    if !report.reasons_found.is_empty() {
        body["reasons"] = report.reasons().into();
    }
    Reply::of(status.is_usable(), body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{DatabaseFile, FileAccess};
    use crate::system::secret::Secret;

    const HEALTH: &str = "/api/health/database";
    const STATUS: &str = "/api/admin/migrations/status";

    fn request(method: &str, target: &str) -> RequestHead {
        let (method, target) = (method.into(), target.into());
        RequestHead { method, target, is_http_1_1: true, host: None, authorization: None }
    }

    fn reply(method: &str, target: &str, access: &HttpAccess) -> Reply {
        answer(&request(method, target), access)
    }

    fn answer(head: &RequestHead, access: &HttpAccess) -> Reply {
        reply_to(head, access, &|| {
            let (path, access) = ("/data/cts.db".into(), FileAccess::default());
            Report::initializing(&DatabaseFile { path, access }, "starting")
        })
    }

    fn local() -> HttpAccess {
        let allowed_hosts = vec!["box.example".into()];
        HttpAccess { admin_token: None, allowed_hosts, is_loopback: true }
    }

    #[test]
    fn livez_does_not_ask_the_database() {
        let head = request("GET", "/livez");
        let reply = reply_to(&head, &local(), &|| unreachable!("the database was asked"));
        assert_eq!((reply.status_code, reply.body.as_str()), (200, r#"{"status":"alive"}"#));
    }

    #[test]
    fn while_initializing_nothing_but_livez_is_200() {
        for path in [HEALTH, STATUS, "/readyz"] {
            assert_eq!(reply("GET", path, &local()).status_code, 503, "{path}");
        }
    }

    #[test]
    fn a_request_for_a_host_name_that_is_not_allowed_is_refused() {
        let code = |target, host: Option<&str>, access: &HttpAccess| {
            let head = RequestHead { host: host.map(str::to_string), ..request("GET", target) };
            reply_to(&head, access, &|| unreachable!("the database was asked")).status_code
        };
        for host in [None, Some("127.0.0.1:3000"), Some("localhost"), Some("BOX.example:3000")] {
            assert_eq!(code("/livez", host, &local()), 200, "{host:?}");
        }
        for host in ["evil.example", "", "evil.example:3000", "box.example.evil"] {
            assert_eq!(code("/livez", Some(host), &local()), 421, "{host}");
        }
        let open = HttpAccess { is_loopback: false, ..local() };
        assert_eq!(code("/livez", Some("evil.example"), &open), 200);
        assert_eq!(code(STATUS, Some("evil.example"), &open), 421);
    }

    #[test]
    fn unknown_paths_are_404_and_other_methods_405() {
        assert_eq!(reply("POST", "/", &local()).status_code, 404);
        let refused = reply("PUT", HEALTH, &local());
        let allow = HeaderField { name: "Allow", value: "GET, HEAD" };
        assert_eq!((refused.status_code, refused.headers), (405, vec![allow]));
        assert_eq!(Reply::error(404, "a \"b\"").body, r#"{"success":false,"error":"a \"b\""}"#);
    }

    #[test]
    fn the_status_needs_the_token_and_health_does_not() {
        let open = HttpAccess { is_loopback: false, ..local() };
        let protected = HttpAccess { admin_token: Some(Secret::new("right")), ..local() };
        assert_eq!(reply("GET", STATUS, &open).status_code, 403);
        assert_eq!(reply("GET", STATUS, &protected).status_code, 401);
        assert_eq!(reply("GET", HEALTH, &protected).status_code, 503);
        let authorization = Some("Bearer right".into());
        let head = RequestHead { authorization, ..request("GET", STATUS) };
        assert_eq!(answer(&head, &protected).status_code, 503);
    }
}
