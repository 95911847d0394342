//! Reads operators and their operands.

use super::node::{Node, one_of, precedence, tested, texts};
use super::{DEPTH_MAX, LENGTH_MAX_BYTES};
use crate::sql::postgres_lexer::{PostgresToken, is_operator};

/// Reads an expression from tokens. Its methods return `None` where the tokens are not understood.
pub(super) struct Reader<'a> {
    pub(super) tokens: &'a [PostgresToken],
    /// The position of the token that comes next.
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    /// A reader before the first token.
    pub(super) fn new(tokens: &'a [PostgresToken]) -> Reader<'a> {
        Reader { tokens, at: 0 }
    }
}

impl Reader<'_> {
    /// Whether all tokens were read.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.tokens.len()
    }

    /// Whether this key word or sign comes next.
    pub(super) fn is_next(&self, token: &str) -> bool {
        self.tokens.get(self.at).is_some_and(|next| next.is(token))
    }

    /// Advances past this key word or sign if it comes next. Returns whether it did.
    pub(super) fn take(&mut self, token: &str) -> bool {
        let taken = self.is_next(token);
        self.at += usize::from(taken);
        taken
    }

    pub(super) fn expect(&mut self, token: &str) -> Option<()> {
        self.take(token).then_some(())
    }

    /// An expression whose operators have a higher precedence than `above`.
    pub(super) fn expression(&mut self, above: u8, depth: usize) -> Option<Node> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut left = self.operand(depth)?;
        while let Some(precedence) = self.next_precedence().filter(|precedence| *precedence > above)
        {
            left = self.extended(left, precedence, depth + 1)?;
            if left.text.len() > LENGTH_MAX_BYTES {
                return None;
            }
        }
        Some(left)
    }

    /// The precedence of the operator that comes next; `None` where none does.
    fn next_precedence(&self) -> Option<u8> {
        let token = self.tokens.get(self.at)?;
        match token.canonical().as_str() {
            _ if matches!(token, PostgresToken::Literal(_) | PostgresToken::Quoted(_)) => None,
            "OR" => Some(precedence::OR),
            "AND" => Some(precedence::AND),
            "IS" | "ISNULL" | "NOTNULL" => Some(precedence::IS),
            "<" | ">" | "=" | "<=" | ">=" | "<>" | "!=" => Some(precedence::COMPARISON),
            "NOT" | "IN" | "LIKE" | "ILIKE" | "BETWEEN" => Some(precedence::MEMBER),
            "~~" | "!~~" | "~~*" | "!~~*" => Some(precedence::MEMBER),
            "+" | "-" => Some(precedence::SUM),
            "*" | "/" | "%" => Some(precedence::PRODUCT),
            "^" => Some(precedence::POWER),
            "AT" | "COLLATE" => Some(precedence::ZONE),
            sign if sign.starts_with(is_operator) => Some(precedence::OTHER),
            _ => None,
        }
    }

    /// `left` with the operator that comes next and its right operand.
    fn extended(&mut self, left: Node, precedence: u8, depth: usize) -> Option<Node> {
        let operator = self.tokens.get(self.at)?.canonical();
        self.at += 1;
        match operator.as_str() {
            "OR" | "AND" => {
                let right = self.expression(precedence, depth)?;
                Some(Node::joined(&left, &operator, &right, precedence))
            }
            "IS" => self.test(&left, depth),
            "ISNULL" => Some(tested(&left, "IS NULL")),
            "NOTNULL" => Some(tested(&left, "IS NOT NULL")),
            "NOT" => {
                let operator = self.tokens.get(self.at)?.canonical();
                self.at += 1;
                self.membership(left, &operator, true, depth)
            }
            "IN" | "LIKE" | "ILIKE" | "BETWEEN" => self.membership(left, &operator, false, depth),
            "AT" => {
                self.expect("TIME")?;
                self.expect("ZONE")?;
                let zone = self.expression(precedence, depth)?;
                Some(Node::joined(&left, "AT TIME ZONE", &zone, precedence))
            }
            "~~" => self.membership(left, "LIKE", false, depth),
            "!~~" => self.membership(left, "LIKE", true, depth),
            "~~*" => self.membership(left, "ILIKE", false, depth),
            "!~~*" => self.membership(left, "ILIKE", true, depth),
            "=" | "<>" | "!=" if self.is_array() => {
                self.array_comparison(&left, operator == "=", depth)
            }
            "!=" => self.binary(&left, "<>", precedence, depth),
            _ => self.binary(&left, &operator, precedence, depth),
        }
    }

    fn binary(
        &mut self,
        left: &Node,
        operator: &str,
        precedence: u8,
        depth: usize,
    ) -> Option<Node> {
        let right = self.expression(precedence, depth)?;
        Some(Node::joined(left, operator, &right, precedence))
    }

    /// `left` with the test that follows IS.
    fn test(&mut self, left: &Node, depth: usize) -> Option<Node> {
        let not = if self.take("NOT") { "NOT " } else { "" };
        if self.take("DISTINCT") {
            self.expect("FROM")?;
            let right = self.expression(precedence::IS, depth)?;
            return Some(Node::joined(
                left,
                &format!("IS {not}DISTINCT FROM"),
                &right,
                precedence::IS,
            ));
        }
        let tests = ["NULL", "TRUE", "FALSE", "UNKNOWN"];
        let test = tests.into_iter().find(|test| self.take(test))?;
        Some(tested(left, &format!("IS {not}{test}")))
    }

    /// `left` with IN, LIKE or BETWEEN. The server turns a BETWEEN into two comparisons.
    fn membership(&mut self, left: Node, operator: &str, not: bool, depth: usize) -> Option<Node> {
        let prefix = if not { "NOT " } else { "" };
        match operator {
            "IN" => {
                self.expect("(")?;
                let items = self.list(")", depth)?;
                one_of(&left, &items, not)
            }
            "LIKE" | "ILIKE" => {
                let right = self.expression(precedence::MEMBER, depth)?;
                Some(Node::joined(
                    &left,
                    &format!("{prefix}{operator}"),
                    &right,
                    precedence::MEMBER,
                ))
            }
            "BETWEEN" => {
                let low = self.expression(precedence::MEMBER, depth)?;
                self.expect("AND")?;
                let high = self.expression(precedence::MEMBER, depth)?;
                let (above, below, join, precedence) = match not {
                    false => (">=", "<=", "AND", precedence::AND),
                    true => ("<", ">", "OR", precedence::OR),
                };
                let low = Node::joined(&left, above, &low, precedence::COMPARISON);
                let high = Node::joined(&left, below, &high, precedence::COMPARISON);
                Some(Node::joined(&low, join, &high, precedence))
            }
            _ => None,
        }
    }

    /// Whether `ANY (ARRAY` or `ALL (ARRAY` comes next, perhaps with more parentheses.
    fn is_array(&self) -> bool {
        let mut next = self.tokens.iter().skip(self.at);
        next.next().is_some_and(is_quantifier)
            && next.find(|token| !token.is("(")).is_some_and(|token| token.is("ARRAY"))
    }

    /// `left` with `= ANY (ARRAY[…])`, which is IN, or with `<> ALL (ARRAY[…])`, which is NOT IN.
    fn array_comparison(&mut self, left: &Node, is_equal: bool, depth: usize) -> Option<Node> {
        if self.is_next("ALL") == is_equal {
            return None;
        }
        self.at += 1;
        self.expect("(")?;
        let mut open = 0;
        while self.take("(") {
            open += 1;
        }
        self.expect("ARRAY")?;
        self.expect("[")?;
        let items = self.list("]", depth)?;
        let list = format!("ARRAY[{}]", texts(&items));
        let mut array = self.casts(Node::value(&*list))?;
        for _ in 0..open {
            self.expect(")")?;
            array = self.casts(array)?;
        }
        self.expect(")")?;
        // A cast of the list that stays changes its items.
        if array.text != list {
            return None;
        }
        one_of(left, &items, !is_equal)
    }

    /// Expressions with commas between them, up to and including `end`.
    pub(super) fn list(&mut self, end: &str, depth: usize) -> Option<Vec<Node>> {
        let mut items = Vec::new();
        if self.take(end) {
            return Some(items);
        }
        loop {
            items.push(self.expression(0, depth + 1)?);
            if self.take(end) {
                return Some(items);
            }
            self.expect(",")?;
        }
    }
}

/// Whether it is ANY, SOME or ALL.
fn is_quantifier(token: &PostgresToken) -> bool {
    ["ANY", "SOME", "ALL"].iter().any(|quantifier| token.is(quantifier))
}
