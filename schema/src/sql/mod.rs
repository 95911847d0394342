//! Reads SQL text: tokens, statements, the parts of a table's definition, and expressions in one
//! canonical form. Nothing here runs SQL.

pub mod ddl;
pub mod definition;
mod expression;
mod lexer;
mod statement;
mod words;

pub use expression::canonical;
pub use lexer::{Spanned, fold, tokens, unquote};
pub use statement::{Created, Statement, statements};
