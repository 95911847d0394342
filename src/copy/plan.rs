//! What is copied: the tables of cts with their columns, those of the owner where they are asked for, and the constraint
//! exceptions as the target has them. Decided from the catalogue of the source.

use std::collections::BTreeMap;

use super::extra_names::refuse_names;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::migrate::assessment::Assessment;
use crate::store::sql::LEDGER_TABLE;
use crate::store::{
    Backend, CopiedColumn, CopiedTable, CopySource, DatabaseIdentity, Origin, Snapshot, ValueType,
};
use cts_schema::catalog::{Catalog, Column, Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// What a copy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// The tables, in the order in which they are copied.
    pub tables: Vec<CopiedTable>,
    /// The rules that the target does not enforce either, because rows of the source violate them.
    pub exceptions: Vec<ConstraintException>,
    /// What of the source's own objects is not copied, as words: `column users.note`.
    pub left_out: Vec<String>,
}

/// Plans the copy of a database.
///
/// # Errors
/// [`Kind::Data`] where the source is not a database of this cts, as it should be; or where it cannot be read.
pub fn plan(
    source: &mut dyn CopySource,
    from: &DatabaseIdentity,
    to: &DatabaseIdentity,
    with_extra: bool,
) -> Result<CopyPlan> {
    let snapshot = source.inspect()?;
    refuse_incomplete(from, &snapshot)
        .map_err(|error| error.at(&from.location).leaving(StateLeft::Unchanged))?;
    let mut planner = CopyPlanner {
        source,
        snapshot: &snapshot,
        value_types: if from.backend == Backend::Postgresql { from } else { to }.schema.expected,
        to,
        replaced_types: BTreeMap::new(),
    };
    let exceptions = planner.exceptions()?;
    let mut tables = planner.own_tables()?;
    let mut left_out = planner.extra_indexes(from);
    planner.add_extra_columns(from, with_extra, &mut tables, &mut left_out)?;
    planner.add_extra_tables(with_extra, &mut tables, &mut left_out)?;
    refuse_names(to.backend, &tables)
        .map_err(|error| error.at(&from.location).leaving(StateLeft::Unchanged))?;
    Ok(CopyPlan { tables, exceptions, left_out })
}

/// Refuses a source that is not up to date, or of which something is missing.
fn refuse_incomplete(from: &DatabaseIdentity, snapshot: &Snapshot) -> Result<()> {
    let refused = |what: String, remedy: &str| Err(Error::new(Kind::Data, what).remedy(remedy));
    match snapshot.origin() {
        Origin::Empty => return Err(from.absent_error()),
        Origin::OlderCts => {
            let what = "an older CTS made this database, and cts has not adopted it yet";
            return refused(what.into(), "cts migrate");
        }
        Origin::Ours => {}
    }
    let assessment = Assessment::of(from.schema, snapshot)?;
    if let Some(migration) = assessment.pending.first() {
        return refused(format!("the migration {} is pending", migration.name), "cts migrate");
    }
    let is_needed = |object: &&Object| !matches!(object, Object::Index(..));
    if let Some(object) = assessment.drift.missing.iter().find(is_needed) {
        return refused(format!("{object} is missing"), "put it back with `cts repair`");
    }
    Ok(())
}

struct CopyPlanner<'p> {
    source: &'p mut dyn CopySource,
    snapshot: &'p Snapshot,
    /// The expected catalogue of PostgreSQL, whose types say what a column holds.
    value_types: &'static Catalog,
    to: &'p DatabaseIdentity,
    /// What the columns hold that do not have their expected type in the source, by table and column.
    replaced_types: BTreeMap<(String, String), ValueType>,
}

