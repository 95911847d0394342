//! The command line: words in, a [`Command`] and [`Flags`] out.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::config::{
    DEFAULT_CONNECTIONS, DEFAULT_DB, DEFAULT_HOST, DEFAULT_LOCK_TIMEOUT, DEFAULT_POOL_CONNECT,
    DEFAULT_POOL_IDLE, DEFAULT_POOL_MAX, DEFAULT_PORT, DEFAULT_WAIT, Flags,
};
use crate::system::log::Verbosity;
use crate::system::version::VERSION;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The appliance.
    Serve,
    /// One look, and an exit code for monitoring.
    Check {
        /// Print the health JSON.
        json: bool,
        /// Read every page, index entry and foreign key.
        deep: bool,
        /// RequestParts a running cts there instead of the database.
        url: Option<String>,
    },
    /// Bring the schema up to date.
    Migrate {
        /// Print what would be done.
        dry_run: bool,
    },
    /// The migration status.
    Status {
        /// Print JSON.
        json: bool,
    },
    /// Compare with the expected catalogue.
    Verify {
        /// Print JSON.
        json: bool,
    },
    /// Put back what is missing.
    Repair,
    /// Snapshot at everything that it needs to work.
    Doctor {
        /// Print JSON.
        json: bool,
    },
}

/// Reads the words after the program's name. `Err` is what clap has to say: help, the
/// version, or what is wrong.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<(Command, Flags), clap::Error> {
    let matches = definition().try_get_matches_from(words)?;
    let command = command(&matches)?;
    Ok((command, flags(&matches)))
}

fn command(matches: &ArgMatches) -> Result<Command, clap::Error> {
    let check = matches.get_flag("check");
    let Some((name, own)) = matches.subcommand() else {
        return Ok(if check {
            Command::Check {
                json: matches.get_flag("json"),
                deep: matches.get_flag("deep"),
                url: matches.get_one("url").cloned(),
            }
        } else {
            Command::Serve
        });
    };
    if check {
        let text = format!("--check is a command of its own and cannot be used with '{name}'");
        return Err(definition().error(clap::error::ErrorKind::ArgumentConflict, text));
    }
    Ok(match name {
        "migrate" => Command::Migrate { dry_run: own.get_flag("dry-run") },
        "status" => Command::Status { json: own.get_flag("json") },
        "verify" => Command::Verify { json: own.get_flag("json") },
        "repair" => Command::Repair,
        "doctor" => Command::Doctor { json: own.get_flag("json") },
        _ => Command::Serve,
    })
}

fn flags(matches: &ArgMatches) -> Flags {
    // Global flags may stand before or behind the command's name.
    let own = matches.subcommand().map_or(matches, |(_, own)| own);
    Flags {
        db: own.get_one("db").cloned(),
        database_url_file: own.get_one("database-url-file").cloned(),
        host: own.get_one("host").cloned(),
        port: own.get_one("port").cloned(),
        verbosity: match (own.get_flag("quiet"), own.get_flag("verbose")) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        },
    }
}

/// The words that there are.
pub fn definition() -> clap::Command {
    let json = || switch("json", "Print JSON");
    clap::Command::new("cts")
        .version(VERSION)
        .about("The database of a CTS v3.1 trading box: creates, migrates, verifies, heals and shows it")
        .after_help(after_help())
        .disable_help_subcommand(true)
        .args(global_flags())
        .arg(switch("check", "Snapshot at the database once and exit 0, 1, 2 or 3, for monitoring"))
        .arg(json().requires("check"))
        .arg(switch("deep", "With --check: read every page, index entry and foreign key").requires("check"))
        .arg(
            value("url", "URL", "With --check: ask the running cts there")
                .requires("check")
                .conflicts_with("deep"),
        )
        .subcommands([
            clap::Command::new("serve").about("Run the appliance: migrate, verify, serve (the default)"),
            clap::Command::new("migrate")
                .about("Bring the schema up to date and stop")
                .arg(switch("dry-run", "Print what would be done and change nothing")),
            clap::Command::new("status").about("Show the migration status").arg(json()),
            clap::Command::new("verify")
                .about("Compare the database with the expected catalogue")
                .arg(json()),
            clap::Command::new("repair").about("Put back what is missing"),
            clap::Command::new("doctor")
                .about("Snapshot at everything that it needs to work, and say what to do; changes nothing")
                .after_help(DOCTOR_HELP)
                .arg(json()),
        ])
}

const DOCTOR_HELP: &str = "\
It looks at the configuration and its sources, credentials, files, database or server, endpoints, unit
and clock, needs no running cts, and takes less than 10 s. With --quiet it prints only what is not good.

