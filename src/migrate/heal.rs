//! Putting back what somebody has dropped, and building damaged indexes anew.

use super::{
    Outcome, Plan, Work, column_of, is_column, is_index, is_table, place, refuse_damage,
    write_site_logs,
};
use crate::error::{Cause, Error, Kind, Result, StateLeft};
use crate::store::{
    Change, DamageScope, DatabaseIdentity, ONLINE_INDEX_ROWS_MAX, Store, WaitPolicy,
};
use cts_schema::catalog::Object;
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::sql::Created;

/// Puts back what is missing, as far as it is done in a moment: tables, columns that need no
/// rebuild, and indexes on small tables. For the running appliance: each in a transaction of its
/// own, so that no program waits for the sum.
pub fn heal_in_passing(store: &mut dyn Store, wait: &WaitPolicy<'_>) -> Result<Outcome> {
    let plan = Plan::of(store.identity().schema, &store.inspect()?)?;
    let mut all = Outcome::default();
    if !plan.pending.is_empty() || plan.drift.missing.is_empty() {
        return Ok(all);
    }
    // A table that is back lacks its indexes.
    for step in [is_table, is_column, is_index] {
        let missing = store.inspect()?.drift(store.identity().schema).missing;
        for object in missing.into_iter().filter(step) {
            heal_one(store, object, wait, &mut all)?;
        }
    }
    Ok(all)
}

fn heal_one(
    store: &mut dyn Store,
    object: Object,
    wait: &WaitPolicy<'_>,
    all: &mut Outcome,
) -> Result<()> {
    let DatabaseIdentity { schema, backend, .. } = store.identity();
    let work = Work { schema, backend, wait, repairs: false, large: Vec::new() };
    let mut outcome = Outcome::default();
    let mut tx = store.lock(wait)?;
    let is_missing = |tx: &mut dyn Change| -> Result<bool> {
        Ok(tx.inspect()?.drift(schema).missing.contains(&object))
    };
    if !is_missing(&mut *tx)? {
        return Ok(());
    }
    if let Some(page) = tx.find_damage(DamageScope::Table(object.table()))?.pages.first() {
        return Err(Error::new(Kind::Data, format!("the database is damaged ({page})"))
            .caused_by(Cause::Damage)
            .leaving(StateLeft::Unchanged));
    }
    if tx.has_more_rows(object.table(), ONLINE_INDEX_ROWS_MAX)? {
        return Ok(());
    }
    work.mend(&mut *tx, object.clone(), &mut outcome)?;
    if outcome.put_back.is_empty() {
        all.left.extend(outcome.left);
        return Ok(());
    }
    if is_missing(&mut *tx)? {
        all.left.push((object, name_is_taken()));
        return Ok(());
    }
    match tx.attempt(&mut |tx| write_site_logs(tx, &outcome)) {
        Err(error) if error.kind == Kind::Data => all.unnoted = Some(error),
        noted => noted?,
    }
    tx.commit(wait)?;
    all.put_back.push(object);
    Ok(())
}

fn name_is_taken() -> Error {
    Error::new(Kind::Data, "something else has its name").remedy("rename what has its name")
}

impl Work<'_> {
    /// Builds damaged indexes anew, where no row is damaged.
    pub(super) fn mend_indexes(&self, tx: &mut dyn Change, outcome: &mut Outcome) -> Result<()> {
        let damage = tx.find_damage(DamageScope::Everything)?;
        if damage.indexes.is_empty() {
            return refuse_damage(&damage);
        }
        self.back_up_once(tx, outcome)?;
        for index in damage.indexes {
            tx.reindex(&index)?;
            outcome.reindexed.push(index);
        }
        refuse_damage(&tx.find_damage(DamageScope::Everything)?)
    }

    /// Puts back what is missing: tables and their rows, then columns, then indexes.
    pub(super) fn heal(&self, tx: &mut dyn Change, outcome: &mut Outcome) -> Result<()> {
        for step in [is_table, is_column, is_index] {
            let missing = tx.inspect()?.drift(self.schema).missing;
            if missing.is_empty() {
                return Ok(());
            }
            let is_due = |object: &Object| step(object) && !self.is_deferred(object);
            for object in missing.into_iter().filter(is_due) {
                self.mend(tx, object, outcome)?;
            }
        }
        // What is believed is what a look finds.
        let missing = tx.inspect()?.drift(self.schema).missing;
        for object in outcome.put_back.extract_if(.., |object| missing.contains(object)) {
            outcome.left.push((object, name_is_taken()));
        }
        Ok(())
    }

    pub(super) fn mend(
        &self,
        tx: &mut dyn Change,
        object: Object,
        outcome: &mut Outcome,
    ) -> Result<()> {
        if outcome.left.iter().any(|(left, _)| *left == object) {
            return Ok(());
        }
        match tx.attempt(&mut |tx| self.put_back(tx, &object)) {
            Ok(()) => outcome.put_back.push(object),
            Err(error) if error.kind == Kind::Data => outcome.left.push((object, error)),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn put_back(&self, tx: &mut dyn Change, object: &Object) -> Result<()> {
        match object {
            Object::Table(table) => {
                self.rerun(tx, &Created::Table(table.clone()))?;
                self.rerun(tx, &Created::Rows(table.clone()))
            }
            Object::Column(table, column) => match column_of(self.schema.expected, table, column) {
                Some(column) => tx.add_column(table, column),
                None => Ok(()),
            },
            Object::Index(table, name) => {
                let is_relaxed = |r: &ConstraintException| {
                    r.table == *table && matches!(&r.rule, Rule::Unique(index) if index == name)
                };
                let index = self.schema.expected.table(table).and_then(|table| table.index(name));
                match index {
                    Some(index) if tx.inspect()?.exceptions.iter().any(is_relaxed) => {
                        tx.create_index(table, index, self.wait).map(|_| ())
                    }
                    _ => self.rerun(tx, &Created::Index(name.clone())),
                }
            }
        }
    }

    /// Runs the bundled statements that create `created` again.
    pub(super) fn rerun(&self, tx: &mut dyn Change, created: &Created) -> Result<()> {
        for migration in &self.schema.migrations {
            for statement in migration.statements().iter().filter(|s| s.creates() == *created) {
                tx.execute(std::slice::from_ref(statement), self.wait)
                    .map_err(|failed| failed.error.at(place(migration, statement)))?;
            }
        }
        Ok(())
    }
}
