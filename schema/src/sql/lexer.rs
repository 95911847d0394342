//! Splits SQL text into tokens as SQLite does: white space and comments, semicolons, and everything else. Text only.

/// What a token is, as far as statements have to be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// White space and comments.
    Blank,
    Semicolon,
    /// A name, a key word, a literal, or one other character.
    Other,
}

/// A token of SQL text.
pub struct Token<'a> {
    pub(super) kind: TokenKind,
    /// The position of its first byte in the text.
    pub start: usize,
    /// Its text.
    pub text: &'a str,
}

impl Token<'_> {
    /// Whether it is white space or a comment.
    pub fn is_blank(&self) -> bool {
        self.kind == TokenKind::Blank
    }
}

/// The tokens of SQL text, white space and comments included.
pub fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let (kind, length) = next_token(rest);
        let start = at;
        at += length;
        Some(Token { kind, start, text: rest.get(..length).unwrap_or(rest) })
    })
}

/// The kind and the length in bytes of the token at the start of `rest`, which is not empty. Bytes beyond ASCII are
/// parts of names, as in SQLite.
fn next_token(rest: &str) -> (TokenKind, usize) {
    let bytes = rest.as_bytes();
    let until = |from: usize, end: &str| {
        let found = rest.get(from..).and_then(|tail| tail.find(end));
        found.map_or(rest.len(), |n| from + n + end.len())
    };
    let run = |is: fn(&u8) -> bool| bytes.iter().position(|b| !is(b)).unwrap_or(bytes.len());
    match bytes {
        [b'-', b'-', ..] => (TokenKind::Blank, until(2, "\n")),
        [b'/', b'*', ..] => (TokenKind::Blank, until(2, "*/")),
        [b';', ..] => (TokenKind::Semicolon, 1),
        [b'\'', ..] => (TokenKind::Other, until(1, "'")),
        [b'"', ..] => (TokenKind::Other, until(1, "\"")),
        [b'`', ..] => (TokenKind::Other, until(1, "`")),
        [b'[', ..] => (TokenKind::Other, until(1, "]")),
        [b, ..] if b.is_ascii_whitespace() => (TokenKind::Blank, run(u8::is_ascii_whitespace)),
        [b, ..] if is_word(b) => (TokenKind::Other, run(is_word)),
        _ => (TokenKind::Other, 1),
    }
}

/// Whether the byte is part of a name, a key word or a number.
fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// A name without its quotes. Doubled quotes inside stay doubled.
pub fn unquote(word: &str) -> String {
    unquote_with(word, &[('"', '"'), ('`', '`'), ('[', ']')])
}

/// A name where SQLite takes a string literal for one too, as in the definition of a column.
pub fn unquote_name(word: &str) -> String {
    unquote_with(word, &[('"', '"'), ('`', '`'), ('[', ']'), ('\'', '\'')])
}

fn unquote_with(word: &str, quotes: &[(char, char)]) -> String {
    let is_quoted = |(open, close): &(char, char)| {
        word.len() > 1 && word.starts_with(*open) && word.ends_with(*close)
    };
    let inner = if quotes.iter().any(is_quoted) { word.get(1..word.len() - 1) } else { None };
    inner.unwrap_or(word).to_string()
}

/// SQL text without comments and with each run of white space replaced by one space. Literals and quoted names are
/// not changed.
pub fn fold(sql: &str) -> String {
    let mut folded = String::with_capacity(sql.len());
    let mut blank = false;
    for token in tokens(sql) {
        if token.kind == TokenKind::Blank {
            blank = true;
            continue;
        }
        if blank && !folded.is_empty() {
            folded.push(' ');
        }
        blank = false;
        folded.push_str(token.text);
    }
    folded
}

/// SQL text without comments. Line breaks are kept, so that each statement stays in its line.
pub fn without_comments(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    for token in tokens(sql) {
        match token.text.as_bytes() {
            [b'-', b'-', ..] | [b'/', b'*', ..] => {
                text.push(' ');
                text.extend(token.text.chars().filter(|c| *c == '\n'));
            }
            _ => text.push_str(token.text),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::checksum;
    use crate::sql::statements;

    #[test]
    fn without_comments_each_statement_stays_the_same_in_its_line() {
        let sql = "-- a\n\nSELECT/* b\n */1, '-- c'; -- d\nSELECT \"/* e */\"\n-- f";
        let stripped = without_comments(sql);
        assert!(!stripped.contains(['b', 'd', 'f']), "{stripped}");
        let lines = |sql: &str| statements(sql).iter().map(|s| s.line).collect::<Vec<_>>();
        assert_eq!(lines(&stripped), lines(sql));
        assert_eq!(checksum(&stripped), checksum(sql));
    }
}
