//! Rust source as text: the code without comments and literals, the paths that it uses and the types that
//! it defines.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use crate::support::project::source;

/// A source file of the program or of the schema crate.
pub struct SourceFile {
    /// Its path from the root of the project.
    pub path: String,
    /// The code: comments, strings and character literals are spaces.
    pub code: String,
}

/// The sources of the program, its build and the schema crate.
static FILES: LazyLock<Vec<SourceFile>> = LazyLock::new(|| {
    let mut files = Vec::new();
    for root in ["src", "schema/src", "build.rs", "build"] {
        collect(&source(root), &mut files);
    }
    files
});

/// The source files whose path begins with one of these.
pub fn source_files(starts: &[&str]) -> Vec<&'static SourceFile> {
    let is_wanted = |file: &&SourceFile| starts.iter().any(|start| file.path.starts_with(start));
    let files: Vec<_> = FILES.iter().filter(is_wanted).collect();
    assert!(!files.is_empty());
    files
}

fn collect(path: &Path, files: &mut Vec<SourceFile>) {
    if path.is_dir() {
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| collect(entry, files));
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        let name = path.strip_prefix(source("")).unwrap().to_str().unwrap().to_string();
        files.push(SourceFile::new(&name, &fs::read_to_string(path).unwrap()));
    }
}

impl SourceFile {
    pub fn new(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.into(), code: code_of(text) }
    }

    /// The file without its tests, which may use what its code must not.
    pub fn without_tests(&self) -> SourceFile {
        let is_tests = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let code = match is_tests {
            true => "",
            false => self.code.split("\nmod tests").next().unwrap_or_default(),
        };
        SourceFile { path: self.path.clone(), code: code.into() }
    }

    /// The module of this file below `src`: `["http", "gate"]`, empty for the root.
    pub fn module(&self) -> Vec<&str> {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let below = below.strip_suffix(".rs").unwrap();
        let parts = below.split('/').filter(|part| !matches!(*part, "mod" | "main" | "lib"));
        parts.collect()
    }

    /// The paths below the root of the crate that the code uses, from `use` and in the code.
    pub fn crate_paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for (at, _) in self.code.match_indices("crate::") {
            if !continues_word(&self.code[..at]) {
                expand(&mut Reader(&self.code[at + "crate::".len()..]), &[], &mut paths);
            }
        }
        for (at, _) in self.code.match_indices("super::") {
            let before = &self.code[..at];
            if continues_word(before) || before.ends_with("super::") {
                continue;
            }
            let mut rest = Reader(&self.code[at..]);
            let mut module = self.module();
            // In a file of the root, `super` stands in its tests and means the file.
            if module.len() == 1 {
                continue;
            }
            while let Some(tail) = rest.0.strip_prefix("super::") {
                rest = Reader(tail);
                module.pop();
            }
            let module: Vec<String> = module.into_iter().map(str::to_string).collect();
            expand(&mut rest, &module, &mut paths);
        }
        paths
    }

    /// Whether the code uses a foreign crate: a path or an import that begins with its name.
    pub fn uses_crate(&self, name: &str) -> bool {
        // A module of the file may have the name of a crate.
        !self.code.contains(&format!("mod {name} "))
            && self.code.match_indices(name).any(|(at, _)| {
                let before = self.code[..at].trim_end();
                let is_path = self.code[at + name.len()..].starts_with("::");
                let is_import =
                    before.ends_with("use") && self.code[at + name.len()..].starts_with(';');
                let is_first = !continues_word(&self.code[..at]) && !before.ends_with("::");
                (is_path || is_import) && (is_first || before.ends_with("use ::"))
            })
    }

    /// The names of the types that it defines. Associated types do not count.
    pub fn types(&self) -> Vec<&str> {
        let mut types = Vec::new();
        for line in self.code.lines() {
            let is_nested = line.starts_with(' ');
            let line = line.trim_start();
            let line = line.strip_prefix("pub").map_or(line, |rest| {
                rest.strip_prefix("(crate)").or(rest.strip_prefix("(super)")).unwrap_or(rest)
            });
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let mut next = || words.find(|word| !word.is_empty());
            let defines = match next() {
                Some("struct" | "enum" | "trait" | "union") => true,
                Some("type") => !is_nested,
                _ => false,
            };
            types.extend(next().filter(|_| defines));
        }
        types
    }
}

/// Whether the text ends in the middle of a word or a path.
fn continues_word(before: &str) -> bool {
    before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
}

/// Reads the rest of a path, with `{}` groups.
struct Reader<'t>(&'t str);

impl<'t> Reader<'t> {
    fn take_word(&mut self) -> &'t str {
        self.0 = self.0.trim_start();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '*';
        let end = self.0.find(|c| !is_part(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.0.trim_start().strip_prefix(text);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

/// Adds the paths that follow `prefix`.
fn expand(rest: &mut Reader<'_>, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    if rest.take("{") {
        while !rest.take("}") {
            expand(rest, prefix, paths);
            if rest.take("as ") {
                rest.take_word();
            }
            if !rest.take(",") && !rest.0.trim_start().starts_with('}') {
                return;
            }
        }
        return;
    }
    let word = rest.take_word().to_string();
    if word.is_empty() {
        return;
    }
    let path = [prefix, &[word]].concat();
    if rest.take("::") { expand(rest, &path, paths) } else { paths.push(path) }
}

/// The code with spaces in place of comments, strings and character literals; lines stay lines.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let hidden = comment_or_literal(rest, &code);
        let length = if hidden == 0 { first.len_utf8() } else { hidden };
        let (part, tail) = rest.split_at(length);
        match hidden {
            0 => code.push_str(part),
            _ => code.extend(part.chars().map(|c| if c == '\n' { c } else { ' ' })),
        }
        rest = tail;
    }
    code
}

/// The length of the comment or literal at the start; 0 if there is none.
fn comment_or_literal(rest: &str, before: &str) -> usize {
    let until = |end: &str, from: usize| {
        rest[from..].find(end).map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return until("*/", 2);
    }
    let is_prefix_of_word = continues_word(before);
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !is_prefix_of_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return until(&format!("\"{}", "#".repeat(hashes)), hashes + 2);
        }
    }
    match rest.as_bytes() {
        [b'"', ..] => quoted_length(rest, '"'),
        [b'\'', b'\\', ..] => quoted_length(rest, '\''),
        // A character; a lifetime has no closing quote.
        [b'\'', ..] => {
            let mut chars = rest.char_indices().skip(2);
            chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1)
        }
        _ => 0,
    }
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn the_reader_finds_paths_crates_and_types() {
    let text = r##"
        // use crate::commented;
        use crate::store::{self, sqlite::{Sqlite, File as F}, Wait as W};
        use super::super::health::Report;
        use rusqlite::Row;
        pub struct Thing<'a>(&'a str, char);
        pub(super) enum Other {}
        impl Iterator for Other { type Item = u8; }
        fn f() { let _ = ("crate::text \" crate::x", '"', r#"crate::"raw"#, '\''); crate::doctor::run(); }
        fn g() { crate::store::postgres::open(); my_crate::no(); }
    "##;
    let file = SourceFile::new("src/http/gate.rs", text);
    let paths: Vec<String> = file.crate_paths().iter().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        [
            "store::self",
            "store::sqlite::Sqlite",
            "store::sqlite::File",
            "store::Wait",
            "doctor::run",
            "store::postgres::open",
            "health::Report"
        ]
    );
    assert!(file.uses_crate("rusqlite") && !file.uses_crate("postgres"));
    assert_eq!(file.types(), ["Thing", "Other"]);
}
