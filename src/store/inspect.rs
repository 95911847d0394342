//! Reading an open database: its ledger and catalogue, damage, what its rows allow, and the state
//! of its storage.

use std::fmt;

use super::DatabaseIdentity;
use super::rights::MissingRights;
use super::schema::Schema;
use crate::error::{Error, Kind, Result};
use cts_schema::catalog::{AcceptedDifference, Catalog, CounterFault, Drift, Object, Table};
use cts_schema::constraint_exception::{ConstraintException, with_exceptions};
use cts_schema::migration::AppliedMigration;

/// Ledger, catalogue and constraint exceptions, read in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The rows of the ledger, by id.
    pub ledger: Vec<AppliedMigration>,
    /// The tables, columns and indexes.
    pub catalog: Catalog,
    /// The rules of the expected schema that are not enforced in this database.
    pub exceptions: Vec<ConstraintException>,
    /// The differences from the expected catalogue that the owner has accepted.
    pub accepted: Vec<AcceptedDifference>,
    /// The counters that give new rows no usable id; empty where they were not read.
    pub counters: Vec<CounterFault>,
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

    /// Whether the owner has accepted a difference of a table, which a rebuild would undo.
    pub fn has_accepted(&self, table: &str) -> bool {
        self.accepted.iter().any(|accepted| accepted.object.table() == table)
    }

    /// The difference from the expected catalogue, without the rules that have an exception; what the owner
    /// has accepted is listed apart.
    pub fn drift(&self, schema: &Schema) -> Drift {
        let drift = with_exceptions(schema.expected, &self.exceptions).difference(&self.catalog);
        Drift { counters: self.counters.clone(), ..drift.accept(&self.accepted) }
    }
}

/// Why an object that is missing cannot be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The missing object.
    pub object: Object,
    /// What is in the way, and what to do about it: another object with its name, a missing right.
    pub error: Error,
}

impl Obstacle {
    /// The one of an object whose name another object has.
    pub fn name_taken(object: &Object, by: &str) -> Obstacle {
        let what = match object {
            Object::Index(_, name) => format!("index {name} cannot be created: {by} has its name"),
            _ => format!("{object} cannot be created: {by} has its name"),
        };
        let error = Error::new(Kind::Data, what).remedy("rename that object");
        Obstacle { object: object.clone(), error }
    }
}

/// What rebuilding a table would find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The table's rows.
    pub rows: u64,
    /// The rules that rows violate, as far as a query can tell. Whether a value survives the
    /// conversion to another type shows only when it is stored.
    pub exceptions: Vec<ConstraintException>,
    /// The constraints of the table that the rebuilt one does not have, with the table.
    pub dropped: Vec<String>,
}

/// How much of a database is checked for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageScope<'t> {
    /// Every page, without comparing indexes with their tables. A PostgreSQL server checks pages
    /// whenever it reads them, and has nothing beyond that to check here.
    Pages,
    /// The pages of one table and of the schema.
    Table(&'t str),
    /// Every page, every index entry and every foreign key.
    Everything,
}

/// The damage that a check found, one line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Damaged pages and indexes.
    pub pages: Vec<String>,
    /// The damaged indexes, where nothing else is damaged: no row is affected then.
    pub indexes: Vec<String>,
    /// Rows whose foreign key refers to no row.
    pub orphans: Vec<Orphans>,
    /// What could not be checked, which does not mean that it is damaged.
    pub unchecked: Vec<Unchecked>,
    /// What a check of everything has read, outside of a transaction of its caller. `None` where damage ended it early.
    pub read: Option<ReadExtent>,
}

/// What a check has read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadExtent {
    /// The number of tables: on SQLite all of the file but SQLite's own, on a server those of ours.
    pub tables: usize,
    /// The bytes that these tables and the indexes that were checked take; `None` where a table that could not be checked
    /// shares the file with them.
    pub bytes: Option<u64>,
}

/// A table, perhaps of another program, that cannot be checked here: it needs a function or a collation
/// that only its program has, or its foreign key does not fit the table that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchecked {
    /// The table, in the spelling of the expected catalogue where it is one of ours.
    pub table: String,
    /// Why it cannot be checked.
    pub cause: String,
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} cannot be checked: {}", self.table, self.cause)
    }
}

/// Rows of a table that refer to rows of another that do not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphans {
    /// The table.
    pub table: String,
    /// The table they refer to.
    pub parent: String,
    /// Their number.
    pub rows: u64,
}

impl fmt::Display for Orphans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Orphans { table, parent, rows } = self;
        write!(f, "{table}: {rows} rows refer to rows of {parent} that are gone")
    }
}

