//! Casts: which of them the server adds by itself to show the type of what was written, and which
//! change a value and so belong to the expression.

use super::node::{CastNode, Node, precedence};
use crate::sql::postgres_lexer::{is_number_text, is_plain, is_reserved};

/// Texts of any length, under the names that the server has for them.
const TEXTS: &[&str] = &["TEXT", "CHARACTER VARYING", "VARCHAR"];

/// An expression that is cast to a type. The cast is left out where the value is the same without it:
/// a literal that becomes a text of any length, a number that the type holds exactly, the text of a
/// column, a list of literals, NULL.
pub(super) fn cast(operand: Node, data_type: String) -> Node {
    if let Some(number) = plain_number(&operand.text, &data_type) {
        return Node::value(number);
    }
    if operand.text == "NULL" || is_same_text(&operand, &data_type) {
        return operand;
    }
    let text = match operand.text.starts_with('-') {
        true => format!("({})::{data_type}", operand.text),
        false => format!("{}::{data_type}", operand.at(precedence::VALUE)),
    };
    let cast = Some(Box::new(CastNode { operand, data_type }));
    Node { text, precedence: precedence::VALUE, cast }
}

/// The default of a column of this type, without the cast to that type, which the server makes in any
/// case. A truth value becomes a number only by way of an integer.
pub(super) fn as_default(node: Node, data_type: &str) -> Node {
    match node.cast {
        Some(cast) if cast.data_type == data_type => as_default(cast.operand, data_type),
        Some(cast)
            if cast.data_type == "INTEGER"
                && data_type != "BOOLEAN"
                && matches!(&*cast.operand.text, "TRUE" | "FALSE") =>
        {
            cast.operand
        }
        _ => node,
    }
}

/// Whether the operand is a text, or a list of texts, which a cast to this type leaves as it is.
fn is_same_text(operand: &Node, data_type: &str) -> bool {
    let text = operand.text.as_str();
    match data_type.strip_suffix("[]") {
        Some(item) => TEXTS.contains(&item) && text.starts_with("ARRAY['"),
        // CHARACTER without a length drops blanks at the end.
        None if data_type == "BPCHAR" => is_literal(text) && !text.ends_with(" '"),
        None => TEXTS.contains(&data_type) && (is_literal(text) || is_column(text)),
    }
}

fn is_literal(text: &str) -> bool {
    text.starts_with('\'')
}

/// Whether the text is the name of a column, perhaps in quotes.
fn is_column(text: &str) -> bool {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(name) => !name.contains('"'),
        None => is_plain(text) && !is_reserved(text),
    }
}

/// The number, without quotes, that a number or a number in quotes is in a numeric type, if it is the
/// same there.
fn plain_number(text: &str, data_type: &str) -> Option<String> {
    let inner = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(text);
    let is_number = is_number_text(inner.strip_prefix('-').unwrap_or(inner));
    let integer = || inner.parse::<i64>().ok();
    let fits = match data_type {
        "SMALLINT" => integer().is_some_and(|number| i16::try_from(number).is_ok()),
        "INTEGER" => integer().is_some_and(|number| i32::try_from(number).is_ok()),
        "BIGINT" => integer().is_some(),
        "NUMERIC" => true,
        "REAL" => integer().is_some_and(|number| number.unsigned_abs() <= 1 << 24),
        "DOUBLE PRECISION" => match integer() {
            Some(number) => number.unsigned_abs() <= 1 << 53,
            None => inner.bytes().filter(u8::is_ascii_digit).count() <= 15,
        },
        _ => false,
    };
    (is_number && fits).then(|| inner.to_string())
}
