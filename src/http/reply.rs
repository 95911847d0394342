//! Which reply each request gets, as values: testable without a socket.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::health::render::METRICS_CONTENT_TYPE;
use crate::health::{Report, Status};
use crate::http::access::HttpAccess;
use crate::http::conditional;
use crate::http::head::RequestHead;
use crate::http::source::Source;
use crate::page;

/// A path, who may ask for it, and what answers it.
struct Route {
    path: &'static str,
    audience: Audience,
    reply: fn(&RequestHead, &dyn Source) -> Reply,
}

/// Who may ask for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    /// Every client, also under an unknown host name where the listener is not on a loopback address.
    Everyone,
    /// Those whom the rules of access call administrators.
    Administrators,
    /// The same people in a browser: a refusal is a page, which asks for the token where there is one.
    Browsers,
}

/// Every path there is, in the order in which a 404 names them.
const ROUTES: [Route; 7] = [
    Route { path: "/", audience: Audience::Browsers, reply: status_page },
    Route { path: "/api/health/database", audience: Audience::Everyone, reply: health },
    Route {
        path: "/api/admin/migrations/status",
        audience: Audience::Administrators,
        reply: status,
    },
    Route { path: "/api/admin/overview", audience: Audience::Administrators, reply: overview },
    Route { path: "/metrics", audience: Audience::Administrators, reply: metrics },
    Route { path: "/livez", audience: Audience::Everyone, reply: liveness },
    Route { path: "/readyz", audience: Audience::Everyone, reply: readiness },
];

/// The type of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// JSON.
    Json,
    /// HTML.
    Html,
    /// The text format of Prometheus.
    Metrics,
}

impl ContentType {
    /// The value of the header `Content-Type`.
    pub fn header(self) -> &'static str {
        match self {
            ContentType::Json => "application/json",
            ContentType::Html => "text/html; charset=utf-8",
            ContentType::Metrics => METRICS_CONTENT_TYPE,
        }
    }
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status code.
    pub status_code: u16,
    /// The type of the body.
    pub content_type: ContentType,
    /// Headers besides those of every response.
    pub headers: Vec<HeaderField>,
    /// The body.
    pub body: String,
}

/// One header of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// The name.
    pub name: &'static str,
    /// The value.
    pub value: Cow<'static, str>,
}

impl HeaderField {
    /// A header with this value.
    pub fn new(name: &'static str, value: impl Into<Cow<'static, str>>) -> HeaderField {
        HeaderField { name, value: value.into() }
    }
}

impl Reply {
    /// A JSON error.
    pub fn error(status_code: u16, message: &str) -> Reply {
        let body = format!("{{\"success\":false,\"error\":{}}}", Value::from(message));
        Reply::new(status_code, ContentType::Json, body)
    }

    /// A reply without headers of its own.
    pub fn new(status_code: u16, content_type: ContentType, body: String) -> Reply {
        Reply { status_code, content_type, headers: Vec::new(), body }
    }

    /// JSON with 200, or with 503 if the answer is negative.
    fn json(is_ok: bool, body: String) -> Reply {
        Reply::new(if is_ok { 200 } else { 503 }, ContentType::Json, body)
    }

    /// The same reply with this header.
    pub fn with_header(mut self, field: HeaderField) -> Reply {
        self.headers.push(field);
        self
    }

    /// The value of one of its own headers.
    pub fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.map(|field| &*field.value)
    }

    /// Whether the request was at fault: not permitted, not known, or not supported. A browser that has no token yet
    /// is asked for it by the page, which is none.
    pub fn is_refusal(&self) -> bool {
        if self.status_code == 401 && self.content_type == ContentType::Html {
            return false;
        }
        (400..500).contains(&self.status_code) || self.status_code == 505
    }
}

