//! Splits SQL into words as PostgreSQL does, for [`super::expression`] and [`super::expected`]. Text
//! only.
//!
//! `build.rs` compiles this file too.

/// A word of SQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// An unquoted name or a key word, in lower case.
    Name(String),
    /// A quoted name, without its quotes.
    Quoted(String),
    /// A literal text with its quotes, and the letter before them if there is one.
    Text(String),
    /// A number.
    Number(String),
    /// An operator, `::` among them, or one other character.
    Sign(String),
}

impl Word {
    /// Whether it is this key word or sign; `word` is in upper case.
    pub fn is(&self, word: &str) -> bool {
        match self {
            Word::Name(name) => name.eq_ignore_ascii_case(word),
            Word::Sign(sign) => sign == word,
            _ => false,
        }
    }

    /// The name that it is, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Word::Name(name) | Word::Quoted(name) => Some(name),
            _ => None,
        }
    }

    /// Its canonical form.
    pub fn canonical(&self) -> String {
        match self {
            Word::Name(name) if is_key(name) => name.to_ascii_uppercase(),
            Word::Quoted(name) if !is_plain(name) || is_key(name) => {
                format!("\"{}\"", name.replace('"', "\"\""))
            }
            Word::Name(text)
            | Word::Quoted(text)
            | Word::Text(text)
            | Word::Number(text)
            | Word::Sign(text) => text.clone(),
        }
    }
}

/// Words that mean something by themselves, and so are no names of columns or functions.
const KEYS: &[&str] = &[
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "AT",
    "BETWEEN",
    "CASE",
    "CAST",
    "COLLATE",
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "DISTINCT",
    "ELSE",
    "END",
    "FALSE",
    "FROM",
    "ILIKE",
    "IN",
    "IS",
    "ISNULL",
    "LIKE",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "NOT",
    "NOTNULL",
    "NULL",
    "OR",
    "SESSION_USER",
    "SOME",
    "THEN",
    "TRUE",
    "UNKNOWN",
    "WHEN",
];

/// Whether a name is a key word, and so none of a column or a function.
pub fn is_key(name: &str) -> bool {
    KEYS.iter().any(|key| key.eq_ignore_ascii_case(name))
}

fn is_plain(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    starts && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The words of SQL text, without white space and comments.
pub fn words(sql: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (word, length) = next_word(rest, first);
        words.extend(word);
        rest = rest.get(length.max(first.len_utf8())..).unwrap_or_default();
    }
    words
}

/// The word at the start of `rest`, which begins with `first`, and its length in bytes.
fn next_word(rest: &str, first: char) -> (Option<Word>, usize) {
    let run = |is: fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
    let upto = |length: usize| rest.get(..length).unwrap_or(rest).to_string();
    let second = rest.chars().nth(1);
    match (first, second) {
        ('-', Some('-')) => (None, rest.find('\n').unwrap_or(rest.len())),
        ('/', Some('*')) => (None, rest.find("*/").map_or(rest.len(), |at| at + 2)),
        (c, _) if c.is_whitespace() => (None, run(char::is_whitespace)),
        ('\'', _) => {
            let length = quoted(rest, 0, '\'', false);
            (Some(Word::Text(upto(length))), length)
        }
        ('e' | 'E' | 'b' | 'B' | 'x' | 'X' | 'n' | 'N', Some('\'')) => {
            let length = quoted(rest, 1, '\'', first.eq_ignore_ascii_case(&'e'));
            (Some(Word::Text(upto(length))), length)
        }
        ('"', _) => {
            let length = quoted(rest, 0, '"', false);
            let inner = rest.get(1..length.saturating_sub(1)).unwrap_or_default();
            (Some(Word::Quoted(inner.replace("\"\"", "\""))), length)
        }
        (c, second) if is_number(c, second) => {
            let length = number(rest);
            (Some(Word::Number(upto(length))), length)
        }
        (c, _) if is_part_of_name(c) => {
            let length = run(is_part_of_name);
            (Some(Word::Name(upto(length).to_ascii_lowercase())), length)
        }
        (':', Some(':')) => (Some(Word::Sign("::".into())), 2),
        (c, _) if is_operator(c) => {
            let length = operator(rest);
            (Some(Word::Sign(upto(length))), length)
        }
        (c, _) => (Some(Word::Sign(c.into())), c.len_utf8()),
    }
}

fn is_number(first: char, second: Option<char>) -> bool {
    first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit()))
}

fn is_part_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// Whether operators are made of it.
pub fn is_operator(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

/// The length of what is quoted from `from` on, the doubled quotes in it included.
fn quoted(rest: &str, from: usize, quote: char, escapes: bool) -> usize {
    let mut chars = rest.char_indices().skip(from + 1).peekable();
    while let Some((at, c)) = chars.next() {
        if escapes && c == '\\' {
            chars.next();
        } else if c == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return at + quote.len_utf8();
        }
    }
    rest.len()
}

fn number(rest: &str) -> usize {
    let digits = |from: usize| {
        let tail = rest.get(from..).unwrap_or_default();
        from + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len())
    };
    let mut length = digits(0);
    if rest.get(length..).is_some_and(|tail| tail.starts_with('.')) {
        length = digits(length + 1);
    }
    if rest.get(length..).is_some_and(|tail| tail.starts_with(['e', 'E'])) {
        let signed = rest.get(length + 1..).is_some_and(|tail| tail.starts_with(['+', '-']));
        let from = length + 1 + usize::from(signed);
        let exponent = digits(from);
        length = if exponent > from { exponent } else { length };
    }
    length
}

/// The length of an operator. As for the server, it holds no comment, and `+` or `-` ends only
/// one that could not be two.
fn operator(rest: &str) -> usize {
    let mut end = rest.find(|c| !is_operator(c)).unwrap_or(rest.len());
    for comment in ["--", "/*"] {
        if let Some(at) = rest.get(1..end).and_then(|tail| tail.find(comment)) {
            end = at + 1;
        }
    }
    let is_one = |text: &str| text.contains(['~', '!', '@', '#', '%', '^', '&', '|', '`', '?']);
    while end > 1 && rest.get(..end).is_some_and(|op| op.ends_with(['+', '-']) && !is_one(op)) {
        end -= 1;
    }
    end
}

/// Whether all of a text is one number.
pub fn is_number_text(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| is_number(c, chars.next())) && number(text) == text.len()
}
