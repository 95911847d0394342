//! Compares the two expected catalogues: both databases must have the same tables, columns, constraints and indexes,
//! each in its own SQL, so that a program finds in one what it finds in the other. Values only.

use std::fmt::Display;

use crate::catalog::{Catalog, Column, Index, List, Table, Text};
use crate::sql::canonical;
use crate::sql::ddl::IDENTITY;

/// An index that differs on purpose.
struct DifferentIndex {
    name: &'static str,
    /// Its columns on PostgreSQL.
    postgres_columns: &'static [&'static str],
    /// Why it differs.
    reason: &'static str,
}

/// Why the indexes of recent indications differ.
const IN_ORDER_OF_TIME: &str = "rows come in order of time, so that PostgreSQL adds each entry of an index by time alone at its end";

const DIFFERENT_INDEXES: &[DifferentIndex] = &[
    DifferentIndex {
        name: "idx_pseudo_positions_status",
        postgres_columns: &["connection_id", "status"],
        reason: "a tick changes profit_factor, and on PostgreSQL no update that changes an indexed column is HOT",
    },
    recent("idx_indications_direction_recent"),
    recent("idx_indications_move_recent"),
    recent("idx_indications_active_recent"),
    recent("idx_indications_optimal_recent"),
    recent("idx_indications_auto_recent"),
];

const fn recent(name: &'static str) -> DifferentIndex {
    DifferentIndex { name, postgres_columns: &["calculated_at"], reason: IN_ORDER_OF_TIME }
}

