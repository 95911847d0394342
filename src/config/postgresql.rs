//! The settings of the PostgreSQL server, in a build with the feature `postgres`: DATABASE_URL,
//! DATABASE_URL_FILE, CTS_WAIT and CTS_POOL_MAX, CTS_POOL_IDLE, CTS_POOL_CONNECT, CTS_PG_DUMP.

use std::path::Path;
use std::sync::Arc;

use crate::config::environment::EnvironmentReader;
use crate::config::setting::{SecretLocation, SettingSource};
use crate::config::{
    DEFAULT_POOL_CONNECT, DEFAULT_POOL_IDLE, DEFAULT_POOL_MAX, DEFAULT_WAIT, Flags,
};
use crate::error::{Error, Kind, Result};
use crate::store::Database;
use crate::store::postgres::{DatabaseServer, PoolSettings, ProgramPlaces, Target};
use crate::system::secret::read_secret;

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
    Ok(Arc::new(DatabaseServer {
        target: Arc::new(target),
        wait: env.duration("CTS_WAIT", DEFAULT_WAIT)?,
        pool: PoolSettings {
            max: env.number("CTS_POOL_MAX", DEFAULT_POOL_MAX, 1..=1000)?,
            idle: env.positive_duration("CTS_POOL_IDLE", DEFAULT_POOL_IDLE)?,
            connect: env.positive_duration("CTS_POOL_CONNECT", DEFAULT_POOL_CONNECT)?,
        },
        programs: programs(env)?,
    }))
}

/// CTS_PG_DUMP and PATH.
fn programs(env: &EnvironmentReader<'_>) -> Result<ProgramPlaces> {
    let configured = env.path("CTS_PG_DUMP")?;
    if let Some(path) = &configured {
        env.record("CTS_PG_DUMP", SettingSource::Environment, path.display());
    }
    Ok(ProgramPlaces { configured, path: (env.variables())("PATH").unwrap_or_default() })
}

/// The URL of the database as it was configured.
struct DatabaseUrl {
    text: String,
    source: SettingSource,
    location: SecretLocation,
    /// The variable or the flag, and the file if it came from one; for messages.
    origin: String,
}

impl DatabaseUrl {
    /// The flag takes precedence over the variables, and DATABASE_URL over DATABASE_URL_FILE.
    fn read(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<DatabaseUrl> {
        if let Some(path) = &flags.database_url_file {
            let flag = "--database-url-file";
            let path = env.path_of(flag, path.as_os_str())?;
            return DatabaseUrl::from_file(env, SettingSource::Flag(flag), flag, &path);
        }
        let source = SettingSource::Environment;
        if let Some(url) = env.secret("DATABASE_URL")? {
            let text = url.expose().to_string();
            let (location, origin) = (SecretLocation::Variable, "DATABASE_URL".into());
            return Ok(DatabaseUrl { text, source, location, origin });
        }
        if let Some(path) = env.path("DATABASE_URL_FILE")? {
            return DatabaseUrl::from_file(env, source, "DATABASE_URL_FILE", &path);
        }
        let what = "DATABASE_TYPE is postgresql, but no database URL is set";
        Err(Error::new(Kind::Config, what)
            .remedy("set DATABASE_URL, or DATABASE_URL_FILE to a file that contains it"))
    }

    fn from_file(
        env: &EnvironmentReader<'_>,
        source: SettingSource,
        name: &str,
        path: &Path,
    ) -> Result<DatabaseUrl> {
        Ok(DatabaseUrl {
            text: env.accept(read_secret(name, path)?).expose().to_string(),
            source,
            location: SecretLocation::File(path.to_path_buf()),
            origin: format!("{name}: {}", path.display()),
        })
    }
}
