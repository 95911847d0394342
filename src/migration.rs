//! Migrations as values: bundled SQL files, their statements and checksums, the
//! rows of the ledger, and the decision what is pending.
//!
//! Nothing here knows a database. `build.rs` compiles this file too, so that the
//! checksums made at build time and the statements run later come from one reader.

use std::fmt;

use sha2::{Digest, Sha256};

/// The migration that is applied first on a new database.
pub const UNIFIED: &str = "unified_complete_setup.sql";
/// The migration that is applied only when [`UNIFIED`] does not fit what is already there.
pub const FALLBACK: &str = "000_master_initialization.sql";

/// A bundled SQL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// File name, which is also its name in the ledger.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
    /// [`checksum`] of `text`.
    pub checksum: &'static str,
}

impl Migration {
    /// The statements of the file, in order.
    pub fn statements(&self) -> Vec<Statement<'static>> {
        statements(self.text)
    }
}

/// A row of the ledger (table `migrations`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The row's id.
    pub id: i64,
    /// The migration's file name.
    pub name: String,
    /// Checksum of the file as it was applied; `None` in rows of an older CTS.
    pub checksum: Option<String>,
    /// UTC, `YYYY-MM-DD HH:MM:SS.SSS`.
    pub executed_at: Option<String>,
    /// How long it took, in milliseconds.
    pub execution_time_ms: Option<i64>,
    /// The version of cts that applied it.
    pub version: Option<String>,
}

impl Applied {
    /// Whether cts wrote this row: only ours carry a SHA-256 checksum. Rows of an
    /// older CTS are kept, and never taken for ours.
    pub fn is_ours(&self) -> bool {
        let is_sum = |sum: &str| {
            sum.len() == 64 && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        !self.name.is_empty() && self.checksum.as_deref().is_some_and(is_sum)
    }
}

/// Why a ledger is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A migration was changed in its meaning after it had been applied.
    Edited {
        /// The migration.
        name: String,
        /// Checksum in this binary.
        bundled: String,
        /// Checksum in the ledger.
        recorded: String,
        /// Version of cts that applied it.
        by: Option<String>,
    },
    /// The ledger holds a migration this binary does not know: a newer database.
    Unknown {
        /// The migration.
        name: String,
        /// Version of cts that applied it.
        by: Option<String>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = |by: &Option<String>| by.clone().unwrap_or_else(|| "unknown".into());
        match self {
            Refusal::Edited { name, bundled, recorded, by } => write!(
                f,
                "migration {name} is not the one that was applied (by cts {}): its checksum is {}… here and {}… in the ledger",
                version(by),
                short(bundled),
                short(recorded),
            ),
            Refusal::Unknown { name, by } => write!(
                f,
                "the ledger holds migration {name}, applied by cts {}, which this cts does not know: the database is newer than this binary",
                version(by),
            ),
        }
    }
}

fn short(checksum: &str) -> &str {
    checksum.get(..12).unwrap_or(checksum)
}