/// The reply to a request; `source` is asked only if the path needs it.
pub fn reply_to(head: &RequestHead, access: &HttpAccess, source: &dyn Source) -> Reply {
    let path = head.path();
    let route = ROUTES.iter().find(|route| route.path == path);
    let is_for_everyone = route.is_some_and(|route| route.audience == Audience::Everyone);
    let checks_host = access.is_loopback || !is_for_everyone;
    if checks_host && !access.allows_host(head.host.as_deref()) {
        return Reply::error(
            421,
            "unknown host name; use an IP address, or add the name to CTS_ALLOWED_HOSTS",
        );
    }
    let Some(route) = route else { return unknown_path(path) };
    if !matches!(head.method.as_str(), "GET" | "HEAD") {
        let message = format!("method {} is not supported; use GET or HEAD", head.method);
        return Reply::error(405, &message).with_header(HeaderField::new("Allow", "GET, HEAD"));
    }
    let refused = match route.audience {
        Audience::Everyone => None,
        Audience::Administrators => access.refuse_admin(head.authorization.as_deref()),
        Audience::Browsers => access.refuse_admin(head.authorization.as_deref()).map(refusal_page),
    };
    let reply = refused.unwrap_or_else(|| (route.reply)(head, source));
    conditional::apply(reply, head.if_none_match.as_deref())
}

/// The path of a request as it is counted: one of those that there are, so that no client adds others.
pub fn counted_path(path: &str) -> &'static str {
    ROUTES.iter().find(|route| route.path == path).map_or("other", |route| route.path)
}

/// Names the paths there are, so that whoever guessed one finds the right one.
fn unknown_path(path: &str) -> Reply {
    let paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    Reply::error(404, &format!("unknown path {path}; there are {}", paths.join(", ")))
}

fn status_page(_: &RequestHead, source: &dyn Source) -> Reply {
    let page = page::of_report(&source.report());
    let tag = HeaderField::new("ETag", page::entity_tag(&page));
    html(200, page).with_header(tag)
}

/// A refusal as a page: one that asks for the token, or one with the reason.
fn refusal_page(refusal: Reply) -> Reply {
    let page = match refusal.status_code {
        401 => page::asking_for_token(),
        _ => page::not_permitted(),
    };
    let own = html(refusal.status_code, page);
    refusal.headers.into_iter().fold(own, Reply::with_header)
}

fn html(status_code: u16, body: String) -> Reply {
    Reply::new(status_code, ContentType::Html, body)
        .with_header(HeaderField::new("Content-Security-Policy", page::security_policy()))
        .with_header(HeaderField::new("Referrer-Policy", "no-referrer"))
}

fn health(_: &RequestHead, source: &dyn Source) -> Reply {
    let report = source.report();
    Reply::json(report.status().is_usable(), report.health_json())
}

fn status(_: &RequestHead, source: &dyn Source) -> Reply {
    let report = source.report();
    Reply::json(report.connected, report.status_json())
}

/// 200 also where the database does not answer: what is known is told all the same.
fn overview(head: &RequestHead, source: &dyn Source) -> Reply {
    let query = head.target.split_once('?').map(|(_, query)| query).unwrap_or_default();
    let with_history = !query.split('&').any(|parameter| parameter == "history=0");
    Reply::json(true, source.overview(with_history).json())
}

/// Also of a database that does not answer: its state is a sample.
fn metrics(_: &RequestHead, source: &dyn Source) -> Reply {
    Reply::new(200, ContentType::Metrics, source.metrics())
}

fn liveness(_: &RequestHead, _: &dyn Source) -> Reply {
    Reply::json(true, json!({"status": "alive"}).to_string())
}

