//! An open PostgreSQL database.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connect::ReadOnlyReason;
use super::database::identity;
use super::foreign_code::ForeignCode;
use super::inspect::Inspection;
use super::lock::LockedSession;
use super::pool::SessionPool;
use super::session::Session;
use super::settings::TransactionMode;
use super::space::{self, DiskRoom};
use super::transaction::PostgresTx;
use super::{counters, damage, inspect, lock, obstacles, online_index, rebuild};
use crate::error::{Error, Kind, Result};
use crate::store::{
    Change, Damage, DamageScope, DatabaseIdentity, Forecast, Inspect, MissingRights, Obstacle,
    OpenDatabase, ServerInstance, Settled, Snapshot, StorageStatus, Store, UpkeepOpener,
    WaitPolicy,
};
use cts_schema::catalog::{Catalog, CounterFault, Index, Object, Table};
use cts_schema::constraint_exception::ConstraintException;

/// How long an inspection may take in a service that is ready, and one of a command that only reads; less than the
/// prober waits for one.
pub(super) const INSPECTION_TIMEOUT: Duration = Duration::from_millis(2500);

/// How often a running service proves that the disks of the tables have room: it writes a temporary file, which servers
/// may be set to log.
const ROOM_INTERVAL: Duration = Duration::from_secs(60);

/// An open PostgreSQL database.
pub struct Postgres {
    pub(super) location: String,
    pub(super) pool: SessionPool,
    /// How long an inspection may take. While a database is brought up to date, a pooler with few connections may
    /// have to serve many other starts first.
    pub(super) inspection_timeout: Duration,
    /// Faults of the configuration, for the log.
    pub(super) warnings: Vec<String>,
    pub(super) state: Mutex<LastInspection>,
}

/// What the last inspection found besides the snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct LastInspection {
    pub(super) read_only: Option<ReadOnlyReason>,
    pub(super) has_tables: bool,
    missing_rights: Option<MissingRights>,
    /// When it is to be proved that the disks of the tables have room; `None` before the first proof of writing.
    next_room_proof: Option<Instant>,
    server: Option<ServerInstance>,
}

impl Postgres {
    pub(super) fn at(&self, error: Error) -> Error {
        error.at(&self.location)
    }

    pub(super) fn state<T>(&self, of: impl FnOnce(&mut LastInspection) -> T) -> T {
        of(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs work whose time grows with the tables, on a session of its own.
    pub(super) fn without_statement_timeout<T>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let mut session = self.pool.get(self.inspection_timeout).map_err(|error| self.at(error))?;
        let done = session.without_statement_timeout(work);
        if done.is_err() {
            session.mark_broken();
        }
        done.map_err(|error| self.at(error))
    }

    /// Proves now and then that the disks have room; at once again after they had none. Not with the first proof of
    /// writing, which is that of the start: a start on a full disk is not refused as long as rows find room.
    fn prove_room(&mut self) -> Result<()> {
        let now = Instant::now();
        let is_due = |state: &mut LastInspection| *state.next_room_proof.get_or_insert(now) < now;
        if !self.state(is_due) {
            return Ok(());
        }
        let found = self.find_full_disk();
        let next = if found.is_ok() { now + ROOM_INTERVAL } else { now };
        self.state(|state| state.next_room_proof = Some(next));
        found.map(drop)
    }

    /// Inspects the database within `limit`, and keeps what [`LastInspection`] has.
    ///
    /// # Errors
    /// Those of [`SessionPool::run_within`] and [`inspect::inspect`]. The last inspection stays.
    pub(super) fn find(&mut self, limit: Duration) -> Result<Inspection> {
        let (found, server) = self.pool.run_within(limit, |session| {
            let found =
                inspect::inspect(session).map_err(|e| lock::with_lock_holder(session, e))?;
            if found.read_only.is_some() {
                // The setting of a role may have changed since this connection was opened.
                session.mark_broken();
            }
            Ok((found, session.server.clone()))
        })?;
        self.pool.cluster.inspected(&server, found.snapshot.catalog.tables.len())?;
        let (name, started) = (server.name, server.started_at);
        let server = ServerInstance { name, started };
        self.state(|state| {
            state.read_only = found.read_only;
            state.has_tables = !found.snapshot.catalog.is_empty();
            state.missing_rights = found.missing_rights.clone();
            state.server = Some(server);
        });
        Ok(found)
    }
}

impl Inspect for Postgres {
    fn inspect(&mut self) -> Result<Snapshot> {
        self.find(self.inspection_timeout)
            .map(|found| found.snapshot)
            .map_err(|error| self.at(error))
    }

