//! SQL expressions in one canonical form, so that an expression in our files equals what the server returns for
//! it (`pg_get_expr`, `pg_get_constraintdef`), and no other. Needless parentheses are removed, and casts that the
//! server adds to show a type and that leave the value as it is; key words are in upper case, and of several
//! spellings of the same one is chosen. Text only.

mod cast;
mod node;
mod operand;
mod reader;
#[cfg(test)]
mod tests;

use super::postgres_lexer::{PostgresToken, postgres_tokens};
use cast::as_default;
use node::Node;
use reader::Reader;

/// Nesting depth of an expression, above which it is not brought into canonical form.
const DEPTH_MAX: usize = 100;
/// Length of the canonical form, in bytes, above which the expression keeps its own form. A BETWEEN becomes two
/// comparisons, which repeat its first operand.
const LENGTH_MAX_BYTES: usize = 65_536;

/// The canonical form of the condition of a partial index or of a CHECK constraint. Text that is not understood as
/// an expression is returned with its white space folded.
pub fn canonical(sql: &str) -> String {
    canonical_tokens(&postgres_tokens(sql))
}

/// The canonical form of the default of a column of this type: also without the cast to that type.
pub fn canonical_default(sql: &str, data_type: &str) -> String {
    default_of_tokens(&postgres_tokens(sql), data_type)
}

/// [`canonical`] of an expression that was split into tokens already.
pub fn canonical_tokens(tokens: &[PostgresToken]) -> String {
    canonical_node(tokens, |node| node)
}

/// [`canonical_default`] of an expression that was split into tokens already.
pub fn default_of_tokens(tokens: &[PostgresToken], data_type: &str) -> String {
    canonical_node(tokens, |node| as_default(node, data_type))
}

fn canonical_node(tokens: &[PostgresToken], change: impl FnOnce(Node) -> Node) -> String {
    let mut reader = Reader::new(tokens);
    match reader.expression(0, 0) {
        Some(node) if reader.is_at_end() => change(node).text,
        _ => tokens.iter().map(PostgresToken::canonical).collect::<Vec<_>>().join(" "),
    }
}
