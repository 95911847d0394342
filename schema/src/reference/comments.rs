//! What the comments of the SQL files say of tables, columns and indexes.

use std::collections::BTreeMap;

use super::CommentDefect;
use super::block::{Block, Entry, Paragraph, blocks};
use super::column::{ColumnComment, column_comment};
use crate::catalog::{CATEGORIES, Catalog};
use crate::sql::SqlFile;
use crate::sql::{Created, statements};

/// The first words of the block that states the conventions of the schema.
const CONVENTIONS: &str = "Conventions";
/// The comments of the SQL files of one database.
#[derive(Debug, Default)]
pub struct Comments {
    /// What all tables have in common.
    pub conventions: Vec<Paragraph>,
    /// The description of each category, by its key.
    pub categories: BTreeMap<String, String>,
    /// The comment of each table, by its name.
    pub tables: BTreeMap<String, TableComment>,
    /// The text about each index, by its name.
    pub indexes: BTreeMap<String, String>,
}

/// The comment of a table.
#[derive(Debug, Default)]
pub struct TableComment {
    /// What one row is, and notes.
    pub text: Vec<String>,
    /// Its columns.
    pub columns: Vec<ColumnComment>,
}

impl Comments {
    /// Reads the comments of the files. Comments without the agreed form are added to `defects`.
    pub fn read(files: &[SqlFile<'_>], defects: &mut Vec<CommentDefect>) -> Comments {
        let mut comments = Comments::default();
        for file in files {
            comments.read_file(file, defects);
        }
        comments
    }

    fn read_file(&mut self, file: &SqlFile<'_>, defects: &mut Vec<CommentDefect>) {
        let blocks = blocks(file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        let mut described = Vec::new();
        let mut current: Option<&Block> = None;
        for statement in statements(file.text) {
            let before = statement.line.saturating_sub(1);
            match blocks.iter().find(|block| block.last_line == before) {
                Some(block) => {
                    current = Some(block);
                    described.push(block.first_line);
                }
                None if is_empty(&lines, before) => current = None,
                None => {}
            }
            if let Some(block) = current {
                self.add(file, &statement.creates(), block, defects);
            }
        }
        for note in blocks.iter().filter(|block| !described.contains(&block.first_line)) {
            self.add_note(note);
        }
    }

    /// Adds the block above a statement that creates `created`.
    fn add(
        &mut self,
        file: &SqlFile<'_>,
        created: &Created,
        block: &Block,
        defects: &mut Vec<CommentDefect>,
    ) {
        match created {
            Created::Index(index) => {
                self.indexes.insert(index.clone(), text(block).join(" "));
            }
            Created::Table(table) | Created::Column(table, _) => {
                let comment = self.tables.entry(table.clone()).or_default();
                if matches!(created, Created::Table(_)) {
                    comment.text = text(block);
                }
                for entry in entries(block) {
                    match column_comment(entry) {
                        Ok(column) => comment.columns.push(column),
                        Err(reason) => defects.push(CommentDefect {
                            location: format!("{}, line {}", file.name, entry.line),
                            reason: format!("column {table}.{}: {reason}", entry.term),
                        }),
                    }
                }
            }
            Created::Rows(_) | Created::Other => {}
        }
    }

    /// Adds a block that stands by itself: the conventions, or the description of a category.
    fn add_note(&mut self, block: &Block) {
        let Some(Paragraph::Text(first)) = block.paragraphs.first() else { return };
        if first == CONVENTIONS {
            self.conventions = block.paragraphs.iter().skip(1).cloned().collect();
        }
        let Some((word, description)) = first.split_once(": ") else { return };
        let category = CATEGORIES.iter().find(|category| category.key.eq_ignore_ascii_case(word));
        if let Some(category) = category {
            self.categories.insert(category.key.to_string(), description.to_string());
        }
    }

    /// Adds to `defects` the objects of the catalogue without a comment, and the comments on columns that do not exist.
    pub fn check(&self, catalog: &Catalog, defects: &mut Vec<CommentDefect>) {
        let mut missing = |location: String, reason: &str| {
            defects.push(CommentDefect { location, reason: reason.to_string() });
        };
        for category in CATEGORIES.iter().filter(|c| !self.categories.contains_key(c.key)) {
            missing(format!("category {}", category.key), "is not described by a comment");
        }
        for table in catalog.tables.iter() {
            let comment = self.tables.get(&*table.name);
            if comment.is_none_or(|comment| comment.text.is_empty()) {
                missing(format!("table {}", table.name), "has no comment");
            }
            for column in table.columns.iter() {
                let named = |comment: &TableComment| comment.count(&column.name);
                match comment.map_or(0, named) {
                    0 => {
                        missing(format!("column {}.{}", table.name, column.name), "has no comment")
                    }
                    1 => {}
                    _ => missing(
                        format!("column {}.{}", table.name, column.name),
                        "has two comments",
                    ),
                }
            }
            for index in table.indexes.iter().filter(|i| !self.indexes.contains_key(&*i.name)) {
                missing(format!("index {}", index.name), "has no comment");
            }
        }
        self.check_names(catalog, defects);
    }

    /// Adds to `defects` the comments on columns that do not exist in the catalogue.
    pub fn check_names(&self, catalog: &Catalog, defects: &mut Vec<CommentDefect>) {
        for (name, comment) in &self.tables {
            let table = catalog.table(name);
            for column in &comment.columns {
                let is_known =
                    table.is_some_and(|t| t.columns.iter().any(|c| c.name == column.name));
                if !is_known {
                    defects.push(CommentDefect {
                        location: format!("column {name}.{}", column.name),
                        reason: "has a comment and does not exist".to_string(),
                    });
                }
            }
        }
    }
}

impl TableComment {
    /// The comment of the column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnComment> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn count(&self, name: &str) -> usize {
        self.columns.iter().filter(|column| column.name == name).count()
    }
}

/// Whether the line of that number, from 1, is empty. There is none above the first.
fn is_empty(lines: &[&str], number: usize) -> bool {
    let line = number.checked_sub(1).and_then(|at| lines.get(at));
    line.is_none_or(|line| line.trim().is_empty())
}

fn text(block: &Block) -> Vec<String> {
    let texts = block.paragraphs.iter().filter_map(|paragraph| match paragraph {
        Paragraph::Text(text) => Some(text.clone()),
        Paragraph::List(_) => None,
    });
    texts.collect()
}

fn entries(block: &Block) -> impl Iterator<Item = &Entry> {
    block.paragraphs.iter().flat_map(|paragraph| match paragraph {
        Paragraph::Text(_) => &[],
        Paragraph::List(entries) => entries.as_slice(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::ddl;

    const SQL: &str = "-- A file.\n\n-- Conventions\n--\n-- Text is text.\n\n-- System: people\n\n\
        -- One person.\n--\n--   id    row id; integer; written by database; read by web\n\
        --   name  name; text; not written; not read\n\
        CREATE TABLE IF NOT EXISTS p (\n    id BIGINT PRIMARY KEY,\n    name TEXT\n);\n\n\
        -- Serves reading by name.\nCREATE INDEX IF NOT EXISTS p_name\n    ON p (name);\n\
        CREATE INDEX IF NOT EXISTS p_both ON p (name, id);\n\n\
        CREATE INDEX IF NOT EXISTS p_bare ON p (id);\n\n\
        -- When the person was born.\n--\n--   born  date of birth; UTC date; not written; not read\n\
        ALTER TABLE p ADD COLUMN IF NOT EXISTS born DATE;\n";

    fn read(sql: &str) -> (Comments, Vec<String>) {
        let files = [SqlFile { name: "f.sql", text: sql }];
        let mut defects = Vec::new();
        let comments = Comments::read(&files, &mut defects);
        comments.check(&ddl::read_catalog(&files, false).unwrap(), &mut defects);
        let lines = defects.iter().map(ToString::to_string);
        (comments, lines.filter(|line| !line.starts_with("category ")).collect())
    }

    #[test]
    fn tables_columns_indexes_and_notes_are_read() {
        let (comments, defects) = read(SQL);
        assert_eq!(comments.conventions, [Paragraph::Text("Text is text.".into())]);
        assert_eq!(comments.categories["system"], "people");
        assert_eq!(comments.tables["p"].text, ["One person."]);
        let names: Vec<_> = comments.tables["p"].columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["id", "name", "born"]);
        assert_eq!(defects, ["index p_bare: has no comment"]);
    }

    #[test]
    fn a_block_also_describes_the_statements_that_follow_without_an_empty_line() {
        let (comments, _) = read(SQL);
        assert_eq!(comments.indexes["p_name"], "Serves reading by name.");
        assert_eq!(comments.indexes["p_both"], "Serves reading by name.");
        assert!(!comments.indexes.contains_key("p_bare"));
    }

    #[test]
    fn what_is_missing_doubled_or_unknown_is_a_defect() {
        let table = "CREATE TABLE IF NOT EXISTS p (id TEXT, name TEXT);\n";
        let (_, defects) = read(table);
        assert_eq!(
            defects,
            [
                "table p: has no comment",
                "column p.id: has no comment",
                "column p.name: has no comment"
            ]
        );
        let line = |name: &str| format!("--   {name}  row id; text; not written; not read\n");
        let text = format!("-- P.\n--\n{}{}{}{table}", line("id"), line("id"), line("gone"));
        assert_eq!(
            read(&text).1,
            [
                "column p.id: has two comments",
                "column p.name: has no comment",
                "column p.gone: has a comment and does not exist"
            ]
        );
    }

    #[test]
    fn a_comment_without_the_four_parts_is_a_defect_with_its_line() {
        let text = "-- P.\n--\n--   id  row id; text\nCREATE TABLE IF NOT EXISTS p (id TEXT);\n";
        let (_, defects) = read(text);
        assert!(defects[0].starts_with("f.sql, line 3: column p.id: 2 parts"), "{defects:?}");
    }
}
