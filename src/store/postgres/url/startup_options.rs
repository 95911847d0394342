//! The command-line options of the server process that a connection asks for (`options` of a URL), and the
//! search path among them.

/// The search path that startup options ask for. The server splits them at white space, where no backslash is before
/// it, and the last setting of a name counts. (PostgreSQL documentation, `options`; `postgres`, "Options")
pub fn search_path_of(options: &str) -> Option<String> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t'..='\r' => words.push(String::new()),
            other => {
                let kept = if other == '\\' { characters.next() } else { Some(other) };
                words.last_mut().into_iter().zip(kept).for_each(|(word, kept)| word.push(kept));
            }
        }
    }
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    let mut path = None;
    while let Some(word) = words.next() {
        let setting = match (word.strip_prefix("--"), word.strip_prefix("-c")) {
            (Some(setting), _) => setting.to_string(),
            (None, Some("")) => words.next().unwrap_or_default(),
            (None, Some(setting)) => setting.to_string(),
            (None, None) => continue,
        };
        match setting.split_once('=') {
            Some((name, value)) if name.replace('-', "_").eq_ignore_ascii_case("search_path") => {
                path = Some(value.to_string());
            }
            _ => {}
        }
    }
    path
}

/// Startup options with one more, which sets the search path, and which counts where they set it too.
pub fn with_search_path(options: Option<&str>, path: &str) -> String {
    let set = format!("-csearch_path={}", escaped(path));
    options.map_or_else(|| set.clone(), |options| format!("{options} {set}"))
}

/// A value in startup options, where a backslash stands before white space or a backslash that is meant
/// (PostgreSQL documentation, `options`).
fn escaped(value: &str) -> String {
    let escape = |c| matches!(c, '\\' | ' ' | '\t'..='\r').then_some('\\').into_iter();
    value.chars().flat_map(|c| escape(c).chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_path_of_startup_options_is_read_as_the_server_reads_it() {
        for (options, path) in [
            ("-csearch_path=cts", Some("cts")),
            ("-c search_path=cts", Some("cts")),
            ("  --search-path=a,b -cstatement_timeout=5", Some("a,b")),
            ("-csearch_path=a -c Search_Path=b", Some("b")),
            (r#"-csearch_path=a,\ "b\\c""#, Some(r#"a, "b\c""#)),
            ("-cstatement_timeout=5 -e", None),
            ("-c", None),
            ("", None),
        ] {
            assert_eq!(search_path_of(options).as_deref(), path, "{options}");
        }
    }

    #[test]
    fn a_search_path_that_is_added_is_the_one_that_the_server_reads() {
        for path in ["cts", r#""a b\c""#, "a, b", "\t\u{b}\r"] {
            for options in [None, Some("-csearch_path=other"), Some("-c work_mem=1MB")] {
                let added = with_search_path(options, path);
                assert_eq!(search_path_of(&added).as_deref(), Some(path), "{added}");
                assert!(added.starts_with(options.unwrap_or_default()), "{added}");
            }
        }
    }
}
