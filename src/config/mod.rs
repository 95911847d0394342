//! The configuration: one typed value, made once from flags, environment variables and defaults, in this
//! order of precedence. One function reads one setting; each message names its variable or flag.

mod archive;
mod backup;
mod database;
mod database_url;
mod defaults;
mod environment;
mod flags;
mod http;
mod known;
mod notice;
#[cfg(feature = "postgres")]
mod postgresql;
mod service;
mod setting;
#[cfg(test)]
mod tests;
#[cfg(not(feature = "postgres"))]
mod without_postgresql;

use std::sync::Arc;
use std::time::Duration;

use crate::archive::ArchiveSettings;
use crate::backup::BackupSettings;
use crate::error::Result;
use crate::store::Database;
use crate::system::environment::Environment;
use crate::system::log::Verbosity;
use crate::system::secret::Secret;
pub use database::OtherStore;
pub use defaults::*;
use environment::EnvironmentReader;
pub use flags::Flags;
pub use http::Listen;
pub use known::unknown_variables;
pub use notice::{notices, warn_of_other_databases};
pub use service::{SERVICE_FILE, SERVICE_UNIT, ServiceDatabase, service_database};
pub use setting::{SecretLocation, Setting, SettingSource};
#[cfg(not(feature = "postgres"))]
use without_postgresql as postgresql;

/// The configuration of one run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database.
    pub database: Arc<dyn Database>,
    /// Where to listen.
    pub listen: Listen,
    /// Host names that HTTP requests may address, besides IP addresses and `localhost`.
    pub allowed_hosts: Vec<String>,
    /// The token for the administrative paths.
    pub admin_token: Option<Secret>,
    /// Backups: where, how often, and which are kept.
    pub backups: BackupSettings,
    /// The archive of every change, if there is one.
    pub archive: Option<ArchiveSettings>,
    /// Whether the service deletes old rows by itself.
    pub prunes: bool,
    /// How long a command waits for the migration lock.
    pub lock_timeout: Duration,
    /// Which events are logged.
    pub verbosity: Verbosity,
    /// Every setting that was read, and where its value came from.
    pub settings: Vec<Setting>,
    /// What an operator should know of how values were read, as sentences.
    pub value_notices: Vec<String>,
}

/// The configuration of a copy from one database to the other.
#[derive(Clone, Debug)]
pub struct CopyConfig {
    /// The SQLite database.
    pub sqlite: Arc<dyn Database>,
    /// The PostgreSQL database.
    pub postgresql: Arc<dyn Database>,
    /// How long a command waits for the migration lock.
    pub lock_timeout: Duration,
    /// Which events are logged.
    pub verbosity: Verbosity,
    /// What an operator should know of how values were read, as sentences.
    pub value_notices: Vec<String>,
}

impl CopyConfig {
    /// Reads the configuration of both databases. Files with secrets are read, nothing is opened or created.
    ///
    /// # Errors
    ///
    /// As [`Config::load`], and if one of the databases is not configured.
    pub fn load(flags: &Flags, environment: Environment<'_>) -> Result<CopyConfig> {
        let env = EnvironmentReader::new(environment);
        let [sqlite, postgresql] = database::both_databases(flags, &env)?;
        let lock_timeout = env.duration("CTS_LOCK_TIMEOUT", DEFAULT_LOCK_TIMEOUT)?;
        let (_, value_notices) = env.into_records();
        let verbosity = flags.verbosity;
        Ok(CopyConfig { sqlite, postgresql, lock_timeout, verbosity, value_notices })
    }
}

/// The database of the other kind, which `cts copy` would copy the configured one to. `None` in a build that has no other.
/// Nothing is opened or created.
///
/// # Errors
///
/// As [`Config::load`].
pub fn other_store(flags: &Flags, environment: Environment<'_>) -> Result<Option<OtherStore>> {
    database::other_store(flags, &EnvironmentReader::new(environment))
}

impl Config {
    /// Reads the configuration. Files with secrets are read, nothing is opened or created.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind::Config), with the name of the variable or the flag whose value
    /// cannot be used.
    pub fn load(flags: &Flags, environment: Environment<'_>) -> Result<Config> {
        let env = EnvironmentReader::new(environment);
        let database = database::database(flags, &env)?;
        let listen = http::listen(flags, &env)?;
        let allowed_hosts = http::allowed_hosts(&env)?;
        let admin_token = http::admin_token(&env)?;
        let lock_timeout = env.duration("CTS_LOCK_TIMEOUT", DEFAULT_LOCK_TIMEOUT)?;
        let backups = backup::backups(&env, &*database)?;
        let archive = archive::archive(&env, &*database)?;
        let prunes = env.switch_or("CTS_RETENTION", DEFAULT_RETENTION)?;
        let (settings, value_notices) = env.into_records();
        let verbosity = flags.verbosity;
        Ok(Config {
            database,
            listen,
            allowed_hosts,
            admin_token,
            backups,
            archive,
            prunes,
            lock_timeout,
            verbosity,
            settings,
            value_notices,
        })
    }
}
