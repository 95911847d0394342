//! Reads the operands of an expression.

use super::DEPTH_MAX;
use super::cast::cast;
use super::node::{Node, negative, precedence, texts};
use super::reader::Reader;
use crate::sql::ddl::type_name;
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

impl Reader<'_> {
    /// A value with the NOT or the sign before it and the casts behind it.
    pub(super) fn operand(&mut self, depth: usize) -> Option<Node> {
        if self.take("NOT") {
            let node = self.expression(precedence::NOT - 1, depth + 1)?;
            let text = format!("NOT {}", node.at(precedence::NOT));
            return Some(Node::new(text, precedence::NOT));
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
        self.casts(node)
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
            return Some(cast(Node::value(text.canonical()), type_name(&token.canonical())));
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
        let data_type = self.type_name()?;
        self.expect(")")?;
        Some(cast(node, data_type))
    }

    /// The expression with the casts that come next.
    pub(super) fn casts(&mut self, mut node: Node) -> Option<Node> {
        let mut count = 0;
        while self.take("::") {
            count += 1;
            if count > DEPTH_MAX {
                return None;
            }
            node = cast(node, self.type_name()?);
        }
        Some(node)
    }

    /// The name of a type, which comes next.
    fn type_name(&mut self) -> Option<String> {
        let first = self.tokens.get(self.at)?;
        let mut name = first.name().map(|_| first.canonical())?;
        let is_time = first.is("TIMESTAMP") || first.is("TIME");
        self.at += 1;
        if (first.is("DOUBLE") && self.is_next("PRECISION"))
            || ((first.is("CHARACTER") || first.is("BIT")) && self.is_next("VARYING"))
        {
            name = format!("{name} {}", self.tokens.get(self.at)?.canonical());
            self.at += 1;
        }
        while self.take(".") {
            let part = self.tokens.get(self.at).filter(|token| token.name().is_some())?;
            name = format!("{name}.{}", part.canonical());
            self.at += 1;
        }
        if self.take("(") {
            let modifiers = self.list(")", DEPTH_MAX - 1)?;
            let modifiers: Vec<&str> = modifiers.iter().map(|node| node.text.as_str()).collect();
            name = format!("{name}({})", modifiers.join(","));
        }
        if is_time && (self.is_next("WITH") || self.is_next("WITHOUT")) {
            let with = if self.is_next("WITH") { "with" } else { "without" };
            self.at += 1;
            self.expect("TIME")?;
            self.expect("ZONE")?;
            name = format!("{name} {with} time zone");
        }
        let mut name = type_name(&name);
        while self.take("[") {
            self.expect("]")?;
            name += "[]";
        }
        Some(name)
    }
}
