//! Reads SQL text: tokens, statements, table definitions, and expressions in a canonical form. Nothing here runs
//! SQL.

pub mod ddl;
pub mod definition;
mod expression;
mod lexer;
mod postgres_lexer;
mod qualify;
mod statement;

pub use expression::{canonical, canonical_default};
pub use lexer::{Token, fold, tokens, unquote, unquote_name, without_comments};
pub use qualify::{with_qualified_operators, with_schema};
pub use statement::{Created, Statement, statements};

/// A SQL file.
#[derive(Clone, Copy, Debug)]
pub struct SqlFile<'a> {
    /// Its path, for messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}
