//! The arguments as values: a [`Command`] and [`Flags`].

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::archive::ArchiveMoment;
use crate::backup::BackupChoice;
use crate::cli::definition::definition;
use crate::cli::secrets::refuse_database_url;
use crate::commands::copy::CopyOptions;
use crate::commands::prune::PruneOptions;
use crate::commands::restore::RestoreSource;
use crate::commands::stats::{StatsOptions, TradeSource};
use crate::config::Flags;
use crate::error::Error;
use crate::statistics::report::Grouping;
use crate::store::Backend;
use crate::system::log::Verbosity;
use crate::system::visible::{is_unsafe, visible};

/// Days that `cts stats` counts.
const DEFAULT_STATS_DAYS: i32 = 30;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `cts serve`: run the appliance.
    Serve,
    /// `cts check` or `cts --check`: check once and exit with a status for monitoring.
    Check {
        /// Print the health JSON.
        json: bool,
        /// Also check every page, index entry and foreign key.
        deep: bool,
        /// Ask the cts that serves this URL instead of opening the database.
        url: Option<String>,
        /// Only ask the cts at HOST and PORT whether it is ready.
        ready: bool,
    },
    /// `cts migrate`: bring the schema up to date.
    Migrate {
        /// Print what would be done and change nothing.
        dry_run: bool,
        /// With `dry_run`: print JSON.
        json: bool,
    },
    /// `cts status`: print the migration status.
    Status {
        /// Print JSON.
        json: bool,
    },
    /// `cts verify`: compare the database with the expected catalogue.
    Verify {
        /// Print JSON.
        json: bool,
    },
    /// `cts verify --statistics`: calculate the statistics again and compare.
    VerifyStatistics {
        /// Print JSON.
        json: bool,
    },
    /// `cts repair`: restore what is missing.
    Repair,
    /// `cts accept`: record that a difference is meant so.
    Accept {
        /// The object, as it is shown or by its name.
        object: String,
        /// Remove the record.
        withdraw: bool,
    },
    /// `cts backup`: copy the database and prove the copy.
    Backup {
        /// The file to make; `None` for one in the folder of backups.
        file: Option<PathBuf>,
        /// Compress it.
        compress: bool,
    },
    /// `cts backup --verify`: prove a backup and restore it for a trial.
    VerifyBackup {
        /// The backup.
        file: PathBuf,
    },
    /// `cts backups`: list the backups.
    Backups {
        /// Print JSON.
        json: bool,
    },
    /// `cts restore`: put a backup in place of the database.
    Restore {
        /// The backup, or the moment of the archive.
        source: RestoreSource,
        /// Where to restore it to; `None` for the place of the database.
        to: Option<PathBuf>,
        /// Print what would be done and change nothing.
        dry_run: bool,
    },
    /// `cts copy`: copy all rows from one store to the other.
    Copy(CopyOptions),
    /// `cts stats`: print the measures of closed trades.
    Stats(StatsOptions),
    /// `cts prune`: delete old rows.
    Prune(PruneOptions),
    /// `cts doctor`: examine everything that cts needs.
    Doctor {
        /// Print JSON.
        json: bool,
    },
}

/// A command line that has been understood.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// The flags that configure it.
    pub flags: Flags,
}

/// Why a command line does not lead to a command.
#[derive(Debug)]
pub enum NoInvocation {
    /// The help or the version was asked for, or the command line is wrong.
    Message(clap::Error),
    /// An argument contains the URL of a database.
    DatabaseUrl(Error),
}

/// Parses the arguments, the name of the program first.
///
/// # Errors
///
/// [`NoInvocation`].
pub fn parse(arguments: &[OsString]) -> Result<Invocation, NoInvocation> {
    refuse_database_url(arguments).map_err(NoInvocation::DatabaseUrl)?;
    invocation(arguments).map_err(NoInvocation::Message)
}

