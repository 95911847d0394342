//! What the pragmas of SQLite do not show of a table or an index, read from the statement that created it. Text only.

use crate::catalog::Text;
use crate::sql::definition::{TableItem, table_items};
use crate::sql::{fold, tokens, unquote_name};

/// The tokens of SQL text without blanks, each group in parentheses as one of them.
fn words(sql: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut group: Option<usize> = None;
    let mut depth = 0_usize;
    for token in tokens(sql).filter(|token| !token.is_blank()) {
        match token.text {
            "(" => {
                depth += 1;
                group.get_or_insert(token.start);
            }
            ")" => {
                depth = depth.saturating_sub(1);
                if depth == 0
                    && let Some(start) = group.take()
                {
                    words.extend(sql.get(start..=token.start));
                }
            }
            text if depth == 0 => words.push(text),
            _ => {}
        }
    }
    words
}

fn is(word: Option<&&str>, key_word: &str) -> bool {
    word.is_some_and(|word| word.eq_ignore_ascii_case(key_word))
}

/// Where these key words follow one another.
fn position(words: &[&str], key_words: &[&str]) -> Option<usize> {
    words
        .windows(key_words.len())
        .position(|found| found.iter().zip(key_words).all(|(a, b)| a.eq_ignore_ascii_case(b)))
}

/// The name of a collation in the form in which it is compared: SQLite ignores the case of its ASCII letters.
pub(super) fn collation_name(name: &str) -> String {
    unquote_name(name).to_ascii_uppercase()
}

/// The clauses of columns and constraints in a `CREATE TABLE` statement.
pub(super) struct TableClauses<'a> {
    items: Vec<TableItem<'a>>,
}

impl<'a> TableClauses<'a> {
    /// Those of this statement.
    pub(super) fn of(sql: &'a str) -> TableClauses<'a> {
        TableClauses { items: table_items(sql) }
    }

    fn column_words(&self, column: &str) -> Vec<&'a str> {
        let is_it = |item: &&TableItem<'_>| {
            item.column.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(column))
        };
        self.items.iter().find(is_it).map(|item| words(item.text)).unwrap_or_default()
    }

    /// The collation of a column; `None` for BINARY, which a column has without the clause. The last clause counts.
    pub(super) fn collation(&self, column: &str) -> Option<String> {
        let words = self.column_words(column);
        let at = words.iter().rposition(|word| word.eq_ignore_ascii_case("COLLATE"))?;
        words.get(at + 1).map(|name| collation_name(name)).filter(|name| name != "BINARY")
    }

    /// The expression of a generated column, in its parentheses.
    pub(super) fn generated(&self, column: &str) -> Option<String> {
        let words = self.column_words(column);
        let at = words.iter().position(|word| word.eq_ignore_ascii_case("AS"))?;
        words.get(at + 1).map(|expression| fold(expression))
    }

    /// The conflict clauses of the constraints of a column, with their constraint, such as `NOT NULL ON CONFLICT
    /// IGNORE`.
    pub(super) fn conflict_clauses(&self, column: &str) -> Vec<Text> {
        let words = self.column_words(column);
        let mut clauses = Vec::new();
        for (at, action) in conflict_actions(&words) {
            let before = |count: usize| at.checked_sub(count).and_then(|at| words.get(at));
            let constraint = match () {
                () if is(before(1), "UNIQUE") => "UNIQUE",
                () if is(before(1), "NULL") && is(before(2), "NOT") => "NOT NULL",
                // NULL, which is no constraint.
                () if is(before(1), "NULL") => continue,
                () => "PRIMARY KEY",
            };
            clauses.push(format!("{constraint} ON CONFLICT {action}").into());
        }
        clauses
    }

    /// The constraints of the table itself that have a conflict clause, without their names. Of a CHECK, SQLite
    /// ignores it.
    pub(super) fn constraints_with_conflict_clause(&self) -> Vec<Text> {
        let mut constraints = Vec::new();
        for item in self.items.iter().filter(|item| item.column.is_none()) {
            let all = words(item.text);
            let named = if is(all.first(), "CONSTRAINT") { 2 } else { 0 };
            let words = all.get(named..).unwrap_or_default();
            if !is(words.first(), "CHECK") && conflict_actions(words).next().is_some() {
                constraints.push(fold(&words.join(" ")).into());
            }
        }
        constraints
    }

    /// For each foreign key, in the order of the statement, whether it is checked at the end of the transaction only.
    pub(super) fn deferred_keys(&self) -> Vec<bool> {
        let mut keys = Vec::new();
        for item in &self.items {
            let words = words(item.text);
            let mut clauses = words.split(|word| word.eq_ignore_ascii_case("REFERENCES"));
            // What stands before the first key.
            clauses.next();
            keys.extend(clauses.map(is_deferred));
        }
        keys
    }
}

