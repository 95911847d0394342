//! How the archive is doing: as the service knows it, and as it writes it beside the segments for the commands.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::drill::ArchiveDrill;
use super::folder::cannot_read;
use super::writer::ArchiveState;
use crate::backup::write_whole;
use crate::error::{Error, Kind, Result};
use crate::system::clock::unix_milliseconds;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// The name of the file.
const STATUS: &str = "status.json";
/// How much may not be archived yet before a person should look.
pub const LAG_MAX: Duration = Duration::from_secs(60);

/// How the archive is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveStatus {
    /// The folder of the archive.
    #[serde(skip)]
    pub folder: PathBuf,
    /// When it was so, in milliseconds since 1970.
    pub at: i64,
    /// The time for which what was committed may not be archived, in seconds; `None` if that is not known.
    pub lag_seconds: Option<f64>,
    /// Whether a full copy is being made, behind which the archive goes on.
    pub makes_base: bool,
    /// When the newest archived transaction was found, in milliseconds since 1970.
    pub newest: Option<i64>,
    /// How often what was committed before was not known.
    pub gaps: u64,
    /// Size of all segments in bytes.
    pub bytes: u64,
    /// What restoring it for a trial has shown last.
    pub drill: Option<ArchiveDrill>,
    /// Why what is committed is not archived, if that is so.
    pub problem: Option<String>,
    /// Why a command of another user cannot tell.
    #[serde(skip)]
    pub unknown: Option<String>,
}

impl ArchiveStatus {
    /// As the service knows it.
    pub fn of(folder: &Path, state: &ArchiveState) -> ArchiveStatus {
        ArchiveStatus {
            folder: folder.to_path_buf(),
            at: unix_milliseconds(),
            lag_seconds: state.lag().map(|lag| lag.as_secs_f64()),
            makes_base: state.makes_base,
            newest: state.newest,
            gaps: state.gaps,
            bytes: state.bytes,
            drill: state.drill.clone(),
            problem: state.problem().map(|problem| problem.to_string()),
            unknown: None,
        }
    }

    /// As a service has written it last. What keeps it from being read is a problem of it.
    pub fn read(folder: &Path) -> ArchiveStatus {
        let (problem, unknown) = match try_read(folder) {
            Ok(Some(status)) => return status.aged(unix_milliseconds()),
            Ok(None) => {
                let what = format!(
                    "{}: no service has archived into it. Try: start cts with CTS_ARCHIVE_DIR set (`cts doctor` looks at its unit)",
                    folder.display()
                );
                (Some(what), None)
            }
            Err(error) if error.kind == Kind::Permission => (None, Some(error.to_string())),
            Err(error) => (Some(error.to_string()), None),
        };
        ArchiveStatus { problem, unknown, ..ArchiveStatus::unread(folder, String::new()) }
    }

    /// That of an archive of which nothing is known but this problem.
    pub fn unread(folder: &Path, problem: String) -> ArchiveStatus {
        ArchiveStatus {
            folder: folder.to_path_buf(),
            at: unix_milliseconds(),
            lag_seconds: None,
            makes_base: false,
            newest: None,
            gaps: 0,
            bytes: 0,
            drill: None,
            problem: Some(problem),
            unknown: None,
        }
    }

    /// Writes it into the folder.
    ///
    /// # Errors
    /// It cannot be written. The one before is in place then.
    pub fn write(&self) -> std::io::Result<()> {
        write_whole(&self.folder.join(STATUS), &serde_json::to_string(self)?)
    }

    /// The last drill that a service has written, to go on from.
    pub fn last_drill(folder: &Path) -> Option<ArchiveDrill> {
        // What cannot be read now is tried again.
        try_read(folder).ok().flatten()?.drill
    }

    /// At a later time, by the clock of this machine.
    fn aged(mut self, now: i64) -> ArchiveStatus {
        let age = Duration::from_millis(u64::try_from(now - self.at).unwrap_or_default());
        self.lag_seconds = self.lag_seconds.map(|lag| lag + age.as_secs_f64());
        let time = self.lag_seconds.map_or(age, Duration::from_secs_f64);
        if time > LAG_MAX && self.problem.is_none() {
            let error = nothing_for(time, self.makes_base);
            self.problem = Some(
                error.remedy("see whether the service runs (`systemctl status cts`)").to_string(),
            );
        }
        self
    }
}

/// The error of an archive that lacks what was committed for so long.
pub fn nothing_for(lag: Duration, makes_base: bool) -> Error {
    let doing = if makes_base { ", while a full copy is made" } else { "" };
    Error::new(Kind::Io, format!("nothing for {} s{doing}", lag.as_secs()))
}

fn try_read(folder: &Path) -> Result<Option<ArchiveStatus>> {
    let path = folder.join(STATUS);
    let text = match small_file::read(&path, SETTINGS_BYTES_MAX) {
        Err(e) if e.kind() == ErrorKind::NotFound && !is_hidden(folder) => return Ok(None),
        text => text.map_err(|e| cannot_read(&path, &e))?,
    };
    // A power failure may have left a part of it: the next one is written soon.
    let status = serde_json::from_slice::<ArchiveStatus>(&text).ok();
    Ok(status.map(|status| ArchiveStatus { folder: folder.to_path_buf(), ..status }))
}

/// Whether this user may not see what is in a folder.
fn is_hidden(folder: &Path) -> bool {
    fs::read_dir(folder).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_has_aged_and_becomes_a_problem() {
        let folder = tempfile::TempDir::new().unwrap();
        let none = ArchiveStatus::read(folder.path());
        assert!(none.problem.unwrap().contains("no service has archived into it"));
        let written = ArchiveStatus {
            at: 1_000_000,
            ..ArchiveStatus::of(folder.path(), &ArchiveState::default())
        };
        written.write().unwrap();
        let read = try_read(folder.path()).unwrap().unwrap();
        assert_eq!(read, written);
        let aged = |seconds: i64| read.clone().aged(read.at + seconds * 1000);
        assert_eq!(aged(59).problem, None);
        assert!(aged(61).problem.unwrap().starts_with("nothing for 61 s"));
        // A clock that was set back.
        assert_eq!(aged(-1000).problem, None);
        fs::write(folder.path().join(STATUS), "{\"at\":").unwrap();
        assert!(ArchiveStatus::read(folder.path()).problem.is_some());
    }
}
