//! Reads the comment of a column: its meaning, its format and unit, and the programs that write and read it.

use super::block::Entry;

/// Who writes and reads columns. The conventions in the SQL say what the names mean.
const PROGRAMS: [&str; 5] = ["cts", "database", "engine", "web", "programs"];

/// The comment of a column.
#[derive(Debug, PartialEq, Eq)]
pub struct ColumnComment {
    /// The name of the column.
    pub name: String,
    /// What a value means.
    pub meaning: String,
    /// Format, unit and usual values.
    pub format: String,
    /// The programs that write it; empty where none is known.
    pub written_by: Vec<String>,
    /// The programs that read it; empty where none is known.
    pub read_by: Vec<String>,
}

/// Reads the comment of a column.
///
/// # Errors
/// Where it does not consist of the four parts; the text says which one is wrong.
pub fn column_comment(entry: &Entry) -> Result<ColumnComment, String> {
    let parts: Vec<&str> = entry.text.split("; ").collect();
    let [meaning, format, written_by, read_by] = parts.as_slice() else {
        return Err(format!(
            "{} parts instead of four (meaning; format; written by …; read by …)",
            parts.len()
        ));
    };
    if meaning.is_empty() || format.is_empty() {
        return Err("the meaning or the format is empty".to_string());
    }
    Ok(ColumnComment {
        name: entry.term.clone(),
        meaning: (*meaning).to_string(),
        format: (*format).to_string(),
        written_by: programs(written_by, "written")?,
        read_by: programs(read_by, "read")?,
    })
}

/// The programs in `written by …` or `read by …`; none in `not written` or `not read`.
fn programs(part: &str, verb: &str) -> Result<Vec<String>, String> {
    if part == format!("not {verb}") {
        return Ok(Vec::new());
    }
    let names = part.strip_prefix(verb).and_then(|rest| rest.strip_prefix(" by "));
    let names =
        names.ok_or_else(|| format!("{part:?} should be \"{verb} by …\" or \"not {verb}\""))?;
    names.split(", ").map(program).collect()
}

fn program(name: &str) -> Result<String, String> {
    if PROGRAMS.contains(&name) {
        Ok(name.to_string())
    } else {
        Err(format!("{name:?} is not one of {}", PROGRAMS.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ColumnComment, String> {
        column_comment(&Entry { line: 1, term: "price".into(), text: text.into() })
    }

    #[test]
    fn the_four_parts_are_read() {
        let comment = read("last price; quote currency; written by engine, web; not read").unwrap();
        assert_eq!(comment.name, "price");
        assert_eq!(comment.meaning, "last price");
        assert_eq!(comment.format, "quote currency");
        assert_eq!(comment.written_by, ["engine", "web"]);
        assert!(comment.read_by.is_empty());
    }

    #[test]
    fn other_forms_are_refused_with_the_part_that_is_wrong() {
        for (text, reason) in [
            ("price; number; not written", "3 parts instead of four"),
            ("price; number; not written; not read; more", "5 parts"),
            ("price; ; not written; not read", "is empty"),
            ("price; number; read by web; not read", "\"read by web\" should be \"written by …\""),
            ("price; number; not written; read by nobody", "\"nobody\" is not one of cts"),
        ] {
            let refusal = read(text).unwrap_err();
            assert!(refusal.contains(reason), "{text}: {refusal}");
        }
    }
}
