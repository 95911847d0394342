//! A reason: something that is not as expected, how much it matters, and the command to type.

use serde::Serialize;

use crate::migrate::outlook::MissingObject;

/// How much a reason matters, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The database cannot be used.
    Critical,
    /// It can be used, but this needs attention.
    Warning,
    /// It is reported and does not change the status.
    Notice,
}

impl Severity {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Notice => "notice",
        }
    }
}

/// The command that puts right what is not as expected, or says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemedyCommand {
    /// It puts back what is missing.
    Repair,
    /// It applies what is pending.
    Migrate,
    /// It examines everything, and names a remedy for each finding. A person has to decide.
    Doctor,
}

impl RemedyCommand {
    /// What to type.
    pub fn text(self) -> &'static str {
        match self {
            RemedyCommand::Repair => "cts repair",
            RemedyCommand::Migrate => "cts migrate",
            RemedyCommand::Doctor => "cts doctor",
        }
    }
}

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// How much it matters.
    pub severity: Severity,
    /// The sentence.
    pub text: String,
    /// What to type; `None` where there is nothing to do.
    pub command: Option<RemedyCommand>,
    /// The missing object that it is about, if it is about one.
    pub missing: Option<MissingObject>,
}

impl Reason {
    /// The database cannot be used.
    pub fn critical(text: impl Into<String>) -> Reason {
        Reason::new(Severity::Critical, text.into(), Some(RemedyCommand::Doctor))
    }

    /// It can be used, but this needs attention.
    pub fn warning(text: impl Into<String>) -> Reason {
        Reason::new(Severity::Warning, text.into(), Some(RemedyCommand::Doctor))
    }

    /// It is reported and does not change the status.
    pub fn notice(text: impl Into<String>) -> Reason {
        Reason::new(Severity::Notice, text.into(), None)
    }

    fn new(severity: Severity, text: String, command: Option<RemedyCommand>) -> Reason {
        Reason { severity, text, command, missing: None }
    }

    /// The same reason, which this command puts right.
    pub fn with_command(self, command: RemedyCommand) -> Reason {
        Reason { command: Some(command), ..self }
    }
}
