//! SQL expressions in one form, so that what our files say and what the server gives back of it
//! (`pg_get_expr`, `pg_get_constraintdef`) come out equal: casts and needless parentheses go,
//! key words are in upper case, and each of several spellings becomes one. Text only.
//!
//! `build.rs` compiles this file too.

use super::words::{Word, is_key, is_number_text, is_operator, words};

/// How deep an expression may be nested. A deeper one keeps its own form.
const DEPTH: usize = 100;
/// How long it may grow while it is read: a BETWEEN writes what stands before it twice.
const LENGTH: usize = 65_536;

/// The canonical form of a default, a condition of a partial index or one of a CHECK. What
/// cannot be read as an expression keeps its words, with the white space folded.
pub fn canonical(sql: &str) -> String {
    canonical_words(&words(sql))
}

/// [`canonical`] of an expression that has been split already.
pub fn canonical_words(words: &[Word]) -> String {
    let mut reader = Reader { words, at: 0 };
    match reader.expression(0, 0) {
        Some(node) if reader.at == words.len() => node.text,
        _ => words.iter().map(Word::canonical).collect::<Vec<_>>().join(" "),
    }
}

/// Key words that are a value by themselves.
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

/// How tightly the parts of an expression hold together, as the server has it.
mod level {
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

/// An expression in canonical form, and how tightly it holds together.
struct Node {
    text: String,
    level: u8,
}

impl Node {
    fn value(text: impl Into<String>) -> Node {
        Node { text: text.into(), level: level::VALUE }
    }

    /// Its text, in parentheses where it would fall apart beside something of `level`.
    fn at(&self, level: u8) -> String {
        if self.level < level { format!("({})", self.text) } else { self.text.clone() }
    }

    /// Two nodes joined. AND and OR need no parentheses on either side.
    fn joined(left: &Node, operator: &str, right: &Node, level: u8) -> Node {
        let after = if level <= level::AND { level } else { level + 1 };
        Node { text: format!("{} {operator} {}", left.at(level), right.at(after)), level }
    }
}

/// Reads an expression from words. `None` where they are none.
struct Reader<'a> {
    words: &'a [Word],
    at: usize,
}

