//! Who may see what over HTTP.

use crate::harness::{Answer, Machine, Service};

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
    assert_eq!(service.get("/api/health/database").code, 200);
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
fn without_a_token_a_listener_that_others_can_reach_shows_health_only() {
    let machine = Machine::new();
    let service = machine.cts("serve --port 0 --host 0.0.0.0").start();
    service.until_ready();
    let refused = service.get(STATUS);
    assert_eq!(refused.code, 403);
    assert!(refused.body.contains("CTS_ADMIN_TOKEN"), "{}", refused.body);
    assert_eq!(service.get("/api/health/database").code, 200);
}
