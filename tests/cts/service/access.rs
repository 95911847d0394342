//! Access control over HTTP: tokens, hosts, and what is answered without them.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::harness::{Answer, Machine, Service};

const HEALTH: &str = "/api/health/database";

const STATUS: &str = "/api/admin/migrations/status";

fn with_token(service: &Service, token: &str) -> Answer {
    service.ask(&format!(
        "GET {STATUS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    ))
}

#[test]
fn a_token_that_is_set_is_needed_on_loopback_too() {
    let machine = Machine::new();
    let service = machine.serve().env("CTS_ADMIN_TOKEN", "open sesame").start();
    service.until_ready();
    let refused = service.get(STATUS);
    assert_eq!((refused.code, refused.header("WWW-Authenticate")), (401, Some("Bearer")));
    assert_eq!(refused.json()["success"], false);
    assert_eq!(with_token(&service, "open sesam").code, 401);
    assert_eq!(with_token(&service, "open sesame").code, 200);
    assert_eq!(service.get(HEALTH).code, 200);
    assert!(!service.stop().1.contains("sesame"));
}

#[test]
fn a_token_is_read_from_its_file() {
    let machine = Machine::new();
    std::fs::write(machine.path("token"), "from-a-file\n").unwrap();
    let service = machine.serve().env("CTS_ADMIN_TOKEN_FILE", machine.path("token")).start();
    service.until_ready();
    assert_eq!(service.get(STATUS).code, 401);
    assert_eq!(with_token(&service, "from-a-file").code, 200);
}

#[test]
fn without_a_token_a_public_listener_shows_health_only() {
    let machine = Machine::new();
    let service = machine.cts("serve --port 0 --host 0.0.0.0").start();
    service.until_ready();
    let refused = service.get(STATUS);
    assert_eq!(refused.code, 403);
    assert!(refused.body.contains("CTS_ADMIN_TOKEN"), "{}", refused.body);
    assert_eq!(service.get(HEALTH).code, 200);
}

fn as_host(service: &Service, host: &str, path: &str, token: &str) -> Answer {
    service.ask(&format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ))
}

#[test]
fn on_loopback_an_unknown_host_header_is_refused() {
    let machine = Machine::new();
    let service = machine.serve().env("CTS_ALLOWED_HOSTS", "box.example, cts.lan").start();
    service.until_ready();
    let port = service.address().port();
    for host in ["localhost", "127.0.0.1", "[::1]:1", "BOX.example:3000", "cts.lan"] {
        assert_eq!(as_host(&service, host, HEALTH, "").code, 200, "{host}");
        assert_eq!(as_host(&service, &format!("localhost:{port}"), STATUS, "").code, 200);
    }
    for host in ["evil.example", "", "evil.example:3000", "box.example.evil", "127.0.0.1.evil"] {
        for path in [HEALTH, STATUS, "/livez", "/"] {
            let refused = as_host(&service, host, path, "");
            assert_eq!(refused.code, 421, "{host} {path}");
            assert!(refused.body.contains("CTS_ALLOWED_HOSTS"), "{}", refused.body);
        }
    }
}

#[test]
fn on_all_addresses_only_health_answers_any_host_header() {
    let machine = Machine::new();
    let service =
        machine.cts("serve --port 0 --host 0.0.0.0").env("CTS_ADMIN_TOKEN", "sesame").start();
    service.until_ready();
    for path in [HEALTH, "/livez", "/readyz"] {
        assert_eq!(as_host(&service, "any.example", path, "").code, 200, "{path}");
    }
    assert_eq!(as_host(&service, "any.example", STATUS, "sesame").code, 421);
    assert_eq!(as_host(&service, "127.0.0.1", STATUS, "sesam").code, 401);
    assert_eq!(as_host(&service, "127.0.0.1", STATUS, "sesame").code, 200);
}

#[test]
fn every_answer_closes_its_connection_and_allows_no_other_origin() {
    let machine = Machine::new();
    let service = machine.serve().env("CTS_ADMIN_TOKEN", "sesame").start();
    service.until_ready();
    let origin = "Host: localhost\r\nOrigin: https://evil.example\r\n\r\n";
    for (line, code) in [
        ("GET /livez HTTP/1.1", 200),
        ("GET /api/health/database HTTP/1.1", 200),
        ("OPTIONS /api/health/database HTTP/1.1", 405),
        ("GET /nowhere HTTP/1.1", 404),
        ("GET /api/admin/migrations/status HTTP/1.1", 401),
        ("nonsense", 400),
        ("GET /livez HTTP/1.1\r\nContent-Length: 1", 413),
        ("GET /livez HTTP/3.0", 505),
    ] {
        let answer = service.ask(&format!("{line}\r\n{origin}"));
        assert_eq!((answer.code, answer.header("Connection")), (code, Some("close")), "{line}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{line}");
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{line}");
        assert!(!answer.head.to_ascii_lowercase().contains("access-control"), "{}", answer.head);
        assert!(answer.json().is_object());
    }
}

#[test]
fn refusals_are_logged_once_a_second_per_reason_and_health_never() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let before = service.log();
    for _ in 0..50 {
        assert_eq!(service.get(HEALTH).code, 200);
    }
    assert_eq!(service.log(), before);
    let start = Instant::now();
    let mut asked = 0;
    while start.elapsed() < Duration::from_millis(2500) {
        assert_eq!(service.get("/nowhere").code, 404);
        assert_eq!(as_host(&service, "evil.example", "/", "").code, 421);
        asked += 1;
        thread::sleep(Duration::from_millis(5));
    }
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    let log = service.stop().1;
    for code in ["(404)", "(421)"] {
        let lines =
            log.lines().filter(|line| line.contains("refused 127.0.0.1 ") && line.contains(code));
        assert!((2..=seconds + 1).contains(&lines.count()), "{asked} asked:\n{log}");
    }
    assert!(log.contains(" more like it"), "{log}");
}

#[test]
fn an_invalid_number_of_connections_is_refused_by_name() {
    let machine = Machine::new();
    for nonsense in ["0", "3", "4097", "-1", "many", "12x", "99999999999999999999"] {
        let done = machine.serve().env("CTS_HTTP_CONNECTIONS", nonsense).status(78);
        done.says(&["CTS_HTTP_CONNECTIONS"]);
    }
}
