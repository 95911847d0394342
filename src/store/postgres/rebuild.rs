//! Converts a table of an older CTS to the expected definition in place, by `ALTER TABLE`, and keeps
//! every row. Everything comes from the catalogue and from the table itself; no table is known by
//! name. Columns that somebody has added stay, with their constraints, indexes and triggers.

use super::constraint::ConstraintKind;
use super::damage::count_orphans;
use super::index;
use super::rebuild_plan::RebuildPlan;
use super::sequences;
use super::session::Session;
use super::violations;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::quoted;
use crate::store::{Forecast, Progress, Rebuilt};
use cts_schema::catalog::attribute::UNLOGGED;
use cts_schema::catalog::{Column, ForeignKey, Index, Object, Table};
use cts_schema::constraint_exception::RANDOM_ID_TEXT;
use cts_schema::sql::Created;
use cts_schema::sql::ddl::IDENTITY;

/// [`RANDOM_ID_TEXT`] as the default of a text column.
const RANDOM_ID_EXPRESSION: &str = "floor(random() * 9007199254740991)::bigint::text";

/// The statement that adds a column to a table, given as SQL. In existing rows a value that nobody
/// knows, such as the time when a row was created, stays NULL.
fn add_column_sql(table: &str, column: &Column) -> String {
    let name = quoted(&column.name);
    let data_type = &column.data_type;
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    match &column.default {
        None => format!("ALTER TABLE {table} ADD COLUMN {name} {data_type}{not_null}"),
        Some(sql) if sql.contains("CURRENT_TIMESTAMP") && !column.not_null => format!(
            "ALTER TABLE {table} ADD COLUMN {name} {data_type}; ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {sql}"
        ),
        Some(sql) if sql.starts_with("GENERATED") => {
            format!("ALTER TABLE {table} ADD COLUMN {name} {data_type} {sql}")
        }
        Some(sql) => {
            format!("ALTER TABLE {table} ADD COLUMN {name} {data_type} DEFAULT {sql}{not_null}")
        }
    }
}

/// The statements that add a column with its primary key and foreign keys.
pub fn add_column_with_keys_sql(session: &Session, table: &str, column: &Column) -> String {
    let name = session.qualified(table);
    let mut sql = add_column_sql(&name, column);
    if column.primary_key_position > 0 {
        sql += &format!("; ALTER TABLE {name} ADD PRIMARY KEY ({})", quoted(&column.name));
    }
    let keys = POSTGRES.expected.table(table).map(|table| table.foreign_keys.iter());
    for key in keys.into_iter().flatten().filter(|key| key.column == column.name) {
        sql += &format!("; {}", add_foreign_key_sql(session, table, key, true));
    }
    sql
}

/// The statement that adds a foreign key; one that is not valid is checked for new rows only.
pub fn add_foreign_key_sql(
    session: &Session,
    table: &str,
    key: &ForeignKey,
    is_valid: bool,
) -> String {
    format!(
        "ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {}{}",
        session.qualified(table),
        quoted(&key.column),
        session.qualified(&key.table),
        quoted(&key.references),
        key.on_delete,
        if is_valid { "" } else { " NOT VALID" }
    )
}

/// What [`rebuild`] would find: the rows of the table, and the rules that they violate, as far as
/// can be determined without changing anything.
///
/// # Errors
/// As [`RebuildPlan::make`].
pub fn forecast(session: &mut Session, expected: &Table) -> Result<Forecast> {
    let plan = RebuildPlan::make(session, expected)?;
    let mut exceptions = plan.exceptions.clone();
    exceptions.extend(violations::of_unique_indexes(session, &plan)?);
    exceptions.extend(violations::of_foreign_keys(session, &plan)?);
    Ok(Forecast { rows: plan.rows, exceptions, dropped: plan.dropped() })
}

