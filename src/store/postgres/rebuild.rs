//! Gives a table of an older CTS the expected shape in place, by `ALTER TABLE`, and keeps every
//! row. Everything comes from the catalogue and from the table itself; no table is known by name.
//! What somebody has added to the table stays: columns, their constraints, indexes, triggers.

use super::existing_table::{self, ExistingTable, RebuildPlan};
use super::index::duplicates;
use super::inspect::orphaned;
use super::sequences;
use super::session::{SCHEMA, Session};
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{create_index, literal, not_unique, quoted};
use crate::store::{Forecast, Progress, Rebuilt};
use cts_schema::catalog::{Column, ForeignKey, Index, Object, Table};
use cts_schema::constraint_exception::{ConstraintException, RANDOM_ID_TEXT, Rule};
use cts_schema::sql::Created;
use cts_schema::sql::ddl::IDENTITY;

/// [`DRAWN_TEXT`] with its casts.
const DRAWN: &str = "floor(random() * 9007199254740991)::bigint::text";

/// The statement that adds a column. In rows that are there already, a value that would be made
/// up, such as the time a row was made, stays NULL.
fn add_column(table: &str, column: &Column) -> String {
    let (table, name) = (quoted(table), quoted(&column.name));
    let kind = &column.data_type;
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    match &column.default {
        None => format!("ALTER TABLE {table} ADD COLUMN {name} {kind}{not_null}"),
        Some(sql) if sql.contains("CURRENT_TIMESTAMP") && !column.not_null => format!(
            "ALTER TABLE {table} ADD COLUMN {name} {kind}; ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {sql}"
        ),
        Some(sql) if sql.starts_with("GENERATED") => {
            format!("ALTER TABLE {table} ADD COLUMN {name} {kind} {sql}")
        }
        Some(sql) => {
            format!("ALTER TABLE {table} ADD COLUMN {name} {kind} DEFAULT {sql}{not_null}")
        }
    }
}

/// The statements that add a column with all that hangs on it.
pub fn put_column(table: &str, column: &Column) -> String {
    let mut sql = add_column(table, column);
    let (name, of) = (quoted(table), quoted(&column.name));
    if column.primary_key_position > 0 {
        sql += &format!("; ALTER TABLE {name} ADD PRIMARY KEY ({of})");
    }
    let keys = POSTGRES.expected.table(table).map(|table| table.foreign_keys.iter());
    for key in keys.into_iter().flatten().filter(|key| key.column == column.name) {
        sql += &format!("; {}", add_foreign_key(table, key, true));
    }
    sql
}

fn add_foreign_key(table: &str, key: &ForeignKey, is_valid: bool) -> String {
    format!(
        "ALTER TABLE {} ADD FOREIGN KEY ({}) REFERENCES {} ({}) ON DELETE {}{}",
        quoted(table),
        quoted(&key.column),
        quoted(&key.table),
        quoted(&key.references),
        key.on_delete,
        if is_valid { "" } else { " NOT VALID" }
    )
}

/// The rows of a table, and the rules that they break, as far as can be seen from them.
pub fn forecast(session: &mut Session, expected: &Table) -> Result<Forecast> {
    let plan = RebuildPlan::make(session, expected)?;
    let mut exceptions = plan.rules.clone();
    exceptions.extend(existing_table::not_unique(session, &plan)?);
    exceptions.extend(existing_table::orphans(session, &plan)?);
    Ok(Forecast { rows: plan.rows, exceptions, dropped: plan.dropped() })
}

fn number(session: &mut Session, sql: &str) -> Result<u64> {
    let rows = session.ask(sql)?;
    Ok(rows.first().and_then(|rows| rows.first()).map(|row| row.number(0)).unwrap_or_default())
}

/// Makes the table as expected, but for rules that its rows break, which are relaxed.
pub fn reshape(
    session: &mut Session,
    expected: &Table,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Rebuilt> {
    let table = quoted(&expected.name);
    // What is counted now must be so when it is altered.
    session.run(&format!(
        "LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; SET LOCAL row_security = off"
    ))?;
    let plan = RebuildPlan::make(session, expected)?;
    let object = &Object::Table(expected.name.to_string());
    progress(Progress { object, done: 0, total: plan.rows });
    let differing = differing_indexes(&plan);
    let done = (|| {
        for statement in clear(&plan, &differing).into_iter().chain(shape(&plan)) {
            session.run(&statement)?;
        }
        sequences::reclaim_sequence(session, &plan)?;
        constrain(session, &plan)
    })();
    done.map_err(|error| match error.kind {
        Kind::Data => error.at(format!("table {}", expected.name)),
        _ => error,
    })?;
    if number(session, &format!("SELECT count(*) FROM {table}"))? != plan.rows {
        let what = format!("table {}: rows would be lost", expected.name);
        return Err(Error::new(Kind::Data, what));
    }
    progress(Progress { object, done: plan.rows, total: plan.rows });
    let mut dropped = plan.dropped();
    dropped.extend(plan.dropped_elsewhere());
    let (rows, mut exceptions) = (plan.rows, plan.rules);
    for index in differing {
        exceptions.extend(put_index(session, &expected.name, index, progress)?);
    }
    Ok(Rebuilt { rows, exceptions, dropped })
}

/// Indexes that have an expected name, and are others.
fn differing_indexes<'e>(plan: &RebuildPlan<'e>) -> Vec<&'e Index> {
    let differs = |index: &&Index| {
        let found = plan.old.table.index(&index.name);
        found.is_some_and(|found| found.to_string() != index.to_string())
    };
    plan.expected.indexes.iter().filter(differs).collect()
}

