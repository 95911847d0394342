//! Proves that the two backends have the same schema: the same tables, columns, rules and
//! indexes, each in its own words. A program finds in one what it finds in the other.

use std::fmt::Display;

use cts_schema::catalog::{Catalog, Column, Index, List, Table, Text};
use cts_schema::sql::canonical;
use cts_schema::sql::ddl::IDENTITY;

/// Indexes that differ on purpose: their columns in PostgreSQL, and why.
const DIFFERENT: &[(&str, &[&str], &str)] = &[(
    "idx_pseudo_positions_status",
    &["connection_id", "status"],
    "a tick moves profit_factor, and PostgreSQL writes no row in place whose index entries move",
)];

/// What differs, if anything does.
pub fn prove(sqlite: &Catalog, postgres: &Catalog) -> Result<(), String> {
    let mut faults = Vec::new();
    both("table", &sqlite.tables, &postgres.tables, |t| &t.name, &mut faults);
    for table in sqlite.tables.iter() {
        if let Some(other) = postgres.table(&table.name) {
            compare(table, other, &mut faults);
        }
    }
    for (index, _, reason) in DIFFERENT {
        if !sqlite.tables.iter().any(|table| table.index(index).is_some()) {
            faults.push(format!("index {index} is said to differ ({reason}), and is not there"));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(format!("schema/postgres is not schema/sqlite:\n  {}", faults.join("\n  ")))
}

/// The names of both are the same, in the same order.
fn both<T: Clone>(
    what: &str,
    ours: &List<T>,
    theirs: &List<T>,
    name: impl Fn(&T) -> &Text,
    faults: &mut Vec<String>,
) {
    let ours: Vec<_> = ours.iter().map(&name).collect();
    let theirs: Vec<_> = theirs.iter().map(&name).collect();
    let before = faults.len();
    for missing in ours.iter().filter(|name| !theirs.contains(name)) {
        faults.push(format!("{what} {missing} is missing in schema/postgres"));
    }
    for extra in theirs.iter().filter(|name| !ours.contains(name)) {
        faults.push(format!("{what} {extra} is missing in schema/sqlite"));
    }
    if faults.len() == before && ours != theirs {
        faults.push(format!("{what}s in another order: {ours:?}, and {theirs:?}"));
    }
}

fn compare(ours: &Table, theirs: &Table, faults: &mut Vec<String>) {
    let table = &ours.name;
    both(&format!("{table}: column"), &ours.columns, &theirs.columns, |c| &c.name, faults);
    both(&format!("{table}: index"), &ours.indexes, &theirs.indexes, |i| &i.name, faults);
    for column in ours.columns.iter() {
        let other = theirs.columns.iter().find(|other| other.name == column.name);
        if let Some(other) = other.filter(|other| !is_same_column(column, other)) {
            faults.push(differs(&format!("column {table}.{}", column.name), column, other));
        }
    }
    let rules = |table: &Table| {
        let checks = table.checks.iter().map(|check| format!("CHECK {}", canonical(check)));
        let keys = table.foreign_keys.iter().map(ToString::to_string);
        let unique = table.unique.iter().map(|columns| format!("UNIQUE ({})", columns.join(", ")));
        checks.chain(keys).chain(unique).collect::<Vec<_>>().join(", ")
    };
    if rules(ours) != rules(theirs) {
        faults.push(differs(&format!("table {table}"), rules(ours), rules(theirs)));
    }
    for index in ours.indexes.iter() {
        let expected = translated_index(index);
        let is_other = |other: &&Index| other.to_string() != expected.to_string();
        if let Some(other) = theirs.index(&index.name).filter(is_other) {
            faults.push(differs(&format!("index {}", index.name), expected, other));
        }
    }
}

fn differs(what: &str, ours: impl Display, theirs: impl Display) -> String {
    format!("{what}: {ours} in schema/sqlite, {theirs} in schema/postgres")
}

fn is_same_column(ours: &Column, theirs: &Column) -> bool {
    let kinds: &[&str] = match &*ours.data_type {
        "INTEGER" if ours.primary_key_position == 1 => &["BIGINT"],
        "INTEGER" => &["INTEGER", "BIGINT", "BOOLEAN"],
        "REAL" => &["DOUBLE PRECISION"],
        "TEXT" => &["TEXT", "TIMESTAMPTZ", "DATE"],
        _ => &[],
    };
    kinds.contains(&&*theirs.data_type)
        && theirs.not_null == (ours.not_null || ours.primary_key_position > 0)
        && theirs.primary_key_position == ours.primary_key_position
        && theirs.default.as_deref() == translated_default(ours, &theirs.data_type).as_deref()
}

/// The default of a SQLite column as PostgreSQL has it for this type.
fn translated_default(column: &Column, kind: &str) -> Option<String> {
    if column.primary_key_position == 1 && column.data_type == "INTEGER" {
        return Some(IDENTITY.into());
    }
    let default = canonical(column.default.as_deref()?);
    Some(match (kind, default.as_str()) {
        ("BOOLEAN", "0") => "FALSE".into(),
        ("BOOLEAN", "1") => "TRUE".into(),
        ("TIMESTAMPTZ", "strftime('%Y-%m-%d %H:%M:%f', 'now')") => "CURRENT_TIMESTAMP".into(),
        _ => default,
    })
}

/// A SQLite index as PostgreSQL should have it.
fn translated_index(index: &Index) -> Index {
    let different = DIFFERENT.iter().find(|(name, ..)| *name == index.name);
    let columns = different.map(|(_, columns, _)| columns.iter().map(|c| Text::from(*c)).collect());
    Index {
        columns: columns.map_or_else(|| index.columns.clone(), |c: Vec<Text>| c.into()),
        predicate: index.predicate.as_deref().map(|predicate| canonical(predicate).into()),
        ..index.clone()
    }
}
