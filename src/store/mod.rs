//! The one seam between cts and a database: [`Store`], one database that is open, and
//! [`Tx`], its write transaction under the migration lock. A backend is one file below
//! this one; nothing above it knows which it has.

#[cfg(test)]
pub mod failing;
pub mod finding;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod schema;
pub mod sql;
pub mod sqlite;
mod wait;

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::store::finding::Finding;
use crate::store::schema::Schema;
use cts_schema::catalog::{Catalog, Column, Drift, Index, Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule, with_exceptions};
use cts_schema::migration::{AppliedMigration, Migration};
use cts_schema::sql::Statement;
pub use wait::{WaitPolicy, WaitReason, interrupted};

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
}

/// What a user can do who may not look into a file of another one.
pub const AS_ITS_OWNER: &str = "run as the owner of the file, or ask the running cts with `cts --check --url http://127.0.0.1:3000`";

/// What one consistent look finds.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The rows of the ledger, by id.
    pub ledger: Vec<AppliedMigration>,
    /// The tables, columns and indexes.
    pub catalog: Catalog,
    /// The rules of the expected schema that do not hold in this database.
    pub exceptions: Vec<ConstraintException>,
}

/// Where the content of a database comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It has no table.
    Empty,
    /// It has tables, and no ledger row of cts: an older CTS made it.
    OlderCts,
    /// Its ledger has rows of cts.
    Ours,
}

impl Snapshot {
    /// Where the content of the database comes from.
    pub fn origin(&self) -> Origin {
        if self.ledger.iter().any(AppliedMigration::is_ours) {
            Origin::Ours
        } else if self.catalog.is_empty() {
            Origin::Empty
        } else {
            Origin::OlderCts
        }
    }

    /// What differs from the expected catalogue, relaxed rules apart.
    pub fn drift(&self, schema: &Schema) -> Drift {
        with_exceptions(schema.expected, &self.exceptions).difference(&self.catalog)
    }
}

/// How far long work is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// What is being made: a table or an index.
    pub object: &'p Object,
    /// Rows that are done. Of an index, none or all.
    pub done: u64,
    /// Rows in all.
    pub total: u64,
}

/// A table that was rebuilt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Its rows, all of them kept.
    pub rows: u64,
    /// The rules that they break.
    pub exceptions: Vec<ConstraintException>,
    /// Rules that the old table had and the new one has not, each with its table. With the type of
    /// a key may go a rule of another table that referred to it.
    pub dropped: Vec<String>,
}

/// What can be known about the place a database lies in, without asking the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageStatus {
    /// Why nothing can be written there: a read-only mount, missing rights of its owner.
    pub read_only: Option<String>,
    /// Why it cannot be written by this user, who is not its owner: nothing is wrong with it.
    pub not_ours: Option<String>,
    /// Free bytes on its disk, where there is one.
    pub free_bytes: Option<u64>,
    /// Total bytes of its disk, where there is one.
    pub total_bytes: Option<u64>,
    /// Why the open database is no longer the one at its path.
    pub replaced: Option<String>,
    /// The connections to its server, where there is one.
    pub pool: Option<PoolState>,
}

impl StorageStatus {
    /// Why nothing can be written there by us.
    pub fn unwritable(&self) -> Option<&String> {
        self.read_only.as_ref().or(self.not_ours.as_ref())
    }
}

/// What there is to see of a database and of where it is, for a person who asks whether all of it
/// will work.
#[derive(Debug, Default)]
pub struct Examination {
    /// What was seen, with what to do. Where `look` is not there, one of them says why.
    pub findings: Vec<Finding>,
    /// Ledger and catalogue.
    pub snapshot: Option<Snapshot>,
    /// Its disk, and whether it can be written.
    pub place: StorageStatus,
    /// Who owns it, where it is a user of this machine.
    pub owner: Option<FileOwner>,
}

/// The user of this machine that a database belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOwner {
    /// What belongs to the user, as a word of a shell's command.
    pub path: String,
    /// The user's number.
    pub uid: u32,
    /// Whether its group may write it too.
    pub shared: bool,
}

/// A server, as one that was started at one time: another one after a restart or a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInstance {
    /// Host and port.
    pub name: String,
    /// When it was started, in its own words.
    pub started: String,
}

/// The connections to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Those that are open.
    pub connections: u32,
    /// Those of them that nobody uses.
    pub idle: u32,
    /// The most there can be.
    pub max: u32,
}

