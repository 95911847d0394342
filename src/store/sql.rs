//! SQL that is the same on every store: quoting, index definitions, the query for rows that share
//! a unique key, and the statements of the ledger, of `site_logs` and of the constraint exceptions.
//! Texts only; each store runs them in its own way.

use std::time::Duration;

use super::SiteLogEntry;
use crate::system::version::VERSION;
use cts_schema::catalog::{ACCEPTED_RULE, AcceptedDifference, Catalog, Index, List, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule, with_exceptions};
use cts_schema::migration::Migration;

/// The table of the constraint exceptions. It is created with the first one.
pub const EXCEPTIONS_TABLE: &str = "cts_relaxations";

/// The ledger.
pub const LEDGER_TABLE: &str = "migrations";

/// The columns of the ledger that cts reads, in the order in which it reads them.
pub const LEDGER_COLUMNS: [&str; 6] =
    ["id", "name", "checksum", "executed_at", "execution_time_ms", "version"];

/// A name as a quoted identifier.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name in a schema of PostgreSQL, as SQL.
#[cfg(feature = "postgres")]
pub fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// A text as a string literal. (PostgreSQL: `standard_conforming_strings` is on.) Neither
/// database stores a NUL character in a text, so these are left out.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// A text as a string literal of PostgreSQL that means the same where `standard_conforming_strings` is off.
#[cfg(feature = "postgres")]
pub fn escaped_literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!(" E{}", literal(&text.replace('\\', "\\\\"))),
        false => literal(text),
    }
}

/// The names of an expected index's columns, without their collation and sort order. No expected column
/// has a space in its name.
pub fn index_columns(index: &Index) -> impl Iterator<Item = &str> {
    index.columns.iter().map(|column| column.split(' ').next().unwrap_or_default())
}

/// The statement that creates an index on `table`, given as SQL. `options` stand after `INDEX`, such
/// as `CONCURRENTLY`.
pub fn create_index(table: &str, index: &Index, unique: bool, options: &str) -> String {
    let unique = if index.unique && unique { "UNIQUE " } else { "" };
    let key = |column: &str| match column.split_once(' ') {
        Some((name, options)) => format!("{} {options}", quoted(name)),
        None => quoted(column),
    };
    let keys: Vec<String> = index.columns.iter().map(|column| key(column)).collect();
    let predicate = index.predicate.as_ref().map(|sql| format!(" WHERE {sql}")).unwrap_or_default();
    let name = quoted(&index.name);
    format!("CREATE {unique}INDEX {options} {name} ON {table} ({}){predicate}", keys.join(", "))
}

/// The query for the number of rows that share a key of a unique index. NULLs are never equal
/// in one. `table` is SQL; `values` are the index's columns as SQL expressions.
pub fn count_duplicates(table: &str, index: &Index, values: &[String]) -> String {
    let mut conditions: Vec<_> =
        values.iter().map(|value| format!("{value} IS NOT NULL")).collect();
    conditions.extend(index.predicate.as_ref().map(|sql| format!("({sql})")));
    format!(
        "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {table} WHERE {} GROUP BY {} HAVING count(*) > 1) AS shared",
        conditions.join(" AND "),
        values.join(", ")
    )
}

/// The exception of an index that is created without UNIQUE because rows share a key; none where
/// none do.
pub fn not_unique(table: &str, index: &Index, rows: u64) -> Option<ConstraintException> {
    let rule = Rule::Unique(index.name.to_string());
    (rows > 0).then(|| ConstraintException { table: table.into(), rule, rows })
}

/// The expected table without the rules that its rows violate.
pub fn table_with_exceptions(expected: &Table, exceptions: &[ConstraintException]) -> Table {
    let catalog = Catalog { tables: vec![expected.clone()].into(), other_tables: List::default() };
    let tables = with_exceptions(&catalog, exceptions).into_owned().tables.into_owned();
    tables.into_iter().next().unwrap_or_else(|| expected.clone())
}

/// The query for the exceptions that a table, given as SQL, records: table, rule, object, detail, rows.
pub fn select_exceptions(exceptions: &str) -> String {
    format!("SELECT table_name, rule, object, detail, row_count FROM {exceptions} ORDER BY 1, 2, 3")
}

