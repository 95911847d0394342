//! The flags of the command line that configure cts.

use std::path::PathBuf;

use crate::system::log::Verbosity;

/// Flags as they were given; `None` if they were not.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--db`.
    pub db: Option<PathBuf>,
    /// `--database-url-file`.
    pub database_url_file: Option<PathBuf>,
    /// `--host`.
    pub host: Option<String>,
    /// `--port`, not parsed yet.
    pub port: Option<String>,
    /// `--quiet` or `--verbose`.
    pub verbosity: Verbosity,
}
