//! The database of the service on this machine: a command at a terminal does not have the settings of the unit and of the
//! file that it reads, and works on another database then.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::environment::EnvironmentReader;
use super::{Flags, database};
use crate::store::Backend;
use crate::system::environment_file::EnvironmentFile;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};
use crate::system::unit_file::{UnitFiles, without_specifiers, words};

/// The file that the unit reads (`EnvironmentFile=`).
pub const SERVICE_FILE: &str = "/etc/default/cts";
/// The unit of the service.
pub const SERVICE_UNIT: &str = "cts.service";
/// The settings that name a database.
const DATABASE_SETTINGS: [&str; 4] =
    ["DATABASE_TYPE", "SQLITE_DB_PATH", "DATABASE_URL", "DATABASE_URL_FILE"];

/// The database that the service on this machine uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDatabase {
    /// The kind of database.
    pub backend: Backend,
    /// Its path or URL, without secrets; `None` if this user, or this build, cannot read the URL.
    pub location: Option<String>,
    /// The file that names it; `None` if none does, so that it is the default one.
    pub named_by: Option<PathBuf>,
}

impl ServiceDatabase {
    /// Its path or URL as a message shows it.
    pub fn shown(&self) -> &str {
        self.location.as_deref().unwrap_or("a PostgreSQL database")
    }

    /// What names it, as a message shows it.
    pub fn source(&self) -> String {
        self.named_by.as_ref().map_or("the default".into(), |file| file.display().to_string())
    }
}

/// The database of the service; `None` if no service is installed, or what it uses cannot be found out.
pub fn service_database() -> Option<ServiceDatabase> {
    match UnitFiles::read(SERVICE_UNIT).ok()? {
        Some(files) => ServiceSettings::of_unit(SERVICE_UNIT, &files)?.database(),
        None => {
            // Without the unit, the file tells what another manager of services starts, if it names a database.
            let mut settings = ServiceSettings::default();
            settings.add_file(Path::new(SERVICE_FILE))?;
            settings.database().filter(|database| database.named_by.is_some())
        }
    }
}

/// Whether a second service of this machine, a copy of the unit under another name (`cts-paper.service`), uses this database.
pub fn is_of_second_service(location: &str) -> bool {
    let database = |unit: String| {
        let files = UnitFiles::read(&unit).ok()??;
        let command = words(&files.values("ExecStart").last()?.value)?;
        let serves = command.iter().any(|word| word == "serve");
        ServiceSettings::of_unit(&unit, &files).filter(|_| serves)?.database()?.location
    };
    let units = UnitFiles::services("cts-").into_iter();
    units.filter_map(database).any(|there| is_same_database(location, &there))
}

/// The settings of the service that name its database.
#[derive(Default)]
struct ServiceSettings {
    /// Names, values and the files that they are from; the last value of a name counts.
    variables: Vec<(String, String, PathBuf)>,
    flags: Flags,
    /// The file that has the flags.
    flags_file: Option<PathBuf>,
    /// Where a relative path begins; `None`: in `/`.
    folder: Option<PathBuf>,
}

impl ServiceSettings {
    /// `None` if a value depends on what is not known here.
    fn of_unit(unit: &str, files: &UnitFiles) -> Option<ServiceSettings> {
        let mut settings = ServiceSettings::default();
        for setting in files.values("Environment") {
            for word in words(&setting.value)? {
                settings.add_assignment(unit, &word, &setting.file)?;
            }
        }
        // They override `Environment=`. (systemd.exec(5))
        for setting in files.values("EnvironmentFile") {
            let path = setting.value.trim_start_matches('-');
            settings.add_file(Path::new(&without_specifiers(unit, path)?))?;
        }
        if let Some(setting) = files.values("ExecStart").last() {
            let command = words(&setting.value)?.into_iter();
            let command: Option<Vec<String>> =
                command.map(|word| without_specifiers(unit, &word)).collect();
            settings.add_flags(&command?, &setting.file)?;
        }
        let folder = files.values("WorkingDirectory").last();
        settings.folder = folder.map(|setting| setting.value.trim_start_matches('-').into());
        Some(settings)
    }

    /// Adds an assignment of `Environment=`. `None` if it names the database by what is not known here.
    fn add_assignment(&mut self, unit: &str, word: &str, file: &Path) -> Option<()> {
        let Some((name, value)) = word.split_once('=') else { return Some(()) };
        match without_specifiers(unit, value) {
            Some(value) => self.variables.push((name.into(), value, file.to_path_buf())),
            None if DATABASE_SETTINGS.contains(&name) => return None,
            None => {}
        }
        Some(())
    }

    /// Adds the assignments of a file. `None` if this user may not read it, or it is several.
    fn add_file(&mut self, path: &Path) -> Option<()> {
        if path.to_string_lossy().contains(['*', '?', '[']) {
            return None;
        }
        let bytes = match small_file::read(path, SETTINGS_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Some(()),
            Err(_) => return None,
        };
        let assignments = EnvironmentFile::parse(&bytes).unwrap_or_default().assignments;
        let with_file = |(name, value)| (name, value, path.to_path_buf());
        self.variables.extend(assignments.into_iter().map(with_file));
        Some(())
    }

