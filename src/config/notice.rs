//! What an operator should know of the settings of a run before it begins: values that were not read as they
//! were written, variables that are not read at all, and another database that the service uses.

use super::known::unknown_variables;
use super::service::{SERVICE_FILE, database_named_by, is_same_database, service_settings};
use super::{Config, SettingSource};
use crate::backup::BackupFolder;
use crate::store::sqlite::{RunningDatabase, running_databases};
use crate::system::environment;
use crate::system::log::Log;

/// How many other databases are named.
const WARNINGS_MAX: usize = 5;

/// A sentence about the settings of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The sentence.
    pub text: String,
    /// Whether an operator should attend to it.
    pub is_warning: bool,
}

impl Notice {
    fn warning(text: String) -> Notice {
        Notice { text, is_warning: true }
    }
}

/// The notices of this run. systemd gives the service its settings, so that it is not compared with the file.
pub fn notices(config: &Config) -> Vec<Notice> {
    let is_service = environment::is_set("NOTIFY_SOCKET");
    let mut all: Vec<Notice> = config.value_notices.iter().cloned().map(Notice::warning).collect();
    all.extend(unknown_variables(&environment::all()).into_iter().map(Notice::warning));
    all.extend(config.database.interrupted_restore().map(Notice::warning));
    all.extend(other_database(config).filter(|_| !is_service));
    all
}

/// That the file of the service names another database than this run uses.
fn other_database(config: &Config) -> Option<Notice> {
    let (here, there) = (config.database.identity().location, service_database()?);
    if is_same_database(&here, &there) {
        return None;
    }
    let named_by_flag = |setting: &super::Setting| {
        matches!(setting.source, SettingSource::Flag("--db" | "--database-url-file"))
    };
    let text = format!(
        "this run uses {here}, and the service on this machine uses {there} ({SERVICE_FILE})"
    );
    Some(Notice { text, is_warning: !config.settings.iter().any(named_by_flag) })
}

/// The database that the file of the service names.
pub fn service_database() -> Option<String> {
    database_named_by(&service_settings()?)
}

/// Warns that there are backups of a database that was at the place of one that has just been created: the disk may have
/// lost it.
fn warn_of_backups(config: &Config, log: Log) {
    let identity = config.database.identity();
    let folder = config.backups.folder.as_deref().map(BackupFolder::at);
    if let Some(newest) = folder.and_then(|folder| folder.newest_in_place_of(&identity)) {
        log.warn(format_args!(
            "{} is a new, empty database, and there are backups of the one that was there before, the newest {}; if it was lost, stop cts and restore it: `cts restore {}`",
            identity.location,
            newest.path.display(),
            newest.manifest.file
        ));
    }
}

/// Warns of each other database that is known on this machine, where one has just been created: of the one
/// that the file of the service names, and of those that other cts processes have open.
pub fn warn_of_other_databases(config: &Config, log: Log) {
    warn_of_backups(config, log);
    let here = config.database.identity().location;
    let named = service_database().map(|there| (there, format!("{SERVICE_FILE} names")));
    let open = running_databases().into_iter().map(|RunningDatabase { pid, path }| {
        (path.display().to_string(), format!("a running cts (pid {pid}) uses"))
    });
    let others = named.into_iter().chain(open).filter(|(there, _)| !is_same_database(&here, there));
    let warning = |(there, who): (String, String)| {
        format!(
            "{here} is a new, empty database, and {who} another one: {there}; if that one is meant, stop cts, set SQLITE_DB_PATH (or --db), and remove the new one"
        )
    };
    others.take(WARNINGS_MAX).for_each(|other| log.warn(warning(other)));
}