fn readiness(_: &RequestHead, source: &dyn Source) -> Reply {
    let report: Report = source.report();
    let status: Status = report.status();
    let mut body = json!({"ready": status.is_usable(), "status": status.name()});
    if !report.reasons_found.is_empty() {
        body["reasons"] = report.reasons().into();
    }
    Reply::json(status.is_usable(), body.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::health::{FigureWatch, History, Overview};
    use crate::store::journal::Journal;
    use crate::store::sqlite::{DatabaseFile, FileAccess};
    use crate::system::secret::Secret;

    /// A service that starts.
    struct Starting;

    impl Source for Starting {
        fn report(&self) -> Report {
            let (path, access) = ("/data/cts.db".into(), FileAccess::default());
            Report::initializing(&DatabaseFile { path, access }, "starting")
        }

        fn overview(&self, with_history: bool) -> Overview {
            let (journal, started_at) = (Journal::default(), UNIX_EPOCH);
            let history = with_history.then(|| History::start(FigureWatch::default()).points());
            Overview {
                report: self.report(),
                figures: Arc::default(),
                history,
                journal,
                started_at,
            }
        }

        fn metrics(&self) -> String {
            "cts_up 0\n".into()
        }
    }

    /// One that must not be asked.
    struct Untouched;

    impl Source for Untouched {
        fn report(&self) -> Report {
            unreachable!("the database was asked")
        }

        fn overview(&self, _: bool) -> Overview {
            unreachable!("the database was asked")
        }

        fn metrics(&self) -> String {
            unreachable!("the metrics were asked for")
        }
    }

    const HEALTH: &str = "/api/health/database";
    const STATUS: &str = "/api/admin/migrations/status";

    fn request(method: &str, target: &str) -> RequestHead {
        let (method, target) = (method.into(), target.into());
        RequestHead { method, target, is_http_1_1: true, ..RequestHead::default() }
    }

    fn reply(method: &str, target: &str, access: &HttpAccess) -> Reply {
        answer(&request(method, target), access)
    }

    fn answer(head: &RequestHead, access: &HttpAccess) -> Reply {
        reply_to(head, access, &Starting)
    }

    fn local() -> HttpAccess {
        let allowed_hosts = vec!["box.example".into()];
        HttpAccess { admin_token: None, allowed_hosts, is_loopback: true }
    }

    #[test]
    fn livez_does_not_ask_the_database() {
        let head = request("GET", "/livez");
        let reply = reply_to(&head, &local(), &Untouched);
        assert_eq!((reply.status_code, reply.body.as_str()), (200, r#"{"status":"alive"}"#));
    }

    #[test]
    fn while_initializing_the_metrics_say_so() {
        let found = reply("GET", "/metrics", &local());
        assert_eq!((found.status_code, &*found.body), (200, "cts_up 0\n"));
        assert!(found.content_type.header().starts_with("text/plain; version=0.0.4"));
    }

    #[test]
    fn while_initializing_no_answer_about_the_database_is_200() {
        for path in [HEALTH, STATUS, "/readyz"] {
            assert_eq!(reply("GET", path, &local()).status_code, 503, "{path}");
        }
    }

    #[test]
    fn a_request_for_a_host_name_that_is_not_allowed_is_refused() {
        let code = |target, host: Option<&str>, access: &HttpAccess| {
            let head = RequestHead { host: host.map(str::to_string), ..request("GET", target) };
            reply_to(&head, access, &Untouched).status_code
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
        let unknown = reply("POST", "/api/healthz", &local());
        assert_eq!(unknown.status_code, 404);
        for route in &ROUTES {
            assert!(unknown.body.contains(route.path), "{} is not named: {unknown:?}", route.path);
        }
        let refused = reply("PUT", HEALTH, &local());
        let allow = HeaderField::new("Allow", "GET, HEAD");
        assert_eq!((refused.status_code, refused.headers), (405, vec![allow]));
        assert_eq!(Reply::error(404, "a \"b\"").body, r#"{"success":false,"error":"a \"b\""}"#);
    }

    #[test]
    fn the_status_needs_the_token_and_health_does_not() {
        let open = HttpAccess { is_loopback: false, ..local() };
        let protected = HttpAccess { admin_token: Some(Secret::new("right")), ..local() };
        assert_eq!(reply("GET", STATUS, &open).status_code, 403);
        assert_eq!(reply("GET", "/metrics", &open).status_code, 403);
        assert_eq!(reply("GET", "/metrics", &protected).status_code, 401);
        assert_eq!(reply("GET", STATUS, &protected).status_code, 401);
        assert_eq!(reply("GET", HEALTH, &protected).status_code, 503);
        let authorization = Some("Bearer right".into());
        let head = RequestHead { authorization, ..request("GET", STATUS) };
        assert_eq!(answer(&head, &protected).status_code, 503);
    }
}
