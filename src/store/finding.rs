//! What `cts doctor` says of one thing that it looked at: a value, made by those who look and
//! rendered by those who show. It knows neither a database nor a machine.

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// The settings and where they came from.
    Configuration,
    /// Tokens and passwords: who can reach them.
    Credentials,
    /// The database's file, its folder and its disk.
    Files,
    /// The database's server.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    Server,
    /// What is in the database.
    Database,
    /// What is answered over HTTP.
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
            Group::Endpoints => "endpoints",
            Group::Service => "service",
            Group::Clock => "clock",
        }
    }
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// As it should be.
    Good,
    /// A person should look.
    Attention,
    /// It keeps cts from working.
    Bad,
    /// What matters could not be looked at.
    Unknown,
    /// Not looked at, which does no harm.
    Skipped,
}

/// What was seen of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub group: Group,
    /// The thing.
    pub name: String,
    /// How it is.
    pub grade: Grade,
    /// What was seen.
    pub what: String,
    /// What to do about it: a command where there is one.
    pub remedy: Option<String>,
}

impl Finding {
    fn new(group: Group, name: &str, grade: Grade, what: impl Into<String>) -> Finding {
        Finding { group, name: name.into(), grade, what: what.into(), remedy: None }
    }

    /// As it should be.
    pub fn good(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Good, what)
    }

    /// A person should look.
    pub fn attention(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Attention, what)
    }

    /// It keeps cts from working.
    pub fn bad(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Bad, what)
    }

    /// What matters could not be looked at.
    pub fn unknown(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Unknown, what)
    }

    /// Not looked at, which does no harm.
    pub fn skipped(group: Group, name: &str, what: impl Into<String>) -> Finding {
        Finding::new(group, name, Grade::Skipped, what)
    }

    /// Adds what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }
}
