//! The pages that people read: their links lead somewhere, their shell blocks run, and what they
//! say of versions, variables, exit codes and messages is what the program and the source say.

pub mod blocks;
mod facts;
mod links;
mod manual;
#[cfg(feature = "postgres")]
mod rights;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};

/// A page in Markdown.
pub struct Page {
    /// Path from the project's root, such as `docs/http.md`.
    pub name: String,
    pub text: String,
}

/// README.md and its neighbours, and every page of `docs`.
fn pages() -> Vec<Page> {
    let mut paths = markdown_in("");
    paths.extend(markdown_in("docs"));
    assert!(paths.len() > 12, "{paths:?}");
    paths.into_iter().map(|path| page(&path)).collect()
}

pub fn page(name: &str) -> Page {
    Page { name: name.into(), text: read(name) }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the project.
fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The pages in a directory, as paths from the project's root.
fn markdown_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<String> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| from_root(&path))
        .collect();
    paths.sort();
    paths
}

fn from_root(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// Every file below a directory of the project.
fn files_below(folder: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

/// A fenced block.
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    pub language: String,
    pub text: String,
    /// The HTML comment on the line above it, if there is one.
    pub comment: Option<String>,
}

impl Page {
    /// The lines outside fenced blocks.
    fn prose(&self) -> Vec<&str> {
        let mut is_inside = false;
        let mut prose = Vec::new();
        for line in self.text.lines() {
            if line.starts_with("```") {
                is_inside = !is_inside;
            } else if !is_inside {
                prose.push(line);
            }
        }
        assert!(!is_inside, "{}: a block is not closed", self.name);
        prose
    }

    fn headings(&self) -> Vec<&str> {
        let prose = self.prose();
        let headings = prose.into_iter().filter(|line| line.starts_with('#'));
        headings.map(|line| line.trim_start_matches('#').trim()).collect()
    }

    pub fn blocks(&self) -> Vec<Block> {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        for (number, line) in lines.iter().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    let above = number.checked_sub(1).map(|above| lines[above]);
                    let comment = above.and_then(|line| {
                        line.strip_prefix("<!-- ")?.strip_suffix(" -->").map(str::to_string)
                    });
                    let language = language.to_string();
                    open = Some(Block { line: number + 1, language, text: String::new(), comment });
                }
                (None, Some(block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, None) => {}
            }
        }
        blocks
    }
}

/// The text between backticks in a line, each.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}
