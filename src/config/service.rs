//! The settings of the service on this machine, which its unit reads from a file: a command at a terminal does
//! not have them, and works on another database then.
//!
//! Settings that a drop-in of the unit gives by `Environment=` are not looked for here; `cts doctor` asks
//! systemd for them.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::environment::EnvironmentReader;
use super::{Flags, database};
use crate::store::Backend;
use crate::system::environment_file::EnvironmentFile;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// The file that the unit reads (`EnvironmentFile=`).
pub const SERVICE_FILE: &str = "/etc/default/cts";
/// The settings that name a database.
const DATABASE_SETTINGS: [&str; 4] =
    ["DATABASE_TYPE", "SQLITE_DB_PATH", "DATABASE_URL", "DATABASE_URL_FILE"];

/// The settings of the service; `None` if there is no such file or this user may not read it.
pub fn service_settings() -> Option<EnvironmentFile> {
    EnvironmentFile::parse(&small_file::read(Path::new(SERVICE_FILE), SETTINGS_BYTES_MAX).ok()?)
}

/// The location of the database that settings name; `None` if they name none, or one that cts refuses.
pub fn database_named_by(settings: &EnvironmentFile) -> Option<String> {
    let variables = |name: &str| settings.get(name).map(OsString::from);
    let env = EnvironmentReader::new(&variables);
    if !DATABASE_SETTINGS.iter().any(|name| env.is_set(name)) {
        return None;
    }
    let flags = Flags::default();
    let location = match (database::database(&flags, &env), database::backend(&flags, &env)) {
        (Ok(database), _) => database.identity().location,
        (Err(_), Ok(Backend::Postgresql)) => "a PostgreSQL database".into(),
        (Err(_), _) => return None,
    };
    Some(from_root(settings, location))
}

/// systemd starts the service in the folder `/`.
fn from_root(settings: &EnvironmentFile, location: String) -> String {
    let is_relative = |path: &str| !path.trim_matches(['"', '\'', ' ']).starts_with('/');
    let is_relative = settings.get("SQLITE_DB_PATH").is_some_and(is_relative);
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| Path::new(&location).strip_prefix(here).ok());
    match relative {
        Some(relative) if is_relative => Path::new("/").join(relative).display().to_string(),
        _ => location,
    }
}

/// Whether two locations are those of the same database, as far as their paths and URLs show it.
pub fn is_same_database(one: &str, other: &str) -> bool {
    let resolved = |location: &str| fs::canonicalize(location).ok();
    one == other || resolved(one).is_some_and(|path| resolved(other) == Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        database_named_by(&EnvironmentFile::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_database_of_the_service_is_read_as_the_service_reads_it() {
        for (text, location) in [
            ("SQLITE_DB_PATH=/srv/cts.db\r\n", Some("/srv/cts.db")),
            ("SQLITE_DB_PATH='/srv/cts.db '", Some("/srv/cts.db")),
            ("SQLITE_DB_PATH=cts.db", Some("/cts.db")),
            ("DATABASE_TYPE=sqlite", Some("/data/cts.db")),
            ("PORT=1", None),
            ("#SQLITE_DB_PATH=/srv/cts.db", None),
            ("SQLITE_DB_PATH=", None),
            ("SQLITE_DB_PATH=~/cts.db", None),
            ("DATABASE_URL_FILE=/no/such/file", Some("a PostgreSQL database")),
        ] {
            assert_eq!(named(text).as_deref(), location, "{text:?}");
        }
    }
}
