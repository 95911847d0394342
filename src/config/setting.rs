//! A setting as it was read, and where its value and its secret came from.

use std::path::PathBuf;

/// A setting as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name of its environment variable.
    pub name: &'static str,
    /// Its value in a form that may be printed, never a secret.
    pub shown: String,
    /// Where the value came from.
    pub source: SettingSource,
    /// Where the secret is stored, if the setting is one.
    pub secret_location: Option<SecretLocation>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// This flag of the command line.
    Flag(&'static str),
    /// The environment variable.
    Environment,
    /// Neither was given.
    Default,
}

/// Where a secret is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretLocation {
    /// In the environment variable itself.
    Variable,
    /// In a file.
    File(PathBuf),
}

/// A value with its source.
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: SettingSource,
}

impl<T> Sourced<T> {
    /// The variable's value, else the default.
    pub fn variable(variable: Option<T>, default: impl FnOnce() -> T) -> Sourced<T> {
        let (value, source) = match variable {
            Some(value) => (value, SettingSource::Environment),
            None => (default(), SettingSource::Default),
        };
        Sourced { value, source }
    }

    /// What an error about the value names: the flag if it came from one, else the variable.
    pub fn name(&self, variable: &'static str) -> &'static str {
        match self.source {
            SettingSource::Flag(flag) => flag,
            SettingSource::Environment | SettingSource::Default => variable,
        }
    }
}
