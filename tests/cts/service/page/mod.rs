//! The status page in Chromium: what it shows of a running cts, and how it behaves.

mod contents;
mod stand_in;
mod token;
mod views;

use rustix::process::Signal;

use crate::support::browser::{Browser, View};
use crate::support::harness::{Machine, Service};

const DESK: View = View { width: 1280, height: 900, is_dark: false };
const PHONE: View = View { width: 360, height: 740, is_dark: false };
/// Whether the script has shown an answer of its own.
const UPDATED: &str = "document.getElementById('fresh').textContent.startsWith('Updated')";

fn address(service: &Service) -> String {
    format!("http://{}/", service.address())
}

/// Makes the database unusable as a trading program sees it: a critical table is lost, and cts cannot put it back.
const LOSE_CRITICAL_TABLE: &str =
    "DROP TABLE exchange_connections; CREATE VIEW exchange_connections AS SELECT 1 AS id";

#[test]
fn the_page_shows_each_verdict_with_the_command_to_type() {
    let Some(browser) = Browser::start() else { return };
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    browser.look(DESK).open(&address(&service)).until_word("Healthy");
    browser.until(UPDATED);
    assert_eq!(browser.value("document.getElementById('type').hidden"), true);
    assert_eq!(browser.value("document.documentElement.dataset.status"), "healthy");
    assert!(browser.text("#facts").contains("22 of 22"), "{}", browser.text("#facts"));

    machine.sql("CREATE TABLE kept AS SELECT * FROM strategies_dca; DROP TABLE strategies_dca; CREATE VIEW strategies_dca AS SELECT 1 AS id");
    service.until_status("degraded");
    browser.until_word("Degraded");
    assert!(browser.text("#reasons").contains("strategies_dca"), "{}", browser.text("#reasons"));
    assert!(browser.text("#command").starts_with("cts "), "{}", browser.text("#command"));
    assert!(browser.text("#categories .missing").contains("missing"));
    assert_eq!(browser.value("document.title"), "Degraded · cts");

    machine.sql(LOSE_CRITICAL_TABLE);
    service.until_status("unhealthy");
    browser.until_word("Unhealthy");
    assert!(browser.text("#spoken").starts_with("Unhealthy."), "{}", browser.text("#spoken"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn the_page_says_since_when_cts_does_not_answer_and_goes_on_when_it_is_back() {
    let Some(browser) = Browser::start() else { return };
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let port = service.address().port();
    browser.open(&address(&service)).until_word("Healthy");
    browser.until(UPDATED);
    service.stop();
    browser.until_word("No answer");
    browser.until("/has not answered since \\d\\d:\\d\\d:\\d\\d, for \\d+ s/.test(document.getElementById('sentence').textContent)");
    assert!(browser.text("#spoken").starts_with("No answer."), "{}", browser.text("#spoken"));
    assert!(browser.text("#categories").contains("exchange_positions"), "what was known is left");
    let back = machine.cts(&format!("serve --port {port}")).start();
    back.until_ready();
    browser.until_word("Healthy");
    assert!(!browser.text("#sentence").contains("not answered"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_frozen_cts_is_shown_as_one_that_does_not_answer() {
    let Some(browser) = Browser::start() else { return };
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    browser.open(&address(&service)).until_word("Healthy");
    browser.until(UPDATED);
    service.signal(Signal::STOP);
    browser.until_word("No answer");
    service.signal(Signal::CONT);
    browser.until_word("Healthy");
}

#[test]
fn the_page_shows_what_a_start_is_waiting_for() {
    let Some(browser) = Browser::start() else { return };
    let (machine, other) = Machine::locked();
    let service = machine.serve().env("CTS_LOCK_TIMEOUT", "1ms").start();
    service.until(&format!("(pid {})", std::process::id()));
    browser.open(&address(&service)).until_word("Initializing");
    browser.until(UPDATED);
    assert!(browser.text("#reasons").starts_with("Now"), "{}", browser.text("#reasons"));
    other.execute_batch("COMMIT").unwrap();
    browser.until_word("Healthy");
    assert_eq!(browser.errors(), Vec::<String>::new());
}
