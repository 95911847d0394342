//! What rebuilding a table of an older CTS changes: the columns that get another type, the
//! constraints that stay and those that are dropped. Decisions only; `rebuild` carries them out.

use super::constraint::{Constraint, ConstraintKind};
use super::existing_table::{ExistingTable, ReferencingKey, has_column};
use super::session::Session;
use super::violations;
use crate::error::Result;
use crate::store::sql::{index_columns, quoted, table_with_exceptions};
use cts_schema::catalog::{Column, ForeignKey, Index, Table, Text};
use cts_schema::constraint_exception::ConstraintException;
use cts_schema::sql::definition::contains_name;

/// What a table is to become.
pub struct RebuildPlan<'e> {
    /// The table as it is.
    pub old: ExistingTable,
    /// The table of the schema.
    pub expected: &'e Table,
    /// The same without the rules that its rows violate.
    pub target: Table,
    /// Its number of rows.
    pub rows: u64,
    /// The rules of its columns that its rows violate.
    pub exceptions: Vec<ConstraintException>,
}

impl<'e> RebuildPlan<'e> {
    /// Reads the table, counts the violations of its columns' rules, and plans the rebuild.
    ///
    /// # Errors
    /// If a query fails, or `Kind::Data` if the table cannot be rebuilt without losing or breaking
    /// something. Nothing is changed; where a query failed, an open transaction is aborted.
    pub fn make(session: &mut Session, expected: &'e Table) -> Result<RebuildPlan<'e>> {
        let old = ExistingTable::read(session, expected)?;
        let found = violations::of_columns(session, &old, expected)?;
        let target = table_with_exceptions(expected, &found.exceptions);
        let plan =
            RebuildPlan { old, expected, target, rows: found.rows, exceptions: found.exceptions };
        plan.refuse(session)?;
        Ok(plan)
    }

    /// The existing columns that get another type, as they are to be.
    pub fn converted(&self) -> impl Iterator<Item = &Column> {
        self.target.columns.iter().filter(|column| self.is_converted(&column.name))
    }

    /// Whether a column exists and gets another type.
    pub fn is_converted(&self, name: &str) -> bool {
        let target = self.target.columns.iter().find(|column| column.name == *name);
        let old = self.old.column(name);
        // An attribute is a collation, which goes with the type.
        target.zip(old).is_some_and(|(target, old)| {
            target.data_type != old.data_type || target.attributes != old.attributes
        })
    }

    /// The columns of an index after the rebuild, as SQL expressions over the table as it is.
    pub fn index_values(&self, index: &Index) -> Vec<String> {
        let value = |name: &str| match self.converted().find(|column| column.name == *name) {
            Some(column) => format!("({})", self.old.conversion(name, &column.data_type).value),
            None => quoted(name),
        };
        index_columns(index).map(value).collect()
    }

    /// The columns of the primary key, in order.
    pub fn primary_key(&self) -> Vec<&Text> {
        let mut key: Vec<&Column> =
            self.target.columns.iter().filter(|c| c.primary_key_position > 0).collect();
        key.sort_by_key(|column| column.primary_key_position);
        key.into_iter().map(|column| &column.name).collect()
    }

    /// Whether a constraint of the table stays.
    pub fn keeps(&self, constraint: &Constraint) -> bool {
        match constraint.kind {
            ConstraintKind::PrimaryKey => {
                constraint.columns.iter().collect::<Vec<_>>() == self.primary_key()
            }
            ConstraintKind::ForeignKey if self.is_of_added_columns(constraint) => true,
            ConstraintKind::ForeignKey => {
                let keys = constraint.foreign_keys();
                keys.len() == 1
                    && keys.iter().all(|key| self.target.foreign_keys.contains(key))
                    && !constraint.columns.iter().any(|name| self.is_converted(name))
            }
            _ => self.is_of_added_columns(constraint),
        }
    }

    /// Whether the table has an expected foreign key, and keeps it.
    pub fn keeps_foreign_key(&self, key: &ForeignKey) -> bool {
        let mut constraints = self.old.constraints.iter();
        constraints
            .any(|constraint| constraint.foreign_keys().contains(key) && self.keeps(constraint))
    }

    /// Whether a constraint concerns columns that somebody has added to the table.
    fn is_of_added_columns(&self, constraint: &Constraint) -> bool {
        match constraint.kind {
            ConstraintKind::Unique | ConstraintKind::ForeignKey => {
                constraint.columns.iter().all(|name| !has_column(self.expected, name))
            }
            ConstraintKind::Check => {
                let mut added = self.old.added_columns(self.expected);
                let names = |column: &Column| {
                    let condition = constraint.condition.as_deref();
                    condition.is_some_and(|sql| contains_name(sql, &column.name))
                };
                added.any(names)
            }
            ConstraintKind::PrimaryKey => false,
            ConstraintKind::Exclusion | ConstraintKind::NotNull | ConstraintKind::Other => true,
        }
    }

    /// The foreign keys that have to be dropped because they reference a key that is dropped or a
    /// column that gets another type. Foreign keys of the table itself that [`Self::keeps`] drops
    /// are not among them.
    pub fn referencing_keys_to_drop(&self) -> impl Iterator<Item = &ReferencingKey> {
        self.old.referencing.iter().filter(|key| {
            (self.drops_index(key.constraint.index_oid) || self.converts_parent_of(key))
                && !self.drops_own(key)
        })
    }

    fn drops_index(&self, oid: u32) -> bool {
        let mut constraints = self.old.constraints.iter();
        constraints.any(|constraint| constraint.index_oid == oid && !self.keeps(constraint))
    }

    /// Whether a column that a foreign key references gets a type that the key does not survive.
    fn converts_parent_of(&self, key: &ReferencingKey) -> bool {
        let is_lost = |column: &Column| {
            key.is_ours || !self.old.source_type(&column.name).compares_with(&column.data_type)
        };
        let mut converted =
            self.converted().filter(|column| key.constraint.parent_columns.contains(&column.name));
        converted.any(is_lost)
    }

    /// Whether a foreign key is one of the table itself, and dropped with its other constraints.
    fn drops_own(&self, key: &ReferencingKey) -> bool {
        let mut constraints = self.old.constraints.iter();
        key.is_own
            && constraints
                .any(|constraint| constraint.name == key.constraint.name && !self.keeps(constraint))
    }

    /// The constraints of the table that no longer hold after the rebuild, each with the table.
    pub fn dropped(&self) -> Vec<String> {
        let mut kept = self.expected.clone();
        let mut dropped = Vec::new();
        for constraint in &self.old.constraints {
            if self.is_of_added_columns(constraint) {
                constraint.add_to(&mut kept);
            } else if constraint.kind == ConstraintKind::PrimaryKey && !self.keeps(constraint) {
                dropped.push(format!("PRIMARY KEY ({})", constraint.columns.join(", ")));
            }
        }
        dropped.extend(self.old.table.constraints_not_in(&kept));
        let table = &self.expected.name;
        dropped.into_iter().map(|rule| format!("{rule} on table {table}")).collect()
    }

    /// The foreign keys of other tables that no longer hold after the rebuild.
    pub fn dropped_elsewhere(&self) -> impl Iterator<Item = String> {
        let dropped = self.referencing_keys_to_drop().filter(|key| !key.is_expected);
        dropped.map(|ReferencingKey { constraint, .. }| {
            let keys = constraint.foreign_keys();
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            format!("{} on table {}", keys.join(", "), constraint.table)
        })
    }
}

/// Whether an index uses a column, as a key or in its condition.
pub fn uses_column(index: &Index, column: &str) -> bool {
    index_columns(index).any(|name| name == column)
        || index.predicate.as_ref().is_some_and(|sql| contains_name(sql, column))
}
