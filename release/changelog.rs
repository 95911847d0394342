//! The changelog of the Debian package: CHANGELOG.md in the form that deb-changelog(5) describes.

use std::fmt::Write;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest line, in characters. Debian's tools complain from 83 on.
const WIDTH: usize = 79;

/// What an entry says that CHANGELOG.md does not.
pub struct Entry<'a> {
    /// The version of what is not released yet.
    pub version: &'a str,
    /// The time of what is not released yet.
    pub time: SystemTime,
    /// Name and address, as in the field Maintainer.
    pub maintainer: &'a str,
}

/// Writes the changes of all versions, the newest first.
///
/// # Errors
///
/// A heading of a version that is neither `[Unreleased]` nor `[VERSION] - YYYY-MM-DD`.
pub fn debian(changelog: &str, entry: &Entry) -> io::Result<String> {
    let mut text = String::new();
    for section in changelog.split("\n## ").skip(1) {
        let (heading, changes) = section.split_once('\n').unwrap_or((section, ""));
        let (version, time) = match heading.trim() {
            "[Unreleased]" => (entry.version, entry.time),
            heading => released(heading)?,
        };
        let changes = list(changes);
        if !changes.is_empty() {
            let (date, maintainer) = (date(time), entry.maintainer);
            let _ = write!(
                text,
                "cts ({version}) unstable; urgency=medium\n\n{changes}\n -- {maintainer}  {date}\n\n"
            );
        }
    }
    Ok(text)
}

/// The version and the day of a heading.
fn released(heading: &str) -> io::Result<(&str, SystemTime)> {
    let parts = heading.strip_prefix('[').and_then(|rest| rest.split_once("] - "));
    let time = |day| humantime::parse_rfc3339(&format!("{day}T00:00:00Z")).ok();
    parts.and_then(|(version, day)| Some((version, time(day)?))).ok_or_else(|| {
        let form = "[Unreleased] or [VERSION] - YYYY-MM-DD";
        io::Error::other(format!("CHANGELOG.md: \"## {heading}\" is not of the form {form}"))
    })
}

/// The changes of one version: kinds of change as items, and the changes of a kind below it.
fn list(changes: &str) -> String {
    let mut text = String::new();
    let mut item: Option<(&str, String)> = None;
    for line in changes.lines().chain([""]) {
        let starts =
            ["### ", "- "].into_iter().find_map(|sign| Some((sign, line.strip_prefix(sign)?)));
        let ends = starts.is_some() || line.is_empty();
        if let Some((indent, words)) = item.take_if(|_| ends) {
            text.push_str(&wrapped(indent, &words));
        }
        match (starts, &mut item) {
            (Some(("### ", kind)), _) => item = Some(("  * ", format!("{kind}:"))),
            (Some((_, words)), _) => item = Some(("    - ", words.to_string())),
            // The address of a link.
            _ if line.is_empty() || line.starts_with('[') => (),
            (None, Some((_, words))) => {
                words.push(' ');
                words.push_str(line.trim());
            }
            (None, None) => item = Some(("  * ", line.to_string())),
        }
    }
    text
}

/// An item in lines that are not too long, without the addresses of its links, and with quotation marks around what is
/// to be typed.
fn wrapped(indent: &str, words: &str) -> String {
    let words = without_addresses(words).replace('`', "\"");
    let mut text = String::new();
    let mut line = indent.trim_end().to_string();
    for word in words.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line = " ".repeat(indent.len() - 1);
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// `[words](address)` as `words`.
fn without_addresses(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("](") {
        let Some((words, (_, behind))) = before.rsplit_once('[').zip(after.split_once(')')) else {
            break;
        };
        kept.push_str(words.0);
        kept.push_str(words.1);
        rest = behind;
    }
    kept + rest
}

/// A time as in a mail, in UTC: `Tue, 01 Dec 2026 00:00:00 +0000`.
fn date(time: SystemTime) -> String {
    // 1 January 1970 was a Thursday.
    let days = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() / 86_400;
    let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][(days % 7) as usize];
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let [year, month, day, clock] = [&text[..4], &text[5..7], &text[8..10], &text[11..19]];
    let months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let at = month.parse::<usize>().map_or(0, |month| (month - 1) * 3);
    format!("{weekday}, {day} {} {year} {clock} +0000", &months[at..at + 3])
}
