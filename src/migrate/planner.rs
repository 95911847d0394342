//! Puts the steps of a plan in order, for each origin of a database. Pure.

#[cfg(test)]
mod tests;

use super::adoption::unified_setup_fits;
use super::assessment::Assessment;
use super::facts::Facts;
use super::plan::{
    ADOPTED, differs, is_index, missing_columns, parents_first, tables_to_rebuild, wanted_objects,
};
use super::step::{Action, Step, TableRebuild};
use crate::error::Error;
use crate::store::{Backend, DatabaseIdentity, Snapshot};
use cts_schema::catalog::{Object, Table};
use cts_schema::constraint_exception::Rule;
use cts_schema::migration::Migration;
use cts_schema::sql::Created;

const MISSING: &str = "it is missing";
const PENDING: &str = "the ledger does not hold it";
/// A value that another type would alter keeps the old one, and that is an exception.
const TYPES: &str = "a column keeps its type where a value would not survive the conversion";
const SHARED_KEYS: &str = "not where rows share a key";

/// The steps of one plan, while they are decided.
pub struct Planner<'p> {
    identity: &'p DatabaseIdentity,
    snapshot: &'p Snapshot,
    assessment: &'p Assessment,
    facts: &'p Facts,
    /// What the pending migrations create.
    pending_creates: Vec<Created>,
    /// The steps so far.
    pub steps: Vec<Step>,
}

