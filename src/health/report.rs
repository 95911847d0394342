//! The report: everything that is known of the database at one moment.

use std::time::{Duration, Instant, SystemTime};

use super::conditions::{Condition, Subject};
use super::figures::Figures;
use super::history::Sample;
use super::reason::Reason;
use crate::archive::ArchiveStatus;
use crate::backup::{BackedUpDatabase, BackupState};
use crate::error::{Error, Result};
use crate::migrate::outlook::{MissingObject, missing_objects};
use crate::store::{
    Backend, Damage, Database, DatabaseIdentity, OpenDatabase, ReadExtent, Snapshot, StorageStatus,
};
use cts_schema::catalog::{Alteration, Drift, Object};
use cts_schema::constraint_exception::ConstraintException;
use cts_schema::migration::AppliedMigration;

/// What is known besides the ledger and the catalogue.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Disk, permissions and connections.
    pub storage: StorageStatus,
    /// The faults that the threads of the service have recorded, or that a command has found.
    pub conditions: Vec<Condition>,
    /// The damage that an examination found, if there was one.
    pub damage: Damage,
    /// What matters and this user cannot see, as sentences.
    pub unknown: Vec<String>,
    /// That cts itself keeps the WAL from being reset, as a sentence, where it does.
    pub wal_kept_by_cts: Option<String>,
    /// The missing objects, each with whether it can be put back.
    pub missing: Vec<MissingObject>,
}

impl Surroundings {
    /// Those of a command, which examines by itself what the threads of a service know.
    pub fn of_command(store: &mut dyn OpenDatabase) -> Surroundings {
        let condition = |subject, error| Condition { subject, error, refused: Vec::new() };
        let (wal_kept_by_cts, kept) = match store.kept_wal() {
            Some(kept) if kept.is_by_cts => (Some(kept.error.message()), None),
            kept => (None, kept.map(|kept| condition(Subject::WalLength, kept.error))),
        };
        let servers = store.competing_servers().map(|error| condition(Subject::Servers, error));
        let (full, unknown) = match store.find_full_disk() {
            Ok(unknown) => (None, unknown),
            Err(error) => (Some(condition(Subject::Write, error)), Vec::new()),
        };
        let conditions = kept.into_iter().chain(servers).chain(full).collect();
        Surroundings { conditions, unknown, wal_kept_by_cts, ..Surroundings::default() }
    }
}

/// Everything that is known of the database at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kind of database.
    pub backend: Backend,
    /// Its path or URL, without secrets.
    pub location: String,
    /// Whether the database answered.
    pub connected: bool,
    /// Whether migrations are running.
    pub initializing: bool,
    /// How long it took to read ledger and catalogue; `None` if they were not read.
    pub response_time: Option<Duration>,
    /// When the report was made.
    pub at: SystemTime,
    /// What is not as expected.
    pub reasons_found: Vec<Reason>,
    /// The expected tables that exist.
    pub tables: Vec<&'static str>,
    /// The rows of the ledger that are ours.
    pub applied: Vec<AppliedMigration>,
    /// Pending migrations and missing objects, by name.
    pub pending: Vec<String>,
    /// The number of migrations in a complete ledger.
    pub expected_migrations: usize,
    /// How many objects are not as expected; none where the database could not be examined.
    pub drift: Option<DriftCounts>,
    /// The differences from the expected catalogue that are accepted, which is not a fault.
    pub accepted: Vec<Alteration>,
    /// The rules that this database does not enforce, which is not a fault.
    pub exceptions: Vec<ConstraintException>,
    /// The state of its storage and server; unknown if it was not examined.
    pub storage: StorageStatus,
    /// The database that backups must be of.
    pub database: BackedUpDatabase,
    /// What is known of its backups; `None` where they were not inspected.
    pub backups: Option<BackupState>,
    /// How the archive of every change is doing; `None` where there is none, or it was not inspected.
    pub archive: Option<ArchiveStatus>,
    /// The faults of the backups that the threads of the service have recorded, which are among the reasons.
    pub backup_conditions: Vec<Condition>,
    /// What is not as it should be with the backups, in a sentence that is one of the reasons.
    pub backup_problem: Option<String>,
    /// The check of everything for damage, where it was made.
    pub deep_check: Option<DeepCheck>,
}

/// A check of everything for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeepCheck {
    /// What it has read; `None` where damage ended it early.
    pub read: Option<ReadExtent>,
    /// How long it took.
    pub time: Duration,
}

impl Report {
    /// The report of a database that answered.
    pub fn of(
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        surroundings: &Surroundings,
        response_time: Duration,
    ) -> Report {
        let mut report = Report::without_snapshot(identity);
        report.connected = true;
        report.response_time = Some(response_time);
        report.tables = identity
            .schema
            .expected
            .tables
            .iter()
            .map(|table| &*table.name)
            .filter(|name| snapshot.catalog.table(name).is_some())
            .collect();
        report.applied = snapshot.ledger.iter().filter(|row| row.is_ours()).cloned().collect();
        report.exceptions = snapshot.exceptions.clone();
        report.storage = surroundings.storage.clone();
        report.database = BackedUpDatabase::of(identity, snapshot);
        report.judge_schema(identity.schema, snapshot, surroundings);
        report.judge_surroundings(identity.schema, surroundings);
        report
    }

