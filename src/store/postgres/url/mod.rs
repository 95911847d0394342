//! Reads a PostgreSQL URL as libpq does (PostgreSQL documentation, "Connection URIs" and
//! "Parameter Key Words") into a [`Target`]. It is stricter than libpq where a misplaced
//! delimiter could make part of a password pass for a host, a port or a database: an `@`,
//! `?` or `/` that is not percent-encoded is refused. No error quotes the URL, except the name
//! of an unknown parameter where that cannot be part of a password.

mod auth;
mod environment;
mod names;
mod parameters;
mod passfile;
mod reader;
mod startup_options;
mod target;
mod tls_settings;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::error::{Error, Kind};
use crate::system::environment::Environment;
pub use auth::{AuthMethod, AuthMethods};
pub use startup_options::{search_path_of, with_search_path};
pub use target::{
    ChannelBinding, Endpoint, Host, Password, Root, SessionAttrs, SslMode, Target, TlsSettings,
    TlsStart, TlsVersions, WarningSubject,
};

/// Folder of the socket if no host is named, as Debian builds libpq (`pg_config`,
/// `DEFAULT_PGSOCKET_DIR`).
const DEFAULT_SOCKET: &str = "/var/run/postgresql";

fn home(environment: Environment<'_>) -> Option<PathBuf> {
    environment("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

fn config_error(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}
