//! The definition of the command line: flags, commands and their help. The program that makes the man
//! page includes this file, so it uses nothing of cts but the version and the defaults.

use std::path::PathBuf;

use clap::{Arg, ArgAction, value_parser};

use crate::config::{
    DEFAULT_ARCHIVE_KEEP, DEFAULT_BACKUP_EVERY, DEFAULT_BACKUP_KEEP, DEFAULT_CONNECTIONS,
    DEFAULT_DB, DEFAULT_HOST, DEFAULT_LOCK_TIMEOUT, DEFAULT_POOL_CONNECT, DEFAULT_POOL_IDLE,
    DEFAULT_POOL_MAX, DEFAULT_PORT, DEFAULT_RETENTION, DEFAULT_WAIT,
};
use crate::system::version::{LONG_VERSION, VERSION};

const DOCTOR_HELP: &str = "\
Examines the configuration and its sources, credentials, files, the database or the server, endpoints,
the systemd unit and the clock. Needs no running cts and takes less than 10 s. With --quiet, only
findings that are not good are printed.

Exit codes: 0 all good, 1 a finding needs attention, 2 a fault keeps cts from working, 3 no fault found,
but the database could not be examined (it is locked or belongs to another user), 78 the configuration
is wrong.";

const ACCEPT_HELP: &str = "\
An accepted difference is listed by verify, status and doctor, is no drift, and is left alone by healing. A
table stands for its columns and indexes too. A missing table or column cannot be accepted. Another
difference of the same object, later, is drift again.";

const VERIFY_HELP: &str = "\
--statistics calculates the statistics of every day that still has its positions, and compares each row with what is
stored; the schema is not compared. It changes nothing, and may run while programs write. Exit codes: 0 nothing
differs, 1 a row differs.";

const BACKUP_HELP: &str = "\
--verify refuses what a restore would refuse, restores the backup in a temporary folder, migrates it there,
compares it with what it was made with, and prints its tables with their rows. It changes nothing but the
manifest beside the backup, which records the result. Exit codes: 0 it is sound, 65 it is not.";

const RESTORE_HELP: &str = "\
The backup is proved first. Every program that has the database open must be ended before, the service too
(systemctl stop cts); those that run are named. A SQLite database that is there is kept beside it as
cts.db.before-restore-TIME. The restored one is brought up to date, checked as a whole, and takes the place in
one step: a run that is killed leaves the one database or the other, and the next start says which.";

const COPY_HELP: &str = "\
The SQLite database is that of SQLITE_DB_PATH (or --db), the PostgreSQL one that of DATABASE_URL or
DATABASE_URL_FILE (or --database-url-file); DATABASE_TYPE plays no part. The source may be in use: what it held at
the beginning is copied. The target must have no rows. All is written in one transaction, read back and compared,
and only then committed: rows and a digest of each table are printed. Exit code 65: a value cannot be copied, or
the target has rows.";

const STATS_HELP: &str = "\
A trade is a position that was closed; it counts on the UTC day on which it was closed. A win is a profit above 0, the
win rate the wins among all trades, the profit factor (factor) the sum of wins divided by that of losses, the
expectancy the mean profit, the drawdown the largest fall of the running sum of profits from its highest point. Times
held are means. Days of which retention has deleted rows come from the statistics tables. Changes nothing.";
const PRUNE_HELP: &str = "\
The settings are rows of system_settings with the category retention; a running cts does the same by itself a day
after it has announced it (CTS_RETENTION=0: never). Rows are old by the time that cts has recorded in the database:
a clock that is set ahead deletes nothing. --trust-clock says that a clock which is a day or more ahead is right.
Exit code 78: a setting is nonsense, and nothing was deleted by it.";

/// All flags and commands.
pub fn definition() -> clap::Command {
    clap::Command::new("cts")
        .version(VERSION)
        .long_version(LONG_VERSION)
        .about(
            "Creates, migrates, verifies, heals and serves the database of a CTS v3.1 trading box",
        )
        .after_help(environment_and_exit_codes())
        .args(global_flags())
        .args(listen_flags().map(|flag| flag.conflicts_with("check")))
        .arg(switch("check", "As the command check: kept for monitoring that calls it so"))
        .args(check_flags().map(|flag| flag.requires("check").hide(true)))
        .subcommands(commands())
}

