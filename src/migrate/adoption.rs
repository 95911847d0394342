//! What an adoption needs beside the steps of every plan: whether the unified setup fits the tables,
//! ids for new rows, foreign keys that rows violate, and the proof that nothing differs at the end.

use super::assessment::Assessment;
use super::event::Event;
use super::execute::Execution;
use super::plan::{Plan, is_rebuilt_away};
use crate::error::{Error, Kind, Result};
use crate::store::schema::Schema;
use crate::store::sql::index_columns;
use crate::store::{Change, Snapshot};
use crate::system::version::VERSION;
use cts_schema::catalog::{Drift, Index, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Created;
use cts_schema::sql::definition::contains_name;

impl Execution<'_> {
    /// Lets new rows have ids of their own; a default row whose id was taken was left out before.
    /// Then records the foreign keys that rows violate.
    pub(super) fn finish_adoption(&mut self, tx: &mut dyn Change) -> Result<()> {
        let mut tables = tx.finish_adoption()?;
        let rebuilt = self.events.iter().filter_map(|event| match event {
            Event::Rebuilt { table, .. } => Some(table.clone()),
            _ => None,
        });
        tables.extend(rebuilt);
        tables.sort();
        tables.dedup();
        for table in tables.into_iter().filter(|table| !self.has_shared_keys(table)) {
            self.run_again(tx, &Created::Rows(table))?;
        }
        self.record_orphans(tx)
    }

    fn record_orphans(&mut self, tx: &mut dyn Change) -> Result<()> {
        for table in self.identity.schema.expected.tables.iter() {
            for key in table.foreign_keys.iter() {
                let rule = Rule::ForeignKey(key.table.to_string());
                let rows = tx.count_violations(table, &rule)?;
                let table = table.name.to_string();
                let exception = ConstraintException { table, rule, rows };
                if rows > 0 && !self.exceptions.contains(&exception) {
                    self.record_exception(tx, exception)?;
                }
            }
        }
        Ok(())
    }

    /// What a rebuild has changed in another table is put right; what would still differ is
    /// refused: nothing is adopted by halves.
    pub(super) fn complete_adoption(&mut self, tx: &mut dyn Change) -> Result<Drift> {
        let schema = self.identity.schema;
        for _ in 0..2 {
            let snapshot = tx.inspect()?;
            let drift = self.convertible(snapshot.drift(schema));
            if drift.is_none() {
                return Ok(snapshot.drift(schema));
            }
            let assessment = Assessment { pending: Vec::new(), drift };
            for step in Plan::reshape(self.identity, &snapshot, &assessment) {
                self.execute(tx, &step)?;
            }
        }
        let drift = tx.inspect()?.drift(schema);
        match self.convertible(drift.clone()) {
            left if left.is_none() => Ok(drift),
            left => Err(unconvertible(&left)),
        }
    }

    /// The drift without the indexes that are built after the transaction, and without what no
    /// rebuild takes away: that is reported, and is no reason to refuse the database.
    fn convertible(&self, mut drift: Drift) -> Drift {
        drift.missing.retain(|object| !self.online.contains(object));
        drift.altered.retain(|alteration| is_rebuilt_away(self.identity.backend, alteration));
        drift
    }
}

/// Whether the unified setup can be applied to the tables of an older CTS as they are: the columns
/// that its statements name exist, and no other column needs a value. Otherwise the fallback
/// prepares the ledger.
pub fn unified_setup_fits(schema: &Schema, snapshot: &Snapshot) -> bool {
    let statements = schema.migrations.iter().flat_map(Migration::statements);
    let created: Vec<Created> = statements.map(|statement| statement.creates()).collect();
    let fits = |table: &Table| {
        let Some(found) = snapshot.catalog.table(&table.name) else { return true };
        let has = |name: &str| found.columns.iter().any(|c| c.name == name);
        let is_expected = |name: &str| table.columns.iter().any(|column| column.name == *name);
        let is_written =
            table.name == "migrations" || created.contains(&Created::Rows(table.name.to_string()));
        let needs_value =
            || found.columns.iter().any(|c| !is_expected(&c.name) && c.requires_value());
        let is_named = |name: &str| {
            let mut missing = table.indexes.iter().filter(|i| found.index(&i.name).is_none());
            missing.any(|index| names_column(index, name))
        };
        table.columns.iter().all(|c| has(&c.name) || !is_written && !is_named(&c.name))
            && !(is_written && needs_value())
    };
    schema.expected.tables.iter().all(fits)
}

/// Whether an index is over a column, or its predicate names it.
fn names_column(index: &Index, column: &str) -> bool {
    index_columns(index).any(|name| name == column)
        || index.predicate.as_deref().is_some_and(|sql| contains_name(sql, column))
}

/// The error of the database of an older CTS that would still differ.
fn unconvertible(drift: &Drift) -> Error {
    let missing = drift.missing.iter().map(|object| format!("{object} is missing"));
    let differences: Vec<String> =
        drift.altered.iter().map(ToString::to_string).chain(missing).collect();
    let first = differences.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    let what = format!(
        "this database of an older CTS differs in {} places that cts {VERSION} cannot convert: {first}",
        differences.len()
    );
    Error::new(Kind::Data, what)
        .remedy("keep it, start cts on a new file, and copy the rows that you need")
}
