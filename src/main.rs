//! `cts`: the database of a CTS v3.1 trading box in one binary.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod archive;
mod backup;
mod cli;
mod commands;
mod config;
mod copy;
mod doctor;
mod error;
mod health;
mod http;
mod migrate;
mod page;
mod retention;
mod service;
mod statistics;
mod store;
mod system;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use cli::{Command, FailureReporter, Invocation};
use config::Config;
use error::Result;
use system::log::Log;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    #[cfg(feature = "postgres")]
    if let Some(code) = system::child_program::become_program(&arguments) {
        return code;
    }
    let failures = FailureReporter::new(&arguments);
    let (code, is_service) = match cli::parse(&arguments) {
        Ok(invocation) => {
            let code = run(&invocation)
                .unwrap_or_else(|error| failures.report(&error, invocation.flags.verbosity));
            (code, invocation.command == Command::Serve)
        }
        Err(reason) => (failures.report_no_invocation(&reason), false),
    };
    system::signals::announce_work_done();
    match is_service {
        true => system::log::flush_service_log(),
        false => system::log::flush_command_log(),
    }
    code.into()
}

/// Runs a command; returns its exit code.
fn run(Invocation { command, flags }: &Invocation) -> Result<u8> {
    system::signals::ignore_file_size_signal()?;
    system::signals::end_first_process()?;
    let environment = |name: &str| env::var_os(name);
    let with = |config: Config, work: &dyn Fn(&Config, Log) -> Result<u8>| {
        let log = Log::new(config.verbosity);
        log.report_panics();
        if !matches!(command, Command::Check { .. } | Command::Doctor { .. }) {
            commands::log_notices(&config, log);
        }
        work(&config, log)
    };
    let configured =
        |work: &dyn Fn(&Config, Log) -> Result<u8>| with(Config::load(flags, &environment)?, work);
    match command {
        Command::Serve => configured(&|config, log| service::serve(config, log).map(|()| 0)),
        Command::Check { url: Some(url), json, .. } => commands::check::at_url(url, *json),
        Command::Check { ready: true, .. } => commands::ready::run(flags, &environment),
        Command::Check { json, deep, .. } => {
            configured(&|config, _| commands::check::database(config, *json, *deep))
        }
        Command::Migrate { dry_run: true, json } => {
            configured(&|config, _| commands::migrate::dry_run(config, *json))
        }
        Command::Migrate { dry_run: false, .. } => configured(&commands::migrate::run),
        Command::Status { json } => configured(&|config, _| commands::status::run(config, *json)),
        Command::Verify { json } => configured(&|config, _| commands::verify::run(config, *json)),
        Command::VerifyStatistics { json } => {
            configured(&|config, _| commands::verify_statistics::run(config, *json))
        }
        Command::Repair => configured(&commands::repair::run),
        Command::Accept { object, withdraw } => {
            configured(&|config, log| commands::accept::run(config, log, object, *withdraw))
        }
        Command::Backup { file, compress } => configured(&|config, log| {
            commands::backup::run(config, log, file.as_deref(), *compress)
        }),
        Command::VerifyBackup { file } => {
            configured(&|config, log| commands::verify_backup::run(config, log, file))
        }
        Command::Backups { json } => configured(&|config, _| commands::backups::run(config, *json)),
        Command::Restore { source, to, dry_run } => configured(&|config, log| {
            commands::restore::run(config, log, source, to.as_deref(), *dry_run)
        }),
        Command::Copy(options) => commands::copy::run(flags, &environment, options),
        Command::Stats(options) => configured(&|config, _| commands::stats::run(config, options)),
        Command::Prune(options) => {
            configured(&|config, log| commands::prune::run(config, log, *options))
        }
        Command::Doctor { json } => match Config::load(flags, &environment) {
            Err(error) => doctor::misconfigured(&error, flags.verbosity, *json),
            Ok(config) => with(config, &|config, _| {
                doctor::run(config, config::other_store(flags, &environment), *json)
            }),
        },
    }
}