/// What a search for damage found, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Damaged pages and indexes.
    pub pages: Vec<String>,
    /// The indexes that are damaged, where nothing else is: no row is touched by that.
    pub indexes: Vec<String>,
    /// Rows whose foreign key leads nowhere.
    pub orphans: Vec<Orphans>,
}

/// Rows of a table that refer to rows of another that are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphans {
    /// The table.
    pub table: String,
    /// The table they refer to.
    pub parent: String,
    /// How many they are.
    pub rows: u64,
}

impl fmt::Display for Orphans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Orphans { table, parent, rows } = self;
        write!(f, "{table}: {rows} rows refer to rows of {parent} that are gone")
    }
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of the program.
    pub program: String,
    /// Whether that is a process of the database server, on its machine.
    pub is_on_server: bool,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.program, self.pid)
    }
}

/// Rows up to which an index is built while programs work. With the look for damage in its
/// table, 20,000 positions took 20 to 32 ms on SQLite (ext4, 2 cores).
pub const ONLINE_INDEX_ROWS_MAX: u32 = 20_000;

/// What a statement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementEffect {
    /// It changed something.
    Applied,
    /// It found its object in place.
    Skipped,
}

/// A line for the table `site_logs`.
#[derive(Clone, Debug)]
pub struct SiteLogEntry {
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// What happened.
    pub message: String,
}

/// A database as it is configured. It need not be there yet, nor be within reach.
pub trait Database: fmt::Debug + Send + Sync {
    /// Which kind it is.
    fn backend(&self) -> Backend;

    /// What the binary bundles for it.
    fn schema(&self) -> &'static Schema;

    /// Where it is, without secrets.
    fn location(&self) -> String;

    /// That there is none, and how it would be made.
    fn making(&self) -> &'static str;

    /// What to look at where it does not answer.
    fn silence(&self) -> &'static str;

    /// The error of a command that needs one where there is none.
    fn missing(&self) -> Error;