/// What is known of a database's storage and server without a query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageStatus {
    /// Why nobody can write there: a read-only mount, missing rights of the owner.
    pub read_only: Option<String>,
    /// Why this user, who is not the owner, cannot write there; the database itself is fine.
    pub not_ours: Option<String>,
    /// What to do where it cannot be written.
    pub write_remedy: Option<String>,
    /// The rights that the role of a server lacks.
    pub missing_rights: Option<MissingRights>,
    /// Free bytes on its disk, where that is known.
    pub free_bytes: Option<u64>,
    /// Total bytes of its disk, where that is known.
    pub total_bytes: Option<u64>,
    /// Inodes that are free on its file system, that is, files that can still be created there, where
    /// that is known.
    pub free_inodes: Option<u64>,
    /// All inodes of its file system, where that is known.
    pub total_inodes: Option<u64>,
    /// Files of the database that the next program to open it has to create.
    pub inodes_needed: u64,
    /// Why the open database is no longer the one at its path.
    pub replaced: Option<String>,
    /// Why the file system does not answer, so that the figures and reasons above are not known.
    pub unanswered: Option<Error>,
    /// The connections to its server, where there is one.
    pub pool: Option<PoolState>,
    /// The server that answered last, where there is one.
    pub server: Option<ServerInstance>,
}

impl StorageStatus {
    /// Why this process cannot write there.
    pub fn unwritable(&self) -> Option<&String> {
        self.read_only.as_ref().or(self.not_ours.as_ref())
    }
}

/// A server process as it was started once: another one after a restart or a failover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInstance {
    /// Host and port.
    pub name: String,
    /// When it was started, as the server writes it.
    pub started: String,
}

/// The connections to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Open connections.
    pub connections: u32,
    /// Open connections that are not in use.
    pub idle: u32,
    /// The limit.
    pub max: u32,
}

/// Reads a database, inside a transaction or outside one. Nothing is changed.
pub trait Inspect {
    /// Reads ledger, catalogue and exceptions in one transaction.
    ///
    /// # Errors
    /// Where the database cannot be read. A write transaction may be unusable then.
    fn inspect(&mut self) -> Result<Snapshot>;

    /// The counters of our tables that would give ids which rows have already, or that have none left.
    /// Costs a search of the highest id in each table.
    ///
    /// # Errors
    /// Where the database cannot be read. A counter that this user may not read is no error.
    fn find_counter_faults(&mut self, catalog: &Catalog) -> Result<Vec<CounterFault>>;

    /// Reads ledger, catalogue and exceptions as [`Inspect::inspect`], and the counters.
    ///
    /// # Errors
    /// As both.
    fn inspect_with_counters(&mut self) -> Result<Snapshot> {
        let snapshot = self.inspect()?;
        self.with_counters(snapshot)
    }

    /// Adds the counters to what was read.
    ///
    /// # Errors
    /// As [`Inspect::find_counter_faults`].
    fn with_counters(&mut self, snapshot: Snapshot) -> Result<Snapshot> {
        if snapshot.catalog.is_empty() {
            return Ok(snapshot);
        }
        let counters = self.find_counter_faults(&snapshot.catalog)?;
        Ok(Snapshot { counters, ..snapshot })
    }

    /// What keeps these missing objects from being created.
    ///
    /// # Errors
    /// Where the database cannot be read. A write transaction may be unusable then.
    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>>;

    /// Checks for damage.
    ///
    /// # Errors
    /// Where the check cannot be run. Damage that it met is its result, not an error.
    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage>;

    /// Whether a table exists and has more than this number of rows; no more rows are counted.
    ///
    /// # Errors
    /// Where the table cannot be read. A write transaction may be unusable then.
    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool>;

    /// What rebuilding a table would find.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind) where the table cannot be rebuilt without a loss, by
    /// object and with a remedy; else where it cannot be read.
    fn forecast(&mut self, expected: &Table) -> Result<Forecast>;
}

/// A database that is open, perhaps read-only.
pub trait OpenDatabase: Inspect + Send {
    /// Which database it is.
    fn identity(&self) -> DatabaseIdentity;

    /// The state of its storage and server, as far as it is known without a query.
    fn storage_status(&self) -> StorageStatus;

    /// The other services of cts that have it open, by process id, as far as that can be seen.
    fn other_services(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Looks for a disk without room where that shows in no figure: that of a server. Nothing is changed. Returns
    /// what cannot be known, as sentences.
    ///
    /// # Errors
    /// The fault of a full disk.
    fn find_full_disk(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// What runs whenever an object is created, and may refuse it: an event trigger.
    ///
    /// # Errors
    /// Where the database cannot be read.
    fn find_ddl_trigger(&mut self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Why a person should see to the servers of its URL: more than one can be written. `None` on SQLite.
    fn competing_servers(&self) -> Option<Error> {
        None
    }

    /// Why its WAL is long, or was kept for longer than a minute, where that is so: who keeps it from being reset. `None`
    /// also where the server takes care of that.
    fn kept_wal(&self) -> Option<KeptWal> {
        None
    }
}

/// A WAL that cannot be reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptWal {
    /// How long it is, who keeps it and for how long, and what to do about that.
    pub error: Error,
    /// Whether cts keeps it itself, for a copy that ends: that is no fault.
    pub is_by_cts: bool,
}
