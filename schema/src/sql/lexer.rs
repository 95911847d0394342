//! Splits SQL text into tokens, as SQLite does: blanks and comments, semicolons, and everything
//! else. Text only.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// White space and comments.
    Blank,
    Semicolon,
    /// A word, a literal, a quoted name, or one other character.
    Other,
}

/// A token and where it stands.
pub struct Spanned<'a> {
    pub(super) kind: Token,
    /// Its first byte.
    pub start: usize,
    /// Its text.
    pub text: &'a str,
}

impl Spanned<'_> {
    /// Whether it is white space or a comment.
    pub fn is_blank(&self) -> bool {
        self.kind == Token::Blank
    }
}

/// The tokens of SQL text, blanks among them.
pub fn tokens(text: &str) -> impl Iterator<Item = Spanned<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let (kind, length) = next_token(rest);
        let start = at;
        at += length;
        Some(Spanned { kind, start, text: rest.get(..length).unwrap_or(rest) })
    })
}

/// Kind and length in bytes of the token at the start of `rest`, which is not empty. Bytes
/// beyond ASCII are parts of words, as they are for SQLite.
fn next_token(rest: &str) -> (Token, usize) {
    let bytes = rest.as_bytes();
    let until = |from: usize, end: &str| {
        let found = rest.get(from..).and_then(|tail| tail.find(end));
        found.map_or(rest.len(), |n| from + n + end.len())
    };
    let run = |is: fn(&u8) -> bool| bytes.iter().position(|b| !is(b)).unwrap_or(bytes.len());
    match bytes {
        [b'-', b'-', ..] => (Token::Blank, until(2, "\n")),
        [b'/', b'*', ..] => (Token::Blank, until(2, "*/")),
        [b';', ..] => (Token::Semicolon, 1),
        [b'\'', ..] => (Token::Other, until(1, "'")),
        [b'"', ..] => (Token::Other, until(1, "\"")),
        [b'`', ..] => (Token::Other, until(1, "`")),
        [b'[', ..] => (Token::Other, until(1, "]")),
        [b, ..] if b.is_ascii_whitespace() => (Token::Blank, run(u8::is_ascii_whitespace)),
        [b, ..] if is_word(b) => (Token::Other, run(is_word)),
        _ => (Token::Other, 1),
    }
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
}

/// A name without its quotes.
pub fn unquote(word: &str) -> String {
    let inner = match (word.chars().next(), word.chars().last()) {
        (Some('"'), Some('"')) | (Some('`'), Some('`')) | (Some('['), Some(']')) => {
            word.get(1..word.len().saturating_sub(1))
        }
        _ => None,
    };
    inner.unwrap_or(word).to_string()
}

/// `sql` with comments dropped and runs of white space made one blank, literals and quoted
/// names untouched.
pub fn fold(sql: &str) -> String {
    let mut folded = String::with_capacity(sql.len());
    let mut blank = false;
    for token in tokens(sql) {
        if token.kind == Token::Blank {
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
