//! Access to environment variables.

use std::ffi::OsString;

/// Looks up an environment variable by name. Tests pass their own.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;

/// Names and values of all variables of this process; bytes that are not UTF-8 are replaced.
pub fn all() -> Vec<(String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// Whether a variable of this process is set to anything.
pub fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}
