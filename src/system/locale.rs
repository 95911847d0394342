//! What characters a reader of standard output can be shown.

use std::env;
use std::ffi::OsString;

/// Whether the locale of this process has UTF-8. Where none is set, only ASCII is certain.
pub fn has_utf8() -> bool {
    is_utf8(&|name| env::var_os(name))
}

/// `LC_ALL` comes before `LC_CTYPE`, and that before `LANG`; one that is empty counts as not set (locale(7)).
fn is_utf8(variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
    let found = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set);
    let found = found.map(|locale| locale.to_string_lossy().to_ascii_lowercase());
    found.is_some_and(|locale| locale.contains("utf-8") || locale.contains("utf8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_locale_that_is_set_decides() {
        for (set, expected) in [
            (&[("LANG", "en_US.UTF-8")][..], true),
            (&[("LC_CTYPE", "C.utf8"), ("LANG", "C")][..], true),
            (&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")][..], false),
            (&[("LC_ALL", ""), ("LANG", "de_DE.UTF-8")][..], true),
            (&[("LANG", "en_US.ISO-8859-1")][..], false),
            (&[][..], false),
        ] {
            let variable = |name: &str| {
                let found = set.iter().find(|(other, _)| *other == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(is_utf8(&variable), expected, "{set:?}");
        }
    }
}