Exit codes: 0 all good, 1 something that a person should look at, 2 something that keeps it from
working, 3 nothing of that, but the database could not be looked at (another user's), 78 the
configuration is wrong.";

fn global_flags() -> [Arg; 6] {
    let path = |arg: Arg| arg.value_parser(value_parser!(PathBuf)).global(true);
    [
        path(value(
            "db",
            "PATH",
            format!("SQLite database [SQLITE_DB_PATH, default {DEFAULT_DB}]"),
        )),
        path(value(
            "database-url-file",
            "FILE",
            "File that holds the PostgreSQL URL [DATABASE_URL_FILE]",
        )),
        value("host", "ADDRESS", format!("Address to listen on [HOST, default {DEFAULT_HOST}]"))
            .global(true),
        value("port", "PORT", format!("Port to listen on [PORT, default {DEFAULT_PORT}]"))
            .global(true),
        switch("quiet", "Say only warnings and errors")
            .short('q')
            .global(true)
            .conflicts_with("verbose"),
        switch("verbose", "Say details").short('v').global(true),
    ]
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn value(name: &'static str, placeholder: &'static str, help: impl Into<String>) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).help(help.into())
}

fn after_help() -> String {
    format!(
        "\
Environment (a flag wins over it; README.md says more):
  DATABASE_TYPE          sqlite, or postgresql where DATABASE_URL is set
  SQLITE_DB_PATH         {DEFAULT_DB}
  HOST, PORT             {DEFAULT_HOST}, {DEFAULT_PORT}
  CTS_ADMIN_TOKEN        bearer token for /api/admin/* (or CTS_ADMIN_TOKEN_FILE)
  CTS_ALLOWED_HOSTS      names by which HTTP clients may speak of this box, beside addresses
  CTS_HTTP_CONNECTIONS   {DEFAULT_CONNECTIONS}: connections at once
  CTS_GROUP_ACCESS       1: programs of the file's group may open the database
  CTS_LOCK_TIMEOUT       {DEFAULT_LOCK_TIMEOUT}: how long a command waits for the write lock
  CTS_ALLOW_NETWORK_FS   1: open a database on a network file system
  DATABASE_URL           postgresql://user:password@host:port/database (or DATABASE_URL_FILE)
  CTS_WAIT               {DEFAULT_WAIT}: how long a PostgreSQL server that is down is waited for
  CTS_POOL_MAX           {DEFAULT_POOL_MAX}, CTS_POOL_IDLE {DEFAULT_POOL_IDLE}, CTS_POOL_CONNECT {DEFAULT_POOL_CONNECT}: its connections

Exit codes of --check: 0 healthy, 1 degraded or initializing, 2 unhealthy, 3 could not ask.
Of status: 0 complete, 1 incomplete. Of verify and repair: 0 no drift left, 1 drift.
Of doctor: 0 good, 1 a person should look, 2 it does not work so, 3 could not look, 78.
Of all: 64 usage, 65 data, 69 unavailable, 73 cannot create, 74 I/O, 75 try again,
77 permission, 78 configuration."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Command, Flags), clap::Error> {
        parse(std::iter::once("cts").chain(line.split_whitespace()).map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        assert_eq!(parsed("").unwrap().0, Command::Serve);
        assert_eq!(parsed("serve").unwrap().0, Command::Serve);
    }

    #[test]
    fn check_takes_its_own_flags() {
        let check =
            |json, deep, url: Option<&str>| Command::Check { json, deep, url: url.map(Into::into) };
        assert_eq!(parsed("--check").unwrap().0, check(false, false, None));
        assert_eq!(parsed("--check --json --deep").unwrap().0, check(true, true, None));
        assert_eq!(
            parsed("--check --url http://h").unwrap().0,
            check(false, false, Some("http://h"))
        );
    }

    #[test]
    fn global_flags_stand_before_or_behind_the_command() {
        for line in ["--db /x status --json", "status --json --db /x"] {
            let (command, flags) = parsed(line).unwrap();
            assert_eq!(command, Command::Status { json: true });
            assert_eq!(flags.db, Some(PathBuf::from("/x")));
        }
    }

    #[test]
    fn doctor_takes_json() {
        assert_eq!(parsed("doctor").unwrap().0, Command::Doctor { json: false });
        assert_eq!(parsed("doctor --json").unwrap().0, Command::Doctor { json: true });
    }

    #[test]
    fn wrong_words_are_refused() {
        for line in [
            "--json",
            "--deep",
            "backup",
            "--check status",
            "--check doctor",
            "doctor --deep",
            "status --dry-run",
            "-q -v",
            "serve now",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
