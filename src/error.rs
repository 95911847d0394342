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

    /// Sets what state was left behind, in place of what an inner operation said of itself.
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

    /// The whole sentence without the remedy, for those who show the remedy apart.
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
    fn an_error_names_its_location_first_and_its_remedy_last() {
        let error = Error::new(Kind::Io, "disk full")
            .at("/data/cts.db")
            .leaving(StateLeft::Unchanged)
            .remedy("free some space");
        assert_eq!(
            error.to_string(),
            "/data/cts.db: disk full; nothing was changed. Try: free some space"
        );
    }

    #[test]
    fn locations_are_shown_outermost_first_and_each_once() {
        let error = Error::new(Kind::Data, "no such table: t")
            .at("/data/cts.db")
            .at("setup.sql, line 3")
            .at("/data/cts.db");
        assert_eq!(error.to_string(), "/data/cts.db: setup.sql, line 3: no such table: t");
    }

    #[test]
    fn the_outer_operation_knows_what_state_is_left() {
        let error = Error::new(Kind::Io, "the disk is full")
            .caused_by(Cause::DiskFull)
            .leaving(StateLeft::Unchanged)
            .note("waited 30s (CTS_LOCK_TIMEOUT)")
            .leaving(StateLeft::EarlierCommits);
        assert!(error.is_disk_full());
        assert_eq!(
            error.to_string(),
            "the disk is full; waited 30s (CTS_LOCK_TIMEOUT); what was committed before remains"
        );
    }

    #[test]
    fn damage_is_known_by_its_code() {
        let is_damage = |cause| Error::new(Kind::Data, "x").caused_by(cause).is_damage();
        // SQLITE_CORRUPT, SQLITE_CORRUPT_INDEX, SQLITE_NOTADB; SQLITE_CONSTRAINT_UNIQUE
        assert!([11, 779, 26].into_iter().all(|code| is_damage(Cause::Sqlite(code))));
        assert!(!is_damage(Cause::Sqlite(2067)) && !is_damage(Cause::DiskFull));
        assert!(is_damage(Cause::SqlState("XX001".into())));
        assert!(!is_damage(Cause::SqlState("23505".into())));
    }

    #[test]
    fn a_cause_of_the_operating_system_is_shown_and_kept_as_a_number() {
        let cause = io::Error::from_raw_os_error(5);
        let error = Error::new(Kind::Io, "cannot be read").at("/data/cts.db").caused_by(&cause);
        let shown = error.to_string();
        assert_eq!(shown, "/data/cts.db: cannot be read: Input/output error (os error 5)");
        assert!(matches!(error.cause.as_deref(), Some(Cause::Os { errno: Some(5), .. })));
    }
}