impl Reader<'_> {
    fn is_next(&self, word: &str) -> bool {
        self.words.get(self.at).is_some_and(|next| next.is(word))
    }

    fn is_after(&self, word: &str) -> bool {
        self.words.get(self.at + 1).is_some_and(|next| next.is(word))
    }

    /// Goes past `word` if it comes next.
    fn take(&mut self, word: &str) -> bool {
        let taken = self.is_next(word);
        self.at += usize::from(taken);
        taken
    }

    fn expect(&mut self, word: &str) -> Option<()> {
        self.take(word).then_some(())
    }

    /// An expression whose operators hold more tightly than `above`.
    fn expression(&mut self, above: u8, depth: usize) -> Option<Node> {
        if depth > DEPTH {
            return None;
        }
        let mut left = self.operand(depth)?;
        while let Some(level) = self.next_level().filter(|level| *level > above) {
            left = self.extended(left, level, depth + 1)?;
            if left.text.len() > LENGTH {
                return None;
            }
        }
        Some(left)
    }

    /// The level of the operator that comes next.
    fn next_level(&self) -> Option<u8> {
        let word = self.words.get(self.at)?;
        match word.canonical().as_str() {
            _ if matches!(word, Word::Text(_) | Word::Quoted(_)) => None,
            "OR" => Some(level::OR),
            "AND" => Some(level::AND),
            "IS" | "ISNULL" | "NOTNULL" => Some(level::IS),
            "<" | ">" | "=" | "<=" | ">=" | "<>" | "!=" => Some(level::COMPARISON),
            "NOT" | "IN" | "LIKE" | "ILIKE" | "BETWEEN" => Some(level::MEMBER),
            "~~" | "!~~" | "~~*" | "!~~*" => Some(level::MEMBER),
            "+" | "-" => Some(level::SUM),
            "*" | "/" | "%" => Some(level::PRODUCT),
            "^" => Some(level::POWER),
            "AT" | "COLLATE" => Some(level::ZONE),
            sign if sign.starts_with(is_operator) => Some(level::OTHER),
            _ => None,
        }
    }

    /// `left` with the operator that follows it, and what belongs to that.
    fn extended(&mut self, left: Node, level: u8, depth: usize) -> Option<Node> {
        let operator = self.words.get(self.at)?.canonical();
        self.at += 1;
        match operator.as_str() {
            "OR" | "AND" => {
                let right = self.expression(level, depth)?;
                Some(Node::joined(&left, &operator, &right, level))
            }
            "IS" => self.test(&left, depth),
            "ISNULL" => Some(tested(&left, "IS NULL")),
            "NOTNULL" => Some(tested(&left, "IS NOT NULL")),
            "NOT" => {
                let operator = self.words.get(self.at)?.canonical();
                self.at += 1;
                self.member(left, &operator, true, depth)
            }
            "IN" | "LIKE" | "ILIKE" | "BETWEEN" => self.member(left, &operator, false, depth),
            "AT" => {
                self.expect("TIME")?;
                self.expect("ZONE")?;
                let zone = self.expression(level, depth)?;
                Some(Node::joined(&left, "AT TIME ZONE", &zone, level))
            }
            "~~" => self.member(left, "LIKE", false, depth),
            "!~~" => self.member(left, "LIKE", true, depth),
            "~~*" => self.member(left, "ILIKE", false, depth),
            "!~~*" => self.member(left, "ILIKE", true, depth),
            "=" | "<>" | "!=" if self.is_array() => self.array(&left, operator == "=", depth),
            "!=" => self.compared(&left, "<>", level, depth),
            _ => self.compared(&left, &operator, level, depth),
        }
    }

    fn compared(&mut self, left: &Node, operator: &str, level: u8, depth: usize) -> Option<Node> {
        let right = self.expression(level, depth)?;
        Some(Node::joined(left, operator, &right, level))
    }

    /// What follows IS.
    fn test(&mut self, left: &Node, depth: usize) -> Option<Node> {
        let not = if self.take("NOT") { "NOT " } else { "" };
        if self.take("DISTINCT") {
            self.expect("FROM")?;
            let right = self.expression(level::IS, depth)?;
            return Some(Node::joined(left, &format!("IS {not}DISTINCT FROM"), &right, level::IS));
        }
        let tests = ["NULL", "TRUE", "FALSE", "UNKNOWN"];
        let test = tests.into_iter().find(|test| self.take(test))?;
        Some(tested(left, &format!("IS {not}{test}")))
    }

    /// IN, LIKE and BETWEEN. The server keeps a BETWEEN as two comparisons.
    fn member(&mut self, left: Node, operator: &str, not: bool, depth: usize) -> Option<Node> {
        let prefix = if not { "NOT " } else { "" };
        match operator {
            "IN" => {
                self.expect("(")?;
                let items = self.list(")", depth)?;
                one_of(&left, &items, not)
            }
            "LIKE" | "ILIKE" => {
                let right = self.expression(level::MEMBER, depth)?;
                Some(Node::joined(&left, &format!("{prefix}{operator}"), &right, level::MEMBER))
            }
            "BETWEEN" => {
                let low = self.expression(level::MEMBER, depth)?;
                self.expect("AND")?;
                let high = self.expression(level::MEMBER, depth)?;
                let (above, below, join, level) = match not {
                    false => (">=", "<=", "AND", level::AND),
                    true => ("<", ">", "OR", level::OR),
                };
                let low = Node::joined(&left, above, &low, level::COMPARISON);
                let high = Node::joined(&left, below, &high, level::COMPARISON);
                Some(Node::joined(&low, join, &high, level))
            }
            _ => None,
        }
    }

    /// Whether `ANY (ARRAY` or `ALL (ARRAY` comes next, with more parentheses or without.
    fn is_array(&self) -> bool {
        let mut next = self.words.iter().skip(self.at);
        next.next().is_some_and(is_quantifier)
            && next.find(|word| !word.is("(")).is_some_and(|word| word.is("ARRAY"))
    }

    /// `= ANY (ARRAY[…])` is IN, and `<> ALL (ARRAY[…])` is NOT IN.
    fn array(&mut self, left: &Node, is_equal: bool, depth: usize) -> Option<Node> {
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
        self.casts()?;
        for _ in 0..open {
            self.expect(")")?;
            self.casts()?;
        }
        self.expect(")")?;
        one_of(left, &items, !is_equal)
    }

    /// Expressions with commas between them, up to and past `end`.
    fn list(&mut self, end: &str, depth: usize) -> Option<Vec<Node>> {
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

    /// A value, with what stands before it and the casts behind it.
    fn operand(&mut self, depth: usize) -> Option<Node> {
        if self.take("NOT") {
            let node = self.expression(level::NOT - 1, depth + 1)?;
            return Some(Node { text: format!("NOT {}", node.at(level::NOT)), level: level::NOT });
        }
        if let Some(sign @ Word::Sign(_)) = self.words.get(self.at)
            && (sign.is("-") || sign.is("+"))
        {
            let is_minus = sign.is("-");
            self.at += 1;
            let node = self.expression(level::SIGN - 1, depth + 1)?;
            return Some(if is_minus { negative(&node) } else { node });
        }
        let node = self.value(depth)?;
        Some(match self.casts()? {
            true => plain_number(node),
            false => node,
        })
    }

    fn value(&mut self, depth: usize) -> Option<Node> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        match word {
            Word::Text(_) | Word::Number(_) => Some(Node::value(word.canonical())),
            Word::Sign(sign) if sign == "(" => {
                let node = self.expression(0, depth + 1)?;
                self.expect(")")?;
                Some(node)
            }
            Word::Sign(_) => None,
            Word::Name(_) if word.is("CASE") => self.case(depth),
            Word::Name(_) if word.is("CAST") => self.cast(depth),
            Word::Name(_) if word.is("ARRAY") => {
                self.expect("[")?;
                let items = self.list("]", depth)?;
                Some(Node::value(format!("ARRAY[{}]", texts(&items))))
            }
            Word::Name(name) if is_key(name) => {
                let is_value = VALUES.iter().any(|value| word.is(value)) && !self.is_next("(");
                is_value.then(|| Node::value(word.canonical()))
            }
            Word::Name(_) | Word::Quoted(_) => self.named(word, depth),
        }
    }

    /// A column, a call of a function, or a literal behind the name of its type.
    fn named(&mut self, word: &Word, depth: usize) -> Option<Node> {
        if let Some(text @ Word::Text(_)) = self.words.get(self.at) {
            self.at += 1;
            return Some(Node::value(text.canonical()));
        }
        let mut name = word.canonical();
        while self.take(".") {
            let part = self.words.get(self.at).filter(|word| word.name().is_some())?;
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

    fn cast(&mut self, depth: usize) -> Option<Node> {
        self.expect("(")?;
        let node = self.expression(0, depth + 1)?;
        self.expect("AS")?;
        let is_number = self.kind()?;
        self.expect(")")?;
        Some(if is_number { plain_number(node) } else { node })
    }

    /// Goes past the casts that come next; whether the first is to a number.
    fn casts(&mut self) -> Option<bool> {
        let is_number = self.take("::") && self.kind()?;
        while self.take("::") {
            self.kind()?;
        }
        Some(is_number)
    }

    /// Goes past the name of a type; whether it is one of numbers.
    fn kind(&mut self) -> Option<bool> {
        let first = self.words.get(self.at)?;
        let is_number = NUMBERS.contains(&first.name()?);
        let is_time = first.is("TIMESTAMP") || first.is("TIME");
        let two = (first.is("DOUBLE") && self.is_after("PRECISION"))
            || ((first.is("CHARACTER") || first.is("BIT")) && self.is_after("VARYING"));
        self.at += 1 + usize::from(two);
        while self.take(".") {
            self.words.get(self.at)?.name()?;
            self.at += 1;
        }
        if self.take("(") {
            self.list(")", DEPTH - 1)?;
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

/// Types of numbers, by their first words.
const NUMBERS: &[&str] = &["smallint", "integer", "bigint", "numeric", "real", "double"];

fn is_quantifier(word: &Word) -> bool {
    ["ANY", "SOME", "ALL"].iter().any(|quantifier| word.is(quantifier))
}

fn tested(left: &Node, test: &str) -> Node {
    Node { text: format!("{} {test}", left.at(level::IS + 1)), level: level::IS }
}

/// IN with these items; with one alone, the server keeps it as a comparison.
fn one_of(left: &Node, items: &[Node], not: bool) -> Option<Node> {
    match (items, not) {
        ([], _) => None,
        ([item], false) => Some(Node::joined(left, "=", item, level::COMPARISON)),
        ([item], true) => Some(Node::joined(left, "<>", item, level::COMPARISON)),
        _ => {
            let not = if not { "NOT " } else { "" };
            let text = format!("{} {not}IN ({})", left.at(level::MEMBER + 1), texts(items));
            Some(Node { text, level: level::MEMBER })
        }
    }
}

/// A number behind a minus is a number; the server writes it as `'-1'::integer`.
fn negative(node: &Node) -> Node {
    let is_number = node.text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let level = if is_number { level::VALUE } else { level::SIGN };
    Node { text: format!("-{}", node.at(level::VALUE)), level }
}

/// A number that stands in quotes before its cast, without the quotes.
fn plain_number(node: Node) -> Node {
    let inner = node.text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    let digits = inner.map(|text| text.strip_prefix('-').unwrap_or(text));
    match (inner, digits) {
        (Some(inner), Some(digits)) if is_number_text(digits) => Node::value(inner),
        _ => node,
    }
}

fn texts(items: &[Node]) -> String {
    items.iter().map(|item| item.text.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was declared, and what PostgreSQL 15 gave back of it.
    const PAIRS: &[(&str, &str)] = &[
        ("'active'", "'active'::text"),
        ("'it''s'", "'it''s'::text"),
        ("'12'", "'12'::text"),
        (r"'a\b'", r"'a\b'::text"),
        ("-1", "'-1'::integer"),
        ("-1.5", "'-1.5'::numeric"),
        ("5000000000", "'5000000000'::bigint"),
        ("1.50", "1.50"),
        ("now()", "CURRENT_TIMESTAMP"),
        ("(NOW() AT TIME ZONE 'utc')", "(now() AT TIME ZONE 'utc'::text)"),
        ("interval '1 day'", "'1 day'::interval"),
        ("current_date", "CURRENT_DATE"),
        ("'{}'", "'{}'::text[]"),
        ("clock_timestamp()::text", "(clock_timestamp())::text"),
        ("(case when true then 1 else 2 end)", "\nCASE\n    WHEN true THEN 1\n    ELSE 2\nEND"),
        ("status = 'active'", "(status = 'active'::text)"),
        (
            "status = 'closed' AND closed_at IS NOT NULL",
            "((status = 'closed'::text) AND (closed_at IS NOT NULL))",
        ),
        ("is_enabled and is_active", "(is_enabled AND is_active)"),
        ("status IN ('active', 'open')", "(status = ANY (ARRAY['active'::text, 'open'::text]))"),
        (
            "d in ('a','b')",
            "(((d)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
        ),
        ("c not in ('p','q')", "((c <> ALL (ARRAY['p'::text, 'q'::text])))"),
        ("a between 1 and 5", "(((a >= 1) AND (a <= 5)))"),
        ("s not between 'a' and 'b'", "(((s < 'a'::text) OR (s > 'b'::text)))"),
        ("b > 0", "((b > (0)::double precision))"),
        (
            "c in ('x','y') or (c = 'z' and a > 0)",
            "(((c = ANY (ARRAY['x'::text, 'y'::text])) OR ((c = 'z'::text) AND (a > 0))))",
        ),
        (
            "g like 'a%' and not (g = 'b' or a is null)",
            "(((g ~~ 'a%'::text) AND (NOT ((g = 'b'::text) OR (a IS NULL)))))",
        ),
        ("h is distinct from 3", "((h IS DISTINCT FROM (3)::numeric))"),
        (
            "coalesce(m, 0) + 1 > a * (b + 1)",
            "((((COALESCE(m, 0) + 1))::double precision > ((a)::double precision * (b + (1)::double precision))))",
        ),
        ("n is not true or not n", "(((n IS NOT TRUE) OR (NOT n)))"),
        ("char_length(r) > 0 and r in ('one')", "(((char_length(r) > 0) AND (r = 'one'::text)))"),
        ("(v collate \"C\") > 'a'", "(((v COLLATE \"C\") > 'a'::text))"),
        ("\"Wide Name\" > 0", "((\"Wide Name\" > 0))"),
        ("z ilike '%x' or z !~ 'q'", "(((z ~~* '%x'::text) OR (z !~ 'q'::text)))"),
        (
            "(a = 'x' or a = 'y') and a <> 'z'",
            "((((a = 'x'::text) OR (a = 'y'::text)) AND (a <> 'z'::text)))",
        ),
        (
            "a = 'x' and b = 'y' or b = 'z'",
            "((((a = 'x'::text) AND (b = 'y'::text)) OR (b = 'z'::text)))",
        ),
        (
            "-c < 3 and - 4 < c and a || b <> 'x'",
            "((((- c) < 3) AND ('-4'::integer < c) AND ((a || b) <> 'x'::text)))",
        ),
        ("a::timestamp(3) with time zone != b", "a <> b"),
    ];

    #[test]
    fn what_is_declared_equals_what_the_server_gives_back() {
        for (declared, given) in PAIRS {
            assert_eq!(canonical(declared), canonical(given), "{declared}");
        }
    }

    #[test]
    fn the_canonical_form_is_plain_and_stays_as_it_is() {
        assert_eq!(
            canonical("(status = ANY (ARRAY['a'::text, 'b'::text]))"),
            "status IN ('a', 'b')"
        );
        assert_eq!(
            canonical("((a = 'x'::text) AND ((b IS NULL) OR c))"),
            "a = 'x' AND (b IS NULL OR c)"
        );
        assert_eq!(canonical("(false)"), "FALSE");
        for (declared, _) in PAIRS {
            let once = canonical(declared);
            assert_eq!(canonical(&once), once);
        }
    }

    #[test]
    fn what_means_something_else_stays_different() {
        for (one, other) in [
            ("a AND (b OR c)", "(a AND b) OR c"),
            ("NOT (a AND b)", "(NOT a) AND b"),
            ("a - (b - c)", "a - b - c"),
            ("a IN ('x', 'y')", "a NOT IN ('x', 'y')"),
            ("'Active'", "'active'"),
            ("'a  b'", "'a b'"),
            ("\"A\" = 1", "a = 1"),
            ("12", "'12'"),
            ("'true'", "true"),
            ("a = ALL (ARRAY['x', 'y'])", "a = ANY (ARRAY['x', 'y'])"),
            ("a > 0 IS NULL", "a > (0 IS NULL)"),
        ] {
            assert_ne!(canonical(one), canonical(other), "{one}");
        }
    }

    #[test]
    fn any_text_is_taken() {
        let doubled = "(".repeat(60) + "a" + &" BETWEEN 1 AND 2)".repeat(60);
        let texts = [
            "",
            "'open",
            "\"open",
            "/* open",
            "E'\\",
            "a = ",
            "(((",
            ")",
            "a::",
            "ANY (ARRAY[",
            "x = ANY (ARRAY['a'",
            "ü = 'ß' AND \u{0}",
            "CASE WHEN",
            "1e+ .5. ::::",
            "NOT NOT",
            "a IN ()",
            &"(".repeat(100_000),
            &"NOT ".repeat(100_000),
            &"- ".repeat(100_000),
            &"a AND ".repeat(100_000),
            &" BETWEEN 1 AND 2".repeat(1_000),
            &format!("a{}", " BETWEEN 1 AND 2".repeat(1_000)),
            &"CASE WHEN a THEN ".repeat(10_000),
            &"f(".repeat(10_000),
            &doubled,
        ];
        for text in texts {
            let once = canonical(text);
            assert!(once.len() <= 8 * text.len() + LENGTH, "{text:.40}");
        }
        let words: Vec<String> =
            PAIRS.iter().flat_map(|(a, b)| [a.to_string(), b.to_string()]).collect();
        for text in &words {
            for (at, _) in text.char_indices() {
                canonical(&text[..at]);
                canonical(&text[at..]);
            }
        }
    }
}