impl<'p> Planner<'p> {
    /// A plan without steps.
    pub fn new(
        identity: &'p DatabaseIdentity,
        snapshot: &'p Snapshot,
        assessment: &'p Assessment,
        facts: &'p Facts,
    ) -> Planner<'p> {
        let pending = assessment.pending.iter().flat_map(Migration::statements);
        let pending_creates = pending.map(|statement| statement.creates()).collect();
        Planner { identity, snapshot, assessment, facts, pending_creates, steps: Vec::new() }
    }

    fn step(&self, action: Action, reason: impl Into<String>) -> Step {
        Step::new(self.identity.backend, action, reason)
    }

    fn push(&mut self, action: Action, reason: impl Into<String>) {
        let step = self.step(action, reason);
        self.steps.push(step);
    }

    fn back_up_once(&mut self, reason: &str) {
        if self.steps.iter().any(|step| step.action == Action::BackUp) {
            return;
        }
        let is_in_tables = self.identity.backend == Backend::Postgresql;
        let depends = is_in_tables.then_some("not where no table has a row");
        let step = self.step(Action::BackUp, reason).depends_on_data(depends);
        self.steps.push(step);
    }

    /// Damaged indexes are rebuilt first.
    pub fn reindex(&mut self) {
        if !self.facts.damaged_indexes.is_empty() {
            self.back_up_once("an index is damaged");
        }
        for index in &self.facts.damaged_indexes {
            self.push(Action::Reindex(index.clone()), "it is damaged");
        }
    }

    /// The pending migrations.
    pub fn apply_pending(&mut self) {
        for migration in &self.assessment.pending {
            self.push(Action::ApplyMigration(*migration), PENDING);
        }
    }

    /// The database of an older CTS.
    pub fn adopt(&mut self) {
        self.back_up_once(ADOPTED);
        if !unified_setup_fits(self.identity.schema, self.snapshot) {
            let reason = "the unified setup does not fit the tables";
            self.push(Action::ApplyMigration(self.identity.schema.fallback), reason);
        }
        self.reshape();
        self.advance_counters();
        self.apply_pending();
        let step = self.step(Action::FinishAdoption, ADOPTED);
        let what = "a foreign key that rows violate becomes an exception";
        self.steps.push(step.depends_on_data(Some(what)));
    }

    /// Gives every table the expected columns, constraints and indexes, and creates missing ones.
    pub fn reshape(&mut self) {
        let drift = &self.assessment.drift;
        for table in parents_first(self.identity.schema.expected) {
            if drift.missing.contains(&Object::Table(table.name.to_string())) {
                self.push(Action::CreateTable(table.name.to_string()), ADOPTED);
            } else if differs(self.identity.backend, drift, &table.name)
                || self.loses_parent_key(table)
            {
                self.rebuild(table, ADOPTED, Vec::new());
            }
        }
        for object in self.indexes_to_create() {
            let Object::Index(table, index) = object else { continue };
            let depends = self.is_unique_with_rows(&table, &index).then_some(SHARED_KEYS);
            let is_missing = drift.missing.contains(&Object::Index(table.clone(), index.clone()));
            let action = match is_missing && self.facts.large.contains(&table) {
                true => Action::BuildIndexOnline(table, index),
                false => Action::CreateIndex(table, index),
            };
            let step = self.step(action, ADOPTED);
            self.steps.push(step.depends_on_data(depends));
        }
    }

    /// The indexes that no rebuild creates: of created tables, missing ones, and altered ones.
    fn indexes_to_create(&self) -> Vec<Object> {
        let drift = &self.assessment.drift;
        let is_done = |object: &Object| {
            let is_altered = drift.altered.iter().any(|a| a.object == *object);
            // PostgreSQL alters a table in place, and creates its altered indexes again.
            self.is_rebuilt(object.table())
                && (is_altered || self.identity.backend == Backend::Sqlite)
        };
        let mut indexes: Vec<Object> =
            wanted_objects(self.identity.schema, drift).into_iter().filter(is_index).collect();
        let altered = drift.altered.iter().map(|a| a.object.clone());
        indexes.extend(altered.filter(is_index));
        indexes.retain(|object| !is_done(object));
        indexes
    }

    /// Whether the foreign key of a table goes with its parent's key, which gets another type.
    fn loses_parent_key(&self, table: &Table) -> bool {
        let is_altered = |parent: &str, column: &str| {
            let object = Object::Column(parent.into(), column.into());
            self.assessment.drift.altered.iter().any(|a| a.object == object)
        };
        self.identity.backend == Backend::Postgresql
            && self.snapshot.catalog.table(&table.name).is_some()
            && table.foreign_keys.iter().any(|key| is_altered(&key.table, &key.references))
    }

    fn is_rebuilt(&self, table: &str) -> bool {
        self.steps.iter().any(
            |step| matches!(&step.action, Action::RebuildTable(rebuild) if rebuild.table == table),
        )
    }

    fn rebuild(&mut self, table: &Table, reason: &str, restored: Vec<Object>) {
        let name = table.name.to_string();
        let drift = &self.assessment.drift;
        let of_it = |object: &&Object| object.table() == name;
        let missing = || drift.missing.iter().filter(of_it);
        let altered = || drift.altered.iter().map(|a| &a.object).filter(of_it);
        let rebuild = TableRebuild {
            table: name.clone(),
            columns_added: missing().filter(|object| !is_index(object)).count(),
            columns_changed: altered().filter(|object| !is_index(object)).count(),
            indexes_created: missing().chain(altered()).filter(|object| is_index(object)).count(),
            restored,
        };
        let forecast = self.facts.forecasts.get(&name);
        let step = self
            .step(Action::RebuildTable(rebuild), reason)
            .rows(forecast.map(|forecast| forecast.rows))
            .depends_on_data(self.changes_type(table).then_some(TYPES));
        self.steps.push(step);
        let Some(forecast) = forecast else { return };
        for constraint in &forecast.dropped {
            let action = Action::DropConstraint(name.clone(), constraint.clone());
            self.push(action, "the expected table does not have it");
        }
        for exception in &forecast.exceptions {
            let rows = Some(exception.rows);
            let action = Action::RecordException(exception.clone());
            let step = self.step(action, "rows violate the rule").rows(rows);
            self.steps.push(step);
        }
    }

    fn changes_type(&self, table: &Table) -> bool {
        let Some(found) = self.snapshot.catalog.table(&table.name) else { return false };
        table.columns.iter().any(|column| {
            let mut columns = found.columns.iter();
            let old = columns.find(|old| old.name == column.name);
            old.is_some_and(|old| old.data_type != column.data_type)
        })
    }

    /// A database of ours: first what somebody dropped, then what is pending, which may build on it.
    pub fn restore_and_apply(&mut self) {
        self.advance_counters();
        self.restore_tables();
        self.restore_columns();
        self.restore_indexes();
        self.apply_pending();
    }

    /// Before anything is inserted: the ledger has such a counter too.
    fn advance_counters(&mut self) {
        for fault in &self.assessment.drift.counters {
            self.push(Action::AdvanceCounter(fault.clone()), "new rows would get no id");
        }
    }

    fn restore_tables(&mut self) {
        for object in &self.assessment.drift.missing {
            let Object::Table(table) = object else { continue };
            if !self.is_pending(&Created::Table(table.clone())) {
                let step = self.step(Action::CreateTable(table.clone()), MISSING);
                self.steps.push(step.blocked(self.obstacle(object)));
            }
        }
    }

    fn restore_columns(&mut self) {
        let drift = &self.assessment.drift;
        let rebuilt = tables_to_rebuild(self.identity, self.snapshot, drift, self.facts);
        for table in &rebuilt {
            self.back_up_once("a table is rebuilt");
            let columns = missing_columns(drift, &table.name);
            self.rebuild(
                table,
                "a missing column cannot be added to it",
                columns.cloned().collect(),
            );
        }
        for object in &drift.missing {
            let Object::Column(table, column) = object else { continue };
            if !self.is_rebuilt(table)
                && !self.is_pending(&Created::Column(table.clone(), column.clone()))
            {
                let step = self.step(Action::AddColumn(table.clone(), column.clone()), MISSING);
                self.steps.push(step.blocked(self.obstacle(object)));
            }
        }
    }

    fn restore_indexes(&mut self) {
        let is_missing_table = |steps: &[Step], name: &str| {
            steps.iter().any(|step| {
                step.blocked.is_none()
                    && matches!(&step.action, Action::CreateTable(table) if table == name)
            })
        };
        for object in wanted_objects(self.identity.schema, &self.assessment.drift) {
            let Object::Index(table, index) = &object else { continue };
            let exists = self.snapshot.catalog.table(table).is_some();
            if !exists && !is_missing_table(&self.steps, table)
                || self.is_rebuilt(table) && self.identity.backend == Backend::Sqlite
            {
                continue;
            }
            let is_large = self.facts.large.contains(table);
            if self.is_pending(&Created::Index(index.clone())) && !is_large {
                continue;
            }
            let depends = self.is_unique_with_rows(table, index).then_some(SHARED_KEYS);
            let action = match is_large {
                true => Action::BuildIndexOnline(table.clone(), index.clone()),
                false => Action::CreateIndex(table.clone(), index.clone()),
            };
            let step =
                self.step(action, MISSING).depends_on_data(depends).blocked(self.obstacle(&object));
            self.steps.push(step);
        }
    }

    /// Whether it is a unique index of an existing table, whose rows may share a key.
    fn is_unique_with_rows(&self, table: &str, index: &str) -> bool {
        let expected = self.identity.schema.expected.table(table);
        self.snapshot.catalog.table(table).is_some()
            && expected.and_then(|table| table.index(index)).is_some_and(|index| index.unique)
    }

    /// Exceptions that no row violates any longer end.
    pub fn enforce(&mut self) {
        for exception in &self.facts.enforceable {
            if !matches!(exception.rule, Rule::ForeignKey(_) | Rule::Unique(_))
                && !self.is_rebuilt(&exception.table)
            {
                if self.snapshot.has_accepted(&exception.table) {
                    continue;
                }
                self.back_up_once("a table is rebuilt");
            }
            let reason = "no row violates it any longer";
            self.push(Action::EnforceConstraint(exception.clone()), reason);
        }
    }

    fn obstacle(&self, object: &Object) -> Option<Error> {
        self.facts.obstacle(object).cloned()
    }

    /// Whether a pending migration creates it.
    fn is_pending(&self, created: &Created) -> bool {
        self.pending_creates.contains(created)
    }
}
