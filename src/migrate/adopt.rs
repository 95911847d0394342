//! Adoption and what it brings along: tables are given the expected shape, rules that their rows
//! break are relaxed, and tightened again once no row breaks them.

use std::collections::BTreeSet;

use super::{Outcome, Work, is_column, is_index, is_table};
use crate::error::{Error, Kind, Result};
use crate::store::Change;
use crate::system::version::VERSION;
use cts_schema::catalog::{Catalog, Drift, Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Created;

impl Work<'_> {
    /// A database of an older CTS. Where the unified setup does not fit what is there, the
    /// fallback prepares the ledger, and the tables are given their shape first. What would
    /// still differ after that is refused: nothing is adopted by halves.
    pub(super) fn adopt(
        &self,
        tx: &mut dyn Change,
        pending: &[Migration],
        outcome: &mut Outcome,
    ) -> Result<()> {
        outcome.backup = tx.back_up()?;
        let mut runs = Vec::new();
        let fits = tx.attempt(&mut |tx| {
            runs = self.apply(tx, pending, &[])?;
            Ok(())
        });
        match fits {
            Ok(()) => {}
            Err(error) if error.kind == Kind::Data => {
                // The ledger takes a row when it has its shape.
                let run = self.execute(tx, &self.schema.fallback, &[])?;
                self.reshape(tx, outcome)?;
                tx.record(&self.schema.fallback, run.took)?;
                runs = vec![run];
                runs.extend(self.apply(tx, pending, &outcome.exceptions)?);
            }
            Err(error) => return Err(error),
        }
        outcome.runs = runs;
        self.reshape(tx, outcome)?;
        self.number_on(tx, outcome)?;
        for table in self.schema.expected.tables.iter() {
            for key in table.foreign_keys.iter() {
                let rule = Rule::ForeignKey(key.table.to_string());
                let rows = tx.count_violations(table, &rule)?;
                if rows > 0 {
                    let table = table.name.to_string();
                    self.record_exception(tx, ConstraintException { table, rule, rows }, outcome)?;
                }
            }
        }
        let mut drift = tx.inspect()?.drift(self.schema);
        drift.missing.retain(|object| !self.is_deferred(object));
        if drift.is_none() { Ok(()) } else { Err(unconvertible(&drift)) }
    }

    /// Lets new rows have ids of their own. A default row whose id was taken was left out before.
    fn number_on(&self, tx: &mut dyn Change, outcome: &Outcome) -> Result<()> {
        let mut tables: BTreeSet<String> = tx.finish_adoption()?.into_iter().collect();
        tables.extend(outcome.rebuilt.iter().map(|(table, _)| table.clone()));
        let is_unique = |table: &String| {
            let mut relaxed = outcome.exceptions.iter().filter(|relaxed| relaxed.table == *table);
            !relaxed.any(|relaxed| matches!(relaxed.rule, Rule::Unique(_)))
        };
        tables.into_iter().filter(is_unique).try_for_each(|t| self.rerun(tx, &Created::Rows(t)))
    }

    /// Gives every table the expected columns, constraints and indexes, and makes what is missing.
    fn reshape(&self, tx: &mut dyn Change, outcome: &mut Outcome) -> Result<()> {
        let mut drift = tx.inspect()?.drift(self.schema);
        for table in parents_first(self.schema.expected) {
            let object = Object::Table(table.name.to_string());
            if drift.missing.contains(&object) {
                self.put_back(tx, &object)?;
                outcome.put_back.push(object);
            } else if differs(&drift, &table.name) {
                self.rebuild(tx, &table.name, outcome)?;
                // A key of another type takes what refers to it along.
                drift = tx.inspect()?.drift(self.schema);
            }
        }
        let drift = tx.inspect()?.drift(self.schema);
        if let Some(table) = drift.missing.iter().find(|object| is_table(object)) {
            let what = format!("{table} cannot be made: something else has its name");
            return Err(Error::new(Kind::Data, what).remedy("rename what has its name"));
        }
        let altered = drift.altered.into_iter().map(|alteration| alteration.object);
        let missing = drift.missing.into_iter().filter(|object| !self.is_deferred(object));
        for object in altered.chain(missing).filter(is_index) {
            let Object::Index(table, name) = &object else { continue };
            let index = self.schema.expected.table(table).and_then(|table| table.index(name));
            if let Some(index) = index {
                let relaxed = tx.create_index(table, index, self.wait)?;
                outcome.put_back.push(object);
                self.record_exceptions(tx, relaxed, outcome)?;
            }
        }
        Ok(())
    }

    /// Columns that cannot be added to a table with rows: the table is made anew with them.
    pub(super) fn rebuild_for_columns(
        &self,
        tx: &mut dyn Change,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let columns: Vec<Object> =
            outcome.left.extract_if(.., |(object, _)| is_column(object)).map(|(o, _)| o).collect();
        let tables: BTreeSet<&str> = columns.iter().map(Object::table).collect();
        for table in tables {
            self.back_up_once(tx, outcome)?;
            self.rebuild(tx, table, outcome)?;
        }
        outcome.put_back.extend(columns);
        if outcome.rebuilt.is_empty() { Ok(()) } else { self.heal(tx, outcome) }
    }

    pub(super) fn back_up_once(&self, tx: &mut dyn Change, outcome: &mut Outcome) -> Result<()> {
        if outcome.backup.is_none() {
            outcome.backup = tx.back_up()?;
        }
        Ok(())
    }

    /// Makes a table anew, with as many of its rules as its rows allow.
    fn rebuild(&self, tx: &mut dyn Change, name: &str, outcome: &mut Outcome) -> Result<()> {
        let Some(table) = self.schema.expected.table(name) else { return Ok(()) };
        for exception in tx.inspect()?.exceptions {
            if exception.table == *table.name && !matches!(exception.rule, Rule::ForeignKey(_)) {
                tx.enforce(&exception)?;
            }
        }
        let rebuilt = tx.rebuild(table, self.wait)?;
        outcome.rebuilt.push((table.name.to_string(), rebuilt.rows));
        outcome.dropped.extend(rebuilt.dropped);
        self.record_exceptions(tx, rebuilt.exceptions, outcome)
    }

    fn record_exceptions(
        &self,
        tx: &mut dyn Change,
        exceptions: impl IntoIterator<Item = ConstraintException>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        exceptions
            .into_iter()
            .try_for_each(|exception| self.record_exception(tx, exception, outcome))
    }

    fn record_exception(
        &self,
        tx: &mut dyn Change,
        exception: ConstraintException,
        outcome: &mut Outcome,
    ) -> Result<()> {
        tx.record_exception(&exception)?;
        outcome.exceptions.push(exception);
        Ok(())
    }

    /// Lets rules hold again that no row breaks any longer.
    pub(super) fn enforce_constraints(
        &self,
        tx: &mut dyn Change,
        exceptions: &[ConstraintException],
        outcome: &mut Outcome,
    ) -> Result<()> {
        for exception in exceptions {
            let Some(table) = self.schema.expected.table(&exception.table) else { continue };
            if tx.count_violations(table, &exception.rule)? > 0 {
                continue;
            }
            tx.enforce(exception)?;
            match &exception.rule {
                Rule::ForeignKey(_) => {}
                Rule::Unique(name) => {
                    if let Some(index) = table.index(name) {
                        tx.create_index(&table.name, index, self.wait)?;
                        // Default rows, which would have come twice.
                        self.rerun(tx, &Created::Rows(table.name.to_string()))?;
                    }
                }
                Rule::NotNull(_)
                | Rule::Type(..)
                | Rule::Default(_)
                | Rule::IntegerKey(_)
                | Rule::PrimaryKey(_) => {
                    let is_done = outcome.rebuilt.iter().any(|(name, _)| *name == *table.name);
                    if !is_done {
                        self.back_up_once(tx, outcome)?;
                        self.rebuild(tx, &table.name, outcome)?;
                    }
                }
            }
            outcome.enforced.push(exception.clone());
        }
        Ok(())
    }
}

