//! The one decision: a snapshot, the expected catalogue and facts about the rows in, the steps out.
//! A dry run prints them, a run executes them. Pure; no database is known here.

#[cfg(test)]
mod tests;

use super::assessment::Assessment;
use super::facts::Facts;
use super::planner::Planner;
use super::step::{Action, Step};
use crate::error::{Error, Kind, Result};
use crate::store::schema::Schema;
use crate::store::{Backend, DatabaseIdentity, Obstacle, Origin, Snapshot};
use cts_schema::catalog::attribute::UNLOGGED;
use cts_schema::catalog::{Alteration, Aspect, Catalog, Column, Drift, Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// The reason of a step that gives the database of an older CTS the expected schema.
pub const ADOPTED: &str = "an older CTS made the database";

/// What is to be done, in order.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the content of the database comes from.
    pub origin: Origin,
    /// The steps.
    pub steps: Vec<Step>,
    /// Differences from the expected catalogue that stay as they are.
    pub unchanged: Vec<Alteration>,
}

impl Plan {
    /// Decides what is to be done.
    ///
    /// # Errors
    /// With what is in the way of an object, where the database can only be created or adopted as
    /// a whole.
    pub fn decide(
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        assessment: &Assessment,
        facts: &Facts,
    ) -> Result<Plan> {
        let origin = snapshot.origin();
        refuse_obstacles(origin, &facts.obstacles)?;
        refuse_shared_parents(identity.schema, facts)?;
        let mut planner = Planner::new(identity, snapshot, assessment, facts);
        planner.reindex();
        match origin {
            Origin::Empty => planner.apply_pending(),
            Origin::OlderCts => planner.adopt(),
            Origin::Ours => planner.restore_and_apply(),
        }
        planner.enforce();
        let steps = planner.steps;
        let is_rebuilt = |table: &str| {
            steps
                .iter()
                .any(|step| matches!(&step.action, Action::RebuildTable(r) if r.table == table))
        };
        let altered = assessment.drift.altered.iter();
        let unchanged = match origin {
            Origin::OlderCts => Vec::new(),
            _ => altered.filter(|a| !is_rebuilt(a.object.table())).cloned().collect(),
        };
        Ok(Plan { origin, steps, unchanged })
    }

    /// The steps that give tables the expected shape: the ones of an adoption, without its
    /// migrations. For what the steps of an adoption have changed themselves.
    pub fn reshape(
        identity: &DatabaseIdentity,
        snapshot: &Snapshot,
        assessment: &Assessment,
    ) -> Vec<Step> {
        let facts = &Facts::default();
        let mut planner = Planner::new(identity, snapshot, assessment, facts);
        planner.reshape();
        planner.steps
    }
}

/// Refuses obstacles that a plan cannot leave out.
pub fn refuse_obstacles(origin: Origin, obstacles: &[Obstacle]) -> Result<()> {
    match obstacles.first() {
        Some(obstacle) if origin != Origin::Ours => Err(obstacle.error.clone()),
        _ => Ok(()),
    }
}

/// Keys that rows share can be kept, but nothing can refer to them.
fn refuse_shared_parents(schema: &Schema, facts: &Facts) -> Result<()> {
    let exceptions = facts.forecasts.values().flat_map(|forecast| &forecast.exceptions);
    for ConstraintException { table, rule, rows } in exceptions {
        let Rule::PrimaryKey(column) = rule else { continue };
        let mut keys = schema.expected.tables.iter().flat_map(|t| t.foreign_keys.iter());
        if keys.any(|key| key.table == *table && key.references == *column) {
            let what = format!(
                "{rows} rows of table {table} share their {column} or have none, and other tables refer to it"
            );
            return Err(Error::new(Kind::Data, what).remedy("give each of these rows its own"));
        }
    }
    Ok(())
}

/// The tables and indexes that are missing, those of missing tables included.
pub fn wanted_objects(schema: &Schema, drift: &Drift) -> Vec<Object> {
    let mut wanted = Vec::new();
    for object in &drift.missing {
        match object {
            Object::Table(name) => {
                wanted.push(object.clone());
                let table = schema.expected.table(name);
                let indexes = table.into_iter().flat_map(|table| table.indexes.iter());
                wanted.extend(indexes.map(|i| Object::Index(name.clone(), i.name.to_string())));
            }
            Object::Index(..) => wanted.push(object.clone()),
            Object::Column(..) => {}
        }
    }
    wanted
}

/// The tables that have to be rebuilt: in the database of an older CTS those that differ, in one of
/// ours those with a missing column that cannot be added.
pub fn tables_to_rebuild<'s>(
    identity: &'s DatabaseIdentity,
    snapshot: &Snapshot,
    drift: &Drift,
    facts: &Facts,
) -> Vec<&'s Table> {
    let is_adoption = snapshot.origin() == Origin::OlderCts;
    let mut tables = Vec::new();
    for table in parents_first(identity.schema.expected) {
        let Some(found) = snapshot.catalog.table(&table.name) else { continue };
        let has_rows = facts.filled.contains(&*table.name);
        let is_blocked =
            missing_columns(drift, &table.name).any(|column| facts.obstacle(column).is_some());
        let cannot_add = |column: &&Column| {
            !is_blocked
                && is_missing_column(drift, table, column)
                && !identity.backend.can_add_column(found, column, has_rows)
        };
        if is_adoption && differs(identity.backend, drift, &table.name)
            || !is_adoption
                && !snapshot.has_accepted(&table.name)
                && table.columns.iter().any(|column| cannot_add(&column))
        {
            tables.push(table);
        }
    }
    tables
}

/// The columns that are missing in a table.
pub fn missing_columns<'d>(drift: &'d Drift, table: &'d str) -> impl Iterator<Item = &'d Object> {
    let of_it = move |object: &&Object| matches!(object, Object::Column(of, _) if of == table);
    drift.missing.iter().filter(of_it)
}

fn is_missing_column(drift: &Drift, table: &Table, column: &Column) -> bool {
    drift.missing.contains(&Object::Column(table.name.to_string(), column.name.to_string()))
}

/// Whether the table differs in what a rebuild changes.
pub fn differs(backend: Backend, drift: &Drift, table: &str) -> bool {
    let altered = drift.altered.iter().filter(|alteration| is_rebuilt_away(backend, alteration));
    let mut differing = altered.map(|alteration| &alteration.object).chain(&drift.missing);
    differing.any(|object| object.table() == table && !is_index(object))
}

/// Whether a rebuild of its table takes a difference away. On SQLite it makes a new table; on
/// PostgreSQL, which alters the table in place, it keeps what its owner has made of it.
pub fn is_rebuilt_away(backend: Backend, alteration: &Alteration) -> bool {
    backend == Backend::Sqlite
        || alteration.aspect != Aspect::Attribute
        || alteration.found == UNLOGGED
}

/// Whether the object is an index.
pub fn is_index(object: &Object) -> bool {
    matches!(object, Object::Index(..))
}

/// The tables, each after those that it refers to.
pub fn parents_first(catalog: &Catalog) -> Vec<&Table> {
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
