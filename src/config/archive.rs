//! The settings of the archive.

use crate::archive::ArchiveSettings;
use crate::config::DEFAULT_ARCHIVE_KEEP;
use crate::config::environment::{EnvironmentReader, invalid};
use crate::config::setting::SettingSource;
use crate::error::Result;
use crate::store::{Backend, Database};

/// CTS_ARCHIVE_DIR and CTS_ARCHIVE_KEEP. `None` where there is no archive.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind::Config), with the name of the variable.
pub fn archive(
    env: &EnvironmentReader<'_>,
    database: &dyn Database,
) -> Result<Option<ArchiveSettings>> {
    let folder = env.path("CTS_ARCHIVE_DIR")?;
    let keep = env.duration("CTS_ARCHIVE_KEEP", DEFAULT_ARCHIVE_KEEP)?;
    if keep.is_zero() {
        let expected = "a duration, such as 7d; without CTS_ARCHIVE_DIR there is no archive";
        return Err(invalid("CTS_ARCHIVE_KEEP", "0", expected));
    }
    let Some(folder) = folder else { return Ok(None) };
    if database.identity().backend != Backend::Sqlite {
        let expected = "no value: a PostgreSQL server archives its WAL itself (archive_command)";
        return Err(invalid("CTS_ARCHIVE_DIR", &folder.display().to_string(), expected));
    }
    env.record("CTS_ARCHIVE_DIR", SettingSource::Environment, folder.display());
    Ok(Some(ArchiveSettings { folder, keep }))
}