/// Whether columns or constraints of the table differ.
fn differs(drift: &Drift, table: &str) -> bool {
    let altered = drift.altered.iter().map(|alteration| &alteration.object);
    let mut differing = altered.chain(&drift.missing).filter(|object| !is_index(object));
    differing.any(|object| object.table() == table)
}

/// The tables, each after those that it refers to.
fn parents_first(catalog: &Catalog) -> Vec<&Table> {
    let mut ordered: Vec<&Table> = Vec::new();
    let mut left: Vec<&Table> = catalog.tables.iter().collect();
    while !left.is_empty() {
        let waits =
            |table: &Table, name: &str| name != table.name && left.iter().any(|t| t.name == name);
        let is_free =
            |table: &&Table| !table.foreign_keys.iter().any(|key| waits(table, &key.table));
        let (free, waiting): (Vec<_>, Vec<_>) = left.iter().copied().partition(is_free);
        // Tables that refer to one another have no order.
        if free.is_empty() {
            ordered.extend(waiting);
            break;
        }
        ordered.extend(free);
        left = waiting;
    }
    ordered
}

/// The error of a database of an older CTS that would still differ.
fn unconvertible(drift: &Drift) -> Error {
    let differences = drift
        .altered
        .iter()
        .map(ToString::to_string)
        .chain(drift.missing.iter().map(|object| format!("{object} is missing")))
        .collect::<Vec<_>>();
    let first = differences.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let what = format!(
        "this database of an older CTS differs in {} places that cts {VERSION} cannot convert: {first}",
        differences.len()
    );
    Error::new(Kind::Data, what)
        .remedy("keep it, start cts on a new file, and copy the rows that you need")
}
