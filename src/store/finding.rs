//! One finding of `cts doctor`: a value, made by the examinations and rendered by the command.

/// The subject of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The settings and their sources.
    Configuration,
    /// Tokens and passwords: who can read them.
    Credentials,
    /// The database file, its directory and its disk.
    Files,
    /// The database server.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    Server,
    /// The content of the database.
    Database,
    /// The backups and their folder.
    Backups,
    /// The archive of every change.
    Archive,
    /// The responses over HTTP.
    Endpoints,
    /// The systemd unit.
    Service,
    /// The clock.
    Clock,
}

impl Group {
    /// Its name in text and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Group::Configuration => "configuration",
            Group::Credentials => "credentials",
            Group::Files => "files",
            Group::Server => "server",
            Group::Database => "database",
            Group::Backups => "backups",
            Group::Archive => "archive",
            Group::Endpoints => "endpoints",
            Group::Service => "service",
            Group::Clock => "clock",
        }
    }
}

/// The grade of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// As expected.
    Good,
    /// cts works, but this needs attention.
    Attention,
    /// It keeps cts from working.
    Bad,
    /// Necessary, and could not be examined.
    Unknown,
    /// Not examined, with the reason; does not count.
    Skipped,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The group that it belongs to.
    pub group: Group,
    /// The object that was examined.
    pub name: String,
    /// The grade of a finding.
    pub grade: Grade,
    /// What was found.
    pub what: String,
    /// What to do about it, as a command if possible.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(group: Group, name: &str, grade: Grade, what: impl Into<String>) -> Finding {
        Finding { group, name: name.into(), grade, what: what.into(), remedy: None }
    }

    /// A finding of grade [`Grade::Good`].
    pub fn good(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Good, what)
    }

    /// A finding of grade [`Grade::Attention`].
    pub fn attention(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Attention, what)
    }

    /// A finding of grade [`Grade::Bad`].
    pub fn bad(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Bad, what)
    }

    /// A finding of grade [`Grade::Unknown`].
    pub fn unknown(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Unknown, what)
    }

    /// A finding of grade [`Grade::Skipped`].
    pub fn skipped(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Skipped, what)
    }

    /// Sets what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }
}
