//! `cts status`.

use super::{ArchiveReading, BackupsReading, open_read_only};
use crate::backup::Inspector;
use crate::config::Config;
use crate::error::Result;
use crate::health::{Report, Surroundings, examine};
use crate::system::output::{print_json, print_lines};

/// Prints the migration status. The exit code is 0 where it is complete, else 1.
///
/// # Errors
/// Where the database cannot be opened or read.
pub fn run(config: &Config, as_json: bool) -> Result<u8> {
    let identity = config.database.identity();
    let backups = BackupsReading::start(config);
    let archive = ArchiveReading::start(config)?;
    let report = match open_read_only(config, config.lock_timeout)? {
        Some(mut database) => {
            let surroundings = Surroundings::of_command(&mut *database);
            examine(&mut *database, surroundings)?
        }
        None => Report::unreachable(&*config.database, &identity.absent_error()),
    };
    let report =
        report.with_backups(backups.end(config)).with_archive(archive.end(), Inspector::Command);
    match as_json {
        true => print_json(&report.status_json()),
        false => print_lines(&report.status_text(&identity.location)),
    }?;
    Ok(u8::from(!report.is_complete()))
}