fn global_flags() -> [Arg; 4] {
    let path = |arg: Arg| arg.value_parser(value_parser!(PathBuf));
    let db = format!("Path of the SQLite database [SQLITE_DB_PATH, default {DEFAULT_DB}]");
    let url_file = "File that contains the PostgreSQL URL [DATABASE_URL_FILE]";
    [
        path(value("db", "PATH", db)),
        path(value("database-url-file", "FILE", url_file)),
        switch("quiet", "Log warnings and errors only; print results without advice")
            .short('q')
            .conflicts_with("verbose"),
        switch("verbose", "Log details as well").short('v'),
    ]
    .map(|arg| arg.global(true))
}

/// The flags of the commands that use the address: serve, which is the default, and doctor.
fn listen_flags() -> [Arg; 2] {
    let host = format!("Address to listen on [HOST, default {DEFAULT_HOST}]");
    let port = format!("Port to listen on [PORT, default {DEFAULT_PORT}]");
    [value("host", "ADDRESS", host), value("port", "PORT", port)]
}

fn check_flags() -> [Arg; 4] {
    [
        switch("json", "Print JSON"),
        switch("deep", "Also check every page, index entry and foreign key"),
        value("url", "URL", "Ask the cts that serves this URL, over HTTP").conflicts_with("deep"),
        switch("ready", "Ask the cts at HOST and PORT; exit code 0 if it is ready, else 1")
            .conflicts_with_all(["deep", "json", "url"]),
    ]
}

fn commands() -> [clap::Command; 14] {
    let command = |name: &'static str, about| clap::Command::new(name).about(about);
    let dry_run = switch("dry-run", "Print what would be done and change nothing");
    [
        command("serve", "Run the appliance: migrate, verify and serve (the default)")
            .args(listen_flags()),
        command("check", "Check the database once and exit with a status for monitoring (0 to 3)")
            .args(check_flags()),
        command("migrate", "Bring the schema up to date and exit")
            .arg(dry_run)
            .arg(switch("json", "With --dry-run: print JSON").requires("dry-run")),
        command("status", "Print the migration status").arg(json()),
        command("verify", "Compare the database with the expected catalogue")
            .after_help(VERIFY_HELP)
            .arg(switch(
                "statistics",
                "Calculate the statistics of closed positions again, and compare",
            ))
            .arg(json()),
        command("repair", "Restore what is missing from the database"),
        command("accept", "Record that a difference from the expected catalogue is meant so")
            .after_help(ACCEPT_HELP)
            .arg(
                Arg::new("OBJECT")
                    .required(true)
                    .num_args(1..)
                    .help("Table, table.column or index, as cts verify shows it or by its name"),
            )
            .arg(switch("withdraw", "Remove the record: the difference is drift again")),
        command("backup", "Copy the database while programs write, and prove the copy")
            .after_help(BACKUP_HELP)
            .arg(
                Arg::new("FILE").value_parser(value_parser!(PathBuf)).help(
                    "The file to make; without, one in the folder of backups, kept by its rules",
                ),
            )
            .arg(switch("compress", "Compress it with zstd [CTS_BACKUP_COMPRESS]"))
            .arg(
                switch("verify", "Prove the backup FILE and restore it for a trial; make none")
                    .requires("FILE")
                    .conflicts_with("compress"),
            ),
        command("backups", "List the backups").arg(json()),
        command("restore", "Put a backup in place of the database, which is kept")
            .after_help(RESTORE_HELP)
            .arg(
                Arg::new("FILE")
                    .required_unless_present("at")
                    .value_parser(value_parser!(PathBuf))
                    .help("The backup, or its name in the folder of backups; latest: the newest one"),
            )
            .arg(
                value("at", "TIME", "Restore the database of this moment from the archive, or the latest")
                    .conflicts_with("FILE"),
            )
            .arg(
                value("to", "PATH", "Restore to this new file, and leave the database alone")
                    .value_parser(value_parser!(PathBuf)),
            )
            .arg(switch("dry-run", "Prove the backup, print what would be done, change nothing")),
        command("copy", "Copy the whole database from SQLite to PostgreSQL or back, proved equal")
            .after_help(COPY_HELP)
            .arg(
                value("to", "TYPE", "The database that is written: sqlite or postgresql")
                    .required(true)
                    .value_parser(["postgresql", "sqlite"])
                    .hide_possible_values(true),
            )
            .arg(switch("dry-run", "Examine every value, print what would be done, change nothing"))
            .arg(switch("with-extra", "Copy your own columns and tables too"))
            .arg(
                value(
                    "skip-bad",
                    "FILE",
                    "Leave out rows that cannot be copied: into this new file",
                )
                .value_parser(value_parser!(PathBuf)),
            )
            .arg(json()),
        command(
            "stats",
            "Print trades, profit, drawdown and more of the positions that were closed",
        )
        .after_help(STATS_HELP)
        .args(stats_flags())
        .arg(json()),
        command("prune", "Delete what the settings of retention say is old, while programs write")
            .after_help(PRUNE_HELP)
            .arg(switch("dry-run", "Print what would be deleted and change nothing"))
            .arg(switch("trust-clock", "Take this machine's clock for right, and record that"))
            .arg(switch(
                "compact",
                "Then rebuild the SQLite file without its free pages, after a backup; no program may have it open",
            ))
            .arg(json()),
        command("doctor", "Examine everything that cts needs and print remedies; changes nothing")
            .after_help(DOCTOR_HELP)
            .args(listen_flags())
            .arg(json()),
    ]
}

