//! The one error type. What the code decides by (kind, cause, state left behind) and what an
//! operator reads (location, fault, remedy) are fields; no code reads the sentence.

use std::fmt;
use std::io;

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The class of a fault; each has its exit code, after sysexits(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wrong arguments on the command line.
    Usage,
    /// The data is not what it should be: a damaged file, an edited or unknown migration, a
    /// statement that the database refuses. Inside a transaction: this statement failed, and the
    /// transaction is still open and usable.
    Data,
    /// A server cannot be reached, or a port is in use.
    Unavailable,
    /// A file or folder cannot be created.
    CannotCreate,
    /// Reading or writing failed, or the disk is full.
    Io,
    /// Locked by another program, or interrupted during the work: try again.
    TryAgain,
    /// Blocked by a lock during the work and rolled back; the work can be retried.
    Blocked,
    /// The connection was lost during the commit: it may have taken effect or not.
    InDoubt,
    /// Cancelled before anything was begun.
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

/// What a failed operation has left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateLeft {
    /// Nothing was changed.
    Unchanged,
    /// Earlier transactions of the same run are committed and remain.
    EarlierCommits,
    /// The commit was sent, and its outcome is unknown.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    InDoubt,
}

impl fmt::Display for StateLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StateLeft::Unchanged => "nothing was changed",
            StateLeft::EarlierCommits => "what was committed before remains",
            StateLeft::InDoubt => "whether the last change was committed is unknown",
        })
    }
}

/// The fault underneath, by the code that its source gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The disk of the database is full, or the quota on it is used up.
    DiskFull,
    /// An examination of the database found damage.
    Damage,
    /// A call of the operating system failed.
    Os {
        /// Its error number, if the operating system gave one.
        errno: Option<i32>,
        /// Its text.
        message: String,
    },
    /// SQLite failed with this extended result code.
    Sqlite(i32),
    /// PostgreSQL failed with this SQLSTATE.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    SqlState(String),
}

impl From<&io::Error> for Cause {
    fn from(error: &io::Error) -> Cause {
        Cause::Os { errno: error.raw_os_error(), message: error.to_string() }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Cause {
        Cause::from(&error)
    }
}

/// A fault as an operator reads it. It is shown as
/// `{location}: {what}: {cause}; {notes}; {state}. Try: {remedy}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The class of the fault.
    pub kind: Kind,
    /// Where it happened, outermost first: the database's path or URL, then the file and line, the
    /// table or the host.
    pub location: Vec<String>,
    /// What is wrong: the object first.
    pub what: String,
    /// Facts about the circumstances, such as how long was waited.
    pub notes: Vec<String>,
    /// What the failed operation has left behind, if that is known here.
    pub state: Option<StateLeft>,
    /// What to do about it.
    pub remedy: Option<String>,
    /// The fault underneath, if its source gave it a code.
    pub cause: Option<Box<Cause>>,
}

impl Error {
    /// A fault: `what` names the object (path, table, variable) first.
    pub fn new(kind: Kind, what: impl Into<String>) -> Error {
        Error {
            kind,
            location: Vec::new(),
            what: what.into(),
            notes: Vec::new(),
            state: None,
            remedy: None,
            cause: None,
        }
    }

    /// Sets what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Error {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds where it happened, around the locations that are known already. One that is known is
    /// not repeated: it moves outward.
    pub fn at(mut self, location: impl fmt::Display) -> Error {
        let location = location.to_string();
        self.location.retain(|known| *known != location);
        self.location.insert(0, location);
        self
    }

    /// Sets what state was left behind. The outer operation knows it: what it sets replaces what an inner one
    /// has set.
    pub fn leaving(mut self, state: StateLeft) -> Error {
        self.state = Some(state);
        self
    }

    /// Adds a fact about the circumstances.
    pub fn note(mut self, note: impl Into<String>) -> Error {
        self.notes.push(note.into());
        self
    }

    /// Sets the fault underneath.
    pub fn caused_by(mut self, cause: impl Into<Cause>) -> Error {
        self.cause = Some(Box::new(cause.into()));
        self
    }

    /// Whether the disk of the database is full.
    pub fn is_disk_full(&self) -> bool {
        self.cause.as_deref() == Some(&Cause::DiskFull)
    }

    /// Whether the database reported a damaged page, file or index.
    pub fn is_damage(&self) -> bool {
        match self.cause.as_deref() {
            Some(Cause::Damage) => true,
            // The low byte is the primary result code: SQLITE_CORRUPT, SQLITE_NOTADB.
            Some(Cause::Sqlite(code)) => matches!(code & 0xff, 11 | 26),
            // data_corrupted, index_corrupted
            Some(Cause::SqlState(state)) => matches!(state.as_str(), "XX001" | "XX002"),
            _ => false,
        }
    }

    /// The sentence without the remedy, for renderings that show the remedy separately.
    pub fn message(&self) -> String {
        let mut text: String = self.location.iter().map(|part| format!("{part}: ")).collect();
        text += &self.what;
        if let Some(Cause::Os { message, .. }) = self.cause.as_deref() {
            text += &format!(": {message}");
        }
        for note in &self.notes {
            text += &format!("; {note}");
        }
        if let Some(state) = self.state {
            text += &format!("; {state}");
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())?;
        match &self.remedy {
            Some(remedy) => write!(f, ". Try: {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
