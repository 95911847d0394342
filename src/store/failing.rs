//! A store that fails at its n-th call, for tests: the real one behind it, and an error in place
//! of what it would have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::journal::{Journal, ReadJournal};
use super::{
    Change, Damage, DamageScope, DatabaseIdentity, FailedStatement, Forecast, Inspect, Obstacle,
    OpenDatabase, RebuildCopy, Rebuilt, Settled, SiteLogEntry, Snapshot, StatementCounts,
    StorageStatus, Store, WaitPolicy,
};
use crate::error::{Error, Kind, Result};
use cts_schema::catalog::{
    AcceptedDifference, Catalog, Column, Correction, CounterFault, Index, Object, Table,
};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Statement;

/// Counts calls down; the one at 1 fails.
#[derive(Clone)]
struct Fuse(Arc<AtomicUsize>);

impl Fuse {
    fn burn(&self) -> Result<()> {
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        {
            Ok(1) => Err(Error::new(Kind::Io, "the disk is gone")),
            _ => Ok(()),
        }
    }
}

/// The store.
pub struct Failing {
    store: Box<dyn Store>,
    fuse: Fuse,
}

impl Failing {
    /// Fails at that call, counted from 1, and at no other.
    pub fn at(call: usize, store: Box<dyn Store>) -> Failing {
        Failing { store, fuse: Fuse(Arc::new(AtomicUsize::new(call))) }
    }

    /// Whether it has failed.
    pub fn has_failed(&self) -> bool {
        self.fuse.0.load(Ordering::Relaxed) == 0
    }
}

impl Inspect for Failing {
    fn inspect(&mut self) -> Result<Snapshot> {
        self.fuse.burn()?;
        self.store.inspect()
    }

    fn find_counter_faults(&mut self, catalog: &Catalog) -> Result<Vec<CounterFault>> {
        self.fuse.burn()?;
        self.store.find_counter_faults(catalog)
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        self.fuse.burn()?;
        self.store.find_obstacles(missing)
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        self.fuse.burn()?;
        self.store.find_damage(scope)
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        self.fuse.burn()?;
        self.store.has_more_rows(table, than)
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        self.fuse.burn()?;
        self.store.forecast(expected)
    }
}

impl OpenDatabase for Failing {
    fn identity(&self) -> DatabaseIdentity {
        self.store.identity()
    }

    fn storage_status(&self) -> StorageStatus {
        self.store.storage_status()
    }
}

impl ReadJournal for Failing {
    fn read_journal(&mut self) -> Journal {
        self.store.read_journal()
    }
}

impl Store for Failing {
    fn lock<'s>(&'s mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Change + 's>> {
        self.fuse.burn()?;
        let tx = Inner::Owned(self.store.lock(wait)?);
        Ok(Box::new(FailingTx { tx, fuse: self.fuse.clone() }))
    }

    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        self.fuse.burn()?;
        self.store.build_index(table, index, wait)
    }

    fn probe_write(&mut self) -> Result<()> {
        self.fuse.burn()?;
        self.store.probe_write()
    }

    fn settle(&mut self, wait: &WaitPolicy<'_>) -> Result<Settled> {
        self.fuse.burn()?;
        self.store.settle(wait)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.store.close()
    }
}

enum Inner<'t> {
    Owned(Box<dyn Change + 't>),
    /// Inside an attempt.
    Lent(&'t mut dyn Change),
}

struct FailingTx<'t> {
    tx: Inner<'t>,
    fuse: Fuse,
}

impl<'t> FailingTx<'t> {
    /// What is behind it, if this call is to succeed.
    fn tx(&mut self) -> Result<&mut (dyn Change + 't)> {
        self.fuse.burn()?;
        Ok(match &mut self.tx {
            Inner::Owned(tx) => &mut **tx,
            Inner::Lent(tx) => &mut **tx,
        })
    }
}

impl Inspect for FailingTx<'_> {
    fn inspect(&mut self) -> Result<Snapshot> {
        self.tx()?.inspect()
    }

    fn find_counter_faults(&mut self, catalog: &Catalog) -> Result<Vec<CounterFault>> {
        self.tx()?.find_counter_faults(catalog)
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        self.tx()?.find_obstacles(missing)
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        self.tx()?.find_damage(scope)
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        self.tx()?.has_more_rows(table, than)
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        self.tx()?.forecast(expected)
    }
}

impl Change for FailingTx<'_> {
    /// One statement at a time, each of which can fail.
    fn execute(
        &mut self,
        statements: &[Statement<'_>],
        wait: &WaitPolicy<'_>,
    ) -> Result<StatementCounts, FailedStatement> {
        let mut counts = StatementCounts::default();
        for (position, statement) in statements.iter().enumerate() {
            let at = |error| FailedStatement { position: Some(position), error };
            let done = self.tx().map_err(|error| at(Box::new(error)))?.execute(&[*statement], wait);
            let StatementCounts { applied, skipped } = done.map_err(|failed| at(failed.error))?;
            counts.applied += applied;
            counts.skipped += skipped;
        }
        Ok(counts)
    }

    fn add_column(&mut self, table: &str, column: &Column) -> Result<()> {
        self.tx()?.add_column(table, column)
    }

    fn rebuild(&mut self, expected: &Table, wait: &WaitPolicy<'_>) -> Result<Rebuilt> {
        self.tx()?.rebuild(expected, wait)
    }

    fn create_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        self.tx()?.create_index(table, index, wait)
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.tx()?.reindex(index)
    }

    fn correct(&mut self, correction: &Correction) -> Result<u64> {
        self.tx()?.correct(correction)
    }

    fn back_up(&mut self) -> Result<Option<RebuildCopy>> {
        self.tx()?.back_up()
    }

    fn count_violations(&mut self, expected: &Table, rule: &Rule) -> Result<u64> {
        self.tx()?.count_violations(expected, rule)
    }

    fn record_exception(&mut self, exception: &ConstraintException) -> Result<()> {
        self.tx()?.record_exception(exception)
    }

    fn enforce(&mut self, exception: &ConstraintException) -> Result<()> {
        self.tx()?.enforce(exception)
    }

    fn record_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()> {
        self.tx()?.record_acceptance(accepted)
    }

    fn withdraw_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()> {
        self.tx()?.withdraw_acceptance(accepted)
    }

    fn advance_counter(&mut self, fault: &CounterFault) -> Result<()> {
        self.tx()?.advance_counter(fault)
    }

    fn finish_adoption(&mut self) -> Result<Vec<String>> {
        self.tx()?.finish_adoption()
    }

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Change) -> Result<()>) -> Result<()> {
        let fuse = self.fuse.clone();
        self.tx()?
            .attempt(&mut |tx| work(&mut FailingTx { tx: Inner::Lent(tx), fuse: fuse.clone() }))
    }

    fn is_open(&self) -> bool {
        match &self.tx {
            Inner::Owned(tx) => tx.is_open(),
            Inner::Lent(tx) => tx.is_open(),
        }
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        self.tx()?.record(migration, took)
    }

    fn write_site_log(&mut self, entry: &SiteLogEntry) -> Result<()> {
        self.tx()?.write_site_log(entry)
    }

    fn commit(self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()> {
        self.fuse.burn()?;
        match self.tx {
            Inner::Owned(tx) => tx.commit(wait),
            Inner::Lent(_) => Ok(()),
        }
    }
}