    /// The report of a database that could not be examined.
    pub fn unreachable(database: &dyn Database, error: &Error) -> Report {
        let mut report = Report::without_snapshot(&database.identity());
        report.reasons_found.push(Reason::critical(error.to_string()));
        report
    }

    /// The report while migrations run; `activity` says what is being done.
    pub fn initializing(database: &dyn Database, activity: &str) -> Report {
        let mut report = Report::without_snapshot(&database.identity());
        report.initializing = true;
        report.reasons_found.push(Reason::warning(activity.to_string()));
        report
    }

    /// Adds recorded faults to the report of a database that could not be examined.
    pub fn with_conditions(mut self, conditions: &[Condition]) -> Report {
        self.reasons_found.extend(conditions.iter().map(Condition::reason));
        self.note_backup_conditions(conditions);
        self
    }

    /// What the history keeps of it, with the figures that were taken last.
    pub fn sample(&self, figures: &Figures) -> Sample {
        Sample {
            size_bytes: figures.database_size_bytes,
            wal_size_bytes: figures.wal_size_bytes,
            disk_free_bytes: self.storage.free_bytes,
            response_seconds: self.response_time.map(|time| time.as_secs_f32()),
            status: Some(self.status()),
        }
    }

    fn without_snapshot(identity: &DatabaseIdentity) -> Report {
        let DatabaseIdentity { schema, backend, location, .. } = identity;
        Report {
            backend: *backend,
            location: location.clone(),
            connected: false,
            initializing: false,
            response_time: None,
            at: SystemTime::now(),
            reasons_found: Vec::new(),
            tables: Vec::new(),
            applied: Vec::new(),
            pending: schema.migrations.iter().map(|m| m.name.to_string()).collect(),
            expected_migrations: schema.migrations.len(),
            drift: None,
            accepted: Vec::new(),
            exceptions: Vec::new(),
            storage: StorageStatus::default(),
            database: BackedUpDatabase::unread(identity),
            backups: None,
            archive: None,
            backup_conditions: Vec::new(),
            backup_problem: None,
            deep_check: None,
        }
    }

    /// Whether every migration is applied and nothing expected is missing.
    pub fn is_complete(&self) -> bool {
        self.connected && self.pending.is_empty()
    }

    /// `complete`, `incomplete` or `initializing`.
    pub fn migration_status(&self) -> &'static str {
        match (self.initializing, self.is_complete()) {
            (true, _) => "initializing",
            (_, true) => "complete",
            _ => "incomplete",
        }
    }

    /// Compares these expected tables with those that exist. None is called missing if the database could
    /// not be examined.
    pub fn count(&self, tables: impl Iterator<Item = &'static str>) -> TableCount {
        let (existing, missing): (Vec<&str>, Vec<&str>) =
            tables.partition(|name| self.tables.contains(name));
        TableCount {
            expected: existing.len() + missing.len(),
            existing: existing.len(),
            missing: if self.connected { missing } else { Vec::new() },
        }
    }
}

/// How many objects of a database are not as expected, by what is wrong with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriftCounts {
    /// Missing tables.
    pub tables: usize,
    /// Missing columns of tables that exist.
    pub columns: usize,
    /// Missing indexes of tables that exist.
    pub indexes: usize,
    /// Objects that differ, but for the differences that are accepted.
    pub altered: usize,
    /// Counters that give new rows no usable id.
    pub counters: usize,
}

impl DriftCounts {
    /// Counts the objects of a drift.
    pub(super) fn of(drift: &Drift) -> DriftCounts {
        let count = |is: fn(&Object) -> bool| drift.missing.iter().filter(|o| is(o)).count();
        DriftCounts {
            tables: count(|object| matches!(object, Object::Table(_))),
            columns: count(|object| matches!(object, Object::Column(..))),
            indexes: count(|object| matches!(object, Object::Index(..))),
            altered: drift.altered.len(),
            counters: drift.counters.len(),
        }
    }
}

/// How many of some expected tables exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableCount {
    /// The number of expected tables.
    pub expected: usize,
    /// The number of those that exist.
    pub existing: usize,
    /// The names of those that do not.
    pub missing: Vec<&'static str>,
}

/// Reads ledger and catalogue of an open database and reports on them. What `surroundings` has of its
/// storage is replaced by the present state.
///
/// # Errors
///
/// The error of the database that could not be read; it has changed nothing.
pub fn examine(store: &mut dyn OpenDatabase, surroundings: Surroundings) -> Result<Report> {
    let start = Instant::now();
    let snapshot = store.inspect()?;
    let response_time = start.elapsed();
    let snapshot = store.with_counters(snapshot)?;
    let missing = missing_objects(store, &snapshot);
    let surroundings = Surroundings { storage: store.storage_status(), missing, ..surroundings };
    Ok(Report::of(&store.identity(), &snapshot, &surroundings, response_time))
}
