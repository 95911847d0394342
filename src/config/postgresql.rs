//! The settings of the PostgreSQL server, in a build with the feature `postgres`: DATABASE_URL,
//! DATABASE_URL_FILE, CTS_WAIT and CTS_POOL_MAX, CTS_POOL_IDLE, CTS_POOL_CONNECT, CTS_PG_DUMP.

use std::sync::Arc;

use crate::config::database_url::DatabaseUrl;
use crate::config::environment::EnvironmentReader;
use crate::config::setting::{SecretLocation, SettingSource};
use crate::config::{
    DEFAULT_POOL_CONNECT, DEFAULT_POOL_IDLE, DEFAULT_POOL_MAX, DEFAULT_WAIT, Flags,
};
use crate::error::Result;
use crate::store::Database;
use crate::store::postgres::{DatabaseServer, PoolSettings, ProgramPlaces, Target};

/// The configured server.
///
/// # Errors
///
/// [`Kind::Config`] if there is no URL, or a value cannot be used; the message names the variable or the
/// flag.
pub fn database(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<Arc<dyn Database>> {
    let url = DatabaseUrl::read(flags, env)?;
    let password_file = env.path("PGPASSFILE")?;
    let variables = |name: &str| match name {
        "PGPASSFILE" => password_file.clone().map(Into::into),
        name => (env.variables())(name),
    };
    let target = Target::read(&url.origin, &url.text, &variables)?;
    let name = match url.location {
        SecretLocation::Variable => "DATABASE_URL",
        SecretLocation::File(_) => "DATABASE_URL_FILE",
    };
    env.record_secret(name, url.source, &target.location(), url.location);
    server(target, env)
}

/// A database on any server, which is not to be opened.
///
/// # Errors
///
/// As [`database`].
pub fn any_database(env: &EnvironmentReader<'_>) -> Result<Option<Arc<dyn Database>>> {
    let target = Target::read("the default", "postgresql://localhost/cts", &|_| None)?;
    server(target, env).map(Some)
}

fn server(target: Target, env: &EnvironmentReader<'_>) -> Result<Arc<dyn Database>> {
    let wait = env.duration("CTS_WAIT", DEFAULT_WAIT)?;
    let pool = PoolSettings {
        max: env.number("CTS_POOL_MAX", DEFAULT_POOL_MAX, 1..=1000)?,
        idle: env.positive_duration("CTS_POOL_IDLE", DEFAULT_POOL_IDLE)?,
        connect: env.positive_duration("CTS_POOL_CONNECT", DEFAULT_POOL_CONNECT)?,
    };
    Ok(Arc::new(DatabaseServer::new(target, wait, pool, programs(env)?)))
}

/// CTS_PG_DUMP and PATH.
fn programs(env: &EnvironmentReader<'_>) -> Result<ProgramPlaces> {
    let configured = env.path("CTS_PG_DUMP")?;
    if let Some(path) = &configured {
        env.record("CTS_PG_DUMP", SettingSource::Environment, path.display());
    }
    Ok(ProgramPlaces { configured, path: (env.variables())("PATH").unwrap_or_default() })
}
