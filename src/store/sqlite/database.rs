//! A SQLite database as it is configured: a path that need not hold a file yet.

use std::path::PathBuf;

use super::Sqlite;
use super::checkup;
use super::draft::FileDraft;
use super::lock::migrating;
use crate::error::{Error, Kind, Result};
use crate::store::schema::{SQLITE, Schema};
use crate::store::{Backend, Database, Draft, Examination, Holder, Snapshot, Store, WaitPolicy};

/// How a file may be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAccess {
    /// Let programs of the file's group in.
    pub group: bool,
    /// Open it on a network file system all the same.
    pub allow_network: bool,
}

/// A SQLite database as it is configured: a file.
#[derive(Clone, Debug)]
pub struct DatabaseFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it may be opened.
    pub access: FileAccess,
}

impl Database for DatabaseFile {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    fn schema(&self) -> &'static Schema {
        &SQLITE
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn making(&self) -> &'static str {
        "there is no database; it would be created, mode 0600, in WAL mode"
    }

    fn silence(&self) -> &'static str {
        "look at the disk (`dmesg`) and for a program that holds the file"
    }

    fn missing(&self) -> Error {
        Error::new(Kind::Data, "there is no database").at(self.path.display()).remedy(
            "create it with `cts migrate` or by starting cts, or set SQLITE_DB_PATH (or --db)",
        )
    }

    fn draft(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn Draft>>> {
        let draft = FileDraft::begin(&self.path, self.access, wait)?;
        Ok(draft.map(|draft| Box::new(draft) as Box<dyn Draft>))
    }

    fn open(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Store>> {
        Ok(Box::new(Sqlite::open(&self.path, self.access, wait)?))
    }

    fn open_read_only(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn Store>>> {
        let store = Sqlite::open_read_only(&self.path, self.access, wait)?;
        Ok(store.map(|store| Box::new(store) as Box<dyn Store>))
    }

    fn refuse_obstacles(&self, _: &Snapshot) -> Result<()> {
        Ok(())
    }

    fn examine(&self, wait: &WaitPolicy<'_>) -> Examination {
        checkup::examine(self, wait)
    }

    fn migrating(&self) -> Option<Holder> {
        migrating(&self.path)
    }
}
