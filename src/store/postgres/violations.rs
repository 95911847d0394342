//! Counts the rows of a table that violate rules of the expected schema.

use super::conversion::as_text;
use super::damage::count_orphans;
use super::existing_table::{ExistingTable, has_column};
use super::index::{count_duplicates, count_duplicates_of};
use super::inspect;
use super::rebuild_plan::{RebuildPlan, uses_column};
use super::session::Session;
use crate::error::Result;
use crate::store::sql::{not_unique, quoted};
use cts_schema::catalog::{Column, ForeignKey, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::sql::ddl::IDENTITY;

/// The rows of a table and the rules of its columns that they violate.
pub struct ColumnViolations {
    /// The number of rows.
    pub rows: u64,
    /// The violated rules.
    pub exceptions: Vec<ConstraintException>,
}

/// A rule, and the SQL condition of the rows that violate it.
struct ColumnRule {
    rule: Rule,
    violation: String,
}

/// Counts the rows of a table and the violations of its columns' rules.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn of_columns(
    session: &mut Session,
    old: &ExistingTable,
    expected: &Table,
) -> Result<ColumnViolations> {
    let rules = column_rules(old, expected);
    let counts = rules.iter().map(|rule| format!(", count(*) FILTER (WHERE {})", rule.violation));
    let counts: String = counts.collect();
    let table = session.qualified(&expected.name);
    let row = session.row(&format!("SELECT count(*){counts} FROM {table}"))?;
    let exception =
        |rule, rows| ConstraintException { table: expected.name.to_string(), rule, rows };
    let mut exceptions = Vec::new();
    for (at, checked) in (1..).zip(rules) {
        exceptions.push(exception(checked.rule, row.number(at)?));
    }
    for column in expected.columns.iter().filter(|column| column.primary_key_position > 0) {
        if old.column(&column.name).is_some() {
            let rows = count_shared_keys(session, &expected.name, &column.name)?;
            exceptions.push(exception(Rule::PrimaryKey(column.name.to_string()), rows));
        }
    }
    exceptions.retain(|exception| exception.rows > 0);
    let defaults: Vec<ConstraintException> =
        exceptions.iter().filter_map(|kept| default_exception(expected, kept)).collect();
    exceptions.extend(defaults);
    Ok(ColumnViolations { rows: row.number(0)?, exceptions })
}

/// The rules of columns that rows may violate.
fn column_rules(old: &ExistingTable, expected: &Table) -> Vec<ColumnRule> {
    let mut rules = Vec::new();
    for column in expected.columns.iter() {
        match old.column(&column.name) {
            Some(found) => rules.extend(rules_of_existing(old, column, found)),
            None if column.not_null && column.default.is_none() => {
                rules.extend(rules_of_missing(column));
            }
            None => {}
        }
    }
    rules
}

/// The rules that every row violates because it has no value for a column.
fn rules_of_missing(column: &Column) -> Vec<ColumnRule> {
    let name = column.name.to_string();
    let every_row = |rule| ColumnRule { rule, violation: "true".into() };
    let mut rules = vec![every_row(Rule::NotNull(name.clone()))];
    if column.primary_key_position > 0 {
        rules.push(every_row(Rule::PrimaryKey(name)));
    }
    rules
}

/// The rules that the values of a column may violate.
fn rules_of_existing(old: &ExistingTable, expected: &Column, found: &Column) -> Vec<ColumnRule> {
    let name = expected.name.to_string();
    let is_null = format!("{} IS NULL", quoted(&name));
    let is_lossy = old.conversion(&name, &expected.data_type).is_lossy;
    let mut rules = Vec::new();
    if expected.default.as_deref() == Some(IDENTITY) {
        let violation = format!("{is_null} OR {is_lossy}");
        rules.push(ColumnRule { rule: Rule::IntegerKey(name.clone()), violation });
    } else if found.data_type != expected.data_type {
        let rule = Rule::Type(name.clone(), found.data_type.to_string());
        rules.push(ColumnRule { rule, violation: is_lossy });
    }
    if expected.not_null && !found.not_null {
        rules.push(ColumnRule { rule: Rule::NotNull(name), violation: is_null });
    }
    rules
}

