//! Log lines on standard error: one line an event, `[v0] ` before it, and under systemd
//! the priority that journald reads.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// How much is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and errors.
    Quiet,
    /// What an operator wants to see.
    #[default]
    Normal,
    /// Details as well.
    Verbose,
}

/// Where events go.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    verbosity: Verbosity,
    priorities: bool,
}

impl Log {
    /// A log on standard error. Priorities are written where `JOURNAL_STREAM` says that
    /// journald reads it (a terminal opened from a service inherits that variable).
    pub fn new(verbosity: Verbosity) -> Log {
        let journal = env::var_os("JOURNAL_STREAM").is_some_and(|stream| !stream.is_empty());
        Log { verbosity, priorities: journal && !io::stderr().is_terminal() }
    }

    /// Whether a person watches it grow.
    pub fn is_watched(&self) -> bool {
        self.verbosity >= Verbosity::Normal && io::stderr().is_terminal()
    }

    /// A detail, said only when asked for.
    pub fn detail(&self, event: impl Display) {
        self.line(Verbosity::Verbose, 7, &event);
    }

    /// What went as it should.
    pub fn info(&self, event: impl Display) {
        self.line(Verbosity::Normal, 6, &event);
    }

    /// What a person should look at.
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
        let text = event.to_string().replace(char::is_control, " ");
        let line = if self.priorities {
            format!("<{priority}>[v0] {text}\n")
        } else {
            format!("[v0] {text}\n")
        };
        // A log that nobody can read any more is no reason to stop.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}
