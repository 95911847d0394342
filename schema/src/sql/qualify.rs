//! Names the schema in SQL for PostgreSQL, whose text or canonical form does not name it: of tables in the statements of
//! the files, and of operators in expressions. Text only.

use super::lexer::{Token, tokens};

/// A statement of a file with `schema`, given as SQL, before the name of each table: after `TABLE`, `INTO` and
/// `REFERENCES`, and in a `CREATE INDEX` after the first `ON`. An index is created in the schema of its table.
pub fn with_schema(sql: &str, schema: &str) -> String {
    let words: Vec<Token<'_>> = tokens(sql).filter(|token| !token.is_blank()).collect();
    let is = |at: usize, word: &str| {
        words.get(at).is_some_and(|token| token.text.eq_ignore_ascii_case(word))
    };
    let is_index = is(0, "CREATE") && (is(1, "INDEX") || is(2, "INDEX"));
    let index_on = (0..words.len()).find(|at| is_index && is(*at, "ON"));
    let mut qualified = String::with_capacity(sql.len() + 2 * schema.len());
    let mut copied = 0;
    for at in 0..words.len() {
        let is_before_table = is(at, "TABLE") || is(at, "INTO") || is(at, "REFERENCES");
        if !is_before_table && index_on != Some(at) {
            continue;
        }
        let mut rest = words.iter().skip(at + 1);
        let is_option = |token: &&Token<'_>| {
            let options = ["IF", "NOT", "EXISTS", "ONLY"];
            options.iter().any(|word| token.text.eq_ignore_ascii_case(word))
        };
        if let Some(name) = rest.find(|token| !is_option(token)) {
            qualified.push_str(sql.get(copied..name.start).unwrap_or_default());
            qualified.push_str(schema);
            qualified.push('.');
            copied = name.start;
        }
    }
    qualified.push_str(sql.get(copied..).unwrap_or_default());
    qualified
}

/// An expression in canonical form whose comparisons name the operators of `pg_catalog`, whatever the search path is.
pub fn with_qualified_operators(expression: &str) -> String {
    let words: Vec<&str> =
        tokens(expression).filter(|token| !token.is_blank()).map(|token| token.text).collect();
    let mut qualified: Vec<String> = Vec::new();
    let mut in_list = false;
    let mut rest = words.iter().copied().peekable();
    while let Some(word) = rest.next() {
        match word {
            "IN" => {
                rest.next();
                in_list = true;
                qualified.push("OPERATOR(pg_catalog.=) ANY (ARRAY[".into());
            }
            ")" if in_list => {
                in_list = false;
                qualified.push("])".into());
            }
            "=" | "<" | ">" => {
                let mut operator = word.to_string();
                operator.extend(rest.next_if(|next| matches!(*next, "=" | ">")));
                qualified.push(format!("OPERATOR(pg_catalog.{operator})"));
            }
            other => qualified.push(other.into()),
        }
    }
    qualified.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_of_a_statement_is_named_with_its_schema() {
        for (sql, qualified) in [
            (
                "CREATE TABLE IF NOT EXISTS a (b TEXT DEFAULT 'TABLE c' REFERENCES d (e) ON DELETE CASCADE)",
                "CREATE TABLE IF NOT EXISTS s.a (b TEXT DEFAULT 'TABLE c' REFERENCES s.d (e) ON DELETE CASCADE)",
            ),
            (
                "create unique index if not exists i on a (b)",
                "create unique index if not exists i on s.a (b)",
            ),
            (
                "CREATE INDEX i ON ONLY \"a b\" (b) WHERE b = 'on'",
                "CREATE INDEX i ON ONLY s.\"a b\" (b) WHERE b = 'on'",
            ),
            (
                "ALTER TABLE a ADD COLUMN IF NOT EXISTS b TEXT",
                "ALTER TABLE s.a ADD COLUMN IF NOT EXISTS b TEXT",
            ),
            (
                "INSERT INTO a (b) VALUES ('INTO c') ON CONFLICT DO NOTHING",
                "INSERT INTO s.a (b) VALUES ('INTO c') ON CONFLICT DO NOTHING",
            ),
        ] {
            assert_eq!(with_schema(sql, "s"), qualified);
        }
    }

    #[test]
    fn every_comparison_of_an_expression_names_the_operator() {
        for (expression, qualified) in [
            ("a = 'b = c' AND d IS NOT NULL", "a OPERATOR(pg_catalog.=) 'b = c' AND d IS NOT NULL"),
            ("a IN ('b', 'c')", "a OPERATOR(pg_catalog.=) ANY (ARRAY[ 'b' , 'c' ])"),
            ("a <= 1 OR b <> 2", "a OPERATOR(pg_catalog.<=) 1 OR b OPERATOR(pg_catalog.<>) 2"),
        ] {
            assert_eq!(with_qualified_operators(expression), qualified);
        }
    }
}
