//! Who sees the page: the token, and listeners without one.

use super::address;
use crate::support::browser::Browser;
use crate::support::harness::{Machine, Service};

fn protected(machine: &Machine) -> Service {
    let service = machine.serve().env("CTS_ADMIN_TOKEN", "open-sesame").start();
    service.until_ready();
    service
}

#[test]
fn the_page_asks_for_the_token_and_keeps_it_for_the_tab_only() {
    let Some(browser) = Browser::start() else { return };
    let machine = Machine::new();
    let service = protected(&machine);
    let asks =
        "!document.getElementById('access').hidden && document.getElementById('state').hidden";
    let wrong = "document.getElementById('wrong').textContent === 'This is not the token.'";
    browser.open(&address(&service)).until(asks);
    assert!(!browser.text("body").contains("exchange_connections"), "{}", browser.text("body"));
    for given in ["open-sesam", "öffne dich", "a b"] {
        browser.value("void (document.getElementById('token').value = '')");
        browser.type_into("#token", given).click("#access-form button").until(wrong).until(asks);
    }
    browser.value("void (document.getElementById('token').value = '')");
    browser.type_into("#token", "open-sesame\u{e007}").until_word("Healthy");
    assert!(browser.text("#categories").contains("exchange_connections"));
    // It stays over a reload.
    browser.open(&address(&service)).until_word("Healthy");
    assert_eq!(browser.value("localStorage.length + document.cookie.length"), 0);
    assert!(!browser.value("location.href").to_string().contains("sesame"));
    browser.new_tab().open(&address(&service)).until(asks);
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_token_is_forgotten_when_asked_and_when_it_was_changed() {
    let Some(browser) = Browser::start() else { return };
    let machine = Machine::new();
    let service = protected(&machine);
    let port = service.address().port();
    let asks = "!document.getElementById('access').hidden";
    let enter = |token: &str| {
        browser.until(asks).type_into("#token", &format!("{token}\u{e007}")).until_word("Healthy");
    };
    browser.open(&address(&service));
    enter("open-sesame");
    browser.click("#forget").until(asks);
    assert_eq!(browser.value("sessionStorage.length"), 0);
    enter("open-sesame");
    service.stop();
    let changed =
        machine.cts(&format!("serve --port {port}")).env("CTS_ADMIN_TOKEN", "another").start();
    changed.until_ready();
    browser.until(asks);
    assert!(!browser.text("body").contains("exchange_connections"), "{}", browser.text("body"));
    enter("another");
}

#[test]
fn a_page_that_is_refused_is_a_page_and_holds_no_data() {
    let machine = Machine::new();
    let service = protected(&machine);
    let asked = service.get("/");
    assert_eq!((asked.code, asked.header("WWW-Authenticate")), (401, Some("Bearer")));
    let given = service
        .ask("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer open-sesame\r\n\r\n");
    assert_eq!(given.code, 200);
    assert!(given.body.contains("exchange_connections") && given.header("ETag").is_some());
    service.stop();
    let open = machine.cts("serve --port 0 --host 0.0.0.0").start();
    open.until_ready();
    let refused = open.get("/");
    assert_eq!(refused.code, 403);
    assert!(refused.body.contains("CTS_ADMIN_TOKEN"), "{}", refused.body);
    for page in [asked, given, refused] {
        assert_eq!(page.header("Content-Type"), Some("text/html; charset=utf-8"));
        let policy = page.header("Content-Security-Policy").unwrap();
        for part in [
            "default-src 'none'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{part}: {policy}");
        }
        assert_eq!(page.header("Referrer-Policy"), Some("no-referrer"));
        assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
        assert_eq!(page.header("Cache-Control"), Some("no-store"));
        let has_data = page.body.contains("exchange_connections");
        assert_eq!(has_data, page.code == 200, "{}", page.body);
    }
}

#[test]
fn a_page_that_has_not_changed_is_not_sent_again() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let first = service.get("/");
    let tag = first.header("ETag").unwrap();
    let again = format!("GET / HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: {tag}\r\n\r\n");
    let same = service.ask(&again);
    assert_eq!((same.code, &*same.body, same.header("ETag")), (304, "", Some(tag)));
    machine.sql("CREATE TABLE kept AS SELECT 1; DROP TABLE strategies_dca; CREATE VIEW strategies_dca AS SELECT 1 AS id");
    assert_eq!(service.ask(&again).code, 200);
}
