//! The status page: one HTML file with its own style and script, which a browser may load nothing beside. The script
//! draws the JSON of `/api/admin/overview`; verdict, tables and migrations are in the HTML too, for browsers without
//! scripts. Reports in, text out; who may see it is decided by HTTP.

mod markup;
mod policy;

use sha2::{Digest, Sha256};

use crate::health::render::stored_timestamp;
use crate::health::{Report, Severity};
use crate::system::version::VERSION;
use cts_schema::catalog::{CATEGORIES, Category, core_tables};
use markup::{escaped, isolated, isolated_with_commands};

pub use policy::security_policy;

/// The page without any data. Comments stand where the data belong.
const TEMPLATE: &str = include_str!("index.html");
/// What a browser without scripts shows in place of the question for the token.
const TOKEN_WITHOUT_SCRIPT: &str = "<noscript><p>This page needs the token of the administrator. Without JavaScript, \
     ask with a program that sends it: <code>curl --header 'Authorization: Bearer TOKEN'</code></p></noscript>";
/// What it shows above the data.
const STATE_WITHOUT_SCRIPT: &str = "<noscript><p class=\"soft small\">Without JavaScript: the state when this page was \
     loaded. Reload it for the present one.</p></noscript>";

/// The page with what a report says. It holds no time of its own, so that it changes only with the state.
pub fn of_report(report: &Report) -> String {
    let status = report.status().name();
    let mut page = TEMPLATE
        .replacen("data-status=\"waiting\"", &format!("data-status=\"{status}\""), 1)
        .replacen("<title>cts</title>", &format!("<title>{} · cts</title>", word(status)), 1);
    let command = report.command().map(|command| command.text());
    if command.is_some() {
        page = page.replacen("id=\"type\" hidden", "id=\"type\"", 1);
    }
    let migrations_note = format!("{} of {}", report.applied.len(), report.expected_migrations);
    for (marker, text) in [
        ("<!--without-script-->", STATE_WITHOUT_SCRIPT.to_string()),
        ("<!--word-->", word(status)),
        ("<!--sentence-->", escaped(report.status().sentence())),
        ("<!--reasons-->", reasons(report)),
        ("<!--command-->", escaped(command.unwrap_or_default())),
        ("<!--tables-note-->", tables_note(report)),
        ("<!--categories-->", categories(report)),
        ("<!--migrations-note-->", migrations_note),
        ("<!--migrations-->", migrations(report)),
        ("<!--version-->", format!("cts {VERSION}")),
    ] {
        page = page.replacen(marker, &text, 1);
    }
    page
}

/// The page without data, whose script asks for the token.
pub fn asking_for_token() -> String {
    TEMPLATE.replacen("<div id=\"state\">", "<div id=\"state\" hidden>", 1).replacen(
        "<!--without-script-->",
        TOKEN_WITHOUT_SCRIPT,
        1,
    )
}

/// The page for a listener on which nobody is an administrator.
pub fn not_permitted() -> String {
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
     <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
     <meta name=\"color-scheme\" content=\"light dark\">\n<title>Not available · cts</title>\n</head>\n<body>\n<main>\n\
     <h1>Not available on this address</h1>\n\
     <p>The status page is shown on a loopback address only, unless <code>CTS_ADMIN_TOKEN</code> or \
     <code>CTS_ADMIN_TOKEN_FILE</code> is set.</p>\n\
     <p>From another machine: <code>ssh -L 3000:127.0.0.1:3000 MACHINE</code>, with <code>HOST=127.0.0.1</code> \
     for <code>cts</code>.</p>\n</main>\n</body>\n</html>\n"
        .to_string()
}

/// The entity tag of a page: a digest of its text.
pub fn entity_tag(page: &str) -> String {
    let digest = Sha256::digest(page.as_bytes());
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}

/// The name of a status as the page shows it.
fn word(status: &str) -> String {
    let mut letters = status.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().to_string() + letters.as_str())
}

fn reasons(report: &Report) -> String {
    let item = |severity: &str, shown: &str, text: &str| {
        let text = isolated_with_commands(text);
        format!(
            "<li class=\"reason\" data-severity=\"{severity}\"><span class=\"severity\">{shown}</span> {text}</li>"
        )
    };
    let shown = |severity: Severity| match report.initializing && severity == Severity::Warning {
        true => "Now".to_string(),
        false => word(severity.name()),
    };
    let reasons = report.sorted_reasons().into_iter();
    reasons.map(|r| item(r.severity.name(), &shown(r.severity), &r.text)).collect()
}

fn tables_note(report: &Report) -> String {
    if !report.connected {
        return "They could not be read.".into();
    }
    let count = report.count(core_tables());
    format!("{} of {} core tables", count.existing, count.expected)
}

fn categories(report: &Report) -> String {
    if !report.connected {
        return String::new();
    }
    CATEGORIES.iter().map(|category| category_card(report, category)).collect()
}

fn category_card(report: &Report, category: &Category) -> String {
    let count = report.count(category.tables.iter().copied());
    let is_complete = count.missing.is_empty();
    let shown = match is_complete {
        true => count.expected.to_string(),
        false => format!("{} of {}", count.existing, count.expected),
    };
    let row = |table: &&str| {
        let is_missing = count.missing.contains(table);
        let state = if is_missing { "<span class=\"missing\">missing</span>" } else { "" };
        let name = escaped(table);
        format!(
            "<tr><th scope=\"row\"><bdi class=\"name\">{name}</bdi></th><td class=\"number\">{state}</td></tr>"
        )
    };
    let rows: String = category.tables.iter().map(row).collect();
    let name = escaped(category.key);
    format!(
        "<section class=\"category card\" data-complete=\"{is_complete}\"><header><h3>{name}</h3>\
         <span class=\"count small soft figure\">{shown}</span></header>\
         <table aria-label=\"Tables of the category {name}\"><tbody>{rows}</tbody></table></section>"
    )
}

fn migrations(report: &Report) -> String {
    let row = |name: &str, at: &str, took: &str, checksum: &str| {
        format!(
            "<tr><th scope=\"row\"><bdi class=\"name\">{}</bdi></th><td>{}</td><td class=\"number\">{}</td>\
             <td><bdi class=\"name digest soft\">{}</bdi></td></tr>",
            escaped(name),
            isolated(at),
            escaped(took),
            escaped(checksum)
        )
    };
    let applied = report.applied.iter().map(|migration| {
        let at = stored_timestamp(migration.executed_at.as_deref().unwrap_or_default());
        let took = migration.execution_time_ms.map_or_else(String::new, |ms| format!("{ms} ms"));
        row(&migration.name, &at, &took, migration.checksum.as_deref().unwrap_or_default())
    });
    let pending = report.pending.iter().map(|name| row(name, "pending", "", ""));
    applied.chain(pending).collect()
}

#[cfg(test)]
mod tests;