/// Converts the table to the expected definition, without the rules that its rows violate. A
/// transaction is open.
///
/// # Errors
/// If the table cannot be converted without a loss (`Kind::Data`), or a statement fails. The
/// transaction has to be rolled back then.
pub fn rebuild(
    session: &mut Session,
    expected: &Table,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Rebuilt> {
    let table = session.qualified(&expected.name);
    // What is counted now must still be true when the table is altered.
    session.run(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))?;
    let plan = RebuildPlan::make(session, expected)?;
    let object = &Object::Table(expected.name.to_string());
    progress(Progress::of_rows(object, 0, plan.rows));
    let differing = differing_indexes(&plan);
    alter(session, &plan, &differing).map_err(|error| match error.kind {
        Kind::Data => error.at(format!("table {}", expected.name)),
        _ => error,
    })?;
    if session.number::<u64>(&format!("SELECT count(*) FROM {table}"))? != plan.rows {
        let what = format!("table {}: the conversion would lose rows", expected.name);
        return Err(Error::new(Kind::Data, what));
    }
    progress(Progress::of_rows(object, plan.rows, plan.rows));
    let mut dropped = plan.dropped();
    dropped.extend(plan.dropped_elsewhere());
    let (rows, mut exceptions) = (plan.rows, plan.exceptions);
    for differing_index in differing {
        exceptions.extend(index::create(session, &expected.name, differing_index, progress)?);
    }
    Ok(Rebuilt { rows, exceptions, dropped })
}

/// Runs the statements of the conversion.
fn alter(session: &mut Session, plan: &RebuildPlan<'_>, differing: &[&Index]) -> Result<()> {
    let mut statements = drops_sql(session, plan, differing);
    statements.extend(columns_sql(&session.qualified(&plan.expected.name), plan));
    for statement in statements {
        session.run(&statement)?;
    }
    sequences::reclaim_sequence(session, plan)?;
    add_constraints(session, plan)
}

/// The indexes that exist under an expected name with another definition.
fn differing_indexes<'e>(plan: &RebuildPlan<'e>) -> Vec<&'e Index> {
    let differs = |index: &&Index| {
        let found = plan.old.table.index(&index.name);
        found.is_some_and(|found| found.to_string() != index.to_string())
    };
    plan.expected.indexes.iter().filter(differs).collect()
}

/// The statements that drop constraints, indexes, and the defaults of columns.
fn drops_sql(session: &Session, plan: &RebuildPlan<'_>, indexes: &[&Index]) -> Vec<String> {
    let table = session.qualified(&plan.expected.name);
    let is_unlogged = plan.old.table.attributes.iter().any(|attribute| attribute == UNLOGGED);
    let drop =
        |table: &str, name: &str| format!("ALTER TABLE {table} DROP CONSTRAINT {}", quoted(name));
    let mut statements: Vec<String> =
        plan.referencing_keys_to_drop().map(|key| drop(&key.table, &key.constraint.name)).collect();
    // Foreign keys first, since one may reference a key of the same table.
    let mut constraints: Vec<_> =
        plan.old.constraints.iter().filter(|constraint| !plan.keeps(constraint)).collect();
    constraints.sort_by_key(|constraint| constraint.kind != ConstraintKind::ForeignKey);
    statements.extend(constraints.iter().map(|constraint| drop(&table, &constraint.name)));
    if is_unlogged {
        // No foreign key of a table that is logged may refer to one that is not.
        statements.push(format!("ALTER TABLE {table} SET LOGGED"));
    }
    let drop_index = |index: &&Index| format!("DROP INDEX {}", session.qualified(&index.name));
    statements.extend(indexes.iter().map(drop_index));
    let columns = plan.target.columns.iter();
    statements.extend(columns.filter_map(|column| drop_default_sql(&table, plan, column)));
    statements
}

/// The statement that drops what fills an existing column, if that is not to stay.
fn drop_default_sql(table: &str, plan: &RebuildPlan<'_>, target: &Column) -> Option<String> {
    let found = plan.old.column(&target.name)?;
    let is_same = found.data_type == target.data_type && found.default == target.default;
    let is_identity = target.default.as_deref() == Some(IDENTITY);
    let action = match found.default.as_deref()? {
        _ if is_same => return None,
        sql if sql.ends_with("AS IDENTITY") && is_identity => "SET GENERATED BY DEFAULT",
        sql if sql.ends_with("AS IDENTITY") => "DROP IDENTITY",
        sql if sql.starts_with("GENERATED") => "DROP EXPRESSION",
        _ => "DROP DEFAULT",
    };
    // A table that inherits from this one keeps the source of its ids.
    let only = if is_identity { "ONLY " } else { "" };
    let column = quoted(&target.name);
    Some(format!("ALTER TABLE {only}{table} ALTER COLUMN {column} {action}"))
}

