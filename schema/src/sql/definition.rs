//! Reads what a catalogue does not tell from the statement that made a table: its checks, and
//! the columns and constraints that somebody has added, word for word. Text only.

use crate::sql::{fold, tokens, unquote};

/// A column or a constraint of a table, as it stands in the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its words, without the comma.
    pub text: &'a str,
    /// The column that it defines; nothing where it is a constraint of the table.
    pub column: Option<String>,
}

/// What stands between the outer parentheses of a `CREATE TABLE` statement.
pub fn items(sql: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut span: Option<(usize, usize)> = None;
    for token in tokens(sql).filter(|token| !token.is_blank()) {
        let end = token.start + token.text.len();
        let closes = token.text == ")" && depth == 1;
        if closes || (token.text == "," && depth == 1) {
            items.extend(span.take().and_then(|(start, end)| item(sql.get(start..end)?)));
            if closes {
                break;
            }
            continue;
        }
        if depth > 0 {
            span = Some((span.map_or(token.start, |(start, _)| start), end));
        }
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    items
}

fn item(text: &str) -> Option<Item<'_>> {
    let first = tokens(text).find(|token| !token.is_blank())?;
    let constraint = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"];
    let is_constraint = constraint.iter().any(|word| first.text.eq_ignore_ascii_case(word));
    Some(Item { text, column: (!is_constraint).then(|| unquote(first.text)) })
}

/// The conditions of its CHECK constraints, white space folded.
pub fn checks(sql: &str) -> Vec<String> {
    let mut checks = Vec::new();
    let mut after_check = false;
    let mut open: Option<(usize, usize)> = None;
    for token in tokens(sql).filter(|token| !token.is_blank()) {
        match (&mut open, token.text) {
            (None, "(") if after_check => open = Some((token.start, 1)),
            (Some((_, depth)), "(") => *depth += 1,
            (Some((start, depth)), ")") => {
                *depth -= 1;
                if *depth == 0 {
                    checks.extend(sql.get(*start..token.start + 1).map(fold));
                    open = None;
                }
            }
            _ => {}
        }
        after_check = token.text.eq_ignore_ascii_case("CHECK");
    }
    checks
}

/// Whether the word, or a quoted name that is it, stands in it outside literals and comments.
pub fn holds(sql: &str, word: &str) -> bool {
    tokens(sql).any(|token| unquote(token.text).eq_ignore_ascii_case(word))
}

/// The names in the first parentheses of a constraint.
pub fn names(constraint: &str) -> Vec<String> {
    let inside = tokens(constraint).skip_while(|token| token.text != "(").skip(1);
    let names = inside.take_while(|token| token.text != ")");
    names.filter(|t| !t.is_blank() && t.text != ",").map(|t| unquote(t.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE \"t(1)\" (id INTEGER PRIMARY KEY AUTOINCREMENT, -- the (key),\n \
                         \"own, one\" TEXT DEFAULT ('a,)') CHECK (length(\"own, one\") > 0), \
                         level TEXT CHECK(level IN ('a', 'b')), UNIQUE (level), CONSTRAINT x CHECK ( id > 0 )) STRICT";

    #[test]
    fn columns_and_constraints_are_told_apart() {
        let found = items(TABLE);
        let columns: Vec<_> = found.iter().map(|item| item.column.as_deref()).collect();
        assert_eq!(columns, [Some("id"), Some("own, one"), Some("level"), None, None]);
        assert_eq!(found[0].text, "id INTEGER PRIMARY KEY AUTOINCREMENT");
        assert!(found[1].text.ends_with("> 0)"), "{}", found[1].text);
    }

    #[test]
    fn checks_are_found_wherever_they_stand() {
        let expected = ["(length(\"own, one\") > 0)", "(level IN ('a', 'b'))", "( id > 0 )"];
        assert_eq!(checks(TABLE), expected);
        assert!(checks("CREATE TABLE t (a DEFAULT 'CHECK (x)')").is_empty());
    }

    #[test]
    fn words_in_literals_are_not_held() {
        assert!(holds(TABLE, "autoincrement"));
        assert!(!holds("CREATE TABLE t (a DEFAULT 'AUTOINCREMENT')", "AUTOINCREMENT"));
    }
}
