//! The one error type: its object first, its cause last, its remedy apart, and the exit
//! code that follows from its kind.

use std::fmt;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of fault it is; each has its exit code, after sysexits(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wrong words on the command line.
    Usage,
    /// The data is not what it should be: a damaged file, an edited or unknown migration.
    Data,
    /// A server cannot be reached, or a port is in use.
    Unavailable,
    /// A file or folder cannot be created.
    CannotCreate,
    /// Reading or writing failed, or the disk is full.
    Io,
    /// Locked by another program, or interrupted in the middle: try again.
    TryAgain,
    /// Held up by a lock in the middle and rolled back; the work can begin anew.
    Blocked,
    /// The server was lost at the end of the work: it may be done or not.
    InDoubt,
    /// Told to stop before anything was begun.
    Stopped,
    /// Not permitted.
    Permission,
    /// The configuration is wrong.
    Config,
}

impl Kind {
    /// The exit code of a command that ends with this fault.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Usage => 64,
            Kind::Data => 65,
            Kind::Unavailable | Kind::InDoubt => 69,
            Kind::CannotCreate => 73,
            Kind::Io => 74,
            Kind::TryAgain | Kind::Blocked | Kind::Stopped => 75,
            Kind::Permission => 77,
            Kind::Config => 78,
        }
    }
}

/// A fault as an operator reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What sort of fault it is.
    pub kind: Kind,
    /// The object and what is wrong with it.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Error {
    /// A fault: `what` names the object (path, table, variable) first and the cause last.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error { kind, what: what.into(), remedy: None }
    }

    /// Adds what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Error {
        self.remedy = Some(remedy.into());
        self
    }

    /// Puts where it happened before the text.
    pub fn at(mut self, place: impl fmt::Display) -> Error {
        self.what = format!("{place}: {}", self.what);
        self
    }

    /// Adds what state was left behind.
    pub fn leaving(mut self, state: &str) -> Error {
        self.what = format!("{}; {state}", self.what);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, ". Try: {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_sysexits() {
        let kinds = [
            (Kind::Usage, 64),
            (Kind::Data, 65),
            (Kind::Unavailable, 69),
            (Kind::CannotCreate, 73),
            (Kind::Io, 74),
            (Kind::TryAgain, 75),
            (Kind::Blocked, 75),
            (Kind::InDoubt, 69),
            (Kind::Stopped, 75),
            (Kind::Permission, 77),
            (Kind::Config, 78),
        ];
        for (kind, code) in kinds {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn an_error_names_its_place_first_and_its_remedy_last() {
        let error = Error::new(Kind::Io, "disk full")
            .at("/data/cts.db")
            .leaving("nothing was changed")
            .remedy("free some space");
        assert_eq!(
            error.to_string(),
            "/data/cts.db: disk full; nothing was changed. Try: free some space"
        );
    }
}
