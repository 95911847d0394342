//! Walks through the tokens of a statement.

use super::Result;
use crate::sql::expression::canonical_tokens;
use crate::sql::postgres_lexer::PostgresToken;

/// Key tokens that end the type or the default of a column.
const CLAUSES: &[&str] = &[
    "NOT",
    "NULL",
    "DEFAULT",
    "PRIMARY",
    "UNIQUE",
    "REFERENCES",
    "CHECK",
    "CONSTRAINT",
    "GENERATED",
];

/// A position in the tokens of a statement.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    tokens: &'a [PostgresToken],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor before the first token.
    pub(super) fn new(tokens: &'a [PostgresToken]) -> Cursor<'a> {
        Cursor { tokens, at: 0 }
    }

    fn remaining(&self) -> &'a [PostgresToken] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    /// Whether no token remains.
    pub(super) fn is_at_end(&self) -> bool {
        self.remaining().is_empty()
    }

    /// Checks that no token remains.
    ///
    /// # Errors
    /// Where one does.
    pub(super) fn end(&self) -> Result<()> {
        if self.is_at_end() { Ok(()) } else { Err(format!("{} is not understood", self.rest())) }
    }

    /// The remaining tokens as text, for a message.
    pub(super) fn rest(&self) -> String {
        canonical_tokens(self.remaining())
    }

    /// Advances past these key words or signs if they come next. Returns whether they did.
    pub(super) fn takes(&mut self, tokens: &[&str]) -> bool {
        let next = self.remaining();
        let taken = next.len() >= tokens.len() && tokens.iter().zip(next).all(|(w, n)| n.is(w));
        self.at += if taken { tokens.len() } else { 0 };
        taken
    }

    /// Advances past these key words or signs.
    ///
    /// # Errors
    /// Where something else comes next.
    pub(super) fn expect(&mut self, tokens: &[&str]) -> Result<()> {
        match self.takes(tokens) {
            true => Ok(()),
            false => Err(format!("{} is expected before {}", tokens.join(" "), self.rest())),
        }
    }

    /// Advances past the name that comes next.
    ///
    /// # Errors
    /// Where something else comes next.
    pub(super) fn name(&mut self) -> Result<String> {
        let name = self.remaining().first().and_then(PostgresToken::name);
        self.at += 1;
        name.map(Into::into).ok_or_else(|| "a name is expected".into())
    }

    /// Advances past the parentheses that come next. Returns the tokens between them.
    ///
    /// # Errors
    /// Where no parenthesis comes next, or where it is not closed.
    pub(super) fn group(&mut self) -> Result<&'a [PostgresToken]> {
        let mut depth = 0_usize;
        let tokens = self.remaining();
        for (at, token) in tokens.iter().enumerate() {
            depth += usize::from(token.is("("));
            depth = depth.saturating_sub(usize::from(token.is(")")));
            if depth == 0 {
                self.at += at + 1;
                return tokens.get(1..at).ok_or_else(|| "( is expected".into());
            }
        }
        Err("a parenthesis is not closed".into())
    }

    /// Advances past the parentheses that come next. Returns the names between them.
    ///
    /// # Errors
    /// Where something else than names stands between them.
    pub(super) fn names(&mut self) -> Result<Vec<String>> {
        let group = self.group()?;
        let one = |tokens: &[PostgresToken]| match tokens {
            [token] => token.name().map(Into::into),
            _ => None,
        };
        let names: Option<Vec<String>> = group.split(|token| token.is(",")).map(one).collect();
        names.ok_or_else(|| "names are expected in the parentheses".into())
    }

    /// Advances to the next clause of a column. Returns the tokens before it; the first `skip` of them are not
    /// taken for a clause.
    pub(super) fn until_clause(&mut self, skip: usize) -> &'a [PostgresToken] {
        let tokens = self.remaining();
        let mut depth = 0_usize;
        let is_clause = |(at, token): (usize, &PostgresToken)| {
            depth += usize::from(token.is("("));
            depth = depth.saturating_sub(usize::from(token.is(")")));
            at >= skip && depth == 0 && CLAUSES.iter().any(|clause| token.is(clause))
        };
        let length = tokens.iter().enumerate().position(is_clause).unwrap_or(tokens.len());
        self.at += length;
        tokens.get(..length).unwrap_or_default()
    }

    /// Advances to the end. Returns the remaining tokens.
    pub(super) fn take_rest(&mut self) -> &'a [PostgresToken] {
        let rest = self.remaining();
        self.at = self.tokens.len();
        rest
    }
}
