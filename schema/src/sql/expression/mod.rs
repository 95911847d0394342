//! SQL expressions in one canonical form, so that an expression in our files equals what the server returns for
//! it (`pg_get_expr`, `pg_get_constraintdef`). Casts and needless parentheses are removed, key words are in upper
//! case, and of several spellings of the same one is chosen. Text only.

mod node;
mod operand;
mod reader;
#[cfg(test)]
mod tests;

use super::postgres_lexer::{PostgresToken, postgres_tokens};
use reader::Reader;

/// Nesting depth of an expression, above which it is not brought into canonical form.
const DEPTH_MAX: usize = 100;
/// Length of the canonical form, in bytes, above which the expression keeps its own form. A BETWEEN becomes two
/// comparisons, which repeat its first operand.
const LENGTH_MAX_BYTES: usize = 65_536;

/// The canonical form of a default, of the condition of a partial index, or of that of a CHECK constraint. Text
/// that is not understood as an expression is returned with its white space folded.
pub fn canonical(sql: &str) -> String {
    canonical_tokens(&postgres_tokens(sql))
}

/// [`canonical`] of an expression that was split into tokens already.
pub fn canonical_tokens(tokens: &[PostgresToken]) -> String {
    let mut reader = Reader::new(tokens);
    match reader.expression(0, 0) {
        Some(node) if reader.is_at_end() => node.text,
        _ => tokens.iter().map(PostgresToken::canonical).collect::<Vec<_>>().join(" "),
    }
}
