//! Quoting for commands that an operator can copy into a shell.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::system::visible::is_unsafe;

/// A path as one word of a shell command, quoted if necessary. Characters that must not be shown as they
/// are, and bytes that are not UTF-8, are written as octal numbers in `$'…'`, as bash, zsh and ksh read it.
pub fn word(path: &Path) -> String {
    let text = match path.to_str() {
        Some(text) if !text.contains(is_unsafe) => text,
        _ => return octal_word(path),
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn octal_word(path: &Path) -> String {
    let mut word = String::from("$'");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'\'' | b'\\' => word.extend(['\\', char::from(*byte)]),
            0x20..=0x7e => word.push(char::from(*byte)),
            // Writing to a String cannot fail.
            byte => drop(write!(word, "\\{byte:03o}")),
        }
    }
    word + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell() {
        for (path, word) in [
            ("/data/cts.db", "/data/cts.db"),
            ("/a b", "'/a b'"),
            ("/it's", r"'/it'\''s'"),
            ("/a\n'b\u{e9}", r"$'/a\012\'b\303\251'"),
        ] {
            assert_eq!(super::word(Path::new(path)), word);
        }
    }
}
