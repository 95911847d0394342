//! Reads the rows that the SQL files insert into a new database.

use crate::sql::{Created, SqlFile, Statement, statements, tokens};

/// The rows of an `INSERT` statement with literals as values.
#[derive(Debug, PartialEq, Eq)]
pub struct InitialRows {
    /// The table.
    pub table: String,
    /// The columns that are given a value.
    pub columns: Vec<String>,
    /// The values of each row, string literals without their quotes.
    pub rows: Vec<Vec<String>>,
}

/// The rows that the files insert, in order.
pub fn initial_rows(files: &[SqlFile<'_>]) -> Vec<InitialRows> {
    files.iter().flat_map(|file| statements(file.text)).filter_map(|s| inserted(&s)).collect()
}

fn inserted(statement: &Statement<'_>) -> Option<InitialRows> {
    let Created::Rows(table) = statement.creates() else { return None };
    let mut lists = lists(statement.sql).into_iter();
    Some(InitialRows { table, columns: lists.next()?, rows: lists.collect() })
}

/// The contents of the parentheses in a statement, split at commas.
fn lists(sql: &str) -> Vec<Vec<String>> {
    let mut lists: Vec<Vec<String>> = Vec::new();
    let mut item: Option<String> = None;
    for token in tokens(sql).filter(|token| !token.is_blank()) {
        match token.text {
            "(" => {
                item = None;
                lists.push(Vec::new());
            }
            "," | ")" => lists.last_mut().into_iter().for_each(|list| list.extend(item.take())),
            text => item = Some(joined(item.take(), text)),
        }
    }
    lists
}

/// The text of an item with another token. A doubled quote in a string literal is read as two literals.
fn joined(before: Option<String>, text: &str) -> String {
    let literal = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    match (before, literal) {
        (None, literal) => literal.unwrap_or(text).to_string(),
        (Some(before), Some(literal)) => format!("{before}'{literal}"),
        (Some(before), None) => format!("{before} {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_values_are_read() {
        let text = "INSERT OR IGNORE INTO t (a, b) VALUES\n    ('x, (y)', 1),\n    ('it''s', NULL);\nSELECT (1);";
        let rows = initial_rows(&[SqlFile { name: "f.sql", text }]);
        let row = |a: &str, b: &str| vec![a.to_string(), b.to_string()];
        let expected = InitialRows {
            table: "t".into(),
            columns: row("a", "b"),
            rows: vec![row("x, (y)", "1"), row("it's", "NULL")],
        };
        assert_eq!(rows, [expected]);
    }
}
