//! The values of settings and secrets, from flags, variables and files: the one place where they are read
//! as they were written. What an environment file, a shell or an editor leaves around a value (blanks,
//! a carriage return, quotes, a byte order mark) is removed and said; what cts would have to guess is refused.
//! A refusal shows the value with every character visible, and never a secret.

mod path;

use std::ffi::OsStr;
use std::fmt::Display;

use crate::error::{Error, Kind, Result};
use crate::system::visible::{is_unsafe, quoted_value, visible};
pub use path::path;

/// A value as cts reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<T> {
    /// The value.
    pub value: T,
    /// What an operator should know of how it was read, as a sentence.
    pub notice: Option<String>,
}

/// Why a value is refused, and what to do.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    why: String,
    remedy: Option<String>,
    /// Whether the value may be meant all the same: it holds a character or bytes that are seldom meant.
    is_odd: bool,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Refusal {
        Refusal { why: why.into(), remedy: None, is_odd: false }
    }

    fn odd(why: impl Into<String>) -> Refusal {
        Refusal { is_odd: true, ..Refusal::new(why) }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Refusal {
        self.remedy = Some(remedy.into());
        self
    }

    /// The error about the setting `name`; `shown` is the value as it may be shown.
    fn error(self, name: &str, shown: impl Display) -> Error {
        let what = format!("{name}: {shown} {}", self.why);
        Error::new(Kind::Config, what)
            .remedy(self.remedy.unwrap_or_else(|| format!("correct {name}")))
    }
}

/// Reads a value that is not secret and not a path.
///
/// # Errors
///
/// [`Kind::Config`], with the name and the value: it is not UTF-8, empty but for blanks and quotes, holds a
/// control character or an invisible one, or begins with its own name.
pub fn text(name: &str, raw: &OsStr) -> Result<Reading<String>> {
    let shown = || shown(raw);
    let value = plain(name, raw).map_err(|refusal| refusal.error(name, shown()))?;
    let notice =
        (value.len() != raw.len()).then(|| format!("{name}: {} is read as {value:?}", shown()));
    let notice = notice.filter(|_| !may_contain_password(raw));
    Ok(Reading { value: value.to_string(), notice })
}

/// Reads a secret. Nothing of it is shown, except which control character it holds.
///
/// # Errors
///
/// [`Kind::Config`], with the name: as [`text`], and where it stands in quotes, which may be part of it.
pub fn secret(name: &str, raw: &OsStr) -> Result<Reading<String>> {
    let refuse = |refusal: Refusal| refusal.error(name, "the value");
    let value = plain(name, raw).map_err(refuse)?;
    let without_blanks = raw.to_str().unwrap_or_default().trim_matches(is_margin);
    if value.len() != without_blanks.len() {
        let refusal = Refusal::new("stands in quotes");
        return Err(refuse(refusal.remedy("write it without quotes")));
    }
    let is_changed = raw.to_str().is_none_or(|raw| raw.trim_ascii_end() != value);
    let notice = is_changed
        .then(|| format!("{name}: white space around the value is not part of the secret"));
    Ok(Reading { value: value.to_string(), notice })
}

/// The value of a setting as an error may show it. One that may contain a password is not repeated.
pub fn shown(raw: &OsStr) -> String {
    if may_contain_password(raw) { "a URL".into() } else { quoted_value(raw) }
}

/// Whether a value may be a URL with a password.
pub fn may_contain_password(raw: &OsStr) -> bool {
    let text = raw.to_string_lossy();
    text.contains("://") || text.contains('@')
}

/// The value without what is around it, and without anything in it that cannot be meant.
fn plain<'v>(name: &str, raw: &'v OsStr) -> Result<&'v str, Refusal> {
    let Some(text) = raw.to_str() else { return Err(Refusal::odd("is not UTF-8")) };
    let value = without_surroundings(text);
    if value.is_empty() {
        let why = match text {
            "" => "is empty",
            _ => "holds nothing but white space or quotes",
        };
        return Err(Refusal::new(why).remedy(format!("set {name} to a value, or leave it out")));
    }
    if let Some((at, c)) = value.chars().enumerate().find(|(_, c)| is_unsafe(*c)) {
        let c = c.to_string();
        let why = format!("has {} in it, as character {}", visible(&c), at + 1);
        return Err(Refusal::odd(why));
    }
    if let Some(known) = own_names(name).find(|known| is_assignment(value, known)) {
        let why = format!("begins with {known}= itself");
        return Err(Refusal::new(why).remedy(format!("write the value of {name} alone")));
    }
    Ok(value)
}

/// The names that a value may repeat: that of its setting, or of the secret that a file holds.
fn own_names(name: &str) -> impl Iterator<Item = &str> {
    let secret = match name {
        "--database-url-file" => Some("DATABASE_URL"),
        _ => name.strip_suffix("_FILE"),
    };
    [Some(name), secret].into_iter().flatten()
}

fn is_assignment(value: &str, name: &str) -> bool {
    let value = value.strip_prefix("export ").unwrap_or(value);
    value.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
}

/// Pairs of quotes that may stand around a value, typographic ones of a copied text included.
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('“', '”'), ('„', '“'), ('‘', '’')];

/// The text without white space, byte order marks and pairs of quotes around it.
fn without_surroundings(text: &str) -> &str {
    let inner = text.trim_matches(is_margin);
    let unquoted =
        QUOTES.iter().find_map(|(open, close)| inner.strip_prefix(*open)?.strip_suffix(*close));
    match unquoted {
        Some(unquoted) => without_surroundings(unquoted),
        None => inner,
    }
}

/// White space, and the invisible characters that are copied along with a text.
fn is_margin(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{feff}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2060}')
}

#[cfg(test)]
mod tests;
