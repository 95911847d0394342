//! An open PostgreSQL database.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::inspect::Inspection;
use super::lock::Locked;
use super::session::Sessions;
use super::transaction::PostgresTx;
use super::{index, inspect, lock, rebuild};
use crate::error::{Error, Kind, Result};
use crate::store::schema::{POSTGRES, Schema};
use crate::store::{
    Backend, Damage, PoolState, Rebuilt, ServerInstance, Snapshot, StorageStatus, Store, Tx,
    Upkeep, WaitPolicy,
};
use cts_schema::catalog::{Column, Index, Table};
use cts_schema::constraint_exception::ConstraintException;

/// How long a look may take. Less than the prober waits for it.
pub(super) const INSPECTION_TIMEOUT: Duration = Duration::from_millis(2500);
/// An open PostgreSQL database.
pub struct Postgres {
    pub(super) location: String,
    pub(super) sessions: Sessions,
    /// What in the configuration a person should look at.
    pub(super) warnings: Vec<String>,
    pub(super) state: Mutex<LastInspection>,
}

/// What the last look has found beside ledger and catalogue.
#[derive(Clone, Debug, Default)]
pub(super) struct LastInspection {
    read_only: Option<String>,
    pub(super) has_tables: bool,
    server: Option<ServerInstance>,
}

impl Postgres {
    pub(super) fn at(&self, error: Error) -> Error {
        error.at(&self.location)
    }

    pub(super) fn state<T>(&self, of: impl FnOnce(&mut LastInspection) -> T) -> T {
        of(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn find(&mut self, limit: Duration) -> Result<Inspection> {
        let (found, server) = self.sessions.ask(limit, |session| {
            let found =
                inspect::snapshot(session, true).map_err(|e| lock::explained(session, e))?;
            if found.read_only.is_some() {
                // What sets it so may hold for this connection only, as a role's setting does.
                session.mark_broken();
            }
            let found_at = &session.server;
            let (name, started) = (found_at.name.clone(), found_at.started.clone());
            Ok((found, ServerInstance { name, started }))
        })?;
        self.state(|state| {
            state.read_only.clone_from(&found.read_only);
            state.has_tables = !found.snapshot.catalog.is_empty();
            state.server = Some(server);
        });
        Ok(found)
    }
}

impl Store for Postgres {
    fn backend(&self) -> Backend {
        Backend::Postgresql
    }

    fn schema(&self) -> &'static Schema {
        &POSTGRES
    }

    fn location(&self) -> String {
        self.location.clone()
    }

    fn inspect(&mut self) -> Result<Snapshot> {
        self.find(INSPECTION_TIMEOUT).map(|found| found.snapshot).map_err(|error| self.at(error))
    }

    fn lock<'s>(&'s mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Tx + 's>> {
        let locked = Locked::take(&self.sessions, wait).map_err(|error| self.at(error))?;
        let tx = PostgresTx::begin(locked, &self.sessions, wait);
        tx.map(|tx| Box::new(tx) as Box<dyn Tx>).map_err(|error| self.at(error))
    }

    fn probe_write(&mut self) -> Result<()> {
        // A number that no row of a program has, another one each time, so that two who try at
        // once do not wait for one another.
        let sql = "BEGIN; \
             INSERT INTO site_logs (id, level, category, message) \
             VALUES (-1 - (random() * 9e15)::bigint, 'info', 'database', 'a write that is undone'); ROLLBACK";
        let tried = self.sessions.ask(INSPECTION_TIMEOUT, move |session| {
            session.run(sql).inspect_err(|_| {
                let _ = session.run("ROLLBACK");
            })
        });
        match tried {
            // Locks are no fault, nor is a table that lacks or refuses rows: looks tell that.
            Err(error) if matches!(error.kind, Kind::Blocked | Kind::TryAgain | Kind::Data) => {
                Ok(())
            }
            other => other.map_err(|error| self.at(error)),
        }
    }

    fn storage_status(&self) -> StorageStatus {
        let read_only = self.state(|state| state.read_only.clone());
        let (connections, idle, max) = self.sessions.state();
        StorageStatus {
            read_only,
            pool: Some(PoolState { connections, idle, max }),
            ..StorageStatus::default()
        }
    }

    fn server(&self) -> Option<ServerInstance> {
        self.state(|state| state.server.clone())
    }

    fn forecast(&mut self, expected: &Table) -> Result<Rebuilt> {
        let mut session = self.sessions.get(INSPECTION_TIMEOUT).map_err(|error| self.at(error))?;
        // It may take as long as the table is large.
        session.mark_broken();
        let done = session.run("SET statement_timeout = 0");
        done.and_then(|()| rebuild::forecast(&mut session, expected))
            .map_err(|error| self.at(error))
    }

    fn can_add(&self, found: &Table, column: &Column, rows: u64) -> bool {
        let has_key = found.columns.iter().any(|column| column.primary_key_position > 0);
        let fits_rows = !column.not_null || column.default.is_some();
        !(column.primary_key_position > 0 && has_key) && (rows == 0 || fits_rows)
    }

    fn discard_backup(&self, _: &str) {
        // The copies were made in the transaction, and went with it.
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        if !deep {
            return Ok(Damage::default());
        }
        let mut session = self.sessions.get(INSPECTION_TIMEOUT).map_err(|error| self.at(error))?;
        let found = inspect::find_damage(&mut session)
            .and_then(|damage| session.limit_statements().map(|()| damage));
        if found.is_err() {
            session.mark_broken();
        }
        found.map_err(|error| self.at(error))
    }

    fn settle(&mut self, _: &WaitPolicy<'_>) -> Result<Vec<String>> {
        Ok(self.warnings.clone())
    }

    fn upkeep(&self, _: &WaitPolicy<'_>) -> Result<Option<Box<dyn Upkeep>>> {
        // Autovacuum does it, on the server.
        Ok(None)
    }

    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        index::build(&self.sessions, table, index, wait)
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