    /// Begins a draft of it where there is nothing yet; `None` where there is something, or where
    /// it is to be made in place.
    fn draft(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn Draft>>>;

    /// Opens it for writing, and makes an empty one where there is none.
    fn open(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Store>>;

    /// Opens it for a look that changes nothing; `None` where there is none.
    fn open_read_only(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn Store>>>;

    /// Refuses what is in the way of migrating what was found and does not show in a look.
    fn refuse_obstacles(&self, snapshot: &Snapshot) -> Result<()>;

    /// Looks at it, at where it is and at how it is reached, within some seconds. Changes nothing.
    fn examine(&self, wait: &WaitPolicy<'_>) -> Examination;

    /// The cts, if there is one, that holds its migration lock.
    fn migrating(&self) -> Option<Holder>;
}

/// A database that is made aside, and appears at its place all at once.
pub trait Draft {
    /// The database as it is drafted.
    fn store(&mut self) -> &mut dyn Store;

    /// Puts it at its place, durably; whether it is now there. Another starter's may be.
    fn publish(self: Box<Self>) -> Result<bool>;
}

/// One database that is open.
pub trait Store: Send {
    /// Which kind it is.
    fn backend(&self) -> Backend;

    /// What the binary bundles for it.
    fn schema(&self) -> &'static Schema;

    /// Where it is, without secrets.
    fn location(&self) -> String;

    /// Ledger and catalogue in one consistent look, without a lock.
    fn inspect(&mut self) -> Result<Snapshot>;

    /// Takes the write lock. Dropped without a commit, the transaction leaves nothing.
    fn lock<'s>(&'s mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Tx + 's>>;

    /// Writes and rolls back, to prove that writing works. A lock held by another program
    /// is no fault.
    fn probe_write(&mut self) -> Result<()>;

    /// What is known about its place without asking it.
    fn storage_status(&self) -> StorageStatus;

    /// The server that answered last. `None` where there is no server.
    fn server(&self) -> Option<ServerInstance>;

    /// What rebuilding a table would find: its rows, and rules that they break, as far as can be
    /// seen without doing it.
    fn forecast(&mut self, expected: &Table) -> Result<Rebuilt>;

    /// Whether a column can be added to a table that is there, with so many rows. Else the table
    /// is rebuilt with it.
    fn can_add(&self, found: &Table, column: &Column, rows: u64) -> bool;

    /// Takes away the copy of a database that was not changed after all.
    fn discard_backup(&self, backup: &str);

    /// Looks for damage: every page, and with `deep` every index entry and foreign key.
    fn find_damage(&mut self, deep: bool) -> Result<Damage>;

    /// Makes the open database fit for service after its schema is in place: journal mode,
    /// file modes. Returns what had to be changed, for the log.
    fn settle(&mut self, wait: &WaitPolicy<'_>) -> Result<Vec<String>>;

    /// The upkeep that this kind of database wants while programs work on it, on a connection
    /// of its own.
    fn upkeep(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn Upkeep>>>;

    /// Builds an index of a table that [`Tx::heavy_tables`] named, outside any transaction, while
    /// programs go on writing; not unique, where rows share a key.
    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>>;

    /// Leaves the database as tidy as other readers allow, and closes it.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Work that keeps a database fit while programs work on it, so that they need not do it.
pub trait Upkeep: Send {
    /// Does what is due. Returns after how long to call it again.
    fn turn(&mut self) -> Result<Duration>;
}

/// A write transaction that holds the migration lock.
pub trait Tx {
    /// Ledger and catalogue as they are under the lock.
    fn inspect(&mut self) -> Result<Snapshot>;

    /// Refuses to begin where something else has the name of what is to be made.
    fn refuse_taken(&mut self, snapshot: &Snapshot) -> Result<()>;

    /// Looks for damaged pages, which forbid a migration, and with `deep` for damaged indexes.
    fn find_damage(&mut self, deep: bool) -> Result<Damage>;

    /// Builds an index anew from the rows of its table.
    fn reindex(&mut self, index: &str) -> Result<()>;

    /// Whether a table has at most so many rows and none of its pages is damaged, nor those
    /// of the schema; found in a moment.
    fn is_small(&mut self, table: &str, rows: u32) -> Result<bool>;

    /// The tables with more rows than that, if the building of an index on them would keep
    /// programs from writing and can be done after the transaction instead.
    fn large_tables(&mut self, rows: u32) -> Result<Vec<String>>;

    /// Runs statements in one go, and returns how many changed something and how many found their
    /// object in place. `None` where that is not to be had, or one of them fails; then nothing was
    /// done, and one by one they tell more.
    fn execute_all(&mut self, statements: &[Statement<'_>]) -> Result<Option<(usize, usize)>>;

    /// Runs one statement. An object that is in place already counts as skipped.
    fn execute(&mut self, statement: &Statement<'_>) -> Result<StatementEffect>;

    /// Adds a column to a table that has it not.
    fn add_column(&mut self, table: &str, column: &Column) -> Result<()>;

    /// Copies the database as it is under the lock, to a file of its own or to other tables, and
    /// proves the copy. Returns where it is; `None` where there is no row to copy.
    fn back_up(&mut self) -> Result<Option<String>>;

    /// Gives a table the expected shape and keeps every row. Rules that rows break are relaxed.
    fn rebuild(&mut self, expected: &Table, wait: &WaitPolicy<'_>) -> Result<Rebuilt>;

    /// Lets every table number its new rows after those that are there. Returns the tables that
    /// would not have.
    fn advance_sequences(&mut self) -> Result<Vec<String>>;

    /// Tables whose foreign keys lead to columns that are not unique.
    fn mismatched(&mut self) -> Result<Vec<String>>;

    /// Makes an index anew; not unique, where rows share a key.
    fn put_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>>;

    /// How many rows break a rule of the table by now.
    fn count_violations(&mut self, expected: &Table, rule: &Rule) -> Result<u64>;

    /// Records a rule as relaxed.
    fn record_exception(&mut self, exception: &ConstraintException) -> Result<()>;

    /// Takes a relaxed rule off the record.
    fn enforce(&mut self, exception: &ConstraintException) -> Result<()>;

    /// Runs `work` so that an error of it leaves nothing, and the transaction usable.
    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()>;

    /// Writes the ledger row of a migration.
    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()>;

    /// Writes one line into `site_logs`.
    fn write_site_log(&mut self, note: &SiteLogEntry) -> Result<()>;

    /// Makes it all permanent.
    fn commit(self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()>;
}

/// Writes one line into `site_logs`, in a transaction of its own.
pub fn write_site_log(
    store: &mut dyn Store,
    wait: &WaitPolicy<'_>,
    note: &SiteLogEntry,
) -> Result<()> {
    wait.retry_while_blocked(|| {
        let mut tx = store.lock(wait)?;
        tx.write_site_log(note)?;
        tx.commit(wait)
    })
}
