//! Reads the operands of an expression.

use super::DEPTH_MAX;
use super::node::{Node, negative, plain_number, precedence, texts};
use super::reader::Reader;
use crate::sql::postgres_lexer::{PostgresToken, is_reserved};

/// Reserved words that are a value.
const VALUES: &[&str] = &[
    "CURRENT_DATE",
    "CURRENT_ROLE",
    "CURRENT_TIME",
    "CURRENT_TIMESTAMP",
    "CURRENT_USER",
    "FALSE",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "NULL",
    "SESSION_USER",
    "TRUE",
];

/// Numeric types, by the first word of their names.
const NUMERIC_TYPES: &[&str] = &["smallint", "integer", "bigint", "numeric", "real", "double"];

impl Reader<'_> {
    /// A value with the NOT or the sign before it and the casts behind it.
    pub(super) fn operand(&mut self, depth: usize) -> Option<Node> {
        if self.take("NOT") {
            let node = self.expression(precedence::NOT - 1, depth + 1)?;
            return Some(Node {
                text: format!("NOT {}", node.at(precedence::NOT)),
                precedence: precedence::NOT,
            });
        }
        if let Some(sign @ PostgresToken::Sign(_)) = self.tokens.get(self.at)
            && (sign.is("-") || sign.is("+"))
        {
            let is_minus = sign.is("-");
            self.at += 1;
            let node = self.expression(precedence::SIGN - 1, depth + 1)?;
            return Some(if is_minus { negative(&node) } else { node });
        }
        let node = self.value(depth)?;
        Some(match self.casts()? {
            true => plain_number(node),
            false => node,
        })
    }

    /// A literal, a key word that is a value, a column, a function call, or an expression in parentheses.
    fn value(&mut self, depth: usize) -> Option<Node> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        match token {
            PostgresToken::Literal(_) | PostgresToken::Number(_) => {
                Some(Node::value(token.canonical()))
            }
            PostgresToken::Sign(sign) if sign == "(" => {
                let node = self.expression(0, depth + 1)?;
                self.expect(")")?;
                Some(node)
            }
            PostgresToken::Sign(_) => None,
            PostgresToken::Name(_) if token.is("CASE") => self.case(depth),
            PostgresToken::Name(_) if token.is("CAST") => self.cast(depth),
            PostgresToken::Name(_) if token.is("ARRAY") => {
                self.expect("[")?;
                let items = self.list("]", depth)?;
                Some(Node::value(format!("ARRAY[{}]", texts(&items))))
            }
            PostgresToken::Name(name) if is_reserved(name) => {
                let is_value = VALUES.iter().any(|value| token.is(value)) && !self.is_next("(");
                is_value.then(|| Node::value(token.canonical()))
            }
            PostgresToken::Name(_) | PostgresToken::Quoted(_) => self.named(token, depth),
        }
    }

    /// A column, a function call, or a literal behind the name of its type.
    fn named(&mut self, token: &PostgresToken, depth: usize) -> Option<Node> {
        if let Some(text @ PostgresToken::Literal(_)) = self.tokens.get(self.at) {
            self.at += 1;
            return Some(Node::value(text.canonical()));
        }
        let mut name = token.canonical();
        while self.take(".") {
            let part = self.tokens.get(self.at).filter(|token| token.name().is_some())?;
            name = format!("{name}.{}", part.canonical());
            self.at += 1;
        }
        if !self.take("(") {
            return Some(Node::value(name));
        }
        let items = self.list(")", depth)?;
        if items.is_empty() && matches!(name.as_str(), "now" | "pg_catalog.now") {
            return Some(Node::value("CURRENT_TIMESTAMP"));
        }
        Some(Node::value(format!("{name}({})", texts(&items))))
    }

    /// A CASE expression; the reader is behind CASE.
    fn case(&mut self, depth: usize) -> Option<Node> {
        let mut text = "CASE".to_string();
        if !self.is_next("WHEN") {
            text = format!("{text} {}", self.expression(0, depth + 1)?.text);
        }
        while self.take("WHEN") {
            let condition = self.expression(0, depth + 1)?.text;
            self.expect("THEN")?;
            text = format!("{text} WHEN {condition} THEN {}", self.expression(0, depth + 1)?.text);
        }
        if self.take("ELSE") {
            text = format!("{text} ELSE {}", self.expression(0, depth + 1)?.text);
        }
        self.expect("END")?;
        Some(Node::value(format!("{text} END")))
    }

    /// A cast expression; the reader is behind CAST.
    fn cast(&mut self, depth: usize) -> Option<Node> {
        self.expect("(")?;
        let node = self.expression(0, depth + 1)?;
        self.expect("AS")?;
        let is_number = self.type_name()?;
        self.expect(")")?;
        Some(if is_number { plain_number(node) } else { node })
    }

    /// Advances past the casts that come next. Returns whether the first is to a numeric type.
    pub(super) fn casts(&mut self) -> Option<bool> {
        let is_number = self.take("::") && self.type_name()?;
        while self.take("::") {
            self.type_name()?;
        }
        Some(is_number)
    }

    /// Advances past the name of a type. Returns whether it is a numeric type.
    fn type_name(&mut self) -> Option<bool> {
        let first = self.tokens.get(self.at)?;
        let is_number = NUMERIC_TYPES.contains(&first.name()?);
        let is_time = first.is("TIMESTAMP") || first.is("TIME");
        let two = (first.is("DOUBLE") && self.is_after("PRECISION"))
            || ((first.is("CHARACTER") || first.is("BIT")) && self.is_after("VARYING"));
        self.at += 1 + usize::from(two);
        while self.take(".") {
            self.tokens.get(self.at)?.name()?;
            self.at += 1;
        }
        if self.take("(") {
            self.list(")", DEPTH_MAX - 1)?;
        }
        if is_time && (self.is_next("WITH") || self.is_next("WITHOUT")) {
            self.at += 1;
            self.expect("TIME")?;
            self.expect("ZONE")?;
        }
        while self.take("[") {
            self.expect("]")?;
        }
        Some(is_number)
    }
}
