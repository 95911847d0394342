//! A SQLite database as it is configured: a path that need not hold a file yet.

use std::path::{Path, PathBuf};

use super::Sqlite;
use super::lock::migrating;
use super::{checkup, draft};
use crate::error::Result;
use crate::store::schema::SQLITE;
use crate::store::{
    Backend, Database, DatabaseIdentity, Examination, Holder, OpenDatabase, Opened, OpenedReadOnly,
    Store, WaitPolicy,
};

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
    fn identity(&self) -> DatabaseIdentity {
        identity(&self.path)
    }

    fn open(
        &self,
        wait: &WaitPolicy<'_>,
        build: &mut dyn FnMut(&mut dyn Store) -> Result<()>,
    ) -> Result<Opened> {
        let is_new = draft::create_aside(&self.path, self.access, wait, build)?;
        let store = Box::new(Sqlite::open(&self.path, self.access, wait)?);
        Ok(Opened { store, is_new })
    }

    fn open_read_only(&self, wait: &WaitPolicy<'_>) -> Result<OpenedReadOnly> {
        let store = Sqlite::open_read_only(&self.path, self.access, wait)?;
        let has_tables = store.is_some();
        let database = store.map(|store| Box::new(store) as Box<dyn OpenDatabase>);
        Ok(OpenedReadOnly { database, has_tables })
    }

    fn examine(&self, wait: &WaitPolicy<'_>) -> Examination {
        checkup::examine(self, wait)
    }

    fn migrating(&self) -> Option<Holder> {
        migrating(&self.path)
    }
}

/// The identity of the database at a path.
pub fn identity(path: &Path) -> DatabaseIdentity {
    DatabaseIdentity {
        backend: Backend::Sqlite,
        schema: &SQLITE,
        location: path.display().to_string(),
        absent: "there is no database",
        creation: "it would be created, mode 0600, in WAL mode",
        absent_remedy: "create it with `cts migrate` or by starting cts, or set SQLITE_DB_PATH (or --db)",
        no_answer_remedy: "check the disk (`dmesg`), and whether a program keeps the file locked",
    }
}
