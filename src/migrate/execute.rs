//! Executes the steps of a plan in a write transaction, and returns what came of them as events.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use super::event::Event;
use super::plan::Plan;
use super::step::{Action, Step, TableRebuild};
use crate::error::{Error, Kind, Result};
use crate::store::{Change, DatabaseIdentity, Origin, RebuildCopy, Snapshot, WaitPolicy};
use cts_schema::catalog::{CounterFault, Drift, Object};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Created;

/// A run under the lock.
pub struct Execution<'e> {
    pub(super) identity: &'e DatabaseIdentity,
    pub(super) wait: &'e WaitPolicy<'e>,
    /// Whether an older CTS made the database.
    is_adoption: bool,
    /// The tables of which the owner has accepted differences.
    accepted: BTreeSet<String>,
    /// The exceptions that are in force by now.
    pub(super) exceptions: Vec<ConstraintException>,
    /// The fallback, which the ledger takes once it has its shape.
    pub(super) unrecorded: Option<(Migration, Duration)>,
    /// The index builds that are left for after the transaction.
    pub(super) online: Vec<Object>,
    /// The missing objects of the step that failed.
    pub(super) failed: Vec<Object>,
    /// What was done.
    pub events: Vec<Event>,
    /// The copy of the database, until the run has committed.
    pub backup: Option<RebuildCopy>,
}