impl CopyPlanner<'_> {
    /// The exceptions as the target has them. Notes the columns that have another type.
    fn exceptions(&mut self) -> Result<Vec<ConstraintException>> {
        let mut kept = Vec::new();
        for exception in &self.snapshot.exceptions {
            let place = |column: &String| (exception.table.clone(), column.clone());
            let rule = match &exception.rule {
                Rule::Type(name, data_type) => {
                    let value_type = self.type_of(&exception.table, name, data_type)?;
                    self.replaced_types.insert(place(name), value_type);
                    let there = value_type.data_type(self.to.backend);
                    match self.has_type_in_target(&exception.table, name, there) {
                        true => continue,
                        false => Rule::Type(name.clone(), there.into()),
                    }
                }
                Rule::IntegerKey(name) => {
                    self.replaced_types.insert(place(name), ValueType::Text);
                    exception.rule.clone()
                }
                // The target decides by the type whether a default is possible.
                Rule::Default(_) => continue,
                other => other.clone(),
            };
            kept.push(ConstraintException { rule, ..exception.clone() });
        }
        Ok(kept)
    }

    /// What a column holds that keeps a type of its own.
    fn type_of(&mut self, table: &str, name: &str, data_type: &str) -> Result<ValueType> {
        let column = Column {
            name: name.to_string().into(),
            data_type: data_type.to_string().into(),
            not_null: false,
            default: None,
            primary_key_position: 0,
            attributes: Vec::new().into(),
        };
        self.source.value_type(table, &column)
    }

    fn has_type_in_target(&self, table: &str, name: &str, data_type: &str) -> bool {
        let expected = self.to.schema.expected.table(table);
        let mut columns = expected.into_iter().flat_map(|table| table.columns.iter());
        columns.any(|column| column.name == *name && column.data_type == *data_type)
    }

    /// The tables of the schema. Those that others refer to come first, as far as that matters to nobody: foreign keys are
    /// checked after the rows.
    fn own_tables(&mut self) -> Result<Vec<CopiedTable>> {
        let mut tables = Vec::new();
        for expected in self.value_types.tables.iter() {
            let found = self.snapshot.catalog.table(&expected.name);
            let is_copied = |column: &&Column| expected.name != LEDGER_TABLE || column.name != "id";
            let columns = expected.columns.iter().filter(is_copied).map(|column| {
                let place = (expected.name.to_string(), column.name.to_string());
                let replaced = self.replaced_types.get(&place).copied();
                CopiedColumn {
                    name: place.1,
                    value_type: replaced.unwrap_or_else(|| value_type(&column.data_type)),
                    is_extra: false,
                }
            });
            tables.push(CopiedTable {
                name: expected.name.to_string(),
                columns: columns.collect(),
                key: found.map(key_columns).unwrap_or_default(),
                is_extra: false,
            });
        }
        Ok(tables)
    }

    /// The indexes of the owner on tables of cts, which are not copied.
    fn extra_indexes(&self, from: &DatabaseIdentity) -> Vec<String> {
        let drift = self.snapshot.drift(from.schema);
        let indexes = drift.extra.iter().filter(|object| matches!(object, Object::Index(..)));
        indexes.map(ToString::to_string).collect()
    }

    fn add_extra_columns(
        &mut self,
        from: &DatabaseIdentity,
        with_extra: bool,
        tables: &mut [CopiedTable],
        left_out: &mut Vec<String>,
    ) -> Result<()> {
        for object in self.snapshot.drift(from.schema).extra {
            let Object::Column(table, name) = &object else { continue };
            let found = self.snapshot.catalog.table(table);
            let mut columns = found.into_iter().flat_map(|found| found.columns.iter());
            let Some(column) = columns.find(|column| column.name == *name) else { continue };
            let copied = tables.iter_mut().find(|copied| copied.name == *table);
            match copied.filter(|_| with_extra && !column.is_generated()) {
                Some(copied) => {
                    let value_type = self.source.value_type(table, column)?;
                    let name = name.clone();
                    copied.columns.push(CopiedColumn { name, value_type, is_extra: true });
                }
                None => left_out.push(object.to_string()),
            }
        }
        Ok(())
    }

    fn add_extra_tables(
        &mut self,
        with_extra: bool,
        tables: &mut Vec<CopiedTable>,
        left_out: &mut Vec<String>,
    ) -> Result<()> {
        for name in self.source.other_tables()? {
            if !with_extra {
                left_out.push(format!("table {name}"));
                continue;
            }
            let table = self.source.other_table(&name)?;
            let mut columns = Vec::new();
            for column in table.columns.iter() {
                if column.is_generated() {
                    left_out.push(format!("column {name}.{}", column.name));
                    continue;
                }
                let value_type = self.source.value_type(&name, column)?;
                let name = column.name.to_string();
                columns.push(CopiedColumn { name, value_type, is_extra: true });
            }
            let key = key_columns(&table);
            tables.push(CopiedTable { name, columns, key, is_extra: true });
        }
        Ok(())
    }
}

/// The columns of the primary key, in its order.
fn key_columns(table: &Table) -> Vec<String> {
    let mut keys: Vec<&Column> =
        table.columns.iter().filter(|column| column.primary_key_position > 0).collect();
    keys.sort_by_key(|column| column.primary_key_position);
    keys.iter().map(|column| column.name.to_string()).collect()
}

/// What a column of this type of the PostgreSQL schema holds.
fn value_type(data_type: &str) -> ValueType {
    match data_type {
        "BIGINT" => ValueType::Integer,
        "INTEGER" => ValueType::ShortInteger,
        "BOOLEAN" => ValueType::Boolean,
        "DOUBLE PRECISION" => ValueType::Real,
        "TIMESTAMPTZ" => ValueType::Time,
        "DATE" => ValueType::Day,
        _ => ValueType::Text,
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use super::*;
    use crate::store::schema::POSTGRES;

    #[test]
    fn every_type_of_the_schema_is_known() {
        for column in POSTGRES.expected.tables.iter().flat_map(|table| table.columns.iter()) {
            let known = value_type(&column.data_type).data_type(Backend::Postgresql);
            assert_eq!(known, column.data_type, "{}", column.name);
        }
    }
}
