//! Text from outside of cts (names in a database, messages of SQLite and of a server, paths, program names,
//! headers, settings) on its way to a person: one function for the terminal, the log, the journal and
//! systemd's status. JSON keeps the exact value and escapes the same characters as JSON does.
//!
//! A name may hold an escape sequence that a terminal obeys, a line end that forges a line of the log, or a
//! character that reverses the order of what follows.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::{Display, Write as _};
use std::os::unix::ffi::OsStrExt;

/// The text with each character that is not visible, or changes how others are shown, written as an escape:
/// `\n`, `\x1b`, `\u{202e}`.
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// The text with each character that is not ASCII written as an escape, for a reader whose locale has only that.
pub fn escaped_to_ascii(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !c.is_ascii())
}

/// A value in quotes for a message about exactly this value: white space other than a blank is written as an
/// escape too, and so are bytes that are not UTF-8 (`\xff`).
pub fn quoted_value(value: &OsStr) -> String {
    let mut shown = String::from("\"");
    for chunk in value.as_bytes().utf8_chunks() {
        shown += &escaped(chunk.valid(), |c| is_unsafe(c) || (c != ' ' && c.is_whitespace()));
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown + "\""
}

/// JSON text in which the same characters are escaped, so that it can be shown on a terminal. serde_json
/// escapes those below U+0020 only. White space between the values stays.
pub fn visible_json(json: &str) -> Cow<'_, str> {
    let must_escape = |c: char| is_unsafe(c) && !c.is_ascii_whitespace();
    if !json.contains(must_escape) {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if must_escape(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

/// Whether a character is a control character, invisible, or changes the direction of text (Unicode 16,
/// `Cc`, the format characters that are not part of a word, and the separators of lines and paragraphs).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn escaped(text: &str, must_escape: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&must_escape) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            c if !must_escape(c) => shown.push(c),
            '\n' => shown += "\\n",
            '\r' => shown += "\\r",
            '\t' => shown += "\\t",
            c if c.is_ascii() => {
                let _ = write!(shown, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(shown)
}

/// Lines for a person. Each is made visible as a whole, so that no name in it can end it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(String);

impl Lines {
    /// No lines.
    pub fn new() -> Lines {
        Lines::default()
    }

    /// Adds a line, without its end.
    pub fn add(&mut self, line: impl Display) {
        self.0 += &visible(&line.to_string());
        self.0.push('\n');
    }

    /// The lines, each with its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_does_not_show_is_written_as_an_escape() {
        for (text, shown) in [
            ("plain, déjà vu, 日本, 👍🏽", "plain, déjà vu, 日本, 👍🏽"),
            ("a\x1b[31m\x07\nb\r\t", r"a\x1b[31m\x07\nb\r\t"),
            ("\u{9b}31m\x7f", r"\u{9b}31m\x7f"),
            ("user\u{202e}txt\u{2066}\u{200b}", r"user\u{202e}txt\u{2066}\u{200b}"),
            ("\u{feff}a\u{2028}b\u{e0041}", r"\u{feff}a\u{2028}b\u{e0041}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn a_value_is_shown_with_its_ends_and_its_bytes() {
        let value = |bytes: &'static [u8]| quoted_value(OsStr::from_bytes(bytes));
        assert_eq!(value(b"/data/cts.db \r"), r#""/data/cts.db \r""#);
        assert_eq!(value(b"/data/\xffx"), r#""/data/\xffx""#);
        assert_eq!(value("/data/cts.db\u{a0}".as_bytes()), r#""/data/cts.db\u{a0}""#);
    }

    #[test]
    fn json_keeps_its_value_and_shows_no_control_character() {
        let name = "a\x1b\x7f\u{9b}\u{202e}\u{e0041}\"\\\n";
        let json = serde_json::json!({ "name": name }).to_string();
        let shown = visible_json(&json);
        assert!(!shown.contains(is_unsafe), "{shown}");
        let read: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read["name"], name);
        assert_eq!(visible_json("{\n  \"a\": 1\n}"), "{\n  \"a\": 1\n}");
    }

    #[test]
    fn a_name_with_a_line_end_stays_on_its_line() {
        let mut lines = Lines::new();
        lines.add("missing: a\nno drift");
        lines.add("drift: 1 missing");
        assert_eq!(lines.as_str(), "missing: a\\nno drift\ndrift: 1 missing\n");
    }
}
