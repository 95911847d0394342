//! Refuses a target that has rows. Those that every new database of cts has are none of anybody's: the ledger, the default
//! settings as the migrations write them, and the log lines of cts.

use std::collections::BTreeSet;

use crate::error::{Error, Kind, Result};
use crate::store::retention::RECORD_KEYS;
use crate::store::sql::{LEDGER_TABLE, literal};
use crate::store::{
    Backend, CopiedColumn, CopiedTable, CopyTarget, DatabaseIdentity, Field, OpenDatabase, Origin,
    Value, ValueType,
};
use cts_schema::sql::{Created, fold};

/// The tables that have rows in a new database.
const SETTINGS: &str = "system_settings";
const LOG: &str = "site_logs";
/// The category of the log lines of cts.
const OWN_CATEGORY: &str = "database";

/// Refuses a target with rows of somebody.
///
/// # Errors
/// [`Kind::Data`], with the table; or where it cannot be read.
pub fn refuse_rows(target: &mut dyn CopyTarget, identity: &DatabaseIdentity) -> Result<()> {
    let snapshot = target.inspect()?;
    let tables: BTreeSet<String> =
        snapshot.catalog.tables.iter().map(|table| table.name.to_string()).collect();
    for table in tables.iter().filter(|table| *table != LEDGER_TABLE) {
        if !target.has_more_rows(table, 0)? {
            continue;
        }
        let is_new = snapshot.origin() == Origin::Ours
            && match table.as_str() {
                SETTINGS => has_default_settings(target, identity)?,
                LOG => has_own_lines(target)?,
                _ => false,
            };
        if !is_new {
            return Err(occupied(identity, table));
        }
    }
    Ok(())
}

/// Refuses a target with rows of somebody, as far as that shows without a transaction: default settings and log lines
/// are not told from others.
///
/// # Errors
/// As [`refuse_rows`].
pub fn refuse_rows_beforehand(
    target: &mut dyn OpenDatabase,
    identity: &DatabaseIdentity,
) -> Result<()> {
    for table in target.inspect()?.catalog.tables.iter() {
        let may_be_new = [LEDGER_TABLE, SETTINGS, LOG].contains(&&*table.name);
        if !may_be_new && target.has_more_rows(&table.name, 0)? {
            return Err(occupied(identity, &table.name).at(&identity.location));
        }
    }
    Ok(())
}

fn occupied(identity: &DatabaseIdentity, table: &str) -> Error {
    let remedy = match identity.backend {
        Backend::Sqlite => "name a path where no database is",
        Backend::Postgresql => {
            "name another database or schema in the URL; to replace this copy by a new one, drop its schema first, or keep it under another name (`ALTER SCHEMA … RENAME TO …`)"
        }
    };
    let what = format!("table {table} has rows, and a copy is made into a database without rows");
    Error::new(Kind::Data, what).remedy(remedy)
}

/// Whether the settings are those that the migrations write.
fn has_default_settings(target: &mut dyn CopyTarget, identity: &DatabaseIdentity) -> Result<bool> {
    let migrations = identity.schema.migrations.iter();
    let statements = migrations.flat_map(|migration| migration.statements());
    let inserts = statements
        .filter(|statement| statement.creates() == Created::Rows(SETTINGS.into()))
        .map(|statement| fold(statement.sql));
    let defaults = inserts.collect::<Vec<_>>().join(" ");
    all_rows(target, SETTINGS, ["key", "value"], &mut |key, value| {
        RECORD_KEYS.contains(&key)
            || defaults.contains(&format!("({}, {},", literal(key), literal(value)))
    })
}

/// Whether all log lines are those of cts.
fn has_own_lines(target: &mut dyn CopyTarget) -> Result<bool> {
    all_rows(target, LOG, ["category", "level"], &mut |category, _| category == OWN_CATEGORY)
}

/// Whether the values of two columns are as they should be in every row.
fn all_rows(
    target: &mut dyn CopyTarget,
    table: &str,
    columns: [&str; 2],
    is_as_expected: &mut dyn FnMut(&str, &str) -> bool,
) -> Result<bool> {
    let column = |name: &str| CopiedColumn {
        name: name.into(),
        value_type: ValueType::Text,
        is_extra: false,
    };
    let table = CopiedTable {
        name: table.into(),
        columns: columns.map(column).into(),
        key: vec!["id".into()],
        is_extra: false,
    };
    let mut all = true;
    target.read_rows(&table, &mut |row: &[Field<'_>]| {
        all = all
            && match row {
                [Ok(Value::Text(one)), Ok(Value::Text(other))] => is_as_expected(one, other),
                _ => false,
            };
        Ok(())
    })?;
    Ok(all)
}
