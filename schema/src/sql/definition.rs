//! Reads the definition of a table from its `CREATE TABLE` statement: what the catalogue of a database does
//! not show, such as CHECK constraints, and each column and constraint as it was written. Text only.

use crate::sql::{fold, tokens, unquote, unquote_name};

/// The definition of a column or of a table constraint, as written in the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableItem<'a> {
    /// Its text, without the comma.
    pub text: &'a str,
    /// The column it defines; `None` if it is a table constraint.
    pub column: Option<String>,
}

/// The definitions between the outer parentheses of a `CREATE TABLE` statement.
pub fn table_items(sql: &str) -> Vec<TableItem<'_>> {
    let mut items = Vec::new();
    let mut depth = 0_usize;
    let mut span: Option<(usize, usize)> = None;
    for token in tokens(sql).filter(|token| !token.is_blank()) {
        let end = token.start + token.text.len();
        let closes = token.text == ")" && depth == 1;
        if closes || (token.text == "," && depth == 1) {
            items.extend(span.take().and_then(|(start, end)| table_item(sql.get(start..end)?)));
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

fn table_item(text: &str) -> Option<TableItem<'_>> {
    let first = tokens(text).find(|token| !token.is_blank())?;
    let constraints = ["CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"];
    let is_constraint = constraints.iter().any(|word| first.text.eq_ignore_ascii_case(word));
    Some(TableItem { text, column: (!is_constraint).then(|| unquote_name(first.text)) })
}

/// The conditions of the CHECK constraints in a `CREATE TABLE` statement, each in its parentheses and with
/// white space folded.
pub fn check_conditions(sql: &str) -> Vec<String> {
    let mut conditions = Vec::new();
    let mut after_check = false;
    // Where the condition being read begins, and its open parentheses.
    let mut open: Option<(usize, usize)> = None;
    for token in tokens(sql).filter(|token| !token.is_blank()) {
        match (&mut open, token.text) {
            (None, "(") if after_check => open = Some((token.start, 1)),
            (Some((_, depth)), "(") => *depth += 1,
            (Some((start, depth)), ")") => {
                *depth -= 1;
                if *depth == 0 {
                    conditions.extend(sql.get(*start..token.start + 1).map(fold));
                    open = None;
                }
            }
            _ => {}
        }
        after_check = token.text.eq_ignore_ascii_case("CHECK");
    }
    conditions
}

/// Whether SQL text contains a name or key word, quoted or not, outside literals and comments.
pub fn contains_name(sql: &str, name: &str) -> bool {
    // Most texts do not have the letters at all, and need not be read word by word.
    let (text, letters) = (sql.as_bytes(), name.as_bytes());
    let is_there = letters.is_empty()
        || text.windows(letters.len()).any(|part| part.eq_ignore_ascii_case(letters));
    is_there && tokens(sql).any(|token| unquote(token.text).eq_ignore_ascii_case(name))
}

/// The columns of a table constraint: the names in its first parentheses.
pub fn constraint_columns(constraint: &str) -> Vec<String> {
    let inside = tokens(constraint).skip_while(|token| token.text != "(").skip(1);
    let names = inside.take_while(|token| token.text != ")");
    names.filter(|t| !t.is_blank() && t.text != ",").map(|t| unquote_name(t.text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE \"t(1)\" (id INTEGER PRIMARY KEY AUTOINCREMENT, -- the (key),\n \
                         \"own, one\" TEXT DEFAULT ('a,)') CHECK (length(\"own, one\") > 0), \
                         level TEXT CHECK(level IN ('a', 'b')), UNIQUE (level), CONSTRAINT x CHECK ( id > 0 )) STRICT";

    #[test]
    fn columns_and_constraints_are_told_apart() {
        let found = table_items(TABLE);
        let columns: Vec<_> = found.iter().map(|item| item.column.as_deref()).collect();
        assert_eq!(columns, [Some("id"), Some("own, one"), Some("level"), None, None]);
        assert_eq!(found[0].text, "id INTEGER PRIMARY KEY AUTOINCREMENT");
        assert!(found[1].text.ends_with("> 0)"), "{}", found[1].text);
    }

    #[test]
    fn check_conditions_are_found_in_columns_and_constraints() {
        let expected = ["(length(\"own, one\") > 0)", "(level IN ('a', 'b'))", "( id > 0 )"];
        assert_eq!(check_conditions(TABLE), expected);
        assert!(check_conditions("CREATE TABLE t (a DEFAULT 'CHECK (x)')").is_empty());
    }

    #[test]
    fn names_in_literals_are_not_found() {
        assert!(contains_name(TABLE, "autoincrement"));
        assert!(!contains_name("CREATE TABLE t (a DEFAULT 'AUTOINCREMENT')", "AUTOINCREMENT"));
    }
}