/// The exception for the default of a column that keeps its type, if that type has no such default.
pub fn default_exception(
    expected: &Table,
    kept: &ConstraintException,
) -> Option<ConstraintException> {
    let Rule::Type(name, data_type) = &kept.rule else { return None };
    let column = expected.columns.iter().find(|column| column.name == *name)?;
    let default = column.default.as_deref()?;
    let is_array = data_type.ends_with(']');
    let starts = |types: &[&str]| !is_array && types.iter().any(|t| data_type.starts_with(t));
    let is_number = |sql: &str| sql.parse::<f64>().is_ok() || matches!(sql, "TRUE" | "FALSE");
    let can_have = starts(&["TEXT", "CHARACTER"])
        || starts(&["DATE", "TIME"]) && default == "CURRENT_TIMESTAMP"
        || starts(&["SMALLINT", "INTEGER", "BIGINT", "NUMERIC", "REAL", "DOUBLE PRECISION"])
            && is_number(default);
    let rule = Rule::Default(name.clone());
    (!can_have).then(|| ConstraintException { table: kept.table.clone(), rule, rows: kept.rows })
}

/// The number of rows that a column does not identify: the value is NULL, or other rows have it
/// too.
fn count_shared_keys(session: &mut Session, table: &str, column: &str) -> Result<u64> {
    session.number(&format!(
        "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n, c FROM (SELECT {} AS c FROM {}) AS keys \
         GROUP BY c HAVING count(*) > 1 OR c IS NULL) AS shared",
        as_text(&quoted(column)),
        session.qualified(table)
    ))
}

/// The unique indexes whose columns all exist and whose keys rows share.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn of_unique_indexes(
    session: &mut Session,
    plan: &RebuildPlan<'_>,
) -> Result<Vec<ConstraintException>> {
    let table = &plan.expected.name;
    let mut exceptions = Vec::new();
    for index in plan.expected.indexes.iter().filter(|index| index.unique) {
        let mut used = plan.expected.columns.iter().filter(|c| uses_column(index, &c.name));
        if used.all(|column| plan.old.column(&column.name).is_some()) {
            let values = plan.index_values(index);
            let rows = count_duplicates_of(session, table, index, &values)?;
            exceptions.extend(not_unique(table, index, rows));
        }
    }
    Ok(exceptions)
}

/// The foreign keys that rows violate. The two columns may have different types still.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn of_foreign_keys(
    session: &mut Session,
    plan: &RebuildPlan<'_>,
) -> Result<Vec<ConstraintException>> {
    let catalog = inspect::inspect_in_transaction(session)?.snapshot.catalog;
    let table = plan.expected.name.to_string();
    let mut exceptions = Vec::new();
    for key in plan.expected.foreign_keys.iter() {
        if plan.old.column(&key.column).is_none() {
            continue;
        }
        let is_parent = |table: &&Table| has_column(table, &key.references);
        let has_parent = catalog.table(&key.table).filter(is_parent).is_some();
        let parent = has_parent.then(|| session.qualified(&key.table));
        let rows = session.number(&orphans_sql(&session.qualified(&table), key, parent))?;
        let rule = Rule::ForeignKey(key.table.to_string());
        exceptions.push(ConstraintException { table: table.clone(), rule, rows });
    }
    exceptions.retain(|exception| exception.rows > 0);
    Ok(exceptions)
}

/// The query for the number of rows of a table whose key references nothing. Both tables are SQL.
fn orphans_sql(table: &str, key: &ForeignKey, parent: Option<String>) -> String {
    let column = quoted(&key.column);
    let parent_exists = match parent {
        None => "false".into(),
        Some(parent) => format!(
            "EXISTS (SELECT FROM {parent} p WHERE {} = {})",
            as_text(&format!("p.{}", quoted(&key.references))),
            as_text(&format!("t.{column}"))
        ),
    };
    format!("SELECT count(*) FROM {table} t WHERE {column} IS NOT NULL AND NOT {parent_exists}")
}

/// The present number of rows that violate a rule. `expected` is the table of the schema.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn count_violations(session: &mut Session, expected: &Table, rule: &Rule) -> Result<u64> {
    let table = session.qualified(&expected.name);
    match rule {
        Rule::NotNull(name) => {
            let column = quoted(name);
            session.number(&format!("SELECT count(*) FROM {table} WHERE {column} IS NULL"))
        }
        Rule::Unique(name) => match expected.index(name) {
            Some(index) => count_duplicates(session, &expected.name, index),
            None => Ok(0),
        },
        Rule::ForeignKey(parent) => {
            let mut rows = 0;
            for key in expected.foreign_keys.iter().filter(|key| key.table == *parent) {
                rows += count_orphans(session, &expected.name, key)?;
            }
            Ok(rows)
        }
        Rule::PrimaryKey(name) => count_shared_keys(session, &expected.name, name),
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
            session.number(&format!("SELECT count(*) FROM {table} WHERE {is_lossy}{or_null}"))
        }
    }
}