fn invocation(arguments: &[OsString]) -> Result<Invocation, clap::Error> {
    let parsed = definition().try_get_matches_from(arguments);
    let matches = parsed.map_err(|error| with_visible_arguments(arguments, explained(error)))?;
    let (command, flags) = (command(&matches)?, flags(&matches));
    refuse_useless_flags(&matches, &command, &flags)?;
    Ok(Invocation { command, flags })
}

/// Says of a flag of the address which commands have it.
fn explained(error: clap::Error) -> clap::Error {
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) if error.kind() == ErrorKind::UnknownArgument => flag,
        _ => return error,
    };
    match unknown.as_str() {
        "--host" | "--port" => no_address(unknown, "this command"),
        _ => error,
    }
}

fn no_address(flag: &str, command: &str) -> clap::Error {
    let text = format!(
        "{flag} is for cts serve, which listens there, and for cts doctor: {command} does not use it"
    );
    definition().error(ErrorKind::UnknownArgument, text)
}

/// Refuses flags that the command would not use.
fn refuse_useless_flags(
    matches: &ArgMatches,
    command: &Command,
    flags: &Flags,
) -> Result<(), clap::Error> {
    let conflict = |text| Err(definition().error(ErrorKind::ArgumentConflict, text));
    if let Command::Check { url: Some(_), .. } = command {
        let named = [("--db", flags.db.is_some())];
        let named =
            named.into_iter().chain([("--database-url-file", flags.database_url_file.is_some())]);
        if let Some((flag, _)) = named.into_iter().find(|(_, is_given)| *is_given) {
            let text = format!(
                "--url asks a running cts, which has its own database: {flag} cannot be used with it"
            );
            return conflict(text);
        }
    }
    let uses_address = matches!(command, Command::Serve | Command::Doctor { .. });
    let given = ["host", "port"].into_iter().find(|name| matches.contains_id(name));
    match (given, matches.subcommand_name()) {
        (Some(flag), Some(name)) if !uses_address => {
            Err(no_address(&format!("--{flag}"), &format!("cts {name}")))
        }
        _ => Ok(()),
    }
}

/// The error without the control characters of the arguments that it quotes.
fn with_visible_arguments(arguments: &[OsString], error: clap::Error) -> clap::Error {
    let is_visible = |argument: &OsString| !argument.to_string_lossy().contains(is_unsafe);
    if arguments.iter().all(is_visible) {
        return error;
    }
    let shown = arguments.iter().map(|argument| visible(&argument.to_string_lossy()).into_owned());
    definition().try_get_matches_from(shown).err().unwrap_or_else(|| {
        let text = "an argument holds a control character or an invisible one";
        definition().error(ErrorKind::ValueValidation, text)
    })
}

fn command(matches: &ArgMatches) -> Result<Command, clap::Error> {
    let is_check = matches.get_flag("check");
    let check = |of: &ArgMatches| Command::Check {
        json: of.get_flag("json"),
        deep: of.get_flag("deep"),
        url: of.get_one("url").cloned(),
        ready: of.get_flag("ready"),
    };
    let Some((name, own)) = matches.subcommand() else {
        return Ok(if is_check { check(matches) } else { Command::Serve });
    };
    if is_check && name != "check" {
        let text = format!("--check cannot be used with the command '{name}'");
        return Err(definition().error(ErrorKind::ArgumentConflict, text));
    }
    Ok(match name {
        "check" => check(own),
        "migrate" => {
            Command::Migrate { dry_run: own.get_flag("dry-run"), json: own.get_flag("json") }
        }
        "status" => Command::Status { json: own.get_flag("json") },
        "verify" => match own.get_flag("statistics") {
            true => Command::VerifyStatistics { json: own.get_flag("json") },
            false => Command::Verify { json: own.get_flag("json") },
        },
        "repair" => Command::Repair,
        "accept" => {
            let words = own.get_many::<String>("OBJECT").into_iter().flatten();
            let words: Vec<&str> = words.map(String::as_str).collect();
            Command::Accept { object: words.join(" "), withdraw: own.get_flag("withdraw") }
        }
        "backup" => match (own.get_flag("verify"), own.get_one::<PathBuf>("FILE").cloned()) {
            (true, Some(file)) => Command::VerifyBackup { file },
            (_, file) => Command::Backup { file, compress: own.get_flag("compress") },
        },
        "backups" => Command::Backups { json: own.get_flag("json") },
        "restore" => Command::Restore {
            source: match (own.get_one::<PathBuf>("FILE"), own.get_one::<String>("at")) {
                (_, Some(moment)) => RestoreSource::Archive(archive_moment(moment)?),
                (Some(file), _) if file.as_os_str() != "latest" => {
                    RestoreSource::Backup(BackupChoice::File(file.clone()))
                }
                _ => RestoreSource::Backup(BackupChoice::Latest),
            },
            to: own.get_one("to").cloned(),
            dry_run: own.get_flag("dry-run"),
        },
        "copy" => Command::Copy(CopyOptions {
            to: match own.get_one::<String>("to").map(String::as_str) {
                Some("sqlite") => Backend::Sqlite,
                _ => Backend::Postgresql,
            },
            dry_run: own.get_flag("dry-run"),
            with_extra: own.get_flag("with-extra"),
            skip_bad: own.get_one("skip-bad").cloned(),
            json: own.get_flag("json"),
        }),
        "stats" => Command::Stats(stats(own)?),
        "prune" => Command::Prune(PruneOptions {
            dry_run: own.get_flag("dry-run"),
            trust_clock: own.get_flag("trust-clock"),
            compact: own.get_flag("compact"),
            json: own.get_flag("json"),
        }),
        "doctor" => Command::Doctor { json: own.get_flag("json") },
        _ => Command::Serve,
    })
}

