//! Splits a SQL file into statements, and reads what each creates from its first tokens.

use super::lexer::{Token, TokenKind, tokens, unquote};

/// One SQL statement of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Its first line in the file, from 1.
    pub line: usize,
    /// Its text, from the first token to the last, without the semicolon.
    pub sql: &'a str,
}

/// What a statement creates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// `CREATE TABLE`.
    Table(String),
    /// `CREATE INDEX`.
    Index(String),
    /// `ALTER TABLE … ADD COLUMN`: table and column.
    Column(String, String),
    /// `INSERT INTO`: rows of this table.
    Rows(String),
    /// Anything else.
    Other,
}

impl Statement<'_> {
    /// What the statement creates, read from its first tokens.
    pub fn creates(&self) -> Created {
        let words: Vec<String> = tokens(self.sql)
            .filter(|t| t.kind != TokenKind::Blank)
            .take(9)
            .map(|t| unquote(t.text))
            .collect();
        let upper: Vec<String> = words.iter().map(|w| w.to_ascii_uppercase()).collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        let word = |i: usize| words.get(i).cloned().unwrap_or_default();
        match upper.as_slice() {
            ["CREATE", "TABLE", "IF", "NOT", "EXISTS", ..] => Created::Table(word(5)),
            ["CREATE", "TABLE", ..] => Created::Table(word(2)),
            ["CREATE", "UNIQUE", "INDEX", "IF", "NOT", "EXISTS", ..] => Created::Index(word(6)),
            ["CREATE", "INDEX", "IF", "NOT", "EXISTS", ..] => Created::Index(word(5)),
            ["CREATE", "UNIQUE", "INDEX", ..] => Created::Index(word(3)),
            ["CREATE", "INDEX", ..] => Created::Index(word(2)),
            ["ALTER", "TABLE", _, "ADD", "COLUMN", "IF", "NOT", "EXISTS", ..] => {
                Created::Column(word(2), word(8))
            }
            ["ALTER", "TABLE", _, "ADD", "COLUMN", ..] => Created::Column(word(2), word(5)),
            ["INSERT", "OR", "IGNORE", "INTO", ..] => Created::Rows(word(4)),
            ["INSERT", "INTO", ..] => Created::Rows(word(2)),
            _ => Created::Other,
        }
    }
}

/// The statements of a file. Semicolons in literals, quoted names, comments and bodies of triggers do not end one.
pub fn statements(text: &str) -> Vec<Statement<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut open: Option<OpenStatement> = None;
    let mut line = 1;
    for token in tokens(text) {
        let end = token.start + token.text.len();
        match token.kind {
            TokenKind::Blank => {}
            TokenKind::Semicolon if open.as_ref().is_none_or(OpenStatement::may_end) => {
                found.extend(open.take().map(|o| o.close(text)));
            }
            _ => open.get_or_insert_with(|| OpenStatement::at(token.start, line)).push(&token, end),
        }
        line += token.text.bytes().filter(|byte| *byte == b'\n').count();
    }
    found.extend(open.map(|o| o.close(text)));
    found
}

/// A statement that is being read.
struct OpenStatement {
    /// Its first line in the file.
    line: usize,
    /// Where its first token begins, in bytes.
    start: usize,
    /// Where its last token so far ends, in bytes.
    end: usize,
    /// Its tokens so far, without white space and comments.
    token_count: usize,
    is_create: bool,
    is_trigger: bool,
    after_semicolon: bool,
    /// The last token is an `END` behind a semicolon, which ends the body of a trigger. The `END` of a `CASE` is not
    /// behind a semicolon.
    body_ended: bool,
}

impl OpenStatement {
    fn at(start: usize, line: usize) -> OpenStatement {
        OpenStatement {
            line,
            start,
            end: start,
            token_count: 0,
            is_create: false,
            is_trigger: false,
            after_semicolon: false,
            body_ended: false,
        }
    }

    fn push(&mut self, token: &Token<'_>, end: usize) {
        let is = |word: &str| token.text.eq_ignore_ascii_case(word);
        match self.token_count {
            0 => self.is_create = is("CREATE"),
            // CREATE TRIGGER, or CREATE TEMP TRIGGER.
            1 | 2 if self.is_create && is("TRIGGER") => self.is_trigger = true,
            _ => {}
        }
        self.body_ended = self.after_semicolon && is("END");
        self.after_semicolon = token.kind == TokenKind::Semicolon;
        self.token_count += 1;
        self.end = end;
    }

    /// Whether a semicolon ends the statement here.
    fn may_end(&self) -> bool {
        !self.is_trigger || self.body_ended
    }

    fn close(self, text: &str) -> Statement<'_> {
        Statement { line: self.line, sql: text.get(self.start..self.end).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<&str> {
        statements(sql).iter().map(|s| s.sql).collect()
    }

    #[test]
    fn semicolons_in_literals_names_and_comments_end_nothing() {
        let sql = "-- a; b\nINSERT INTO t VALUES ('x;''y', \"a;b\"); /* ; */ SELECT [c;d] -- ;\n;";
        assert_eq!(texts(sql), ["INSERT INTO t VALUES ('x;''y', \"a;b\")", "SELECT [c;d]"]);
    }

    #[test]
    fn trigger_bodies_stay_whole() {
        let trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN \
                       UPDATE a SET b = CASE WHEN 1 THEN 2 END; DELETE FROM c; END";
        assert_eq!(texts(&format!("{trigger}; SELECT 1")), [trigger, "SELECT 1"]);
    }

    #[test]
    fn lines_are_counted_from_the_first_token() {
        let found = statements("\n-- note\nSELECT\n1;\n\n/* x\n */ SELECT 2");
        assert_eq!(found.iter().map(|s| s.line).collect::<Vec<_>>(), [3, 7]);
    }

    #[test]
    fn empty_and_unfinished_texts_are_read_without_a_panic() {
        assert!(texts("").is_empty());
        assert!(texts(" ;; -- only\n").is_empty());
        assert_eq!(texts("SELECT 'open"), ["SELECT 'open"]);
        assert_eq!(texts("SELECT 'ü' /* open"), ["SELECT 'ü'"]);
    }

    #[test]
    fn what_a_statement_creates_is_read_from_its_first_tokens() {
        let created = |sql: &str| statements(sql)[0].creates();
        assert_eq!(created("create table if not exists \"a b\"(x)"), Created::Table("a b".into()));
        assert_eq!(
            created("CREATE UNIQUE INDEX IF NOT EXISTS i ON t(x)"),
            Created::Index("i".into())
        );
        assert_eq!(created("CREATE INDEX i ON t(x)"), Created::Index("i".into()));
        assert_eq!(
            created("ALTER TABLE t ADD COLUMN c TEXT"),
            Created::Column("t".into(), "c".into())
        );
        assert_eq!(
            created("alter table t add column if not exists c text"),
            Created::Column("t".into(), "c".into())
        );
        assert_eq!(created("INSERT OR IGNORE INTO t (a) VALUES (1)"), Created::Rows("t".into()));
        assert_eq!(created("DROP TABLE t"), Created::Other);
    }
}
