//! The URL of a database server as it is configured: --database-url-file, DATABASE_URL, DATABASE_URL_FILE.

use std::path::Path;

use crate::config::Flags;
use crate::config::environment::EnvironmentReader;
use crate::config::setting::{SecretLocation, SettingSource};
use crate::error::{Error, Kind, Result};
use crate::system::secret::read_secret;

/// The URL of the database as it was configured.
#[cfg_attr(not(feature = "postgres"), allow(dead_code))]
pub struct DatabaseUrl {
    /// The URL itself, a secret.
    pub text: String,
    /// The variable or the flag.
    pub source: SettingSource,
    /// Where it is stored.
    pub location: SecretLocation,
    /// The variable or the flag, and the file if it came from one; for messages.
    pub origin: String,
}

impl DatabaseUrl {
    /// The flag takes precedence over the variables, and DATABASE_URL over DATABASE_URL_FILE.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`] if none is set or its file cannot be read.
    pub fn read(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<DatabaseUrl> {
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
