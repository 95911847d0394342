//! A database as it is configured: what it is, how messages name it, and the ways to open it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::retention::OpenRetention;
use super::schema::Schema;
use super::{
    BackUp, Compact, CopyEnd, KeptWal, Measure, OpenDatabase, OpenFreePages, OpenStatistics,
    Restore, Snapshot, StorageStatus, Store, WaitPolicy,
};
use crate::error::{Error, Kind, Result};
use crate::system::users;
use cts_schema::catalog::{Column, Table};

/// The two kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One file, the default.
    Sqlite,
    /// A server.
    Postgresql,
}

impl Backend {
    /// Its name in configuration and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgresql => "postgresql",
        }
    }

    /// Its name in a sentence.
    pub fn label(self) -> &'static str {
        match self {
            Backend::Sqlite => "SQLite",
            Backend::Postgresql => "PostgreSQL",
        }
    }

    /// Whether it can build an index while programs write. SQLite has one writer at a time, and
    /// builds every index in a transaction.
    pub fn builds_indexes_online(self) -> bool {
        self == Backend::Postgresql
    }

    /// Whether `ALTER TABLE … ADD COLUMN` can add the column to an existing table. Otherwise the
    /// table has to be rebuilt with it.
    pub fn can_add_column(self, existing: &Table, column: &Column, has_rows: bool) -> bool {
        let is_key = column.primary_key_position > 0;
        match self {
            // (sqlite.org/lang_altertable.html, "ALTER TABLE ADD COLUMN")
            Backend::Sqlite => {
                let is_constant = |sql: &str| {
                    sql.starts_with('\'')
                        || matches!(sql, "NULL" | "TRUE" | "FALSE")
                        || sql.parse::<f64>().is_ok()
                };
                let default = column.default.as_deref();
                !is_key && (!has_rows || default.map_or(!column.not_null, is_constant))
            }
            Backend::Postgresql => {
                let has_key = existing.columns.iter().any(|c| c.primary_key_position > 0);
                let fits_rows = !column.not_null || column.default.is_some();
                !(is_key && has_key) && (!has_rows || fits_rows)
            }
        }
    }
}

/// What a user can do who may not read this file of another user.
pub fn as_its_owner(path: &Path) -> String {
    let as_owner =
        users::as_owner_of(path).unwrap_or_else(|| "run as the owner of the file".into());
    format!("{as_owner}, or ask the running cts with `cts --check --url http://127.0.0.1:3000`")
}

/// Which database it is, and the texts that messages about it need.
#[derive(Clone)]
pub struct DatabaseIdentity {
    /// Which kind it is.
    pub backend: Backend,
    /// What the binary bundles for this kind.
    pub schema: &'static Schema,
    /// Its path or URL, without secrets.
    pub location: String,
    /// The sentence that it does not exist.
    pub absent: &'static str,
    /// How it would be created.
    pub creation: &'static str,
    /// What to do where it does not exist.
    pub absent_remedy: &'static str,
    /// What to check where it does not answer.
    pub no_answer_remedy: &'static str,
}

impl DatabaseIdentity {
    /// The error of a command that needs an existing database.
    pub fn absent_error(&self) -> Error {
        Error::new(Kind::Data, self.absent).at(&self.location).remedy(self.absent_remedy)
    }
}

/// A database that was opened for writing.
pub struct Opened {
    /// The open database.
    pub store: Box<dyn Store>,
    /// Whether `build` created it aside, and it is that one which is now in its place.
    pub is_new: bool,
    /// The folder that did not exist and was created for it.
    pub created_folder: Option<PathBuf>,
    /// What a person should know about how it was created, one sentence each.
    pub messages: Vec<String>,
}

/// What opening a database read-only gave.
pub struct OpenedReadOnly {
    /// The open database; `None` where there is no file, or an empty one. The schema of a server
    /// can be inspected before there is a table in it.
    pub database: Option<Box<dyn OpenDatabase>>,
    /// Whether it has tables of CTS. Without, it does not exist as a database of cts.
    pub has_tables: bool,
}

/// What examining a database and its storage found, for `cts doctor`.
#[derive(Debug, Default)]
pub struct Examination {
    /// The findings, each with its remedy. Where `snapshot` is `None`, one of them says why.
    pub findings: Vec<Finding>,
    /// Ledger and catalogue.
    pub snapshot: Option<Snapshot>,
    /// Its disk, and whether it can be written.
    pub storage: StorageStatus,
    /// Why its WAL cannot be reset, where that is so for long.
    pub kept_wal: Option<KeptWal>,
    /// Its owner, where that is a user of this machine.
    pub owner: Option<FileOwner>,
}

/// The user of this machine that owns a database file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOwner {
    /// The path that the user owns, quoted for a shell.
    pub path: String,
    /// The user's id.
    pub uid: u32,
    /// Whether the file's group may write it too.
    pub shared: bool,
    /// The folder, quoted for a shell.
    pub folder: String,
    /// The id of the folder's owner.
    pub folder_uid: u32,
    /// The mode of the folder.
    pub folder_mode: u32,
}

/// The process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the program.
    pub program: String,
    /// Whether it is a process of the database server, on the server's machine.
    pub is_on_server: bool,
    /// Since when, and from where, as a clause; `None` if that cannot be seen.
    pub since: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)?;
        self.since.as_ref().map_or(Ok(()), |since| write!(f, ", {since}"))
    }
}

/// A database as it is configured. It need not exist, nor be reachable.
pub trait Database:
    BackUp
    + Compact
    + Restore
    + CopyEnd
    + Measure
    + OpenFreePages
    + OpenStatistics
    + OpenRetention
    + fmt::Debug
    + Send
    + Sync
{
    /// Which database it is.
    fn identity(&self) -> DatabaseIdentity;

    /// Opens it for writing. Where it does not exist, and the store can create one aside, `build`
    /// fills that one first, and it appears in its place whole; else an empty one is created in
    /// place, and `build` is not called.
    ///
    /// # Errors
    /// Where it cannot be reached, created or written, where it belongs to another program, or
    /// with the error of `build`. An existing database is unchanged; a new one does not exist.
    fn open(
        &self,
        wait: &WaitPolicy<'_>,
        build: &mut dyn FnMut(&mut dyn Store) -> Result<()>,
    ) -> Result<Opened>;

    /// Opens it read-only, where it exists.
    ///
    /// # Errors
    /// Where it cannot be reached or read, or belongs to another program.
    fn open_read_only(&self, wait: &WaitPolicy<'_>) -> Result<OpenedReadOnly>;

    /// Refuses what [`Database::open`] would refuse for the rights and the room that it needs, with the same
    /// errors, as far as that shows beforehand. Changes nothing.
    ///
    /// # Errors
    /// Why it could not be written or created.
    fn prove_writable(&self) -> Result<()>;

    /// Examines it, its storage and the way to it, within some seconds. Changes nothing; what
    /// fails becomes a finding.
    fn examine(&self, wait: &WaitPolicy<'_>) -> Examination;

    /// The cts process that holds its migration lock, where there is one.
    fn migrating(&self) -> Option<Holder>;
}
