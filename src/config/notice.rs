//! What an operator should know of the settings of a run before it begins: values that were not read as they
//! were written, variables that are not read at all, and another database that the service uses.

use super::known::unknown_variables;
use super::service::{ServiceDatabase, is_of_second_service, is_same_database, service_database};
use super::{Config, Setting, SettingSource};
use crate::backup::BackupFolder;
use crate::store::sqlite::{RunningDatabase, running_databases};
use crate::system::environment;
use crate::system::log::Log;

/// How many other databases are named.
const WARNINGS_MAX: usize = 5;

/// What an operator should know of the settings of this run, as sentences.
pub fn notices(config: &Config) -> Vec<String> {
    let mut all = config.value_notices.clone();
    all.extend(unknown_variables(&environment::all()));
    all.extend(config.database.interrupted_restore());
    all.extend(other_database(config));
    all
}

/// The database of the service, where a run has not been told which database is meant: by a flag, or by systemd.
fn database_of_service(config: &Config) -> Option<ServiceDatabase> {
    let names_database = |setting: &Setting| {
        matches!(setting.source, SettingSource::Flag("--db" | "--database-url-file"))
    };
    let is_meant =
        environment::is_set("NOTIFY_SOCKET") || config.settings.iter().any(names_database);
    if is_meant { None } else { service_database() }
}

/// That the service uses another database than this run. Nothing is known of a URL that cannot be read.
fn other_database(config: &Config) -> Option<String> {
    let (here, service) = (config.database.identity(), database_of_service(config)?);
    let is_same = match &service.location {
        Some(there) => is_same_database(&here.location, there),
        None => here.backend == service.backend,
    };
    (!is_same && !is_of_second_service(&here.location)).then(|| {
        format!(
            "this run uses {}, and the service on this machine uses {} ({})",
            here.location,
            service.shown(),
            service.source()
        )
    })
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
/// of the service, unless a flag says which is meant, and of those that other cts processes have open.
pub fn warn_of_other_databases(config: &Config, log: Log) {
    warn_of_backups(config, log);
    let here = config.database.identity().location;
    let named = database_of_service(config).map(|service| {
        let who = match &service.named_by {
            Some(file) => format!("{} names", file.display()),
            None => "the service on this machine uses".into(),
        };
        (service.shown().to_string(), who)
    });
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
