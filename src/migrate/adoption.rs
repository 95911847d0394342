//! The end of an adoption: ids for new rows, foreign keys that rows violate, and the proof that
//! nothing differs any longer.

use super::assessment::Assessment;
use super::event::Event;
use super::execute::Execution;
use super::plan::Plan;
use crate::error::{Error, Kind, Result};
use crate::store::Change;
use crate::system::version::VERSION;
use cts_schema::catalog::Drift;
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::sql::Created;

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
            let drift = self.without_online(snapshot.drift(schema));
            if drift.is_none() {
                return Ok(snapshot.drift(schema));
            }
            let assessment = Assessment { pending: Vec::new(), drift };
            for step in Plan::reshape(self.identity, &snapshot, &assessment) {
                self.execute(tx, &step)?;
            }
        }
        let drift = tx.inspect()?.drift(schema);
        match self.without_online(drift.clone()) {
            left if left.is_none() => Ok(drift),
            left => Err(unconvertible(&left)),
        }
    }

    fn without_online(&self, mut drift: Drift) -> Drift {
        drift.missing.retain(|object| !self.online.contains(object));
        drift
    }
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