    fn find_counter_faults(&mut self, _: &Catalog) -> Result<Vec<CounterFault>> {
        let find = counters::find_faults_outside_transaction;
        self.pool.run_within(self.inspection_timeout, find).map_err(|error| self.at(error))
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        let mut session = self.pool.get(self.inspection_timeout).map_err(|error| self.at(error))?;
        obstacles::find(&mut session, missing).map_err(|error| self.at(error))
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        if scope != DamageScope::Everything {
            return Ok(Damage::default());
        }
        self.without_statement_timeout(damage::find_damage)
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        self.without_statement_timeout(|session| damage::has_more_rows(session, table, than))
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        self.without_statement_timeout(|session| {
            ForeignCode::refuse_write(session, &expected.name)?;
            rebuild::forecast(session, expected)
        })
    }
}

impl OpenDatabase for Postgres {
    fn identity(&self) -> DatabaseIdentity {
        identity(self.location.clone())
    }

    fn storage_status(&self) -> StorageStatus {
        let LastInspection { read_only, missing_rights, server, .. } =
            self.state(|state| state.clone());
        let pool = Some(self.pool.state());
        StorageStatus { server, pool, missing_rights, ..read_only_status(read_only) }
    }

    fn find_full_disk(&mut self) -> Result<Vec<String>> {
        let room = self.pool.run_within(INSPECTION_TIMEOUT, space::find_room);
        let room = room.unwrap_or_else(DiskRoom::not_asked);
        room.unless_full().map_err(|error| self.at(error))
    }

    fn competing_servers(&self) -> Option<Error> {
        self.pool.cluster.conflict()
    }

    fn find_ddl_trigger(&mut self) -> Result<Option<String>> {
        let mut session = self.pool.get(self.inspection_timeout).map_err(|error| self.at(error))?;
        obstacles::find_event_trigger(&mut session).map_err(|error| self.at(error))
    }
}

impl Store for Postgres {
    fn lock<'s>(&'s mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Change + 's>> {
        let locked = LockedSession::take(&self.pool, wait).map_err(|error| self.at(error))?;
        let tx = PostgresTx::begin(locked, &self.pool, wait);
        tx.map(|tx| Box::new(tx) as Box<dyn Change>).map_err(|error| self.at(error))
    }

    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        online_index::build(&self.pool, table, index, wait)
    }

    fn probe_write(&mut self) -> Result<()> {
        // A negative random id: no program has a row with it, and two probes at the same time do
        // not wait for one another.
        let row = "(id, level, category, message) \
             VALUES (-1 - (random() * 9e15)::bigint, 'info', 'database', 'a write that is rolled back')";
        let tried = self.pool.run_within(INSPECTION_TIMEOUT, move |session| {
            let site_logs = session.qualified("site_logs");
            // A trigger that another role creates meanwhile waits for the lock.
            let lock = format!("LOCK TABLE {site_logs} IN ROW EXCLUSIVE MODE");
            session.begin(TransactionMode::ReadCommitted, session.limits(), &lock)?;
            let tried = match ForeignCode::refuse_write(session, "site_logs") {
                // It is reported where a row is really written.
                Err(error) if error.kind == Kind::Permission => Ok(()),
                other => {
                    other.and_then(|()| session.run(&format!("INSERT INTO {site_logs} {row}")))
                }
            };
            session.roll_back();
            tried
        });
        match tried {
            // A lock is no fault; a table that is missing or refuses rows shows in a snapshot.
            Err(error) if matches!(error.kind, Kind::Blocked | Kind::TryAgain | Kind::Data) => {
                Ok(())
            }
            // The row may have fitted into a page that there is, of one table.
            Ok(()) => self.prove_room(),
            Err(error) => Err(self.at(error)),
        }
    }

    /// The server does its own upkeep (autovacuum, checkpoints). That of cts is to watch the other hosts of the URL.
    fn settle(&mut self, _: &WaitPolicy<'_>) -> Result<Settled> {
        self.inspection_timeout = INSPECTION_TIMEOUT;
        let watch = self.pool.watch();
        let upkeep = watch.map(|watch| -> UpkeepOpener { Box::new(|_, _| Ok(Box::new(watch))) });
        Ok(Settled { messages: self.warnings.clone(), upkeep })
    }

    fn close(self: Box<Self>) -> Result<()> {
        drop(self.pool);
        Ok(())
    }
}

/// The status of a server that accepts no writes, if there is a reason.
pub(super) fn read_only_status(reason: Option<ReadOnlyReason>) -> StorageStatus {
    StorageStatus {
        read_only: reason.map(|reason| reason.to_string()),
        write_remedy: reason.map(|reason| reason.remedy().to_string()),
        ..StorageStatus::default()
    }
}