fn stats_flags() -> [Arg; 3] {
    let choice =
        |arg: Arg, names: [&'static str; 3]| arg.value_parser(names).hide_possible_values(true);
    let source = "Positions that are counted: pseudo (the default), real or exchange";
    [
        value("days", "N", "Count today and the days before it, N in all; default 30")
            .value_parser(value_parser!(i32).range(1..=36_500)),
        choice(
            value(
                "by",
                "GROUP",
                "Group by symbol, type (of indication) or connection; default: by day",
            ),
            ["symbol", "type", "connection"],
        ),
        choice(value("source", "SOURCE", source), ["pseudo", "real", "exchange"]),
    ]
}

fn json() -> Arg {
    switch("json", "Print JSON")
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

fn value(name: &'static str, placeholder: &'static str, help: impl Into<String>) -> Arg {
    Arg::new(name).long(name).value_name(placeholder).help(help.into())
}

fn environment_and_exit_codes() -> String {
    format!(
        "\
Environment (a flag takes precedence):
  DATABASE_TYPE          sqlite or postgresql; default: postgresql if a database URL is set
  SQLITE_DB_PATH         path of the SQLite database; default {DEFAULT_DB}
  DATABASE_URL           postgresql://user:password@host:port/database
  DATABASE_URL_FILE      file that contains the URL
  HOST, PORT             address and port to listen on; default {DEFAULT_HOST} and {DEFAULT_PORT}
  CTS_ADMIN_TOKEN        bearer token required for /api/admin/*
  CTS_ADMIN_TOKEN_FILE   file that contains the token
  CTS_ALLOWED_HOSTS      host names that HTTP requests may use, besides addresses and localhost
  CTS_HTTP_CONNECTIONS   maximum number of HTTP connections; default {DEFAULT_CONNECTIONS}
  CTS_GROUP_ACCESS       1: members of the file's group may open the database; default 0
  CTS_ALLOW_NETWORK_FS   1: open a database on a network file system; default 0
  CTS_BACKUP_DIR         folder of the backups; default: backups beside the SQLite database
  CTS_BACKUP_EVERY       how often the service makes one, 0: never; default {DEFAULT_BACKUP_EVERY}
  CTS_BACKUP_KEEP        which are kept; default {DEFAULT_BACKUP_KEEP}
  CTS_BACKUP_COMPRESS    1: compress them; default 0
  CTS_ARCHIVE_DIR        folder of the archive of every change, SQLite only; default: there is none
  CTS_ARCHIVE_KEEP       how far back it goes; default {DEFAULT_ARCHIVE_KEEP}
  CTS_RETENTION          0: the service deletes no old rows by itself; default {DEFAULT_RETENTION}
  CTS_PG_DUMP            path of pg_dump, for backups of PostgreSQL; default: found on PATH
  CTS_LOCK_TIMEOUT       how long a command waits for the migration lock; default {DEFAULT_LOCK_TIMEOUT}
  CTS_WAIT               how long to wait for an unreachable PostgreSQL server; default {DEFAULT_WAIT}
  CTS_POOL_MAX           maximum number of PostgreSQL connections; default {DEFAULT_POOL_MAX}
  CTS_POOL_IDLE          how long an idle connection is kept; default {DEFAULT_POOL_IDLE}
  CTS_POOL_CONNECT       how long to wait for a connection; default {DEFAULT_POOL_CONNECT}

Exit codes:
  check, --check         0 healthy, 1 degraded or initializing, 2 unhealthy, 3 could not ask
  status                 0 complete, 1 incomplete
  verify, repair         0 no drift (left), 1 drift
  doctor                 0 all good, 1 needs attention, 2 faulty, 3 could not examine
  any other command      0 success
  on failure             64 wrong command line          65 wrong data or damaged database
                         69 server or port unavailable  73 cannot create a file
                         74 I/O error                   75 locked or interrupted: try again
                         77 permission denied           78 wrong configuration"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }
}
