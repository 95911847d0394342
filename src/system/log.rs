//! Log lines on standard error: one line for each event, with the prefix `[v0] `, and under systemd
//! the priority that journald reads (sd-daemon(3)).

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use crate::system::visible::visible;

/// Which events are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and errors only.
    Quiet,
    /// Also what went as it should.
    #[default]
    Normal,
    /// Also details.
    Verbose,
}

/// The log on standard error.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    verbosity: Verbosity,
    priorities: bool,
}

impl Log {
    /// A log on standard error. Priorities are written if `JOURNAL_STREAM` is set, so that journald
    /// reads it, and it is not a terminal, which inherits that variable from a service.
    pub fn new(verbosity: Verbosity) -> Log {
        let journal = env::var_os("JOURNAL_STREAM").is_some_and(|stream| !stream.is_empty());
        Log { verbosity, priorities: journal && !io::stderr().is_terminal() }
    }

    /// Whether standard error is a terminal on which events are shown.
    pub fn is_watched(&self) -> bool {
        self.verbosity >= Verbosity::Normal && io::stderr().is_terminal()
    }

    /// A detail, logged with `--verbose` only.
    pub fn detail(&self, event: impl Display) {
        self.line(Verbosity::Verbose, 7, &event);
    }

    /// What went as it should.
    pub fn info(&self, event: impl Display) {
        self.line(Verbosity::Normal, 6, &event);
    }

    /// What an operator should attend to.
    pub fn warn(&self, event: impl Display) {
        self.line(Verbosity::Quiet, 4, &format_args!("⚠ {event}"));
    }

    /// What failed.
    pub fn error(&self, event: impl Display) {
        self.line(Verbosity::Quiet, 3, &format_args!("✗ {event}"));
    }

    fn line(&self, at_least: Verbosity, priority: u8, event: &dyn Display) {
        if self.verbosity < at_least {
            return;
        }
        let event = event.to_string();
        let text = visible(&event);
        let line = if self.priorities {
            format!("<{priority}>[v0] {text}\n")
        } else {
            format!("[v0] {text}\n")
        };
        // A closed standard error must not stop the service.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
