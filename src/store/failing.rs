//! A store that fails at its n-th call, for tests: the real one behind it, and an error in place
//! of what it would have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{
    Backend, Damage, Rebuilt, ServerInstance, SiteLogEntry, Snapshot, StatementEffect,
    StorageStatus, Store, Tx, Upkeep, WaitPolicy,
};
use crate::error::{Error, Kind, Result};
use crate::store::schema::Schema;
use cts_schema::catalog::{Column, Index, Table};
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

impl Store for Failing {
    fn backend(&self) -> Backend {
        self.store.backend()
    }

    fn schema(&self) -> &'static Schema {
        self.store.schema()
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn inspect(&mut self) -> Result<Snapshot> {
        self.fuse.burn()?;
        self.store.inspect()
    }

    fn lock<'s>(&'s mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Tx + 's>> {
        self.fuse.burn()?;
        let tx = Inner::Owned(self.store.lock(wait)?);
        Ok(Box::new(FailingTx { tx, fuse: self.fuse.clone() }))
    }

    fn probe_write(&mut self) -> Result<()> {
        self.fuse.burn()?;
        self.store.probe_write()
    }

    fn storage_status(&self) -> StorageStatus {
        self.store.storage_status()
    }

    fn server(&self) -> Option<ServerInstance> {
        self.store.server()
    }

    fn forecast(&mut self, expected: &Table) -> Result<Rebuilt> {
        self.fuse.burn()?;
        self.store.forecast(expected)
    }

    fn can_add(&self, found: &Table, column: &Column, rows: u64) -> bool {
        self.store.can_add(found, column, rows)
    }

    fn discard_backup(&self, backup: &str) {
        self.store.discard_backup(backup);
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        self.fuse.burn()?;
        self.store.find_damage(deep)
    }

    fn settle(&mut self, wait: &WaitPolicy<'_>) -> Result<Vec<String>> {
        self.fuse.burn()?;
        self.store.settle(wait)
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

    fn upkeep(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn Upkeep>>> {
        self.store.upkeep(wait)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.store.close()
    }
}

enum Inner<'t> {
    Owned(Box<dyn Tx + 't>),
    /// Inside an attempt.
    Lent(&'t mut dyn Tx),
}

struct FailingTx<'t> {
    tx: Inner<'t>,
    fuse: Fuse,
}

impl<'t> FailingTx<'t> {
    /// What is behind it, if this call is to succeed.
    fn tx(&mut self) -> Result<&mut (dyn Tx + 't)> {
        self.fuse.burn()?;
        Ok(match &mut self.tx {
            Inner::Owned(tx) => &mut **tx,
            Inner::Lent(tx) => &mut **tx,
        })
    }
}

impl Tx for FailingTx<'_> {
    fn inspect(&mut self) -> Result<Snapshot> {
        self.tx()?.inspect()
    }

    fn refuse_taken(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.tx()?.refuse_taken(snapshot)
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        self.tx()?.find_damage(deep)
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.tx()?.reindex(index)
    }

    fn is_small(&mut self, table: &str, rows: u32) -> Result<bool> {
        self.tx()?.is_small(table, rows)
    }

    fn large_tables(&mut self, rows: u32) -> Result<Vec<String>> {
        self.tx()?.large_tables(rows)
    }

    fn execute_all(&mut self, statements: &[Statement<'_>]) -> Result<Option<(usize, usize)>> {
        self.tx()?.execute_all(statements)
    }

    fn execute(&mut self, statement: &Statement<'_>) -> Result<StatementEffect> {
        self.tx()?.execute(statement)
    }

    fn add_column(&mut self, table: &str, column: &Column) -> Result<()> {
        self.tx()?.add_column(table, column)
    }

    fn back_up(&mut self) -> Result<Option<String>> {
        self.tx()?.back_up()
    }

    fn rebuild(&mut self, expected: &Table, wait: &WaitPolicy<'_>) -> Result<Rebuilt> {
        self.tx()?.rebuild(expected, wait)
    }

    fn advance_sequences(&mut self) -> Result<Vec<String>> {
        self.tx()?.advance_sequences()
    }

    fn mismatched(&mut self) -> Result<Vec<String>> {
        self.tx()?.mismatched()
    }

    fn put_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        self.tx()?.put_index(table, index, wait)
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

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        let fuse = self.fuse.clone();
        self.tx()?
            .attempt(&mut |tx| work(&mut FailingTx { tx: Inner::Lent(tx), fuse: fuse.clone() }))
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        self.tx()?.record(migration, took)
    }

    fn write_site_log(&mut self, note: &SiteLogEntry) -> Result<()> {
        self.tx()?.write_site_log(note)
    }

    fn commit(self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()> {
        self.fuse.burn()?;
        match self.tx {
            Inner::Owned(tx) => tx.commit(wait),
            Inner::Lent(_) => Ok(()),
        }
    }
}
