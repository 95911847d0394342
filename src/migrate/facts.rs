//! What a plan needs to know beside the snapshot: obstacles, damage, and facts about the rows of
//! the tables concerned. Gathered from a database that is only read.

use std::collections::{BTreeMap, BTreeSet};

use super::assessment::Assessment;
use super::plan::{tables_to_rebuild, wanted_objects};
use crate::error::{Cause, Error, Kind, Result, StateLeft};
use crate::store::{
    Change, Damage, DamageScope, DatabaseIdentity, Forecast, Inspect, ONLINE_INDEX_ROWS_MAX,
    Obstacle, Snapshot, Unchecked,
};
use cts_schema::catalog::Object;
use cts_schema::constraint_exception::ConstraintException;

/// Facts about one database.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// What is in the way of missing objects.
    pub obstacles: Vec<Obstacle>,
    /// Tables whose missing indexes are built online.
    pub large: BTreeSet<String>,
    /// Tables with rows, of those that miss columns.
    pub filled: BTreeSet<String>,
    /// What rebuilding finds, by table.
    pub forecasts: BTreeMap<String, Forecast>,
    /// Damaged indexes of a database that is not damaged otherwise.
    pub damaged_indexes: Vec<String>,
    /// Tables that could not be checked for damage.
    pub unchecked: Vec<Unchecked>,
    /// Recorded exceptions that no row violates any longer.
    pub enforceable: Vec<ConstraintException>,
}

impl Facts {
    /// The facts that are found in milliseconds, whatever the size of the database.
    ///
    /// # Errors
    /// Where the database cannot be read.
    pub fn without_rows(
        database: &mut dyn Inspect,
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        assessment: &Assessment,
    ) -> Result<Facts> {
        let mut facts = Facts::default();
        if assessment.is_complete() {
            return Ok(facts);
        }
        let wanted = wanted_objects(identity.schema, &assessment.drift);
        facts.obstacles = database.find_obstacles(&wanted)?;
        for object in &assessment.drift.missing {
            let table = object.table();
            match object {
                Object::Table(_) => {}
                Object::Column(..) => {
                    if database.has_more_rows(table, 0)? {
                        facts.filled.insert(table.into());
                    }
                }
                Object::Index(..) => {
                    if identity.backend.builds_indexes_online()
                        && !facts.large.contains(table)
                        && snapshot.catalog.table(table).is_some()
                        && database.has_more_rows(table, ONLINE_INDEX_ROWS_MAX)?
                    {
                        facts.large.insert(table.into());
                    }
                }
            }
        }
        Ok(facts)
    }

    /// All facts that a migration needs.
    ///
    /// # Errors
    /// [`Kind::Data`] where pages are damaged, or a table cannot be rebuilt without a loss; else
    /// where the database cannot be read.
    pub fn gather(
        database: &mut dyn Inspect,
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        assessment: &Assessment,
    ) -> Result<Facts> {
        if assessment.is_complete() {
            return Ok(Facts::default());
        }
        let mut unchecked = Vec::new();
        if !snapshot.catalog.is_empty() {
            let damage = database.find_damage(DamageScope::Pages)?;
            refuse_damage(&damage)?;
            unchecked = damage.unchecked;
        }
        let mut facts = Facts::without_rows(database, identity, snapshot, assessment)?;
        facts.unchecked = unchecked;
        super::plan::refuse_obstacles(snapshot.origin(), &facts.obstacles)?;
        for table in tables_to_rebuild(identity, snapshot, &assessment.drift, &facts) {
            facts.forecasts.insert(table.name.to_string(), database.forecast(table)?);
        }
        Ok(facts)
    }

    /// All facts that a repair needs: also damaged indexes, and the exceptions that can be
    /// enforced.
    ///
    /// # Errors
    /// As [`Facts::gather`]; the transaction has changed nothing.
    pub fn gather_for_repair(
        tx: &mut dyn Change,
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        assessment: &Assessment,
    ) -> Result<Facts> {
        let damage = tx.find_damage(DamageScope::Everything)?;
        if damage.indexes.is_empty() {
            refuse_damage(&damage)?;
        }
        let mut facts = Facts::without_rows(tx, identity, snapshot, assessment)?;
        super::plan::refuse_obstacles(snapshot.origin(), &facts.obstacles)?;
        for table in tables_to_rebuild(identity, snapshot, &assessment.drift, &facts) {
            facts.forecasts.insert(table.name.to_string(), tx.forecast(table)?);
        }
        facts.damaged_indexes = damage.indexes;
        facts.unchecked = damage.unchecked;
        for exception in &snapshot.exceptions {
            let Some(table) = identity.schema.expected.table(&exception.table) else { continue };
            if snapshot.catalog.table(&table.name).is_some()
                && tx.count_violations(table, &exception.rule)? == 0
            {
                facts.enforceable.push(exception.clone());
            }
        }
        Ok(facts)
    }
}

/// Refuses a database with damaged pages.
pub fn refuse_damage(damage: &Damage) -> Result<()> {
    match damage.pages.first() {
        None => Ok(()),
        Some(first) => Err(Error::new(Kind::Data, format!("the database is damaged ({first}) and is not migrated"))
            .caused_by(Cause::Damage)
            .leaving(StateLeft::Unchanged)
            .remedy("stop the trading programs, keep a copy of the file, and restore a backup (`cts --check --deep` tells what is damaged)")),
    }
}
