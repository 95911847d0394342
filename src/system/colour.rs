//! Colour for the signs ✓, ⚠ and ✗, where a person reads them on a terminal.

use std::env;
use std::io::IsTerminal;

const SIGNS: [(&str, &str); 3] = [("✓", "32"), ("⚠", "33"), ("✗", "31")];

/// Whether signs on this stream are coloured: it is a terminal that can show it (`TERM` is set and not `dumb`), and
/// `NO_COLOR` (no-color.org) is not set to anything.
pub fn has_colour(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    stream.is_terminal()
        && set("NO_COLOR").is_none()
        && set("TERM").is_some_and(|term| term != "dumb")
}

/// The line, its sign coloured if it begins with one. The text behind it stays as it is.
pub fn coloured(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    let indent = &line[..line.len() - text.len()];
    let found = SIGNS.iter().find_map(|(sign, code)| {
        text.strip_prefix(sign).map(|rest| format!("{indent}\x1b[{code}m{sign}\x1b[0m{rest}"))
    });
    found.unwrap_or_else(|| line.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_that_a_line_begins_with_is_coloured_and_nothing_else() {
        for (line, shown) in [
            ("✓ done", "\x1b[32m✓\x1b[0m done"),
            ("  ⚠ file: ✗", "  \x1b[33m⚠\x1b[0m file: ✗"),
            ("✗", "\x1b[31m✗\x1b[0m"),
            ("file ✓", "file ✓"),
            ("", ""),
        ] {
            assert_eq!(coloured(line), shown);
        }
    }
}
