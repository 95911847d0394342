//! The page as it looks: on a desk and on a phone, light and dark, by keyboard, and to an accessibility engine. Its pictures in
//! `docs/` are made here: `CTS_PICTURES=docs cargo test --test cts -- pictures_of_the_page`.

use std::fs;
use std::path::PathBuf;

use super::stand_in::{StandIn, degraded, healthy};
use super::{DESK, PHONE, UPDATED, address};
use crate::support::browser::{Browser, View};
use crate::support::harness::Machine;
use crate::support::project::source;

/// The keys Tab and Enter, as WebDriver writes them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

/// The views that a page must suit.
fn views() -> [View; 5] {
    let wide = View { width: 1920, height: 1080, is_dark: false };
    [DESK, View { is_dark: true, ..DESK }, PHONE, View { is_dark: true, ..PHONE }, wide]
}

#[test]
fn an_accessibility_engine_finds_nothing_serious_light_or_dark() {
    let Some(browser) = Browser::start() else { return };
    let server = StandIn::start(healthy());
    for (overview, word) in
        [(healthy(), "Healthy"), (degraded(), "Degraded"), (unhealthy(), "Unhealthy")]
    {
        server.set(overview);
        for view in views() {
            browser.look(view).open(&server.address()).until(UPDATED).until_word(word);
            let Some(faults) = browser.accessibility_faults() else { return };
            assert_eq!(faults, Vec::<String>::new(), "{word} {view:?}");
        }
    }
    let machine = Machine::new();
    let service = machine.serve().env("CTS_ADMIN_TOKEN", "open-sesame").start();
    service.until_ready();
    for view in views() {
        browser
            .look(view)
            .open(&address(&service))
            .until("!document.getElementById('access').hidden");
        assert_eq!(browser.accessibility_faults().unwrap(), Vec::<String>::new(), "{view:?}");
    }
}

fn unhealthy() -> serde_json::Value {
    let mut overview = healthy();
    overview["status"] = "unhealthy".into();
    overview["sentence"] = "Programs cannot use the database.".into();
    overview["command"] = "cts doctor".into();
    overview["reasons"] = serde_json::json!([{"severity": "critical", "text": "/data/cts.db: 11 MiB are free on the disk of the database"}]);
    overview
}

#[test]
fn no_view_is_scrolled_sideways() {
    let Some(browser) = Browser::start() else { return };
    let server = StandIn::start(degraded());
    for width in [320, 360, 414, 640, 768, 1024, 1280, 1920] {
        browser.look(View { width, ..PHONE }).open(&server.address()).until(UPDATED);
        assert_eq!(
            browser.value("document.documentElement.scrollWidth > innerWidth"),
            false,
            "{width}"
        );
    }
}

#[test]
fn the_keyboard_reaches_everything_and_shows_where_it_is() {
    let Some(browser) = Browser::start() else { return };
    let server = StandIn::start(degraded());
    browser.look(PHONE).open(&server.address()).until(UPDATED);
    browser.press(TAB);
    assert_eq!(browser.value("document.activeElement.className"), "skip");
    assert_eq!(browser.value("document.activeElement.getBoundingClientRect().top >= 0"), true);
    browser.press(ENTER).until("document.activeElement.id === 'main'");
    let mut reached = Vec::new();
    for _ in 0..8 {
        browser.press(TAB);
        reached.push(browser.value(
            "document.activeElement.id || document.activeElement.getAttribute('aria-labelledby')",
        ));
        let outline = browser.value("getComputedStyle(document.activeElement).outlineStyle");
        assert_eq!(outline, "solid", "{reached:?}");
        if reached.last().unwrap() == "events-title" {
            break;
        }
    }
    for wanted in ["copy", "others-scroll", "migrations-title", "backups-scroll", "events-title"] {
        assert!(reached.iter().any(|id| id == wanted), "{wanted}: {reached:?}");
    }
}

/// They are kept where `CTS_PICTURES` names a folder of the project.
#[test]
fn pictures_of_the_page_are_small() {
    let Some(browser) = Browser::start() else { return };
    let server = StandIn::start(healthy());
    let folder = std::env::var("CTS_PICTURES").ok().map(|folder| source(&folder));
    let desk = View { width: 1200, height: 1010, is_dark: false };
    let phone = View { width: 360, height: 1010, is_dark: false };
    for (name, overview, view) in [
        ("page-light.png", healthy(), desk),
        ("page-dark.png", degraded(), View { is_dark: true, ..desk }),
        ("page-phone.png", healthy(), phone),
    ] {
        server.set(overview);
        browser.look(view).open(&server.address()).until(UPDATED);
        let picture = browser.picture();
        assert!(
            picture.starts_with(b"\x89PNG") && picture.len() < 150 << 10,
            "{name}: {}",
            picture.len()
        );
        if let Some(folder) = &folder {
            let path: PathBuf = folder.join(name);
            fs::write(path, picture).unwrap();
        }
    }
}