/// Takes away what is in the way: constraints, indexes, and whatever gives a column its values.
fn clear(plan: &RebuildPlan<'_>, indexes: &[&Index]) -> Vec<String> {
    let table = quoted(&plan.expected.name);
    let drop =
        |table: &str, name: &str| format!("ALTER TABLE {table} DROP CONSTRAINT {}", quoted(name));
    let mut statements: Vec<String> =
        plan.freed().map(|referring| drop(&referring.table, &referring.name)).collect();
    // Foreign keys first, since one may lead to a key of the same table.
    let mut constraints: Vec<_> =
        plan.old.constraints.iter().filter(|constraint| !plan.keeps(constraint)).collect();
    constraints.sort_by_key(|constraint| !constraint.is_foreign_key());
    statements.extend(constraints.iter().map(|constraint| drop(&table, &constraint.name)));
    statements.extend(indexes.iter().map(|index| format!("DROP INDEX {}", quoted(&index.name))));
    for target in plan.target.columns.iter() {
        let Some(found) = plan.old.column(&target.name) else { continue };
        let is_same = found.data_type == target.data_type && found.default == target.default;
        let what = match found.default.as_deref() {
            None => continue,
            Some(_) if is_same => continue,
            Some(sql) if sql.ends_with("AS IDENTITY") => {
                if target.default.as_deref() == Some(IDENTITY) {
                    "SET GENERATED BY DEFAULT"
                } else {
                    "DROP IDENTITY"
                }
            }
            Some(sql) if sql.starts_with("GENERATED") => "DROP EXPRESSION",
            Some(_) => "DROP DEFAULT",
        };
        // A table that inherits from this one goes on taking its ids where it took them.
        let only = if target.default.as_deref() == Some(IDENTITY) { "ONLY " } else { "" };
        let column = quoted(&target.name);
        statements.push(format!("ALTER TABLE {only}{table} ALTER COLUMN {column} {what}"));
    }
    statements
}

/// Adds and alters columns.
fn shape(plan: &RebuildPlan<'_>) -> Vec<String> {
    let name = &plan.expected.name;
    let missing = plan.target.columns.iter().filter(|c| plan.old.column(&c.name).is_none());
    let mut statements: Vec<String> = missing.map(|column| add_column(name, column)).collect();
    let types = plan.converted().map(|column| {
        let value = plan.old.conversion(&column.name, &column.data_type).value;
        format!("ALTER COLUMN {} TYPE {} USING {value}", quoted(&column.name), column.data_type)
    });
    let mut attributes = Vec::new();
    for (target, expected) in plan.target.columns.iter().zip(plan.expected.columns.iter()) {
        if let Some(found) = plan.old.column(&target.name) {
            attributes.extend(set_attributes(target, expected, found));
        }
    }
    for own in plan.old.added(plan.expected) {
        let is_omittable = !own.not_null || own.default.is_some();
        if !is_omittable {
            attributes.push(format!("ALTER COLUMN {} DROP NOT NULL", quoted(&own.name)));
        }
    }
    for changes in [types.collect::<Vec<_>>(), attributes] {
        if !changes.is_empty() {
            statements.push(format!("ALTER TABLE {} {}", quoted(name), changes.join(", ")));
        }
    }
    statements
}

