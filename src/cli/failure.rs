//! How a command line that is refused and a command that fails are reported: `--check` prints one line
//! or JSON on standard output for the monitoring system, every other command logs; both have an exit code.

use std::ffi::OsString;
use std::io;

use crate::cli::arguments::NoInvocation;
use crate::commands::check::could_not_ask;
use crate::error::{Error, Kind};
use crate::system::log::{Log, Verbosity};
use crate::system::output::{print_lines, write_all};
use crate::system::visible::Lines;

/// Whether the command is `check`: the first word that is neither a flag nor the value of one.
fn is_check(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--db" | "--database-url-file" | "--host" | "--port" | "--url") => {
                let _ = words.next();
            }
            Some(flag) if flag.starts_with('-') => {}
            other => return other == Some("check"),
        }
    }
    false
}

/// Reports failures in the form that the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct FailureReporter {
    is_check: bool,
    as_json: bool,
}

impl FailureReporter {
    /// The form is taken from the arguments themselves, since it is needed even if they are wrong.
    pub fn new(arguments: &[OsString]) -> FailureReporter {
        let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
        FailureReporter { is_check: has("--check") || is_check(arguments), as_json: has("--json") }
    }

    /// Reports that the command failed; returns the exit code.
    pub fn report(self, error: &Error, verbosity: Verbosity) -> u8 {
        if self.is_check {
            return could_not_ask(&error.to_string(), self.as_json);
        }
        Log::new(verbosity).error(error);
        error.kind.exit_code()
    }

    /// Prints the help or the version that was asked for, or reports the fault in the command line;
    /// returns the exit code.
    pub fn report_no_invocation(self, reason: &NoInvocation) -> u8 {
        match reason {
            NoInvocation::Message(message) => self.print(message),
            NoInvocation::DatabaseUrl(error) => self.report(error, Verbosity::Normal),
        }
    }

    fn print(self, message: &clap::Error) -> u8 {
        if message.use_stderr() && self.is_check {
            let text = message.to_string();
            return could_not_ask(text.lines().next().unwrap_or_default(), self.as_json);
        }
        let mut lines = Lines::new();
        message.to_string().lines().for_each(|line| lines.add(line));
        if message.use_stderr() {
            // If standard error cannot be written, the exit code still reports the fault.
            let _ = write_all(&io::stderr(), &mut lines.as_str().as_bytes());
            return Kind::Usage.exit_code();
        }
        match print_lines(&lines) {
            Ok(()) => 0,
            Err(error) => self.report(&error, Verbosity::Normal),
        }
    }
}