    /// Adds the flags of a command line that name a database. `None` if it does not run cts itself, or by a variable.
    fn add_flags(&mut self, command: &[String], file: &Path) -> Option<()> {
        let (program, arguments) = command.split_first()?;
        let is_cts = Path::new(program).file_name().is_some_and(|name| name == "cts");
        if !is_cts || arguments.iter().any(|argument| argument.contains('$')) {
            return None;
        }
        for (at, word) in arguments.iter().enumerate() {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value)),
                None => (word.as_str(), arguments.get(at + 1).map(String::as_str)),
            };
            match flag {
                "--db" => self.flags.db = value.map(PathBuf::from),
                "--database-url-file" => self.flags.database_url_file = value.map(PathBuf::from),
                _ => continue,
            }
            self.flags_file = Some(file.to_path_buf());
        }
        Some(())
    }

    /// The last value of a variable, with its file.
    fn get(&self, name: &str) -> Option<(&str, &Path)> {
        let last = self.variables.iter().rfind(|(known, ..)| known == name);
        last.map(|(_, value, file)| (value.as_str(), file.as_path()))
    }

    /// The file that names the database.
    fn named_by(&self) -> Option<PathBuf> {
        let mut named = DATABASE_SETTINGS.iter().rev().filter_map(|name| self.get(name));
        let file = named.find(|(value, _)| !value.is_empty()).map(|(_, file)| file);
        self.flags_file.clone().or(file.map(Path::to_path_buf))
    }

    /// The database; `None` if the service is refused these settings.
    fn database(&self) -> Option<ServiceDatabase> {
        let variables = |name: &str| self.get(name).map(|(value, _)| OsString::from(value));
        let env = EnvironmentReader::new(&variables);
        let backend = database::backend(&self.flags, &env).ok()?;
        let location = match database::database(&self.flags, &env) {
            Ok(database) => Some(self.in_folder(database.identity().location)?),
            Err(_) if backend == Backend::Postgresql => None,
            Err(_) => return None,
        };
        Some(ServiceDatabase { backend, location, named_by: self.named_by() })
    }

    /// A relative path begins in the folder that systemd starts the service in. `None` if that is not known.
    fn in_folder(&self, location: String) -> Option<String> {
        let written = match &self.flags.db {
            Some(path) => path.to_string_lossy(),
            None => self.get("SQLITE_DB_PATH").map_or("/", |(value, _)| value).into(),
        };
        let written = written.trim_matches(['"', '\'', ' ']);
        let here = std::env::current_dir().ok();
        let relative =
            here.as_deref().and_then(|here| Path::new(&location).strip_prefix(here).ok());
        match relative {
            Some(relative) if !written.is_empty() && !written.starts_with('/') => {
                let folder = self.folder.as_deref().unwrap_or(Path::new("/"));
                folder.is_absolute().then(|| folder.join(relative).display().to_string())
            }
            _ => Some(location),
        }
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

    /// The location and the file that names it, of a unit with these lines.
    fn named(lines: &str) -> Option<(String, String)> {
        let mut unit = UnitFiles::default();
        unit.add("cts.service".into(), format!("[Service]\n{lines}").as_bytes());
        let database = ServiceSettings::of_unit(SERVICE_UNIT, &unit)?.database()?;
        Some((database.shown().to_string(), database.source()))
    }

    /// The location of a service that reads this file.
    fn named_by_file(text: &str) -> Option<String> {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("cts");
        fs::write(&file, text).unwrap();
        let (location, source) = named(&format!("EnvironmentFile=-{}", file.display()))?;
        (source != "the default").then_some(location)
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
            assert_eq!(named_by_file(text).as_deref(), location, "{text:?}");
        }
    }

    #[test]
    fn the_unit_names_the_database_by_variables_and_by_flags_else_it_is_the_default() {
        for (lines, location, source) in [
            ("ExecStart=/usr/bin/cts serve", "/data/cts.db", "the default"),
            ("Environment=PORT=1 NAME=%H SQLITE_DB_PATH=/a.db", "/a.db", "cts.service"),
            ("Environment=\"SQLITE_DB_PATH=/a b.db\"", "/a b.db", "cts.service"),
            ("WorkingDirectory=/srv\nEnvironment=SQLITE_DB_PATH=a.db", "/srv/a.db", "cts.service"),
            ("ExecStart=/usr/bin/cts serve --db /f.db", "/f.db", "cts.service"),
            (
                "ExecStart=/usr/bin/cts --db=/f.db serve\nEnvironment=SQLITE_DB_PATH=/a.db",
                "/f.db",
                "cts.service",
            ),
        ] {
            assert_eq!(named(lines), Some((location.into(), source.into())), "{lines}");
        }
        for unknown in [
            "Environment=SQLITE_DB_PATH=/srv/%H.db",
            "EnvironmentFile=/etc/cts/*.conf",
            "ExecStart=/bin/sh -c 'exec cts serve --db /a.db'",
            "ExecStart=/usr/bin/cts serve --db ${DB}",
            "WorkingDirectory=~\nEnvironment=SQLITE_DB_PATH=a.db",
        ] {
            assert_eq!(named(unknown), None, "{unknown}");
        }
    }
}