impl<'e> Execution<'e> {
    /// One that has done nothing yet.
    pub fn new(
        identity: &'e DatabaseIdentity,
        wait: &'e WaitPolicy<'e>,
        snapshot: &Snapshot,
    ) -> Execution<'e> {
        let exceptions = snapshot.exceptions.clone();
        Execution {
            identity,
            wait,
            is_adoption: snapshot.origin() == Origin::OlderCts,
            accepted: snapshot.accepted.iter().map(|a| a.object.table().to_string()).collect(),
            exceptions,
            unrecorded: None,
            online: Vec::new(),
            failed: Vec::new(),
            events: Vec::new(),
            backup: None,
        }
    }

    /// Executes a plan. Returns the difference that remains.
    ///
    /// # Errors
    /// With the first step that failed. The transaction has to be rolled back.
    pub fn run(&mut self, tx: &mut dyn Change, plan: &Plan) -> Result<Drift> {
        for step in plan.steps.iter().filter(|step| step.blocked.is_none()) {
            if let Action::BuildIndexOnline(table, index) = &step.action {
                self.online.push(Object::Index(table.clone(), index.clone()));
            }
        }
        for step in &plan.steps {
            if let Some(error) = &step.blocked {
                self.events
                    .extend(object_of(&step.action).map(|o| Event::NotRestored(o, error.clone())));
            } else {
                self.execute(tx, step).inspect_err(|_| self.failed = objects_of(&step.action))?;
            }
        }
        if self.is_adoption {
            return self.complete_adoption(tx);
        }
        let drift = tx.inspect_with_counters()?.drift(self.identity.schema);
        self.distrust(&drift);
        Ok(drift)
    }

    pub(super) fn execute(&mut self, tx: &mut dyn Change, step: &Step) -> Result<()> {
        match &step.action {
            Action::BackUp => self.back_up_once(tx),
            Action::Reindex(index) => {
                tx.reindex(index)?;
                self.events.push(Event::Reindexed(index.clone()));
                Ok(())
            }
            Action::ApplyMigration(migration) => self.apply(tx, migration),
            Action::RebuildTable(rebuild) => self.rebuild_planned(tx, rebuild),
            Action::CreateTable(table) => self.create_table(tx, table),
            Action::AddColumn(table, column) => self.add_column(tx, table, column),
            Action::CreateIndex(table, index) if self.is_adoption => {
                self.create_index(tx, table, index)?;
                self.restored(Object::Index(table.clone(), index.clone()));
                Ok(())
            }
            Action::CreateIndex(table, index) => self.restore_index(tx, table, index),
            Action::EnforceConstraint(exception) => self.enforce(tx, exception),
            Action::AdvanceCounter(fault) => self.advance_counter(tx, fault),
            Action::FinishAdoption => self.finish_adoption(tx),
            // The first two come after the transaction, the others with the rebuild before them.
            Action::BuildIndexOnline(..)
            | Action::Correct(_)
            | Action::RecordException(_)
            | Action::DropConstraint(..) => Ok(()),
        }
    }

    /// A counter that cannot be advanced keeps no database from starting: programs may do without it.
    fn advance_counter(&mut self, tx: &mut dyn Change, fault: &CounterFault) -> Result<()> {
        match tx.attempt(&mut |tx| tx.advance_counter(fault)) {
            Ok(()) => self.events.push(Event::CounterAdvanced(fault.clone())),
            Err(error) if matches!(error.kind, Kind::Data | Kind::Permission) => {
                self.events.push(Event::CounterNotAdvanced(fault.clone(), error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The index builds that are left for after the transaction.
    pub fn into_online_builds(self) -> Vec<Object> {
        self.online
    }

    fn restored(&mut self, object: Object) {
        let event = if self.is_adoption { Event::Created } else { Event::Restored };
        self.events.push(event(object));
    }

    fn back_up_once(&mut self, tx: &mut dyn Change) -> Result<()> {
        if self.backup.is_none() {
            self.backup = tx.back_up()?;
            let location = self.backup.as_ref().map(|backup| backup.location().to_string());
            self.events.extend(location.map(Event::BackedUp));
        }
        Ok(())
    }

    /// Runs `work`, which creates an object; what fails on the data leaves the object missing.
    fn restore(
        &mut self,
        tx: &mut dyn Change,
        object: Object,
        work: &dyn Fn(&Self, &mut dyn Change) -> Result<()>,
    ) -> Result<()> {
        match tx.attempt(&mut |tx| work(self, tx)) {
            Ok(()) => self.restored(object),
            Err(error) if matches!(error.kind, Kind::Data | Kind::Permission) && tx.is_open() => {
                self.events.push(Event::NotRestored(object, error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn create_table(&mut self, tx: &mut dyn Change, table: &str) -> Result<()> {
        let create = |this: &Self, tx: &mut dyn Change| {
            this.run_again(tx, &Created::Table(table.into()))?;
            this.run_again(tx, &Created::Rows(table.into()))
        };
        let object = Object::Table(table.into());
        if !self.is_adoption {
            return self.restore(tx, object, &create);
        }
        create(self, tx)?;
        self.restored(object);
        Ok(())
    }

    /// A column that cannot be added after all is added by a rebuild.
    fn add_column(&mut self, tx: &mut dyn Change, table: &str, column: &str) -> Result<()> {
        let expected = self.identity.schema.expected.table(table);
        let mut columns = expected.into_iter().flat_map(|table| table.columns.iter());
        let Some(definition) = columns.find(|c| c.name == *column) else { return Ok(()) };
        match tx.attempt(&mut |tx| tx.add_column(table, definition)) {
            Err(error)
                if error.kind == Kind::Data && tx.is_open() && self.accepted.contains(table) =>
            {
                let error = error.remedy(format!(
                    "only a rebuild of the table can add it, which would undo what is accepted of it: `cts accept {table} --withdraw` allows that"
                ));
                let object = Object::Column(table.into(), column.into());
                self.events.push(Event::NotRestored(object, error));
                return Ok(());
            }
            Err(error) if error.kind == Kind::Data && tx.is_open() => {
                self.back_up_once(tx)?;
                self.rebuild(tx, table)?;
            }
            other => other?,
        }
        self.restored(Object::Column(table.into(), column.into()));
        Ok(())
    }

    fn restore_index(&mut self, tx: &mut dyn Change, table: &str, index: &str) -> Result<()> {
        let is_exception = self.exceptions.iter().any(|exception| {
            exception.table == table
                && matches!(&exception.rule, Rule::Unique(name) if name == index)
        });
        let object = Object::Index(table.into(), index.into());
        self.restore(tx, object, &|this, tx| {
            let expected = this.identity.schema.expected.table(table);
            match expected.and_then(|table| table.index(index)) {
                Some(definition) if is_exception => {
                    tx.create_index(table, definition, this.wait).map(|_| ())
                }
                _ => this.run_again(tx, &Created::Index(index.into())),
            }
        })
    }

    /// Creates an index, which is not unique where rows share a key.
    fn create_index(&mut self, tx: &mut dyn Change, table: &str, index: &str) -> Result<()> {
        let expected = self.identity.schema.expected.table(table);
        let Some(definition) = expected.and_then(|table| table.index(index)) else {
            return Ok(());
        };
        match tx.create_index(table, definition, self.wait)? {
            Some(exception) => self.record_exception(tx, exception),
            None => Ok(()),
        }
    }

    fn rebuild_planned(&mut self, tx: &mut dyn Change, rebuild: &TableRebuild) -> Result<()> {
        self.rebuild(tx, &rebuild.table)?;
        self.events.extend(rebuild.restored.iter().cloned().map(Event::Restored));
        Ok(())
    }

    /// Gives a table the expected shape, with as many of its rules as its rows allow.
    fn rebuild(&mut self, tx: &mut dyn Change, table: &str) -> Result<()> {
        let Some(expected) = self.identity.schema.expected.table(table) else { return Ok(()) };
        let is_of_it = |exception: &mut ConstraintException| {
            exception.table == table && !matches!(exception.rule, Rule::ForeignKey(_))
        };
        for exception in self.exceptions.extract_if(.., is_of_it) {
            tx.enforce(&exception)?;
        }
        let rebuilt = tx.rebuild(expected, self.wait)?;
        self.events.push(Event::Rebuilt { table: table.into(), rows: rebuilt.rows });
        self.events.extend(rebuilt.dropped.into_iter().map(Event::ConstraintDropped));
        rebuilt
            .exceptions
            .into_iter()
            .try_for_each(|exception| self.record_exception(tx, exception))
    }

    pub(super) fn record_exception(
        &mut self,
        tx: &mut dyn Change,
        exception: ConstraintException,
    ) -> Result<()> {
        tx.record_exception(&exception)?;
        self.exceptions.push(exception.clone());
        self.events.push(Event::ExceptionRecorded(exception));
        Ok(())
    }

    fn is_rebuilt(&self, table: &str) -> bool {
        self.events.iter().any(|e| matches!(e, Event::Rebuilt { table: name, .. } if name == table))
    }

    fn enforce(&mut self, tx: &mut dyn Change, exception: &ConstraintException) -> Result<()> {
        let table = &exception.table;
        match &exception.rule {
            Rule::ForeignKey(_) => tx.enforce(exception)?,
            Rule::Unique(index) => {
                tx.enforce(exception)?;
                self.exceptions.retain(|known| known != exception);
                self.create_index(tx, table, index)?;
                // Default rows, which would have come twice.
                self.run_again(tx, &Created::Rows(table.clone()))?;
            }
            _ if self.is_rebuilt(table) => {}
            _ => {
                self.back_up_once(tx)?;
                self.rebuild(tx, table)?;
            }
        }
        self.events.push(Event::Enforced(exception.clone()));
        Ok(())
    }

    /// What is believed is what the last snapshot shows.
    fn distrust(&mut self, drift: &Drift) {
        for event in &mut self.events {
            if let Event::Created(object) | Event::Restored(object) = event
                && drift.missing.contains(object)
            {
                let error = Error::new(Kind::Data, "another object has its name");
                *event = Event::NotRestored(object.clone(), error.remedy("rename that object"));
            }
        }
    }
}

/// The missing objects that a step puts back.
pub fn objects_of(action: &Action) -> Vec<Object> {
    match action {
        Action::RebuildTable(rebuild) => rebuild.restored.clone(),
        other => object_of(other).into_iter().collect(),
    }
}

/// The missing object that a step creates.
pub fn object_of(action: &Action) -> Option<Object> {
    Some(match action {
        Action::CreateTable(table) => Object::Table(table.clone()),
        Action::AddColumn(table, column) => Object::Column(table.clone(), column.clone()),
        Action::CreateIndex(table, index) | Action::BuildIndexOnline(table, index) => {
            Object::Index(table.clone(), index.clone())
        }
        _ => return None,
    })
}