/// Default and NOT NULL of a column that is there.
fn set_attributes(target: &Column, expected: &Column, found: &Column) -> Vec<String> {
    let column = format!("ALTER COLUMN {}", quoted(&target.name));
    let mut changes = Vec::new();
    let is_same = found.data_type == target.data_type && found.default == target.default;
    match target.default.as_deref() {
        Some(sql) if !is_same && sql != IDENTITY => {
            changes.push(format!("{column} SET DEFAULT {}", default(sql, target, expected)));
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

/// A default for SQL, of the type that the column keeps.
fn default(sql: &str, target: &Column, expected: &Column) -> String {
    let kind = &target.data_type;
    match &*expected.data_type {
        _ if sql == RANDOM_ID_TEXT => DRAWN.into(),
        expected if expected == kind => sql.into(),
        "BOOLEAN" if sql != "NULL" && !kind.contains("CHAR") && kind != "TEXT" => {
            format!("({sql})::integer::{kind}")
        }
        _ => format!("({sql})::{kind}"),
    }
}

/// Adds the primary key, the foreign keys and the storage parameters.
fn constrain(session: &mut Session, plan: &RebuildPlan<'_>) -> Result<()> {
    let table = quoted(&plan.expected.name);
    let has_key = plan.old.constraints.iter().any(|c| c.is_primary_key() && plan.keeps(c));
    let key: Vec<String> = plan.key().into_iter().map(|name| quoted(name)).collect();
    if !has_key && !key.is_empty() {
        session.run(&format!("ALTER TABLE {table} ADD PRIMARY KEY ({})", key.join(", ")))?;
    }
    for key in plan.target.foreign_keys.iter().filter(|key| !plan.has(key)) {
        // No parent may go between the counting and the key.
        session.run(&format!("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", quoted(&key.table)))?;
        let orphans = orphaned(session, &plan.expected.name, key)?;
        session.run(&add_foreign_key(&plan.expected.name, key, orphans == 0))?;
    }
    match storage(&plan.expected.name).filter(|_| !plan.old.is_tuned) {
        Some(parameters) => session.run(&format!("ALTER TABLE {table} SET ({parameters})")),
        None => Ok(()),
    }
}

/// The storage parameters that the bundled statement gives a table.
fn storage(table: &str) -> Option<String> {
    let is_it = |created: Created| matches!(created, Created::Table(name) if name == table);
    POSTGRES.migrations.iter().find_map(|migration| {
        let statement = migration.statements().into_iter().find(|s| is_it(s.creates()))?;
        let (_, parameters) = statement.sql.rsplit_once(") WITH (")?;
        Some(parameters.trim_end().trim_end_matches(';').trim_end_matches(')').to_string())
    })
}

/// Makes an index anew, whatever has its name on this table; not unique, where rows share a key.
pub fn put_index(
    session: &mut Session,
    table: &str,
    index: &Index,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Option<ConstraintException>> {
    let taken = format!(
        "SELECT count(*) FROM pg_class c LEFT JOIN pg_index x ON x.indexrelid = c.oid \
         WHERE c.relnamespace = {SCHEMA} AND c.relname = {} \
             AND x.indrelid IS DISTINCT FROM {}::regclass",
        literal(&index.name),
        literal(&quoted(table))
    );
    if number(session, &taken)? > 0 {
        let what = format!("index {} cannot be made: something else has its name", index.name);
        return Err(Error::new(Kind::Data, what).remedy("rename what has its name"));
    }
    let object = &Object::Index(table.into(), index.name.to_string());
    let total = number(session, &format!("SELECT count(*) FROM {}", quoted(table)))?;
    progress(Progress { object, done: 0, total });
    // A row that comes between would let the index fail.
    session.run(&format!("LOCK TABLE {} IN SHARE MODE", quoted(table)))?;
    let rows = if index.unique { duplicates(session, table, index)? } else { 0 };
    let made = create_index(table, index, rows == 0, "");
    session.run(&format!("DROP INDEX IF EXISTS {}; {made}", quoted(&index.name)))?;
    progress(Progress { object, done: total, total });
    Ok(not_unique(table, index, rows))
}

/// How many rows break a rule that was relaxed, by now. `expected` is the table without it.
pub fn count_violations(session: &mut Session, expected: &Table, rule: &Rule) -> Result<u64> {
    let table = quoted(&expected.name);
    match rule {
        Rule::NotNull(name) => {
            number(session, &format!("SELECT count(*) FROM {table} WHERE {} IS NULL", quoted(name)))
        }
        Rule::Unique(name) => match expected.index(name) {
            Some(index) => duplicates(session, &expected.name, index),
            None => Ok(0),
        },
        Rule::ForeignKey(parent) => {
            let mut rows = 0;
            for key in expected.foreign_keys.iter().filter(|key| key.table == *parent) {
                rows += orphaned(session, &expected.name, key)?;
            }
            Ok(rows)
        }
        Rule::PrimaryKey(name) => existing_table::shared(session, &expected.name, name),
        Rule::IntegerKey(name) | Rule::Type(name, _) | Rule::Default(name) => {
            let Some(column) = expected.columns.iter().find(|column| column.name == *name) else {
                return Ok(0);
            };
            let old = ExistingTable::read(session, expected)?;
            let is_lossy = old.conversion(name, &column.data_type).is_lossy;
            let or_null = match rule {
                Rule::IntegerKey(_) => format!(" OR {} IS NULL", quoted(name)),
                _ => String::new(),
            };
            number(session, &format!("SELECT count(*) FROM {table} WHERE {is_lossy}{or_null}"))
        }
    }
}

/// Lets foreign keys to a table hold for rows that were there before them.
pub fn validate(session: &mut Session, table: &str, parent: &str) -> Result<()> {
    let sql = format!(
        "SELECT k.conname FROM pg_constraint k WHERE k.contype = 'f' AND NOT k.convalidated \
             AND k.conrelid = to_regclass({}) AND k.confrelid = to_regclass({})",
        literal(&quoted(table)),
        literal(&quoted(parent))
    );
    for row in session.ask(&sql)?.into_iter().flatten() {
        let (table, name) = (quoted(table), quoted(row.text(0)));
        session.run(&format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"))?;
    }
    Ok(())
}
