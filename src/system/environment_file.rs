//! Reads a file of assignments as systemd does (systemd.exec(5), `EnvironmentFile=`; `parse_env_file_internal`
//! in src/basic/env-file.c of systemd 254): comments, quotes, escapes, continued lines, LF and CRLF.

/// The assignments of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentFile {
    /// Names and values, in the order of the file; the last value of a name counts.
    pub assignments: Vec<(String, String)>,
    /// Names that are no names of variables (`export PORT`), whose values systemd ignores.
    pub ignored: Vec<String>,
}

impl EnvironmentFile {
    /// Parses the text of a file. `None` if it is not UTF-8: systemd then ignores all of it.
    pub fn parse(bytes: &[u8]) -> Option<EnvironmentFile> {
        let text = str::from_utf8(bytes).ok()?;
        let mut parser = Parser::default();
        text.chars().for_each(|c| parser.next(c));
        parser.finish();
        Some(parser.file)
    }
}

/// Where in an assignment the parser is.
#[derive(Clone, Copy, Debug, Default)]
enum ParserState {
    #[default]
    BeforeName,
    Name,
    BeforeValue,
    Value,
    ValueEscape,
    SingleQuotes,
    DoubleQuotes,
    DoubleQuotesEscape,
    Comment,
    CommentEscape,
}

#[derive(Default)]
struct Parser {
    state: ParserState,
    name: String,
    value: String,
    /// The length of the value without the white space at its end that was not escaped.
    value_length: usize,
    file: EnvironmentFile,
}

fn is_newline(c: char) -> bool {
    matches!(c, '\n' | '\r')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t') || is_newline(c)
}

impl Parser {
    fn next(&mut self, c: char) {
        self.state = match self.state {
            ParserState::BeforeName => self.before_name(c),
            ParserState::Name => self.name(c),
            ParserState::BeforeValue => self.before_value(c),
            ParserState::Value => self.value(c),
            // An escaped line end continues the line.
            ParserState::ValueEscape if is_newline(c) => ParserState::Value,
            ParserState::ValueEscape => self.keep(c, ParserState::Value),
            ParserState::SingleQuotes if c == '\'' => ParserState::BeforeValue,
            ParserState::SingleQuotes => self.keep(c, ParserState::SingleQuotes),
            ParserState::DoubleQuotes => match c {
                '"' => ParserState::BeforeValue,
                '\\' => ParserState::DoubleQuotesEscape,
                c => self.keep(c, ParserState::DoubleQuotes),
            },
            ParserState::DoubleQuotesEscape => self.quoted_escape(c),
            ParserState::Comment => match c {
                '\\' => ParserState::CommentEscape,
                c if is_newline(c) => ParserState::BeforeName,
                _ => ParserState::Comment,
            },
            ParserState::CommentEscape if is_newline(c) => ParserState::BeforeName,
            ParserState::CommentEscape => ParserState::Comment,
        };
    }

    fn before_name(&mut self, c: char) -> ParserState {
        match c {
            '#' | ';' => ParserState::Comment,
            c if is_blank(c) => ParserState::BeforeName,
            c => {
                self.name.push(c);
                ParserState::Name
            }
        }
    }

    fn name(&mut self, c: char) -> ParserState {
        match c {
            '=' => return ParserState::BeforeValue,
            c if is_newline(c) => self.name.clear(),
            c => {
                self.name.push(c);
                return ParserState::Name;
            }
        }
        ParserState::BeforeName
    }

    fn before_value(&mut self, c: char) -> ParserState {
        match c {
            '\'' => ParserState::SingleQuotes,
            '"' => ParserState::DoubleQuotes,
            '\\' => ParserState::ValueEscape,
            c if is_newline(c) => self.assign(),
            c if is_blank(c) => ParserState::BeforeValue,
            c => self.keep(c, ParserState::Value),
        }
    }

    fn value(&mut self, c: char) -> ParserState {
        match c {
            '\\' => {
                self.value_length = self.value.len();
                ParserState::ValueEscape
            }
            c if is_newline(c) => {
                self.value.truncate(self.value_length);
                self.assign()
            }
            c if is_blank(c) => {
                self.value.push(c);
                ParserState::Value
            }
            c => self.keep(c, ParserState::Value),
        }
    }

    /// Other characters than those that a shell escapes keep their backslash.
    fn quoted_escape(&mut self, c: char) -> ParserState {
        match c {
            '"' | '\\' | '`' | '$' => {}
            '\n' => return ParserState::DoubleQuotes,
            _ => self.value.push('\\'),
        }
        self.keep(c, ParserState::DoubleQuotes)
    }

    fn keep(&mut self, c: char, next: ParserState) -> ParserState {
        self.value.push(c);
        self.value_length = self.value.len();
        next
    }

    fn assign(&mut self) -> ParserState {
        let name = std::mem::take(&mut self.name).trim_end_matches(is_blank).to_string();
        let value = std::mem::take(&mut self.value);
        self.value_length = 0;
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        match is_name {
            true => self.file.assignments.push((name, value)),
            false => self.file.ignored.push(name),
        }
        ParserState::BeforeName
    }

    /// At the end of the file an assignment is complete, an open quote included.
    fn finish(&mut self) {
        match self.state {
            ParserState::BeforeName
            | ParserState::Name
            | ParserState::Comment
            | ParserState::CommentEscape => {}
            ParserState::Value => {
                self.value.truncate(self.value_length);
                self.assign();
            }
            _ => drop(self.assign()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> EnvironmentFile {
        EnvironmentFile::parse(text.as_bytes()).unwrap()
    }

    fn value_of_a(text: &str) -> Option<String> {
        parsed(text).assignments.into_iter().rfind(|(name, _)| name == "A").map(|(_, value)| value)
    }

    #[test]
    fn values_are_read_as_systemd_reads_them() {
        for (text, value) in [
            ("A=b", "b"),
            ("A=b\r\nC=d\r\n", "b"),
            ("  A = b c \t\n", "b c"),
            ("A='b c ' \n", "b c "),
            ("A=\"b \\\"c\\\" \\$d \\x\"\n", "b \"c\" $d \\x"),
            ("A='a'\"b\"c\n", "abc"),
            ("A=b\\\n c\n", "b c"),
            ("A=\"b\\\nc\"\n", "bc"),
            ("A=\"b\nc\"\n", "b\nc"),
            ("A=b # no comment\n", "b # no comment"),
            ("A=b\\ \n", "b "),
            ("A=\nB=c\n", ""),
            ("A=1\nA=2\n", "2"),
            ("# A=0\n; A=1\nA=2\n#A=3", "2"),
            ("# a comment ends with its line \\\nA=2\n", "2"),
            ("A=\"open", "open"),
            ("odd\nA=b", "b"),
            ("A=$HOME/x", "$HOME/x"),
        ] {
            assert_eq!(value_of_a(text).as_deref(), Some(value), "{text:?}");
        }
        assert_eq!(parsed("odd\n").assignments, []);
    }

    #[test]
    fn what_is_no_name_is_ignored_and_told() {
        let file = parsed("export A=b\n\u{feff}B=c\n1C=d\nD_2=e\n");
        assert_eq!(file.ignored, ["export A", "\u{feff}B", "1C"]);
        assert_eq!(file.assignments, [("D_2".to_string(), "e".to_string())]);
        assert_eq!(EnvironmentFile::parse(b"A=\xff"), None);
    }
}
