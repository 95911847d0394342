//! A store that fails at its n-th call, for tests: the real one behind it, and an error in place
//! of what it would have done.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{
    Backend, Damage, Effect, Look, Note, Patience, Place, Rebuilt, Server, Store, Tx, Upkeep,
};
use crate::error::{Error, Kind, Result};
use crate::store::schema::Schema;
use cts_schema::catalog::{Column, Index, Table};
use cts_schema::constraint_exception::{Relaxation, Rule};
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

    fn look(&mut self) -> Result<Look> {
        self.fuse.burn()?;
        self.store.look()
    }

    fn lock<'s>(&'s mut self, patience: &Patience<'_>) -> Result<Box<dyn Tx + 's>> {
        self.fuse.burn()?;
        let tx = Inner::Owned(self.store.lock(patience)?);
        Ok(Box::new(FailingTx { tx, fuse: self.fuse.clone() }))
    }

    fn try_write(&mut self) -> Result<()> {
        self.fuse.burn()?;
        self.store.try_write()
    }

    fn place(&self) -> Place {
        self.store.place()
    }

    fn server(&self) -> Option<Server> {
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

    fn settle(&mut self, patience: &Patience<'_>) -> Result<Vec<String>> {
        self.fuse.burn()?;
        self.store.settle(patience)
    }

    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        patience: &Patience<'_>,
    ) -> Result<Option<Relaxation>> {
        self.fuse.burn()?;
        self.store.build_index(table, index, patience)
    }

    fn upkeep(&self, patience: &Patience<'_>) -> Result<Option<Box<dyn Upkeep>>> {
        self.store.upkeep(patience)
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
    fn look(&mut self) -> Result<Look> {
        self.tx()?.look()
    }

    fn refuse_taken(&mut self, look: &Look) -> Result<()> {
        self.tx()?.refuse_taken(look)
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        self.tx()?.find_damage(deep)
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.tx()?.reindex(index)
    }

    fn is_light(&mut self, table: &str, rows: u32) -> Result<bool> {
        self.tx()?.is_light(table, rows)
    }

    fn heavy_tables(&mut self, rows: u32) -> Result<Vec<String>> {
        self.tx()?.heavy_tables(rows)
    }

    fn execute_all(&mut self, statements: &[Statement<'_>]) -> Result<Option<(usize, usize)>> {
        self.tx()?.execute_all(statements)
    }

    fn execute(&mut self, statement: &Statement<'_>) -> Result<Effect> {
        self.tx()?.execute(statement)
    }

    fn add_column(&mut self, table: &str, column: &Column) -> Result<()> {
        self.tx()?.add_column(table, column)
    }

    fn back_up(&mut self) -> Result<Option<String>> {
        self.tx()?.back_up()
    }

    fn rebuild(&mut self, expected: &Table, patience: &Patience<'_>) -> Result<Rebuilt> {
        self.tx()?.rebuild(expected, patience)
    }

    fn secure_ids(&mut self) -> Result<Vec<String>> {
        self.tx()?.secure_ids()
    }

    fn mismatched(&mut self) -> Result<Vec<String>> {
        self.tx()?.mismatched()
    }

    fn put_index(
        &mut self,
        table: &str,
        index: &Index,
        patience: &Patience<'_>,
    ) -> Result<Option<Relaxation>> {
        self.tx()?.put_index(table, index, patience)
    }

    fn breaking(&mut self, expected: &Table, rule: &Rule) -> Result<u64> {
        self.tx()?.breaking(expected, rule)
    }

    fn relax(&mut self, relaxation: &Relaxation) -> Result<()> {
        self.tx()?.relax(relaxation)
    }

    fn tighten(&mut self, relaxation: &Relaxation) -> Result<()> {
        self.tx()?.tighten(relaxation)
    }

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        let fuse = self.fuse.clone();
        self.tx()?
            .attempt(&mut |tx| work(&mut FailingTx { tx: Inner::Lent(tx), fuse: fuse.clone() }))
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        self.tx()?.record(migration, took)
    }

    fn note(&mut self, note: &Note) -> Result<()> {
        self.tx()?.note(note)
    }

    fn commit(self: Box<Self>, patience: &Patience<'_>) -> Result<()> {
        self.fuse.burn()?;
        match self.tx {
            Inner::Owned(tx) => tx.commit(patience),
            Inner::Lent(_) => Ok(()),
        }
    }
}
