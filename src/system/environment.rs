//! Access to environment variables.

use std::ffi::OsString;

/// Looks up an environment variable by name. Tests pass their own.
pub type Environment<'e> = &'e dyn Fn(&str) -> Option<OsString>;
