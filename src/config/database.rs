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

/// The two databases of a copy: the SQLite file, and the PostgreSQL database. DATABASE_TYPE plays no part.
///
/// # Errors
///
/// [`Kind::Config`], with the name of the variable or the flag.
pub fn both_databases(
    flags: &Flags,
    env: &EnvironmentReader<'_>,
) -> Result<[Arc<dyn Database>; 2]> {
    if !has_url(flags, env) {
        let what = "a copy is made between the SQLite database and a PostgreSQL database, and no database URL is set";
        return Err(Error::new(Kind::Config, what).remedy(
            "set DATABASE_URL, or DATABASE_URL_FILE (or --database-url-file) to a file that contains it",
        ));
    }
    Ok([Arc::new(sqlite_file(flags, env)?), postgresql::database(flags, env)?])
}

/// The database of the other kind, which `cts copy` would copy this one to.
#[derive(Clone, Debug)]
pub struct OtherStore {
    /// The database. One that is not configured is not to be opened: it only says which values it can have.
    pub database: Arc<dyn Database>,
    /// Whether it is configured.
    pub is_configured: bool,
}

/// The database of the other kind. `None` in a build that has no other.
///
/// # Errors
///
/// [`Kind::Config`], with the name of the variable or the flag.
pub fn other_store(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<Option<OtherStore>> {
    let (database, is_configured) = match backend(flags, env)? {
        Backend::Sqlite if has_url(flags, env) => (Some(postgresql::database(flags, env)?), true),
        Backend::Sqlite => (postgresql::any_database(env)?, false),
        Backend::Postgresql => {
            let file: Arc<dyn Database> = Arc::new(sqlite_file(flags, env)?);
            (Some(file), flags.db.is_some() || env.is_set("SQLITE_DB_PATH"))
        }
    };
    Ok(database.map(|database| OtherStore { database, is_configured }))
}

/// Whether a database URL is configured.
fn has_url(flags: &Flags, env: &EnvironmentReader<'_>) -> bool {
    flags.database_url_file.is_some()
        || env.is_set("DATABASE_URL")
        || env.is_set("DATABASE_URL_FILE")
}

/// DATABASE_TYPE. If it is not set, a flag decides, and else whether a database URL is set.
///
/// # Errors
///
/// [`Kind::Config`], with the name of the variable.
pub fn backend(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<Backend> {
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
        None if flags.db.is_none() && has_url(flags, env) => Ok(Backend::Postgresql),
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
