//! Splits a SQL file into statements, and reads from the first words of each what it makes.

use super::lexer::{Spanned, Token, tokens, unquote};

/// One SQL statement of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// Its first line in the file, from 1.
    pub line: usize,
    /// Its text, from the first token to the last, without the semicolon.
    pub sql: &'a str,
}

/// What a statement makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// `CREATE TABLE`.
    Table(String),
    /// `CREATE INDEX`.
    Index(String),
    /// `ALTER TABLE … ADD COLUMN`: table and column.
    Column(String, String),
    /// `INSERT INTO`: the table that gets rows.
    Rows(String),
    /// Anything else.
    Other,
}

impl Statement<'_> {
    /// What the statement makes, read from its first words.
    pub fn creates(&self) -> Created {
        let words: Vec<String> = tokens(self.sql)
            .filter(|t| t.kind != Token::Blank)
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

/// Splits a file at the semicolons that end statements: not those in literals, quoted
/// names, comments, or the body of a trigger. The line of each statement is kept.
pub fn statements(text: &str) -> Vec<Statement<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut open: Option<OpenStatement> = None;
    let mut line = 1;
    for token in tokens(text) {
        let end = token.start + token.text.len();
        match token.kind {
            Token::Blank => {}
            Token::Semicolon if open.as_ref().is_none_or(OpenStatement::may_end) => {
                found.extend(open.take().map(|o| o.close(text)));
            }
            _ => open.get_or_insert_with(|| OpenStatement::at(token.start, line)).take(&token, end),
        }
        line += token.text.bytes().filter(|byte| *byte == b'\n').count();
    }
    found.extend(open.map(|o| o.close(text)));
    found
}

/// A statement that is being read.
struct OpenStatement {
    line: usize,
    start: usize,
    end: usize,
    words: usize,
    creates: bool,
    trigger: bool,
    after_semicolon: bool,
    /// The last token is the `END` that follows a semicolon, which ends a trigger's body
    /// (the `END` of a `CASE` does not).
    body_ended: bool,
}

impl OpenStatement {
    fn at(start: usize, line: usize) -> OpenStatement {
        OpenStatement {
            line,
            start,
            end: start,
            words: 0,
            creates: false,
            trigger: false,
            after_semicolon: false,
            body_ended: false,
        }
    }

    fn take(&mut self, token: &Spanned<'_>, end: usize) {
        let is = |word: &str| token.text.eq_ignore_ascii_case(word);
        match self.words {
            0 => self.creates = is("CREATE"),
            1 | 2 if self.creates && is("TRIGGER") => self.trigger = true,
            _ => {}
        }
        self.body_ended = self.after_semicolon && is("END");
        self.after_semicolon = token.kind == Token::Semicolon;
        self.words += 1;
        self.end = end;
    }

    fn may_end(&self) -> bool {
        !self.trigger || self.body_ended
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
    fn subjects_are_read_from_the_first_words() {
        let subject = |sql: &str| statements(sql)[0].creates();
        assert_eq!(subject("create table if not exists \"a b\"(x)"), Created::Table("a b".into()));
        assert_eq!(
            subject("CREATE UNIQUE INDEX IF NOT EXISTS i ON t(x)"),
            Created::Index("i".into())
        );
        assert_eq!(subject("CREATE INDEX i ON t(x)"), Created::Index("i".into()));
        assert_eq!(
            subject("ALTER TABLE t ADD COLUMN c TEXT"),
            Created::Column("t".into(), "c".into())
        );
        assert_eq!(
            subject("alter table t add column if not exists c text"),
            Created::Column("t".into(), "c".into())
        );
        assert_eq!(subject("INSERT OR IGNORE INTO t (a) VALUES (1)"), Created::Rows("t".into()));
        assert_eq!(subject("DROP TABLE t"), Created::Other);
    }
}
