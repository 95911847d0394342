//! Finds `pg_dump` and `pg_restore`, the programs of PostgreSQL that make and restore backups: the one that CTS_PG_DUMP
//! names, else those on PATH and in the folders in which Debian installs each major version. Of several, that of the
//! server's own version is used, else the next newer one; an older `pg_dump` refuses the server.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client_run::{ClientEnd, ClientOutput, ClientRun};
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;

/// Where Debian and Ubuntu install the programs of each major version, in `VERSION/bin`.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";
/// Debian's program on PATH that chooses a version by rules of its own.
const DEBIAN_WRAPPER: &str = "pg_wrapper";
/// How long a program may take to print its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a version that are shown.
const SHOWN_VERSION_CHARS: usize = 20;

/// The programs of one version of PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPrograms {
    /// The path of `pg_dump`.
    pub dump: PathBuf,
    /// The path of `pg_restore`, which is beside it.
    pub restore: PathBuf,
    /// Their version.
    pub version: ProgramVersion,
}

/// A version as a program prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramVersion {
    /// The major version, such as 15.
    pub major: u32,
    /// All of it, such as `15.18`.
    pub text: String,
}

impl ProgramVersion {
    /// Reads `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn read(printed: &str) -> Option<ProgramVersion> {
        let (_, rest) = printed.split_once(") ")?;
        let text = rest.split_whitespace().next()?;
        let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
        let text = text.chars().take(SHOWN_VERSION_CHARS).collect();
        Some(ProgramVersion { major: digits.parse().ok()?, text })
    }
}

/// Where the programs are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramPlaces {
    /// The path of `pg_dump` that is configured (CTS_PG_DUMP).
    pub configured: Option<PathBuf>,
    /// The folders of programs (PATH).
    pub path: OsString,
}

impl ProgramPlaces {
    /// Finds the programs for a server of this version (`server_version_num`); without one, the newest.
    ///
    /// # Errors
    /// [`Kind::Config`] where there are none, or only older ones; or `wait` was cancelled.
    pub fn find(&self, server: Option<u32>, wait: &WaitPolicy<'_>) -> Result<ClientPrograms> {
        if let Some(configured) = &self.configured {
            let found =
                read_programs(configured, wait)?.ok_or_else(|| self.unusable(configured))?;
            return fits(&found, server)
                .then_some(found.clone())
                .ok_or_else(|| too_old(&found, server));
        }
        let mut found: Vec<ClientPrograms> = Vec::new();
        for path in self.candidates() {
            let Some(programs) = read_programs(&path, wait)? else { continue };
            if server.is_some_and(|server| programs.version.major == major(server)) {
                return Ok(programs);
            }
            found.push(programs);
        }
        // `max_by_key` would take the last of several of one version, and PATH comes first.
        found.sort_by_key(|programs| programs.version.major);
        let newest = found.last().cloned();
        let fitting = match server {
            Some(_) => found.into_iter().find(|programs| fits(programs, server)),
            None => newest.clone(),
        };
        match (fitting, newest) {
            (Some(programs), _) => Ok(programs),
            (None, Some(newest)) => Err(too_old(&newest, server)),
            (None, None) => Err(Error::new(Kind::Config, NOT_FOUND).remedy(installation(server))),
        }
    }

    /// The paths at which there may be a `pg_dump`.
    fn candidates(&self) -> Vec<PathBuf> {
        let on_path = std::env::split_paths(&self.path).filter(|folder| folder.is_absolute());
        let of_debian = fs::read_dir(DEBIAN_FOLDER).into_iter().flatten().flatten();
        let of_debian = of_debian.map(|version| version.path().join("bin"));
        let programs = on_path.chain(of_debian).map(|folder| folder.join("pg_dump"));
        // The wrapper is not run: the programs that it chooses from are among the candidates.
        let is_wrapper = |path: &PathBuf| {
            fs::canonicalize(path)
                .is_ok_and(|path| path.file_name() == Some(OsStr::new(DEBIAN_WRAPPER)))
        };
        programs.filter(|path| path.is_file() && !is_wrapper(path)).collect()
    }

    fn unusable(&self, configured: &Path) -> Error {
        let what =
            format!("{} is no pg_dump of PostgreSQL that can be run here", configured.display());
        Error::new(Kind::Config, what).at("CTS_PG_DUMP").remedy(
            "set it to the path of pg_dump, with pg_restore in the same folder, or unset it",
        )
    }
}

const NOT_FOUND: &str = "pg_dump and pg_restore, with which backups of a PostgreSQL database are made and restored, are not installed";

fn major(server: u32) -> u32 {
    server / 10_000
}

fn fits(programs: &ClientPrograms, server: Option<u32>) -> bool {
    server.is_none_or(|server| programs.version.major >= major(server))
}

fn too_old(programs: &ClientPrograms, server: Option<u32>) -> Error {
    let (dump, version) = (programs.dump.display(), &programs.version.text);
    let of_server =
        server.map(|server| format!("{}.{}", major(server), server % 10_000)).unwrap_or_default();
    let what = format!("{dump} is of PostgreSQL {version}, older than the server ({of_server})");
    Error::new(Kind::Config, what).remedy(installation(server))
}

fn installation(server: Option<u32>) -> String {
    let package = match server {
        Some(server) => format!("postgresql-client-{}", major(server)),
        None => "postgresql-client".into(),
    };
    format!(
        "install them (Debian: `apt install {package}`), or set CTS_PG_DUMP to the path of pg_dump"
    )
}

/// The programs at a path; `None` if one of them cannot be run or prints no version.
fn read_programs(dump: &Path, wait: &WaitPolicy<'_>) -> Result<Option<ClientPrograms>> {
    let restore = dump.with_file_name("pg_restore");
    let (Some(version), Some(_)) = (version(dump, wait)?, version(&restore, wait)?) else {
        return Ok(None);
    };
    Ok(Some(ClientPrograms { dump: dump.to_path_buf(), restore, version }))
}

fn version(program: &Path, wait: &WaitPolicy<'_>) -> Result<Option<ProgramVersion>> {
    if !program.is_file() {
        return Ok(None);
    }
    let mut printed = Vec::new();
    let mut keep = |bytes: &[u8]| {
        printed.extend_from_slice(bytes);
        Ok(())
    };
    let mut run = ClientRun::of(program, wait);
    run.command.arg("--version");
    run.limit = Some(VERSION_TIMEOUT);
    match run.finish(ClientOutput::Read(&mut keep)) {
        Ok(ClientEnd::Succeeded) => Ok(ProgramVersion::read(&String::from_utf8_lossy(&printed))),
        Ok(ClientEnd::Failed(_)) => Ok(None),
        Err(error) if error.kind == Kind::Stopped => Err(error),
        // It cannot be started, or hangs.
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_distributions_print_it() {
        for (printed, major, text) in [
            ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", 15, "15.18"),
            ("pg_dump (PostgreSQL) 18.4\n", 18, "18.4"),
            ("pg_dump (PostgreSQL) 19beta1\n", 19, "19beta1"),
            ("pg_dump (PostgreSQL) 9.6.24\n", 9, "9.6.24"),
            ("pg_dump (EnterpriseDB) 16.2.0\n", 16, "16.2.0"),
        ] {
            let version = ProgramVersion::read(printed).unwrap();
            assert_eq!((version.major, version.text.as_str()), (major, text));
        }
        for printed in ["", "pg_dump", "pg_dump (PostgreSQL) ", "pg_dump (PostgreSQL) devel"] {
            assert_eq!(ProgramVersion::read(printed), None, "{printed}");
        }
    }
}
