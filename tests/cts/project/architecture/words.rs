//! One word for one thing: words that the project once had for itself are not used where the field has a
//! word of its own.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::project::source;

/// Words that are not used, or their beginnings (`-`), and what is said instead.
const REPLACED: [(&str, &str); 19] = [
    ("a look", "a snapshot, an inspection"),
    ("count_on", "advance_sequence"),
    ("dawdl-", "slow client"),
    ("go_on", "advance_sequence"),
    ("heavy", "large table"),
    ("in passing", "online index build"),
    ("looked at", "inspected, examined"),
    ("misfit-", "violation"),
    ("nobodys", "evicted"),
    ("observation-", "finding"),
    ("patience", "wait policy, timeout"),
    ("relaxation-", "constraint exception"),
    ("say_work", "report progress"),
    ("spoil-", "mark_broken"),
    ("stranger-", "client"),
    ("teller-", "reporter"),
    ("unhurried", "without_statement_timeout"),
    ("what lacks", "drift"),
    ("who comes", "new client"),
];
/// Names on disk and in JSON that stay.
const KEPT: [&str; 1] = ["cts_relaxations"];

/// What is searched: code, SQL, scripts, unit files and pages.
const SEARCHED: [&str; 10] = [
    "src",
    "schema/src",
    "schema/sqlite",
    "schema/postgres",
    "tests",
    "benches",
    "release",
    "systemd",
    "docs",
    "README.md",
];

fn files_below(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| files_below(&entry.unwrap().path(), files));
    } else if !path.ends_with("tests/cts/project/architecture/words.rs") {
        files.push(path.to_path_buf());
    }
}

/// An SQL file without its literals: the values of a released statement stay as they are.
fn without_literals(sql: &str) -> String {
    sql.lines().map(|line| line.split('\'').step_by(2).collect::<String>() + "\n").collect()
}

/// The replaced words in a line, a name such as `StrangerError` or `is_misfit` included.
fn replaced_words(line: &str) -> Vec<&'static str> {
    let line = KEPT.iter().fold(line.to_string(), |line, kept| line.replace(kept, ""));
    let lower = line.to_ascii_lowercase();
    let begins_word = |at: usize| {
        !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric())
            || line[at..].starts_with(|c: char| c.is_ascii_uppercase())
                && !line[..at].ends_with(|c: char| c.is_ascii_uppercase())
    };
    let ends_word = |at: usize| !lower[at..].starts_with(|c: char| c.is_ascii_alphanumeric());
    let is_used = |word: &str| {
        let part = word.trim_end_matches('-');
        let mut matches = lower.match_indices(part).map(|(at, _)| at);
        matches.any(|at| begins_word(at) && (part != word || ends_word(at + part.len())))
    };
    REPLACED.iter().map(|(word, _)| *word).filter(|word| is_used(word)).collect()
}

#[test]
fn the_words_of_the_field_are_used() {
    let mut files = Vec::new();
    SEARCHED.iter().for_each(|root| files_below(&source(root), &mut files));
    let mut found = Vec::new();
    for file in files {
        let mut text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
        let name = file.strip_prefix(source("")).unwrap().display().to_string();
        if name.ends_with(".sql") {
            text = without_literals(&text);
        }
        for (number, line) in text.lines().enumerate() {
            for word in replaced_words(line) {
                let instead = REPLACED.iter().find(|(old, _)| *old == word).unwrap().1;
                found.push(format!("{name}:{}: {word:?}: say {instead}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_replaced_word_is_found_in_text_and_in_names() {
    assert_eq!(replaced_words("// It was looked at."), ["looked at"]);
    assert_eq!(without_literals("INSERT ('a', 'b') -- c"), "INSERT (, ) -- c\n");
    assert_eq!(replaced_words("struct FirstStranger; fn is_misfit()"), ["misfit-", "stranger-"]);
    let fine = "cts_relaxations storyteller overlooked at a lookup impatience";
    assert_eq!(replaced_words(fine), [""; 0]);
}

/// A test that is left out silently would pass for one that was run.
#[test]
fn what_is_not_tried_is_said_by_one_function() {
    let mut files = Vec::new();
    files_below(&source("tests"), &mut files);
    let says = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("\"NOT TRIED: {");
    let saying: Vec<_> = files.iter().filter(|file| says(file)).collect();
    assert_eq!(saying, [&source("tests/cts/support/mod.rs")]);
}
