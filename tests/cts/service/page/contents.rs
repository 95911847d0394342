//! Contents that a page seldom has, and what becomes of it while somebody reads it.

use serde_json::{Value, json};

use super::stand_in::{StandIn, degraded, healthy};
use super::{DESK, PHONE, UPDATED, address};
use crate::support::browser::Browser;
use crate::support::harness::Machine;

const IS_WIDER: &str = "document.documentElement.scrollWidth > innerWidth";

/// The overview with 200 tables of the user's own, one with a name of 200 characters, and texts that try to be more.
fn hostile() -> Value {
    let mut overview = degraded();
    let name = |at: usize| match at {
        3 => "a_name_that_goes_on_".repeat(10),
        4 => "<img src=x onerror=alert(1)>".to_string(),
        _ => format!("mine_{at:03}"),
    };
    let other =
        |at| json!({"name": name(at), "rows": at * 31, "isExact": false, "sizeBytes": at * 4096});
    overview["tables"]["others"] = (0..200).map(other).collect();
    overview["database"]["location"] = format!("/data/{}/cts.db", "folder".repeat(40)).into();
    overview["exceptions"] =
        json!([{"table": "users", "rule": "foreign_key", "object": "c".repeat(120), "rows": 3}]);
    overview["accepted"] = json!(["column users.name: expected TEXT, found VARCHAR(10)"]);
    overview["events"] = json!([
        {"at": "2026-11-29T03:00:00Z", "level": "error", "message": "<script>document.title = 'taken'</script>"},
        {"at": "2026-11-29T02:00:00Z", "level": "info", "message": "שלום \u{202e}abc"},
        {"at": "never", "level": "\u{202e}info", "message": "x".repeat(500)}]);
    overview
}

#[test]
fn two_hundred_tables_long_names_and_hostile_texts_are_shown_as_text() {
    let Some(browser) = Browser::start() else { return };
    let server = StandIn::start(hostile());
    for view in [DESK, PHONE] {
        browser.look(view).open(&server.address()).until(UPDATED).until_word("Degraded");
        assert_eq!(browser.value(IS_WIDER), false, "{view:?}");
        assert_eq!(browser.value("document.querySelectorAll('#others tr').length"), 200);
        assert!(browser.text("#others").contains("<img src=x onerror=alert(1)>"));
        assert_eq!(browser.value("document.querySelectorAll('img, main script').length"), 0);
        assert!(browser.text("#events").contains("<script>document.title"));
        assert_eq!(browser.value("document.title"), "Degraded · cts");
        // The text to the right of the event's time has a direction of its own.
        let direction =
            "getComputedStyle(document.querySelectorAll('#events .message')[1]).direction";
        assert_eq!(browser.value(direction), "rtl");
        let isolation =
            "getComputedStyle(document.querySelectorAll('#events .message')[1]).unicodeBidi";
        assert_eq!(browser.value(isolation), "isolate");
    }
    assert_eq!(browser.errors(), Vec::<String>::new());
}

#[test]
fn a_refresh_changes_what_has_changed_and_leaves_the_reader_alone() {
    let Some(browser) = Browser::start() else { return };
    let shown = healthy();
    let server = StandIn::start(shown.clone());
    browser.look(DESK).open(&server.address()).until(UPDATED);
    browser
        .value("void getSelection().selectAllChildren(document.querySelector('#migrations tr'))");
    browser.value("void scrollTo(0, 900)");
    let chosen = browser.value("String(getSelection())");
    let height = browser.value("document.documentElement.scrollHeight");
    let spoken = browser.text("#spoken");
    let mut later = shown.clone();
    later["tables"]["categories"][0]["tables"][2]["rows"] = 48_999.into();
    server.set(later);
    browser.until("document.getElementById('categories').textContent.includes('48,999')");
    assert_eq!(browser.value("String(getSelection())"), chosen);
    assert!(chosen.as_str().unwrap().contains("unified_complete_setup"), "{chosen}");
    assert_eq!(browser.value("scrollY"), 900);
    assert_eq!(browser.value("document.documentElement.scrollHeight"), height);
    assert_eq!(browser.text("#spoken"), spoken, "the verdict is the same");
    server.set(degraded());
    browser.until_word("Degraded");
    assert!(browser.text("#spoken").starts_with("Degraded."), "{}", browser.text("#spoken"));
}

#[test]
fn a_page_of_another_version_of_cts_loads_itself_again() {
    let Some(browser) = Browser::start() else { return };
    let server = StandIn::start(healthy());
    browser.open(&server.address()).until(UPDATED);
    browser.value("void (window.isOld = true)");
    let mut updated = healthy();
    updated["version"] = "3.2.0".into();
    server.set(updated);
    browser.until("!window.isOld").until(UPDATED);
}

#[test]
fn the_command_is_copied_and_times_are_those_of_the_reader() {
    let Some(browser) = Browser::start() else { return };
    let server = StandIn::start(hostile());
    browser.look(DESK).open(&server.address()).until(UPDATED);
    browser
        .click("#copy")
        .until("/Copied|Selected/.test(document.getElementById('copy').textContent)");
    let title = browser.value("document.querySelector('#events time').title");
    assert_eq!(title, "2026-11-29 03:00:00.000 UTC");
    assert!(browser.text("#events").contains("never"), "a time that is none is shown as it is");
    assert!(browser.text("#charts").contains("GiB"), "{}", browser.text("#charts"));
    let described =
        browser.value("document.querySelector('#charts svg').getAttribute('aria-label')");
    let described = described.as_str().unwrap();
    assert!(described.contains("lowest") && described.contains("highest"), "{described}");
}

#[test]
fn without_scripts_the_page_shows_verdict_and_tables() {
    let Some(browser) = Browser::start() else { return };
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    machine.sql("CREATE TABLE kept AS SELECT 1; DROP TABLE strategies_dca; CREATE VIEW strategies_dca AS SELECT 1 AS id");
    service.until_status("degraded");
    browser.permit_scripts(false).look(DESK).open(&address(&service));
    for part in [
        "Degraded",
        "a person should attend to it",
        "strategies_dca",
        "cts ",
        "exchange_positions",
        "unified_complete_setup",
        "Without JavaScript",
    ] {
        assert!(browser.text("main").contains(part), "{part}: {}", browser.text("main"));
    }
    assert_eq!(browser.text("#fresh"), "");
    let protected = machine
        .cts("serve --port 0")
        .db(&machine.path("other.db"))
        .env("CTS_ADMIN_TOKEN", "open-sesame")
        .start();
    protected.until_ready();
    browser.open(&address(&protected));
    assert!(browser.text("main").contains("needs the token"), "{}", browser.text("main"));
    assert_eq!(browser.errors(), Vec::<String>::new());
}
