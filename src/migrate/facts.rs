//! What a plan needs to know beside the snapshot: obstacles, damage, and facts about the rows of
//! the tables concerned. Gathered from a database that is only read.

use std::collections::{BTreeMap, BTreeSet};

use super::assessment::Assessment;
use super::plan::{missing_columns, tables_to_rebuild, wanted_objects};
use crate::error::{Cause, Error, Kind, Result, StateLeft};
use crate::store::{
    Change, Damage, DamageScope, DatabaseIdentity, Forecast, Inspect, ONLINE_INDEX_ROWS_MAX,
    Obstacle, Origin, Snapshot, Unchecked,
};
use cts_schema::catalog::{Drift, Object};
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
        let mut wanted = wanted_objects(identity.schema, &assessment.drift);
        let is_column = |object: &&Object| matches!(object, Object::Column(..));
        wanted.extend(assessment.drift.missing.iter().filter(is_column).cloned());
        facts.obstacles = database.find_obstacles(&wanted)?;
        for object in &assessment.drift.missing {
            // The rows of a table of another role may not be readable.
            if facts.obstacle(object).is_some() {
                continue;
            }
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

    /// What is in the way of a missing object.
    pub fn obstacle(&self, object: &Object) -> Option<&Error> {
        let found = self.obstacles.iter().find(|obstacle| obstacle.object == *object);
        found.map(|obstacle| &obstacle.error)
    }

    /// Adds what rebuilding the tables finds. In a database of ours, a table that cannot be rebuilt is an
    /// obstacle of the columns that are missing in it.
    fn forecast(
        &mut self,
        database: &mut dyn Inspect,
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        drift: &Drift,
    ) -> Result<()> {
        for table in tables_to_rebuild(identity, snapshot, drift, self) {
            match database.forecast(table) {
                Ok(forecast) => {
                    self.forecasts.insert(table.name.to_string(), forecast);
                }
                Err(error) if snapshot.origin() == Origin::Ours && is_of_object(&error) => {
                    let columns = missing_columns(drift, &table.name).cloned();
                    let obstacle = |object| Obstacle { object, error: error.clone() };
                    self.obstacles.extend(columns.map(obstacle));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All facts that a migration needs. `refused` are obstacles that were met before.
    ///
    /// # Errors
    /// [`Kind::Data`] where pages are damaged, or a table of an older CTS cannot be rebuilt without a
    /// loss; else where the database cannot be read.
    pub fn gather(
        database: &mut dyn Inspect,
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        assessment: &Assessment,
        refused: &[Obstacle],
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
        facts.obstacles.extend_from_slice(refused);
        super::plan::refuse_obstacles(snapshot.origin(), &facts.obstacles)?;
        facts.forecast(database, identity, snapshot, &assessment.drift)?;
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
        refused: &[Obstacle],
    ) -> Result<Facts> {
        let damage = tx.find_damage(DamageScope::Everything)?;
        if damage.indexes.is_empty() {
            refuse_damage(&damage)?;
        }
        let mut facts = Facts::without_rows(tx, identity, snapshot, assessment)?;
        facts.obstacles.extend_from_slice(refused);
        super::plan::refuse_obstacles(snapshot.origin(), &facts.obstacles)?;
        facts.forecast(tx, identity, snapshot, &assessment.drift)?;
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

/// Whether an error concerns the object that was worked on, and not the database as a whole: it is refused,
/// not permitted, or there is no room for it.
pub fn is_of_object(error: &Error) -> bool {
    let is_refusal = matches!(error.kind, Kind::Data | Kind::Permission) && !error.is_damage();
    is_refusal || error.is_disk_full()
}

/// Refuses a database with damaged pages.
pub fn refuse_damage(damage: &Damage) -> Result<()> {
    match damage.pages.first() {
        None => Ok(()),
        Some(first) => Err(Error::new(Kind::Data, format!("the database is damaged ({first}) and is not migrated"))
            .caused_by(Cause::Damage)
            .leaving(StateLeft::Unchanged)
            .remedy("stop the trading programs, keep a copy of the file, its -wal and its -shm, move these two away, and restore a backup (`cts --check --deep` tells what is damaged)")),
    }
}
