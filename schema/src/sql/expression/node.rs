//! Expressions in canonical form, and how they are joined.

/// Operator precedence, lowest first, as in PostgreSQL.
pub(super) mod precedence {
    pub const OR: u8 = 1;
    pub const AND: u8 = 2;
    pub const NOT: u8 = 3;
    pub const IS: u8 = 4;
    pub const COMPARISON: u8 = 5;
    pub const MEMBER: u8 = 6;
    pub const OTHER: u8 = 7;
    pub const SUM: u8 = 8;
    pub const PRODUCT: u8 = 9;
    pub const POWER: u8 = 10;
    pub const ZONE: u8 = 11;
    pub const SIGN: u8 = 12;
    pub const VALUE: u8 = 13;
}

/// An expression in canonical form.
pub(super) struct Node {
    /// Its text.
    pub(super) text: String,
    /// The precedence of its outermost operator.
    pub(super) precedence: u8,
    /// What is cast, where the outermost operator is a cast that stays.
    pub(super) cast: Option<Box<CastNode>>,
}

/// The parts of a cast.
pub(super) struct CastNode {
    /// What is cast.
    pub(super) operand: Node,
    /// The type that it is cast to, as [`type_name`](crate::sql::ddl::type_name) writes it.
    pub(super) data_type: String,
}

impl Node {
    /// An expression whose outermost operator has this precedence.
    pub(super) fn new(text: impl Into<String>, precedence: u8) -> Node {
        Node { text: text.into(), precedence, cast: None }
    }

    /// An expression without an operator.
    pub(super) fn value(text: impl Into<String>) -> Node {
        Node::new(text, precedence::VALUE)
    }

    /// Its text as an operand of an operator of that precedence: in parentheses where it needs them.
    pub(super) fn at(&self, precedence: u8) -> String {
        if self.precedence < precedence { format!("({})", self.text) } else { self.text.clone() }
    }

    /// Two expressions joined by an operator. AND and OR are associative, so their right operand needs no
    /// parentheses either.
    pub(super) fn joined(left: &Node, operator: &str, right: &Node, precedence: u8) -> Node {
        let after = if precedence <= precedence::AND { precedence } else { precedence + 1 };
        Node::new(format!("{} {operator} {}", left.at(precedence), right.at(after)), precedence)
    }
}

/// An expression with a postfix test, such as `IS NULL`.
pub(super) fn tested(left: &Node, test: &str) -> Node {
    Node::new(format!("{} {test}", left.at(precedence::IS + 1)), precedence::IS)
}

/// IN with these items. The server turns IN with one item into a comparison. `None` without items.
pub(super) fn one_of(left: &Node, items: &[Node], not: bool) -> Option<Node> {
    match (items, not) {
        ([], _) => None,
        ([item], false) => Some(Node::joined(left, "=", item, precedence::COMPARISON)),
        ([item], true) => Some(Node::joined(left, "<>", item, precedence::COMPARISON)),
        _ => {
            let not = if not { "NOT " } else { "" };
            let text = format!("{} {not}IN ({})", left.at(precedence::MEMBER + 1), texts(items));
            Some(Node::new(text, precedence::MEMBER))
        }
    }
}

/// An expression behind a minus sign. With a number, the result is a number; the server returns it as
/// `'-1'::integer`.
pub(super) fn negative(node: &Node) -> Node {
    let is_number = node.text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let precedence = if is_number { precedence::VALUE } else { precedence::SIGN };
    Node::new(format!("-{}", node.at(precedence::VALUE)), precedence)
}

/// The texts of the items, with commas between them.
pub(super) fn texts(items: &[Node]) -> String {
    items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join(", ")
}
