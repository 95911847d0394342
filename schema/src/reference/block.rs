//! Reads the comment blocks of a SQL file. A block is a run of lines that begin with `--`.

/// A comment block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its first line in the file, from 1.
    pub first_line: usize,
    /// Its last line in the file.
    pub last_line: usize,
    /// What it says.
    pub paragraphs: Vec<Paragraph>,
}

/// A part of a block, separated from the next by a line `--`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paragraph {
    /// Running text, its lines joined.
    Text(String),
    /// A list: lines `--   term  text`, and lines indented further that continue the text.
    List(Vec<Entry>),
}

/// An entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its line in the file, from 1.
    pub line: usize,
    /// The word or words it explains, such as the name of a column.
    pub term: String,
    /// The explanation.
    pub text: String,
}

/// Indentation of a list entry behind `--`. Running text has one blank, a continued entry more.
const ENTRY: &str = "   ";

/// The comment blocks of a SQL file, in order.
pub fn blocks(sql: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut after_blank_comment = false;
    for (line, text) in (1..).zip(sql.lines()) {
        let Some(comment) = text.strip_prefix("--") else { continue };
        match blocks.last_mut() {
            Some(block) if block.last_line + 1 == line => block.last_line = line,
            _ => blocks.push(Block { first_line: line, last_line: line, paragraphs: Vec::new() }),
        }
        let is_new = blocks.last().is_some_and(|block| block.first_line == line);
        if let Some(block) = blocks.last_mut().filter(|_| !comment.trim().is_empty()) {
            add_line(&mut block.paragraphs, comment, line, is_new || after_blank_comment);
        }
        after_blank_comment = comment.trim().is_empty();
    }
    blocks
}

fn add_line(paragraphs: &mut Vec<Paragraph>, comment: &str, line: usize, begins: bool) {
    let text = comment.trim();
    let is_indented = comment.starts_with(ENTRY);
    match (paragraphs.last_mut(), entry(comment, line)) {
        (Some(Paragraph::List(entries)), Some(entry)) if !begins => entries.push(entry),
        (Some(Paragraph::List(entries)), None) if !begins && is_indented => {
            if let Some(entry) = entries.last_mut() {
                entry.text = format!("{} {text}", entry.text);
            }
        }
        (_, Some(entry)) => paragraphs.push(Paragraph::List(vec![entry])),
        (Some(Paragraph::Text(before)), None) if !begins => *before = format!("{before} {text}"),
        (_, None) => paragraphs.push(Paragraph::Text(text.to_string())),
    }
}

/// The list entry that begins in this line, if one does.
fn entry(comment: &str, line: usize) -> Option<Entry> {
    let rest = comment.strip_prefix(ENTRY).filter(|rest| !rest.starts_with(' '))?;
    let (term, text) = rest.split_once("  ")?;
    Some(Entry { line, term: term.to_string(), text: text.trim().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_lists_are_told_apart() {
        let sql = "-- One row\n-- is one.\n--\n--   id    row id; integer\n--   name  its name,\n--         which is long\n\
                   SELECT 1;\n\n-- Note\n";
        let entry =
            |line, term: &str, text: &str| Entry { line, term: term.into(), text: text.into() };
        assert_eq!(
            blocks(sql),
            [
                Block {
                    first_line: 1,
                    last_line: 6,
                    paragraphs: vec![
                        Paragraph::Text("One row is one.".into()),
                        Paragraph::List(vec![
                            entry(4, "id", "row id; integer"),
                            entry(5, "name", "its name, which is long"),
                        ]),
                    ],
                },
                Block {
                    first_line: 9,
                    last_line: 9,
                    paragraphs: vec![Paragraph::Text("Note".into())]
                },
            ]
        );
    }

    #[test]
    fn terms_may_have_blanks_and_paragraphs_end_at_an_empty_comment() {
        let found = blocks("-- a\n--\n-- b\n--\n--   0 or 1  integer\n--\n--   x  y\n");
        let paragraphs = &found[0].paragraphs;
        assert_eq!(paragraphs.len(), 4);
        assert_eq!(paragraphs[1], Paragraph::Text("b".into()));
        assert!(matches!(&paragraphs[2], Paragraph::List(list) if list[0].term == "0 or 1"));
    }

    #[test]
    fn indented_comments_and_files_without_comments_have_no_blocks() {
        assert!(blocks("SELECT 1\n  -- not a block\n;").is_empty());
        assert!(blocks("").is_empty());
    }
}
