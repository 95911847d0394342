//! The reader of environment variables: types, defaults, and the record of what was read. It knows no
//! variable by name.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::setting::{SecretLocation, Setting, SettingSource, Sourced};
use crate::error::{Error, Kind, Result};
use crate::system::environment::Environment;
use crate::system::secret::Secret;
use crate::system::value::{self, Reading, shown};

/// Longest duration that a setting may have: 10 years, which can be added to any point in time.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Reads variables and records each setting with its source. A variable set to the empty string counts as
/// not set.
pub struct EnvironmentReader<'e> {
    variables: Environment<'e>,
    settings: RefCell<Vec<Setting>>,
    notices: RefCell<Vec<String>>,
}

impl<'e> EnvironmentReader<'e> {
    /// A reader of these variables.
    pub fn new(variables: Environment<'e>) -> EnvironmentReader<'e> {
        EnvironmentReader { variables, settings: RefCell::default(), notices: RefCell::default() }
    }

    /// The variables themselves.
    #[cfg(feature = "postgres")]
    pub fn variables(&self) -> Environment<'e> {
        self.variables
    }

    /// All settings recorded, in the order in which they were read, and what an operator should know of how
    /// values were read.
    pub fn into_records(self) -> (Vec<Setting>, Vec<String>) {
        (self.settings.into_inner(), self.notices.into_inner())
    }

    /// Keeps the notice of a value; returns the value.
    pub fn accept<T>(&self, read: Reading<T>) -> T {
        self.notices.borrow_mut().extend(read.notice);
        read.value
    }

    /// Records a setting that is not secret.
    pub fn record(&self, name: &'static str, source: SettingSource, value: impl Display) {
        let shown = value.to_string();
        self.settings.borrow_mut().push(Setting { name, shown, source, secret_location: None });
    }

    /// Records a secret by what may be shown of it.
    pub fn record_secret(
        &self,
        name: &'static str,
        source: SettingSource,
        shown: &str,
        location: SecretLocation,
    ) {
        let (shown, secret_location) = (shown.into(), Some(location));
        self.settings.borrow_mut().push(Setting { name, shown, source, secret_location });
    }

    fn raw(&self, name: &str) -> Option<OsString> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable is set to anything.
    pub fn is_set(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A variable that holds a path; not recorded.
    ///
    /// # Errors
    ///
    /// As [`value::path`].
    pub fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        self.raw(name).map(|raw| self.path_of(name, &raw)).transpose()
    }

    /// A path from the variable or the flag `name`.
    ///
    /// # Errors
    ///
    /// As [`value::path`].
    pub fn path_of(&self, name: &str, raw: &OsStr) -> Result<PathBuf> {
        value::path(name, raw).map(|read| self.accept(read))
    }

    /// A variable that holds text; not recorded.
    ///
    /// # Errors
    ///
    /// As [`value::text`].
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        self.raw(name).map(|raw| self.text_of(name, &raw)).transpose()
    }

    /// Text from the variable or the flag `name`.
    ///
    /// # Errors
    ///
    /// As [`value::text`].
    pub fn text_of(&self, name: &str, raw: &OsStr) -> Result<String> {
        value::text(name, raw).map(|read| self.accept(read))
    }

    /// A variable that holds a secret; not recorded.
    ///
    /// # Errors
    ///
    /// As [`value::secret`].
    pub fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let read = self.raw(name).map(|raw| value::secret(name, &raw)).transpose()?;
        Ok(read.map(|read| Secret::new(self.accept(read))))
    }

    /// A switch, off by default.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] if the value is neither on nor off.
    pub fn switch(&self, name: &'static str) -> Result<bool> {
        self.switch_or(name, "off")
    }

    /// A switch with this default.
    ///
    /// # Errors
    ///
    /// As [`EnvironmentReader::switch`].
    pub fn switch_or(&self, name: &'static str, default: &str) -> Result<bool> {
        let Sourced { value, source } = self.text_or(name, default)?;
        let is_on = match value.to_ascii_lowercase().as_str() {
            "0" | "off" | "false" | "no" => false,
            "1" | "on" | "true" | "yes" => true,
            other => return Err(invalid(name, other, "1 (on) or 0 (off)")),
        };
        self.record(name, source, if is_on { "on" } else { "off" });
        Ok(is_on)
    }

    /// A duration, in seconds if it has no unit.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] if the value is not a duration.
    pub fn duration(&self, name: &'static str, default: &str) -> Result<Duration> {
        let Sourced { value, source } = self.text_or(name, default)?;
        self.record(name, source, &value);
        let seconds = value.parse().map(Duration::from_secs).ok();
        seconds
            .or_else(|| humantime::parse_duration(&value).ok())
            .map(|duration| duration.min(DURATION_MAX))
            .ok_or_else(|| invalid(name, &value, "a duration such as 30s or 2min"))
    }

    /// A duration greater than zero.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] if the value is zero or not a duration.
    #[cfg(feature = "postgres")]
    pub fn positive_duration(&self, name: &'static str, default: &str) -> Result<Duration> {
        match self.duration(name, default)? {
            Duration::ZERO => Err(invalid(name, "0", "a duration greater than zero, such as 30s")),
            duration => Ok(duration),
        }
    }

    /// A number within a range.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] if the value is not such a number.
    pub fn number<N>(&self, name: &'static str, default: N, range: RangeInclusive<N>) -> Result<N>
    where
        N: FromStr + PartialOrd + Display,
    {
        let Sourced { value, source } = self.text_or(name, default)?;
        self.record(name, source, &value);
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let number = value.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| invalid(name, &value, &expected()))
    }

    fn text_or(&self, name: &str, default: impl Display) -> Result<Sourced<String>> {
        Ok(match self.text(name)? {
            Some(value) => Sourced { value, source: SettingSource::Environment },
            None => Sourced { value: default.to_string(), source: SettingSource::Default },
        })
    }
}

/// The error for a value that cannot be used. A value that may contain a password is not repeated.
pub fn invalid(name: &str, value: &str, expected: &str) -> Error {
    let shown = shown(value.as_ref());
    Error::new(Kind::Config, format!("{name}: {shown} is not {expected}"))
        .remedy(format!("correct {name}"))
}