fn is_deferred(clause: &[&str]) -> bool {
    match position(clause, &["DEFERRABLE", "INITIALLY", "DEFERRED"]) {
        Some(0) => true,
        Some(at) => !is(clause.get(at - 1), "NOT"),
        None => false,
    }
}

/// The conflict clauses among the words: the position and the action of each. ABORT is what happens without one.
fn conflict_actions<'w>(words: &'w [&str]) -> impl Iterator<Item = (usize, String)> + 'w {
    let starts = words.windows(2).enumerate();
    let starts = starts.filter(|(_, pair)| is(pair.first(), "ON") && is(pair.get(1), "CONFLICT"));
    let actions = starts.filter_map(|(at, _)| Some((at, words.get(at + 2)?.to_ascii_uppercase())));
    actions.filter(|(_, action)| action != "ABORT")
}

/// The condition of a partial index, with white space folded.
pub(super) fn predicate(create_index: &str) -> Option<String> {
    let mut depth = 0_usize;
    for token in tokens(create_index) {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            word if depth == 0 && word.eq_ignore_ascii_case("WHERE") => {
                return create_index.get(token.start + word.len()..).map(fold);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "CREATE TABLE t (id INTEGER PRIMARY KEY DESC ON CONFLICT REPLACE, \
         \"a b\" TEXT collate /* x */ \"NoCase\" NOT NULL ON CONFLICT IGNORE DEFAULT ('x' COLLATE RTRIM), \
         'c' TEXT COLLATE nocase COLLATE BINARY NULL ON CONFLICT FAIL UNIQUE ON CONFLICT abort \
             REFERENCES p NOT DEFERRABLE INITIALLY DEFERRED REFERENCES q (x) DEFERRABLE INITIALLY DEFERRED, \
         g GENERATED ALWAYS AS (1 +  (2)) STORED REFERENCES r, \
         CONSTRAINT \"ON\" UNIQUE (g,  c) ON CONFLICT REPLACE, CHECK (id > 0) ON CONFLICT FAIL, \
         FOREIGN KEY (g) REFERENCES s DEFERRABLE INITIALLY IMMEDIATE)";

    #[test]
    fn clauses_of_columns_and_constraints_are_read() {
        let clauses = TableClauses::of(TABLE);
        assert_eq!(clauses.collation("A B").as_deref(), Some("NOCASE"));
        assert_eq!((clauses.collation("c"), clauses.collation("id")), (None, None));
        assert_eq!(clauses.generated("g").as_deref(), Some("(1 + (2))"));
        assert_eq!(clauses.conflict_clauses("id"), ["PRIMARY KEY ON CONFLICT REPLACE"]);
        assert_eq!(clauses.conflict_clauses("a b"), ["NOT NULL ON CONFLICT IGNORE"]);
        assert!(clauses.conflict_clauses("c").is_empty());
        assert_eq!(
            clauses.constraints_with_conflict_clause(),
            ["UNIQUE (g, c) ON CONFLICT REPLACE"]
        );
        assert_eq!(clauses.deferred_keys(), [false, true, false, false]);
    }

    #[test]
    fn the_condition_of_an_index_begins_at_its_own_where() {
        let predicate = |sql| predicate(sql);
        assert_eq!(
            predicate("CREATE INDEX \" WHERE \" ON t(a)where(a IS\n1)").as_deref(),
            Some("(a IS 1)")
        );
        assert_eq!(predicate("CREATE INDEX i ON t (\"a where b\", (SELECT 1 WHERE 2))"), None);
    }
}