/// Compares the expected catalogues of both databases.
///
/// # Errors
/// Where they differ. The text lists all differences.
pub fn compare_catalogs(sqlite: &Catalog, postgres: &Catalog) -> Result<(), String> {
    let mut differences = Vec::new();
    compare_names("table", &sqlite.tables, &postgres.tables, |t| &t.name, &mut differences);
    for table in sqlite.tables.iter() {
        if let Some(other) = postgres.table(&table.name) {
            compare_tables(table, other, &mut differences);
        }
    }
    for index in DIFFERENT_INDEXES {
        if !sqlite.tables.iter().any(|table| table.index(index.name).is_some()) {
            differences.push(format!(
                "index {} is listed as different ({}) and does not exist",
                index.name, index.reason
            ));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("schema/postgres is not schema/sqlite:\n  {}", differences.join("\n  ")))
}

/// Compares the names of two lists, and their order.
fn compare_names<T: Clone>(
    what: &str,
    sqlite: &List<T>,
    postgres: &List<T>,
    name: impl Fn(&T) -> &Text,
    differences: &mut Vec<String>,
) {
    let sqlite: Vec<_> = sqlite.iter().map(&name).collect();
    let postgres: Vec<_> = postgres.iter().map(&name).collect();
    let before = differences.len();
    for missing in sqlite.iter().filter(|name| !postgres.contains(name)) {
        differences.push(format!("{what} {missing} is missing in schema/postgres"));
    }
    for missing in postgres.iter().filter(|name| !sqlite.contains(name)) {
        differences.push(format!("{what} {missing} is missing in schema/sqlite"));
    }
    if differences.len() == before && sqlite != postgres {
        differences.push(format!("{what}s in another order: {sqlite:?} and {postgres:?}"));
    }
}

fn compare_tables(sqlite: &Table, postgres: &Table, differences: &mut Vec<String>) {
    let table = &sqlite.name;
    let what = |part: &str| format!("{table}: {part}");
    compare_names(&what("column"), &sqlite.columns, &postgres.columns, |c| &c.name, differences);
    compare_names(&what("index"), &sqlite.indexes, &postgres.indexes, |i| &i.name, differences);
    for column in sqlite.columns.iter() {
        let other = postgres.columns.iter().find(|other| other.name == column.name);
        if let Some(other) = other.filter(|other| !corresponds(column, other)) {
            differences.push(difference(&format!("column {table}.{}", column.name), column, other));
        }
    }
    if constraints(sqlite) != constraints(postgres) {
        let (sqlite, postgres) = (constraints(sqlite), constraints(postgres));
        differences.push(difference(&format!("table {table}"), sqlite, postgres));
    }
    for index in sqlite.indexes.iter() {
        let expected = postgres_index(index);
        let differs = |other: &&Index| other.to_string() != expected.to_string();
        if let Some(other) = postgres.index(&index.name).filter(differs) {
            differences.push(difference(&format!("index {}", index.name), expected, other));
        }
    }
}

fn difference(object: &str, sqlite: impl Display, postgres: impl Display) -> String {
    format!("{object}: {sqlite} in schema/sqlite, {postgres} in schema/postgres")
}

/// The constraints of a table as text, in a form that is the same for both databases.
fn constraints(table: &Table) -> String {
    let checks = table.checks.iter().map(|check| format!("CHECK {}", canonical(check)));
    let keys = table.foreign_keys.iter().map(ToString::to_string);
    let unique = table.unique.iter().map(|columns| format!("UNIQUE ({})", columns.join(", ")));
    checks.chain(keys).chain(unique).collect::<Vec<_>>().join(", ")
}

/// Whether a column of PostgreSQL corresponds to one of SQLite.
fn corresponds(sqlite: &Column, postgres: &Column) -> bool {
    let is_key = sqlite.primary_key_position > 0;
    let data_types: &[&str] = match &*sqlite.data_type {
        "INTEGER" if sqlite.primary_key_position == 1 => &["BIGINT"],
        "INTEGER" => &["INTEGER", "BIGINT", "BOOLEAN"],
        "REAL" => &["DOUBLE PRECISION"],
        "TEXT" => &["TEXT", "TIMESTAMPTZ", "DATE"],
        _ => &[],
    };
    data_types.contains(&&*postgres.data_type)
        && postgres.not_null == (sqlite.not_null || is_key)
        && postgres.primary_key_position == sqlite.primary_key_position
        && postgres.default.as_deref() == postgres_default(sqlite, &postgres.data_type).as_deref()
}

/// The default of a SQLite column as it should be on PostgreSQL, where the column has this type.
fn postgres_default(sqlite: &Column, data_type: &str) -> Option<String> {
    if sqlite.primary_key_position == 1 && sqlite.data_type == "INTEGER" {
        return Some(IDENTITY.into());
    }
    let default = canonical(sqlite.default.as_deref()?);
    Some(match (data_type, default.as_str()) {
        ("BOOLEAN", "0") => "FALSE".into(),
        ("BOOLEAN", "1") => "TRUE".into(),
        ("TIMESTAMPTZ", "strftime('%Y-%m-%d %H:%M:%f', 'now')") => "CURRENT_TIMESTAMP".into(),
        _ => default,
    })
}

/// A SQLite index as it should be on PostgreSQL.
fn postgres_index(sqlite: &Index) -> Index {
    let different = DIFFERENT_INDEXES.iter().find(|index| index.name == sqlite.name);
    let columns = different.map(|index| index.postgres_columns.iter().map(|c| Text::from(*c)));
    Index {
        columns: columns.map_or_else(|| sqlite.columns.clone(), |c| c.collect::<Vec<_>>().into()),
        predicate: sqlite.predicate.as_deref().map(|sql| canonical(sql).into()),
        ..sqlite.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(data_type: &'static str, default: Option<&'static str>) -> Column {
        Column {
            name: "c".into(),
            data_type: data_type.into(),
            not_null: false,
            default: default.map(Into::into),
            primary_key_position: 0,
            attributes: List::default(),
        }
    }

    #[test]
    fn types_and_defaults_correspond_in_the_sql_of_each_database() {
        let now = "strftime('%Y-%m-%d %H:%M:%f', 'now')";
        for (sqlite, postgres, expected) in [
            (column("INTEGER", Some("0")), column("BOOLEAN", Some("FALSE")), true),
            (column("INTEGER", Some("0")), column("BOOLEAN", Some("TRUE")), false),
            (column("INTEGER", Some("0")), column("INTEGER", Some("0")), true),
            (column("TEXT", Some(now)), column("TIMESTAMPTZ", Some("CURRENT_TIMESTAMP")), true),
            (column("TEXT", Some(now)), column("TEXT", Some("CURRENT_TIMESTAMP")), false),
            (column("REAL", None), column("DOUBLE PRECISION", None), true),
            (column("REAL", None), column("INTEGER", None), false),
        ] {
            assert_eq!(corresponds(&sqlite, &postgres), expected, "{sqlite} and {postgres}");
        }
    }

    #[test]
    fn a_primary_key_is_an_identity_column() {
        let sqlite = Column { primary_key_position: 1, ..column("INTEGER", None) };
        let postgres = Column { not_null: true, ..column("BIGINT", Some(IDENTITY)) };
        assert!(corresponds(&sqlite, &Column { primary_key_position: 1, ..postgres.clone() }));
        assert!(!corresponds(&sqlite, &postgres));
    }
}
