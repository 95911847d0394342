//! The defaults of the settings. The help text prints them, and the program that makes the man page
//! includes this file.

/// Path of the SQLite database.
pub const DEFAULT_DB: &str = "/data/cts.db";
/// Address to listen on.
pub const DEFAULT_HOST: &str = "127.0.0.1";
/// Port to listen on.
pub const DEFAULT_PORT: u16 = 3000;
/// Maximum number of HTTP connections.
pub const DEFAULT_CONNECTIONS: usize = 128;
/// How long a command waits for the migration lock.
pub const DEFAULT_LOCK_TIMEOUT: &str = "30s";

/// How often the service makes a backup.
pub const DEFAULT_BACKUP_EVERY: &str = "24h";
/// Which backups are kept.
pub const DEFAULT_BACKUP_KEEP: &str = "daily=7,weekly=4,monthly=6";

/// How far back the archive goes.
pub const DEFAULT_ARCHIVE_KEEP: &str = "7d";

/// Whether the service deletes old rows by itself.
pub const DEFAULT_RETENTION: &str = "1";

/// How long to wait for a PostgreSQL server that cannot be reached.
pub const DEFAULT_WAIT: &str = "60s";
/// Maximum number of connections in the PostgreSQL pool.
pub const DEFAULT_POOL_MAX: u32 = 20;
/// How long the pool keeps an idle connection.
pub const DEFAULT_POOL_IDLE: &str = "30s";
/// How long to wait for a connection of the pool.
pub const DEFAULT_POOL_CONNECT: &str = "10s";