/// What of `all` is still to be applied, in order, or why this ledger cannot be built on.
/// `fallback` is known but never pending by itself.
pub fn pending(
    all: &[Migration],
    fallback: &Migration,
    ledger: &[Applied],
) -> Result<Vec<Migration>, Refusal> {
    let ours = || ledger.iter().filter(|row| row.is_ours());
    for row in ledger.iter().filter(|row| row.checksum.is_some()) {
        let known = all.iter().chain(std::iter::once(fallback)).find(|m| m.name == row.name);
        if known.is_none() && !row.is_ours() {
            continue;
        }
        let recorded = row.checksum.clone().unwrap_or_default();
        match known {
            None => {
                return Err(Refusal::Unknown { name: row.name.clone(), by: row.version.clone() });
            }
            Some(m) if m.checksum != recorded => {
                return Err(Refusal::Edited {
                    name: row.name.clone(),
                    bundled: m.checksum.into(),
                    recorded,
                    by: row.version.clone(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(all.iter().filter(|m| !ours().any(|row| row.name == m.name)).copied().collect())
}

/// The order in which files are applied: the unified setup, then by number.
/// `Err` holds the name that has neither form.
pub fn order(name: &str) -> Result<u32, String> {
    if name == UNIFIED {
        return Ok(0);
    }
    let number = name.strip_suffix(".sql").and_then(|stem| stem.split_once('_'));
    match number {
        Some((digits, rest))
            if digits.len() == 3
                && !rest.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            digits.parse::<u32>().map(|number| number + 1).map_err(|_| name.to_string())
        }
        _ => Err(name.to_string()),
    }
}

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
pub enum Subject {
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
    pub fn subject(&self) -> Subject {
        let words: Vec<String> = tokens(self.sql)
            .filter(|t| t.kind != Token::Blank)
            .take(9)
            .map(|t| unquote(t.text))
            .collect();
        let upper: Vec<String> = words.iter().map(|w| w.to_ascii_uppercase()).collect();
        let upper: Vec<&str> = upper.iter().map(String::as_str).collect();
        let word = |i: usize| words.get(i).cloned().unwrap_or_default();
        match upper.as_slice() {
            ["CREATE", "TABLE", "IF", "NOT", "EXISTS", ..] => Subject::Table(word(5)),
            ["CREATE", "TABLE", ..] => Subject::Table(word(2)),
            ["CREATE", "UNIQUE", "INDEX", "IF", "NOT", "EXISTS", ..] => Subject::Index(word(6)),
            ["CREATE", "INDEX", "IF", "NOT", "EXISTS", ..] => Subject::Index(word(5)),
            ["CREATE", "UNIQUE", "INDEX", ..] => Subject::Index(word(3)),
            ["CREATE", "INDEX", ..] => Subject::Index(word(2)),
            ["ALTER", "TABLE", _, "ADD", "COLUMN", "IF", "NOT", "EXISTS", ..] => {
                Subject::Column(word(2), word(8))
            }
            ["ALTER", "TABLE", _, "ADD", "COLUMN", ..] => Subject::Column(word(2), word(5)),
            ["INSERT", "OR", "IGNORE", "INTO", ..] => Subject::Rows(word(4)),
            ["INSERT", "INTO", ..] => Subject::Rows(word(2)),
            _ => Subject::Other,
        }
    }
}

/// A name without its quotes.
pub fn unquote(word: &str) -> String {
    let inner = match (word.chars().next(), word.chars().last()) {
        (Some('"'), Some('"')) | (Some('`'), Some('`')) | (Some('['), Some(']')) => {
            word.get(1..word.len().saturating_sub(1))
        }
        _ => None,
    };
    inner.unwrap_or(word).to_string()
}

/// SHA-256, in lower-case hex, of the file's statements with comments dropped and white
/// space folded outside literals and quoted names: a changed comment or line ending does
/// not move it, a changed meaning does. Stored checksums depend on this very form.
pub fn checksum(text: &str) -> String {
    let mut hash = Sha256::new();
    for statement in statements(text) {
        hash.update(fold(statement.sql).as_bytes());
        hash.update(b";\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `sql` with comments dropped and runs of white space made one blank, literals and quoted
/// names untouched.
pub fn fold(sql: &str) -> String {
    let mut folded = String::with_capacity(sql.len());
    let mut blank = false;
    for token in tokens(sql) {
        if token.kind == Token::Blank {
            blank = true;
            continue;
        }
        if blank && !folded.is_empty() {
            folded.push(' ');
        }
        blank = false;
        folded.push_str(token.text);
    }
    folded
}

/// Splits a file at the semicolons that end statements: not those in literals, quoted
/// names, comments, or the body of a trigger. The line of each statement is kept.
pub fn statements(text: &str) -> Vec<Statement<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut found = Vec::new();
    let mut open: Option<Open> = None;
    let mut line = 1;
    for token in tokens(text) {
        let end = token.start + token.text.len();
        match token.kind {
            Token::Blank => {}
            Token::Semicolon if open.as_ref().is_none_or(Open::may_end) => {
                found.extend(open.take().map(|o| o.close(text)));
            }
            _ => open.get_or_insert_with(|| Open::at(token.start, line)).take(&token, end),
        }
        line += token.text.bytes().filter(|byte| *byte == b'\n').count();
    }
    found.extend(open.map(|o| o.close(text)));
    found
}

/// A statement that is being read.
struct Open {
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

impl Open {
    fn at(start: usize, line: usize) -> Open {
        Open {
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// White space and comments.
    Blank,
    Semicolon,
    /// A word, a literal, a quoted name, or one other character.
    Other,
}

/// A token and where it stands.
pub struct Spanned<'a> {
    kind: Token,
    /// Its first byte.
    pub start: usize,
    /// Its text.
    pub text: &'a str,
}

impl Spanned<'_> {
    /// Whether it is white space or a comment.
    pub fn is_blank(&self) -> bool {
        self.kind == Token::Blank
    }
}

/// The tokens of SQL text, blanks among them.
pub fn tokens(text: &str) -> impl Iterator<Item = Spanned<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let (kind, length) = next_token(rest);
        let start = at;
        at += length;
        Some(Spanned { kind, start, text: rest.get(..length).unwrap_or(rest) })
    })
}

/// Kind and length in bytes of the token at the start of `rest`, which is not empty. Bytes
/// beyond ASCII are parts of words, as they are for SQLite.
fn next_token(rest: &str) -> (Token, usize) {
    let bytes = rest.as_bytes();
    let until = |from: usize, end: &str| {
        let found = rest.get(from..).and_then(|tail| tail.find(end));
        found.map_or(rest.len(), |n| from + n + end.len())
    };
    let run = |is: fn(&u8) -> bool| bytes.iter().position(|b| !is(b)).unwrap_or(bytes.len());
    match bytes {
        [b'-', b'-', ..] => (Token::Blank, until(2, "\n")),
        [b'/', b'*', ..] => (Token::Blank, until(2, "*/")),
        [b';', ..] => (Token::Semicolon, 1),
        [b'\'', ..] => (Token::Other, until(1, "'")),
        [b'"', ..] => (Token::Other, until(1, "\"")),
        [b'`', ..] => (Token::Other, until(1, "`")),
        [b'[', ..] => (Token::Other, until(1, "]")),
        [b, ..] if b.is_ascii_whitespace() => (Token::Blank, run(u8::is_ascii_whitespace)),
        [b, ..] if is_word(b) => (Token::Other, run(is_word)),
        _ => (Token::Other, 1),
    }
}

fn is_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || !byte.is_ascii()
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
    fn comments_line_endings_and_spacing_do_not_move_a_checksum() {
        let plain = checksum("CREATE TABLE t (a TEXT, b TEXT);\nSELECT 1;\n");
        let dressed =
            "\u{feff}-- licence\r\nCREATE  TABLE t\r\n\t(a TEXT,/**/ b TEXT) ;\r\nSELECT 1";
        assert_eq!(checksum(dressed), plain);
    }

    #[test]
    fn a_changed_meaning_moves_the_checksum() {
        let plain = checksum("INSERT INTO t VALUES ('a b');");
        for other in ["INSERT INTO t VALUES ('a  b');", "INSERT INTO t VALUES ('A b');", ""] {
            assert_ne!(checksum(other), plain, "{other}");
        }
    }

    #[test]
    fn the_form_of_a_checksum_never_moves() {
        // `printf 'SELECT 1;\n' | sha256sum`. Stored in every ledger: should it change, every
        // database in the field would be refused.
        assert_eq!(
            checksum("SELECT 1; -- note\n"),
            "b4e0497804e46e0a0b0b8c31975b062152d551bac49c3c2e80932567b4085dcd"
        );
    }

    #[test]
    fn subjects_are_read_from_the_first_words() {
        let subject = |sql: &str| statements(sql)[0].subject();
        assert_eq!(subject("create table if not exists \"a b\"(x)"), Subject::Table("a b".into()));
        assert_eq!(
            subject("CREATE UNIQUE INDEX IF NOT EXISTS i ON t(x)"),
            Subject::Index("i".into())
        );
        assert_eq!(subject("CREATE INDEX i ON t(x)"), Subject::Index("i".into()));
        assert_eq!(
            subject("ALTER TABLE t ADD COLUMN c TEXT"),
            Subject::Column("t".into(), "c".into())
        );
        assert_eq!(
            subject("alter table t add column if not exists c text"),
            Subject::Column("t".into(), "c".into())
        );
        assert_eq!(subject("INSERT OR IGNORE INTO t (a) VALUES (1)"), Subject::Rows("t".into()));
        assert_eq!(subject("DROP TABLE t"), Subject::Other);
    }

    const A: Migration = Migration { name: "a.sql", text: "", checksum: SUM_A };
    const B: Migration = Migration { name: "b.sql", text: "", checksum: SUM_B };
    const F: Migration = Migration { name: FALLBACK, text: "", checksum: SUM_A };
    static SUM_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static SUM_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn row(name: &str, checksum: Option<&str>) -> Applied {
        Applied {
            id: 1,
            name: name.into(),
            checksum: checksum.map(Into::into),
            executed_at: None,
            execution_time_ms: None,
            version: Some("3.1.0".into()),
        }
    }

    fn names(ledger: &[Applied]) -> Result<Vec<&'static str>, Refusal> {
        pending(&[A, B], &F, ledger).map(|all| all.iter().map(|m| m.name).collect())
    }

    #[test]
    fn everything_is_pending_on_an_empty_ledger() {
        assert_eq!(names(&[]), Ok(vec!["a.sql", "b.sql"]));
    }

    #[test]
    fn what_the_ledger_holds_is_not_pending() {
        assert_eq!(names(&[row("a.sql", Some(SUM_A))]), Ok(vec!["b.sql"]));
    }

    #[test]
    fn rows_of_an_older_cts_are_not_taken_for_ours() {
        let ledger = [row("a.sql", None), row("old_003", Some("md5")), row("", Some(SUM_A))];
        assert_eq!(names(&ledger), Ok(vec!["a.sql", "b.sql"]));
    }

    #[test]
    fn a_checksum_of_ours_that_was_damaged_is_refused() {
        let refusal = names(&[row("a.sql", Some("AAAA"))]).unwrap_err().to_string();
        assert!(refusal.contains("AAAA… in the ledger"), "{refusal}");
    }

    #[test]
    fn the_fallback_in_a_ledger_is_known() {
        assert_eq!(names(&[row(FALLBACK, Some(SUM_A))]), Ok(vec!["a.sql", "b.sql"]));
    }

    #[test]
    fn an_edited_migration_is_refused_with_both_checksums() {
        let refusal = names(&[row("a.sql", Some(SUM_B))]).unwrap_err().to_string();
        for part in ["a.sql", "3.1.0", "aaaaaaaaaaaa…", "bbbbbbbbbbbb…"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    #[test]
    fn an_unknown_migration_is_refused_by_name() {
        let refusal = names(&[row("072_new.sql", Some(SUM_B))]).unwrap_err().to_string();
        assert!(refusal.contains("072_new.sql") && refusal.contains("3.1.0"), "{refusal}");
    }

    #[test]
    fn files_are_ordered_unified_first_then_by_number() {
        let mut files = ["071_b.sql", UNIFIED, "051_a.sql"];
        files.sort_by_key(|name| order(name));
        assert_eq!(files, [UNIFIED, "051_a.sql", "071_b.sql"]);
        for odd in ["notes.sql", "71_b.sql", "071_.sql", "071_b.txt", "0x1_b.sql"] {
            assert_eq!(order(odd), Err(odd.to_string()));
        }
    }
}
