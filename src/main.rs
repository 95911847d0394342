//! `cts`: the database of a CTS v3.1 trading box in one binary.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod cli;
mod commands;
mod config;
mod doctor;
mod error;
mod health;
mod http;
mod migrate;
mod service;
mod store;
mod system;

use std::env;
use std::io::ErrorKind;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use cli::Command;
use commands::check;
use config::{Config, Flags};
use error::{Error, Kind, Result};
use system::log::{Log, Verbosity};

fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().collect();
    let checks = words.iter().any(|word| word == "--check");
    let as_json = words.iter().any(|word| word == "--json");
    let failed = |error: &Error, verbosity| {
        if checks {
            return check::could_not_ask(&error.to_string(), as_json);
        }
        Log::new(verbosity).error(error);
        error.kind.exit_code()
    };
    if words.iter().any(|word| holds_database_url(&word.to_string_lossy())) {
        return failed(&url_in_argument(), Verbosity::Normal).into();
    }
    let code = match cli::parse(words) {
        Ok((command, flags)) => {
            run(&command, &flags).unwrap_or_else(|error| failed(&error, flags.verbosity))
        }
        Err(said) if !said.use_stderr() => match said.print() {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => Kind::Io.exit_code(),
            _ => 0,
        },
        Err(wrong) if checks => {
            check::could_not_ask(wrong.to_string().lines().next().unwrap_or_default(), as_json)
        }
        Err(wrong) => {
            // Where standard error cannot be written, the exit code tells it.
            let _ = wrong.print();
            Kind::Usage.exit_code()
        }
    };
    code.into()
}

/// Whether a word of the command line is the URL of a database server, or holds one.
fn holds_database_url(word: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| word.contains(scheme))
}

/// Nothing is done with it, and it is not repeated: it may hold a password.
fn url_in_argument() -> Error {
    Error::new(
        Kind::Usage,
        "an argument holds a database URL, which every user of this machine can read (`ps`)",
    )
    .remedy("set DATABASE_URL, or name a file with --database-url-file; change the password if there was one")
}

fn run(command: &Command, flags: &Flags) -> Result<u8> {
    ignore_file_size_signal()?;
    if let Command::Check { url: Some(url), json, .. } = command {
        return check::at_url(url, *json);
    }
    let config = match (Config::load(flags, &|name| env::var_os(name)), command) {
        (Err(error), Command::Doctor { json }) => {
            return doctor::misconfigured(&error, flags.verbosity, *json);
        }
        (loaded, _) => loaded?,
    };
    let log = Log::new(config.verbosity);
    match command {
        Command::Serve => service::serve(&config, log).map(|()| 0),
        Command::Check { json, deep, .. } => check::database(&config, *json, *deep),
        Command::Migrate { dry_run: true } => commands::plan(&config),
        Command::Migrate { dry_run: false } => commands::migrate(&config, log),
        Command::Status { json } => commands::status(&config, *json),
        Command::Verify { json } => commands::verify(&config, *json),
        Command::Repair => commands::repair(&config, log),
        Command::Doctor { json } => doctor::run(&config, *json),
    }
}

/// A write beyond the limit on file sizes is then an error that can be reported, not the
/// end of the process.
fn ignore_file_size_signal() -> Result<()> {
    static SEEN: AtomicBool = AtomicBool::new(false);
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, &SEEN)
        .map(|_| ())
        .map_err(|e| Error::new(Kind::Io, format!("signals cannot be watched: {e}")))
}