/// The statements that add and alter columns of a table, given as SQL.
fn columns_sql(table: &str, plan: &RebuildPlan<'_>) -> Vec<String> {
    let missing = plan.target.columns.iter().filter(|c| plan.old.column(&c.name).is_none());
    let mut statements: Vec<String> = missing.map(|column| add_column_sql(table, column)).collect();
    let types = plan.converted().map(|column| {
        let value = plan.old.conversion(&column.name, &column.data_type).value;
        format!("ALTER COLUMN {} TYPE {} USING {value}", quoted(&column.name), column.data_type)
    });
    let mut attributes = Vec::new();
    for (target, expected) in plan.target.columns.iter().zip(plan.expected.columns.iter()) {
        if let Some(found) = plan.old.column(&target.name) {
            attributes.extend(attribute_changes(target, expected, found));
        }
    }
    // An added column that requires a value would refuse the rows of the trading programs.
    for added in plan.old.added_columns(plan.expected) {
        if added.not_null && added.default.is_none() {
            attributes.push(format!("ALTER COLUMN {} DROP NOT NULL", quoted(&added.name)));
        }
    }
    for changes in [types.collect::<Vec<_>>(), attributes] {
        if !changes.is_empty() {
            statements.push(format!("ALTER TABLE {table} {}", changes.join(", ")));
        }
    }
    statements
}

/// The changes of default and NOT NULL of an existing column.
fn attribute_changes(target: &Column, expected: &Column, found: &Column) -> Vec<String> {
    let column = format!("ALTER COLUMN {}", quoted(&target.name));
    let mut changes = Vec::new();
    let is_same = found.data_type == target.data_type && found.default == target.default;
    match target.default.as_deref() {
        Some(sql) if !is_same && sql != IDENTITY => {
            changes.push(format!("{column} SET DEFAULT {}", default_sql(sql, target, expected)));
        }
        _ => {}
    }
    match (found.not_null, target.not_null) {
        (false, true) => changes.push(format!("{column} SET NOT NULL")),
        (true, false) => changes.push(format!("{column} DROP NOT NULL")),
        _ => {}
    }
    changes
}

/// A default as SQL, cast to the type that the column keeps.
pub fn default_sql(sql: &str, target: &Column, expected: &Column) -> String {
    let data_type = &target.data_type;
    match &*expected.data_type {
        _ if sql == RANDOM_ID_TEXT => RANDOM_ID_EXPRESSION.into(),
        expected if expected == data_type => sql.into(),
        "BOOLEAN" if sql != "NULL" && !data_type.contains("CHAR") && data_type != "TEXT" => {
            format!("({sql})::integer::{data_type}")
        }
        _ => format!("({sql})::{data_type}"),
    }
}

/// Adds the primary key, the foreign keys and the storage parameters.
fn add_constraints(session: &mut Session, plan: &RebuildPlan<'_>) -> Result<()> {
    let table = session.qualified(&plan.expected.name);
    let has_key =
        plan.old.constraints.iter().any(|c| c.kind == ConstraintKind::PrimaryKey && plan.keeps(c));
    let key: Vec<String> = plan.primary_key().into_iter().map(|name| quoted(name)).collect();
    if !has_key && !key.is_empty() {
        session.run(&format!("ALTER TABLE {table} ADD PRIMARY KEY ({})", key.join(", ")))?;
    }
    for key in plan.target.foreign_keys.iter().filter(|key| !plan.keeps_foreign_key(key)) {
        // No parent may be deleted between the count and the creation of the key.
        let parent = session.qualified(&key.table);
        session.run(&format!("LOCK TABLE {parent} IN SHARE ROW EXCLUSIVE MODE"))?;
        let orphans = count_orphans(session, &plan.expected.name, key)?;
        let sql = add_foreign_key_sql(session, &plan.expected.name, key, orphans == 0);
        session.run(&sql)?;
    }
    match storage_parameters(&plan.expected.name).filter(|_| !plan.old.has_storage_parameters) {
        Some(parameters) => session.run(&format!("ALTER TABLE {table} SET ({parameters})")),
        None => Ok(()),
    }
}

/// The storage parameters in the `CREATE TABLE` of the schema.
fn storage_parameters(table: &str) -> Option<String> {
    let is_it = |created: Created| matches!(created, Created::Table(name) if name == table);
    POSTGRES.migrations.iter().find_map(|migration| {
        let statement = migration.statements().into_iter().find(|s| is_it(s.creates()))?;
        let (_, parameters) = statement.sql.rsplit_once(") WITH (")?;
        Some(parameters.trim_end().trim_end_matches(';').trim_end_matches(')').to_string())
    })
}
