//! What is answered to which request, as values: testable without a socket.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::health::{Report, Status};
use crate::http::head::{is_address, name};
use crate::system::secret::Secret;

/// The parts of a request that matter.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, with its query if there is one.
    pub target: &'a str,
    /// The host that the client believes to speak to.
    pub host: Option<&'a str>,
    /// The header `Authorization`.
    pub authorization: Option<&'a str>,
}

/// Who may see what.
#[derive(Clone, Debug)]
pub struct HttpAccess {
    /// The token for the administrative paths, where one is configured.
    pub token: Option<Secret>,
    /// Names, beside addresses and `localhost`, by which clients may speak of us.
    pub hosts: Vec<String>,
    /// Whether the listener can be reached from this machine only.
    pub loopback: bool,
}

/// An HTTP answer. The body is always JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub code: u16,
    /// Headers beside those that every answer has.
    pub headers: Vec<(&'static str, &'static str)>,
    /// The body.
    pub body: String,
}

impl Reply {
    /// Whether the client asked for what it may not have, or in a way that is not served.
    pub fn is_refusal(&self) -> bool {
        (400..500).contains(&self.code) || self.code == 505
    }
}

/// Responder a request; `report` is asked only where the path needs it.
pub fn answer(ask: RequestParts<'_>, access: &HttpAccess, report: &dyn Fn() -> Report) -> Reply {
    let path = ask.target.split('?').next().unwrap_or_default();
    let is_health = HEALTH_PATHS.contains(&path);
    if !(is_health && !access.loopback || access.knows(ask.host)) {
        return error(
            421,
            "this host is not known here; an address is, and what CTS_ALLOWED_HOSTS lists",
        );
    }
    let is_known = is_health || path == "/api/admin/migrations/status";
    if !is_known {
        return error(404, &format!("there is nothing at {path}"));
    }
    if !matches!(ask.method, "GET" | "HEAD") {
        let mut reply = error(405, &format!("{} is not served, only GET and HEAD", ask.method));
        reply.headers.push(("Allow", "GET, HEAD"));
        return reply;
    }
    match path {
        "/livez" => ok(true, json!({"status": "alive"}).to_string()),
        "/readyz" => ready(&report()),
        "/api/health/database" => {
            let report = report();
            ok(report.status().is_usable(), report.health_json())
        }
        _ => match access.refusal(ask.authorization) {
            Some(refusal) => refusal,
            None => {
                let report = report();
                ok(report.connected, report.status_json())
            }
        },
    }
}

fn ready(report: &Report) -> Reply {
    let status: Status = report.status();
    let mut body = json!({"ready": status.is_usable(), "status": status.name()});
    if !report.reasons_found.is_empty() {
        body["reasons"] = report.reasons().into();
    }
    ok(status.is_usable(), body.to_string())
}

fn ok(is_ok: bool, body: String) -> Reply {
    Reply { code: if is_ok { 200 } else { 503 }, headers: Vec::new(), body }
}

/// A JSON error.
pub fn error(code: u16, message: &str) -> Reply {
    let body = format!("{{\"success\":false,\"error\":{}}}", Value::from(message));
    Reply { code, headers: Vec::new(), body }
}

/// The paths that are for everybody who can reach the listener.
const HEALTH_PATHS: [&str; 3] = ["/api/health/database", "/livez", "/readyz"];

impl HttpAccess {
    /// Whether a client that speaks to this host can mean us. A page of a stranger, whose name leads
    /// to our address (DNS rebinding), speaks to that name.
    fn knows(&self, host: Option<&str>) -> bool {
        let Some(host) = host else { return true };
        let is_listed = |name: &str| self.hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        is_address(host) || name(host).is_some_and(is_listed)
    }

    fn refusal(&self, authorization: Option<&str>) -> Option<Reply> {
        match &self.token {
            None if self.loopback => None,
            None => Some(error(
                403,
                "administrative paths answer on a loopback address only, unless CTS_ADMIN_TOKEN is set",
            )),
            Some(token) => {
                let given = authorization.and_then(bearer).unwrap_or_default();
                if same(given, token.expose()) {
                    return None;
                }
                let mut reply =
                    error(401, "a bearer token is needed: Authorization: Bearer CTS_ADMIN_TOKEN");
                reply.headers.push(("WWW-Authenticate", "Bearer"));
                Some(reply)
            }
        }
    }
}

fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Compares digests, so that the time taken tells nothing of the token.
fn same(given: &str, token: &str) -> bool {
    Sha256::digest(given.as_bytes()) == Sha256::digest(token.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{DatabaseFile, FileAccess};

    const HEALTH: &str = "/api/health/database";
    const STATUS: &str = "/api/admin/migrations/status";

    fn reply(
        method: &str,
        target: &str,
        authorization: Option<&str>,
        access: &HttpAccess,
    ) -> Reply {
        let report = || {
            let (path, access) = ("/data/cts.db".into(), FileAccess::default());
            Report::initializing(&DatabaseFile { path, access }, "starting")
        };
        answer(RequestParts { method, target, host: None, authorization }, access, &report)
    }

    fn local() -> HttpAccess {
        HttpAccess { token: None, hosts: vec!["box.example".into()], loopback: true }
    }

    #[test]
    fn livez_does_not_ask_the_database() {
        let ask = RequestParts { method: "GET", target: "/livez", host: None, authorization: None };
        let reply = answer(ask, &local(), &|| unreachable!("the database was asked"));
        assert_eq!((reply.code, reply.body.as_str()), (200, r#"{"status":"alive"}"#));
    }

    #[test]
    fn while_initializing_nothing_but_livez_is_200() {
        for path in [HEALTH, STATUS, "/readyz"] {
            assert_eq!(reply("GET", path, None, &local()).code, 503, "{path}");
        }
    }

    #[test]
    fn a_host_by_a_name_that_is_not_listed_is_not_us() {
        let code = |target, host, access: &HttpAccess| {
            let ask = RequestParts { method: "GET", target, host, authorization: None };
            let report = || unreachable!("the database was asked");
            answer(ask, access, &report).code
        };
        for host in [None, Some("127.0.0.1:3000"), Some("localhost"), Some("BOX.example:3000")] {
            assert_eq!(code("/livez", host, &local()), 200, "{host:?}");
        }
        for host in ["evil.example", "", "evil.example:3000", "box.example.evil"] {
            assert_eq!(code("/livez", Some(host), &local()), 421, "{host}");
        }
        let open = HttpAccess { loopback: false, ..local() };
        assert_eq!(code("/livez", Some("evil.example"), &open), 200);
        assert_eq!(code(STATUS, Some("evil.example"), &open), 421);
    }

    #[test]
    fn unknown_paths_are_404_and_other_methods_405() {
        assert_eq!(reply("POST", "/", None, &local()).code, 404);
        let refused = reply("PUT", HEALTH, None, &local());
        assert_eq!((refused.code, refused.headers), (405, vec![("Allow", "GET, HEAD")]));
        assert_eq!(error(404, "a \"b\"").body, r#"{"success":false,"error":"a \"b\""}"#);
    }

    #[test]
    fn administrative_paths_are_for_loopback_or_the_token() {
        let token = crate::config::Config::load(&Default::default(), &|name| {
            (name == "CTS_ADMIN_TOKEN").then(|| "right".into())
        })
        .unwrap()
        .admin_token;
        let open = HttpAccess { token: None, loopback: false, ..local() };
        let closed = HttpAccess { token, ..local() };
        assert_eq!(reply("GET", STATUS, None, &open).code, 403);
        for wrong in
            [None, Some("right"), Some("Bearer"), Some("Bearer wrong"), Some("Basic right")]
        {
            assert_eq!(reply("GET", STATUS, wrong, &closed).code, 401, "{wrong:?}");
        }
        for right in ["Bearer right", "bearer right"] {
            assert_eq!(reply("GET", STATUS, Some(right), &closed).code, 503, "{right}");
        }
        assert_eq!(reply("GET", HEALTH, None, &closed).code, 503);
    }
}
