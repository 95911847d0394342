use super::*;
use crate::health::Reason;
use crate::store::sqlite::{DatabaseFile, FileAccess};

fn report(activity: &str) -> Report {
    let database = DatabaseFile { path: "/data/cts.db".into(), access: FileAccess::default() };
    Report::initializing(&database, activity)
}

#[test]
fn the_page_is_small_and_loads_nothing_from_outside() {
    assert!(TEMPLATE.len() <= 60 << 10, "{} bytes", TEMPLATE.len());
    let addresses = ["src=", "href=", "url(", "@import", "http://", "https://", "//cdn"];
    for address in addresses {
        for (at, _) in TEMPLATE.match_indices(address) {
            let context: String = TEMPLATE[at..].chars().take(60).collect();
            let is_own = ["href=\"data:", "href=\"#", "http://www.w3.org/2000/svg", "http%3A"];
            let namespace = "http://www.w3.org/";
            assert!(
                is_own.iter().any(|own| context.starts_with(own)) || context.starts_with(namespace),
                "{context}"
            );
        }
    }
}

#[test]
fn nothing_inline_violates_the_policy() {
    let (head, script) = TEMPLATE.split_once("<script>").unwrap();
    let markup = head.split_once("</style>").unwrap().1;
    for attribute in [" style=", " onclick", " onload", " onerror", " onsubmit", "javascript:"] {
        assert!(!markup.contains(attribute), "{attribute}");
    }
    // A policy with digests forbids these, and each would make markup of text.
    for call in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "'style'",
    ] {
        assert!(!script.contains(call), "{call}");
    }
}

#[test]
fn what_the_report_says_is_shown_as_text() {
    let mut report = report("<script>alert(1)</script> \u{202e}");
    report.reasons_found.push(Reason::critical("a & b"));
    let page = of_report(&report);
    assert!(page.contains("data-status=\"initializing\"") && page.contains("Initializing · cts"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; \\u{202e}"), "{page}");
    assert!(page.contains("a &amp; b"));
    assert_eq!(page.matches("<script").count(), 1);
    assert!(!page.contains("<!--"), "a marker is left");
    assert_eq!(entity_tag(&page), entity_tag(&of_report(&report)));
}

#[test]
fn the_page_that_asks_for_the_token_shows_nothing_of_the_database() {
    let page = asking_for_token();
    assert!(page.contains("<div id=\"state\" hidden>") && page.contains("data-status=\"waiting\""));
    assert!(!page.contains(VERSION) && !page.contains("exchange_connections"), "{page}");
}