/// The statement that creates the table of the exceptions, whose name is given as SQL. The types of a number and of a time,
/// and the present time, are the store's.
pub fn create_exceptions_table(exceptions: &str, integer: &str, time: &str, now: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {exceptions} ( \
             table_name TEXT NOT NULL, \
             rule       TEXT NOT NULL, \
             object     TEXT NOT NULL, \
             detail     TEXT NOT NULL DEFAULT '', \
             row_count  {integer} NOT NULL, \
             since      {time} NOT NULL DEFAULT {now}, \
             PRIMARY KEY (table_name, rule, object) \
         )"
    )
}

/// The statement that records an exception, or its present number of rows, in a table given as SQL.
pub fn upsert_exception(exceptions: &str, exception: &ConstraintException) -> String {
    let ConstraintException { table, rule, rows } = exception;
    let detail = if let Rule::Type(_, data_type) = rule { data_type } else { "" };
    let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
    format!(
        "INSERT INTO {exceptions} (table_name, rule, object, detail, row_count) \
         VALUES ({}, {}, {}, {}, {rows}) ON CONFLICT (table_name, rule, object) \
         DO UPDATE SET detail = excluded.detail, row_count = excluded.row_count",
        literal(table),
        literal(rule.record_name()),
        literal(rule.object()),
        literal(detail)
    )
}

/// The statement that records accepted differences, in a table given as SQL.
pub fn upsert_acceptance(exceptions: &str, accepted: &AcceptedDifference) -> String {
    format!(
        "INSERT INTO {exceptions} (table_name, rule, object, detail, row_count) \
         VALUES ({}, '{ACCEPTED_RULE}', {}, {}, 0) ON CONFLICT (table_name, rule, object) \
         DO UPDATE SET detail = excluded.detail",
        literal(accepted.object.table()),
        literal(&accepted.record_object()),
        literal(&accepted.record_detail())
    )
}

/// The statement that removes the record of accepted differences from a table given as SQL.
pub fn delete_acceptance(exceptions: &str, accepted: &AcceptedDifference) -> String {
    format!(
        "DELETE FROM {exceptions} WHERE table_name = {} AND rule = '{ACCEPTED_RULE}' AND object = {}",
        literal(accepted.object.table()),
        literal(&accepted.record_object())
    )
}

/// What the table of constraint exceptions records.
#[derive(Default)]
pub struct RecordedExceptions {
    /// The rules that are not enforced.
    pub exceptions: Vec<ConstraintException>,
    /// The differences that are accepted.
    pub accepted: Vec<AcceptedDifference>,
}

impl RecordedExceptions {
    /// Adds a row. A rule or an object that only a later cts knows is left out.
    pub fn add(&mut self, table: String, rule: &str, object: String, detail: String, rows: u64) {
        if rule == ACCEPTED_RULE {
            self.accepted.extend(AcceptedDifference::from_record(table, &object, &detail));
        } else if let Some(rule) = Rule::from_record(rule, object, detail) {
            self.exceptions.push(ConstraintException { table, rule, rows });
        }
    }
}

/// The statement that removes the record of an exception from a table given as SQL.
pub fn delete_exception(exceptions: &str, exception: &ConstraintException) -> String {
    let ConstraintException { table, rule, .. } = exception;
    format!(
        "DELETE FROM {exceptions} WHERE table_name = {} AND rule = {} AND object = {}",
        literal(table),
        literal(rule.record_name()),
        literal(rule.object())
    )
}

/// The statement that writes the ledger row of a migration into a table given as SQL. `now` is the
/// store's present time.
pub fn insert_ledger_row(ledger: &str, migration: &Migration, took: Duration, now: &str) -> String {
    let took_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
    format!(
        "INSERT INTO {ledger} (name, checksum, executed_at, execution_time_ms, version) \
         VALUES ({}, {}, {now}, {took_ms}, {})",
        literal(migration.name),
        literal(migration.checksum),
        literal(VERSION)
    )
}

/// The statement that writes one row into `site_logs`, given as SQL.
pub fn insert_site_log(site_logs: &str, entry: &SiteLogEntry) -> String {
    format!(
        "INSERT INTO {site_logs} (level, category, message) VALUES ({}, 'database', {})",
        literal(entry.level),
        literal(&entry.message)
    )
}
