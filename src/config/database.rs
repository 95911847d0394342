//! Which database is used: DATABASE_TYPE, and the settings of the SQLite file.

use std::sync::Arc;

use crate::config::environment::{EnvironmentReader, invalid};
use crate::config::setting::{SettingSource, Sourced};
use crate::config::{DEFAULT_DB, Flags, postgresql};
use crate::error::{Error, Kind, Result};
use crate::store::sqlite::{DatabaseFile, FileAccess};
use crate::store::url_kind::refuse_sqlite;
use crate::store::{Backend, Database};

/// The configured database.
///
/// # Errors
///
/// [`Kind::Config`], with the name of the variable or the flag.
pub fn database(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<Arc<dyn Database>> {
    Ok(match backend(flags, env)? {
        Backend::Sqlite => Arc::new(sqlite_file(flags, env)?),
        Backend::Postgresql => postgresql::database(flags, env)?,
    })
}

/// DATABASE_TYPE. If it is not set, a flag decides, and else whether a database URL is set.
///
/// # Errors
///
/// [`Kind::Config`], with the name of the variable.
pub fn backend(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<Backend> {
    let has_url = flags.database_url_file.is_some()
        || env.is_set("DATABASE_URL")
        || env.is_set("DATABASE_URL_FILE");
    let named = env.text("DATABASE_TYPE")?;
    let source = if named.is_some() { SettingSource::Environment } else { SettingSource::Default };
    let backend = match named.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("sqlite") => Ok(Backend::Sqlite),
        Some("postgresql" | "postgres") if flags.db.is_some() => Err(Error::new(
            Kind::Config,
            "DATABASE_TYPE is postgresql, but --db names a SQLite file",
        )
        .remedy("leave one of them out")),
        Some("postgresql" | "postgres") => Ok(Backend::Postgresql),
        Some(_) => Err(invalid(
            "DATABASE_TYPE",
            named.as_deref().unwrap_or_default(),
            "sqlite or postgresql",
        )),
        None if flags.db.is_none() && has_url => Ok(Backend::Postgresql),
        None => Ok(Backend::Sqlite),
    }?;
    env.record("DATABASE_TYPE", source, backend.name());
    Ok(backend)
}

/// SQLITE_DB_PATH, CTS_GROUP_ACCESS and CTS_ALLOW_NETWORK_FS.
fn sqlite_file(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<DatabaseFile> {
    let path = match &flags.db {
        Some(raw) => Sourced {
            value: env.path_of("--db", raw.as_os_str())?,
            source: SettingSource::Flag("--db"),
        },
        None => {
            let variable = env.path("SQLITE_DB_PATH")?;
            if variable.is_none() {
                refuse_sqlite_url(env)?;
            }
            Sourced::variable(variable, || DEFAULT_DB.into())
        }
    };
    env.record("SQLITE_DB_PATH", path.source, path.value.display());
    Ok(DatabaseFile {
        path: path.value,
        access: FileAccess {
            group: env.switch("CTS_GROUP_ACCESS")?,
            allow_network: env.switch("CTS_ALLOW_NETWORK_FS")?,
        },
    })
}

/// With DATABASE_TYPE=sqlite a database URL is not read. One that names a SQLite file is meant, though, and the
/// default path would be another database.
fn refuse_sqlite_url(env: &EnvironmentReader<'_>) -> Result<()> {
    match env.secret("DATABASE_URL") {
        Ok(Some(url)) => refuse_sqlite(url.expose()).map_err(|error| error.at("DATABASE_URL")),
        _ => Ok(()),
    }
}