/// Reads a moment: `latest`, or a time in UTC, such as `2026-11-27 20:30:45`.
fn archive_moment(text: &str) -> Result<ArchiveMoment, clap::Error> {
    if text == "latest" {
        return Ok(ArchiveMoment::Latest);
    }
    let time = humantime::parse_rfc3339_weak(text).ok();
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    // What was found within a second belongs to it.
    let rest = if text.contains('.') { 0 } else { 999 };
    let at = since.and_then(|since| i64::try_from(since.as_millis() + rest).ok());
    at.map(ArchiveMoment::At).ok_or_else(|| {
        let text = format!(
            "invalid value '{text}' for '--at <TIME>': expected latest, or a time in UTC, such as '2026-11-27 20:30:45'"
        );
        definition().error(ErrorKind::ValueValidation, text)
    })
}

fn stats(own: &ArgMatches) -> Result<StatsOptions, clap::Error> {
    let word = |name| own.get_one::<String>(name).map(String::as_str);
    let by = match word("by") {
        Some("symbol") => Grouping::Symbol,
        Some("type") => Grouping::Type,
        Some("connection") => Grouping::Connection,
        _ => Grouping::Day,
    };
    let source = match word("source") {
        Some("real") => TradeSource::Real,
        Some("exchange") => TradeSource::Exchange,
        _ => TradeSource::Pseudo,
    };
    if (by, source) == (Grouping::Type, TradeSource::Exchange) {
        let text =
            "--by type cannot be used with --source exchange: exchange_positions has no type";
        return Err(definition().error(ErrorKind::ArgumentConflict, text));
    }
    let days = own.get_one("days").copied().unwrap_or(DEFAULT_STATS_DAYS);
    Ok(StatsOptions { json: own.get_flag("json"), days, by, source })
}

fn flags(matches: &ArgMatches) -> Flags {
    // Global flags are found in the matches of the command, even if they were given before its name.
    let own = matches.subcommand().map_or(matches, |(_, own)| own);
    // Those of the address are not global, and may stand before the name of their command all the same.
    let value = |of: &ArgMatches, name| of.try_get_one::<String>(name).ok().flatten().cloned();
    let address = |name| value(own, name).or_else(|| value(matches, name));
    Flags {
        db: own.get_one("db").cloned(),
        database_url_file: own.get_one("database-url-file").cloned(),
        host: address("host"),
        port: address("port"),
        verbosity: match (own.get_flag("quiet"), own.get_flag("verbose")) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        },
    }
}

#[cfg(test)]
mod tests;
