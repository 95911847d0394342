//! A configured SQLite database: the path of a file, which need not exist.

use std::path::{Path, PathBuf};

use super::Sqlite;
use super::file::FileContent;
use super::lock::migrating;
use super::restore::{refuse_running, settle_interrupted};
use super::write_access::refuse_obstacle;
use super::{checkup, draft, file};
use crate::error::Result;
use crate::store::schema::SQLITE;
use crate::store::{
    Backend, Database, DatabaseIdentity, Examination, Holder, OpenDatabase, Opened, OpenedReadOnly,
    Store, WaitPolicy,
};

/// Who has access to a database file, and where it may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileAccess {
    /// Whether programs of the file's group have access to it (`CTS_GROUP_ACCESS`).
    pub group: bool,
    /// Whether it may be on a network file system (`CTS_ALLOW_NETWORK_FS`).
    pub allow_network: bool,
}

/// A configured SQLite database.
#[derive(Clone, Debug)]
pub struct DatabaseFile {
    /// Its path.
    pub path: PathBuf,
    /// Who has access to it, and where it may be.
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
        let mut messages = settle_interrupted(self, wait)?;
        let folder = file::folder_of(&self.path);
        let created_folder = (!folder.exists()).then(|| folder.to_path_buf());
        let created = draft::create_aside(&self.path, self.access, wait, build)?;
        let store = Box::new(Sqlite::open(&self.path, self.access, wait)?);
        messages.extend(created.messages);
        Ok(Opened { store, is_new: created.is_complete, created_folder, messages })
    }

    fn open_read_only(&self, wait: &WaitPolicy<'_>) -> Result<OpenedReadOnly> {
        refuse_running(self)?;
        let store = Sqlite::open_read_only(&self.path, self.access, wait)?;
        let has_tables = store.is_some();
        let database = store.map(|store| Box::new(store) as Box<dyn OpenDatabase>);
        Ok(OpenedReadOnly { database, has_tables })
    }

    fn prove_writable(&self) -> Result<()> {
        let path = file::resolve(&self.path)?;
        match file::inspect(&path)? {
            FileContent::Missing => draft::prove_creatable(&path, self.access),
            _ => refuse_obstacle(&path),
        }
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
