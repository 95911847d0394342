//! What the command line may say, and the defaults where nothing does. The program that writes the
//! man page reads this file and `cli.rs` too, and no others.

use std::path::PathBuf;

use crate::system::log::Verbosity;

/// Path of the SQLite database where none is configured.
pub const DEFAULT_DB: &str = "/data/cts.db";
/// Address listened on where none is configured.
pub const DEFAULT_HOST: &str = "127.0.0.1";
/// Port listened on where none is configured.
pub const DEFAULT_PORT: u16 = 3000;
/// Connections at once where nothing is configured. From half of them on, who dawdles makes room.
pub const DEFAULT_CONNECTIONS: usize = 128;
/// How long a command waits for the migration lock where nothing is configured.
pub const DEFAULT_LOCK_TIMEOUT: &str = "30s";

/// How long a PostgreSQL server that is down is waited for where nothing is configured.
pub const DEFAULT_WAIT: &str = "60s";
/// Connections of the PostgreSQL pool at most where nothing is configured.
pub const DEFAULT_POOL_MAX: u32 = 20;
/// How long the pool keeps an idle connection where nothing is configured.
pub const DEFAULT_POOL_IDLE: &str = "30s";
/// How long the pool waits for a connection where nothing is configured.
pub const DEFAULT_POOL_CONNECT: &str = "10s";

/// What the command line gives; everything that is `None` is looked for elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--db`.
    pub db: Option<PathBuf>,
    /// `--database-url-file`.
    pub database_url_file: Option<PathBuf>,
    /// `--host`.
    pub host: Option<String>,
    /// `--port`.
    pub port: Option<String>,
    /// `--quiet` or `--verbose`.
    pub verbosity: Verbosity,
}
