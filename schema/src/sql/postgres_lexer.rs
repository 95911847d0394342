//! Splits SQL text into tokens as PostgreSQL does, for expressions and DDL of its files. Text only.

/// A token of SQL text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresToken {
    /// An unquoted name or a key word, in lower case.
    Name(String),
    /// A quoted name, without its quotes.
    Quoted(String),
    /// A string literal with its quotes, and the letter before them if there is one.
    Literal(String),
    /// A number.
    Number(String),
    /// An operator, `::` included, or one other character.
    Sign(String),
}

impl PostgresToken {
    /// Whether it is this key word or sign, given in upper case.
    pub fn is(&self, token: &str) -> bool {
        match self {
            PostgresToken::Name(name) => name.eq_ignore_ascii_case(token),
            PostgresToken::Sign(sign) => sign == token,
            _ => false,
        }
    }

    /// The name, if it is one, without quotes.
    pub fn name(&self) -> Option<&str> {
        match self {
            PostgresToken::Name(name) | PostgresToken::Quoted(name) => Some(name),
            _ => None,
        }
    }

    /// The token in canonical form: reserved words in upper case, names quoted only where needed.
    pub fn canonical(&self) -> String {
        match self {
            PostgresToken::Name(name) if is_reserved(name) => name.to_ascii_uppercase(),
            PostgresToken::Quoted(name) if !is_plain(name) || is_reserved(name) => {
                format!("\"{}\"", name.replace('"', "\"\""))
            }
            PostgresToken::Name(text)
            | PostgresToken::Quoted(text)
            | PostgresToken::Literal(text)
            | PostgresToken::Number(text)
            | PostgresToken::Sign(text) => text.clone(),
        }
    }
}

/// Reserved words, which are not names of columns or functions.
const RESERVED: &[&str] = &[
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

/// Whether it is a reserved word, and so not the name of a column or a function.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.iter().any(|key| key.eq_ignore_ascii_case(name))
}

/// Whether a name needs no quotes.
pub fn is_plain(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    starts && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The tokens of SQL text, without white space and comments.
pub fn postgres_tokens(sql: &str) -> Vec<PostgresToken> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let (token, length) = next_token(rest, first);
        tokens.extend(token);
        rest = rest.get(length.max(first.len_utf8())..).unwrap_or_default();
    }
    tokens
}

/// The token at the start of `rest`, whose first character is `first`, and its length in bytes. White space and
/// comments have a length and no token.
fn next_token(rest: &str, first: char) -> (Option<PostgresToken>, usize) {
    let run = |is: fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
    let upto = |length: usize| rest.get(..length).unwrap_or(rest).to_string();
    let second = rest.chars().nth(1);
    match (first, second) {
        ('-', Some('-')) => (None, rest.find('\n').unwrap_or(rest.len())),
        ('/', Some('*')) => (None, rest.find("*/").map_or(rest.len(), |at| at + 2)),
        (c, _) if c.is_whitespace() => (None, run(char::is_whitespace)),
        ('\'', _) => {
            let length = quoted_length(rest, 0, '\'', false);
            (Some(PostgresToken::Literal(upto(length))), length)
        }
        ('e' | 'E' | 'b' | 'B' | 'x' | 'X' | 'n' | 'N', Some('\'')) => {
            let length = quoted_length(rest, 1, '\'', first.eq_ignore_ascii_case(&'e'));
            (Some(PostgresToken::Literal(upto(length))), length)
        }
        ('"', _) => {
            let length = quoted_length(rest, 0, '"', false);
            let inner = rest.get(1..length.saturating_sub(1)).unwrap_or_default();
            (Some(PostgresToken::Quoted(inner.replace("\"\"", "\""))), length)
        }
        (c, second) if is_number(c, second) => {
            let length = number_length(rest);
            (Some(PostgresToken::Number(upto(length))), length)
        }
        (c, _) if is_part_of_name(c) => {
            let length = run(is_part_of_name);
            (Some(PostgresToken::Name(upto(length).to_ascii_lowercase())), length)
        }
        (':', Some(':')) => (Some(PostgresToken::Sign("::".into())), 2),
        (c, _) if is_operator(c) => {
            let length = operator_length(rest);
            (Some(PostgresToken::Sign(upto(length))), length)
        }
        (c, _) => (Some(PostgresToken::Sign(c.into())), c.len_utf8()),
    }
}

fn is_number(first: char, second: Option<char>) -> bool {
    first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit()))
}

fn is_part_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

/// Whether operators consist of this character.
pub fn is_operator(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

/// The length in bytes of a quoted text whose quote is the character number `from`. A doubled quote is part of the
/// text.
fn quoted_length(rest: &str, from: usize, quote: char, escapes: bool) -> usize {
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

/// The length of a number in bytes.
fn number_length(rest: &str) -> usize {
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

/// The length of an operator in bytes. As on the server, a comment ends it, and one of several characters ends in `+`
/// or `-` only if it also contains one of the characters below.
fn operator_length(rest: &str) -> usize {
    let mut end = rest.find(|c| !is_operator(c)).unwrap_or(rest.len());
    for comment in ["--", "/*"] {
        if let Some(at) = rest.get(1..end).and_then(|tail| tail.find(comment)) {
            end = at + 1;
        }
    }
    let may_end_in_sign =
        |text: &str| text.contains(['~', '!', '@', '#', '%', '^', '&', '|', '`', '?']);
    while end > 1
        && rest.get(..end).is_some_and(|op| op.ends_with(['+', '-']) && !may_end_in_sign(op))
    {
        end -= 1;
    }
    end
}

/// Whether the whole text is one number.
pub fn is_number_text(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| is_number(c, chars.next())) && number_length(text) == text.len()
}
