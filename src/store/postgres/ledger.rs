//! Reads the ledger of a PostgreSQL database, whatever columns and types an older CTS gave it.

use super::conversion::as_text;
use super::row::Row;
use crate::store::schema::POSTGRES;
use crate::store::sql::{LEDGER_COLUMNS, literal, quoted};
use cts_schema::catalog::Catalog;
use cts_schema::migration::AppliedMigration;

/// The query for the ledger's rows, their cells in the order of [`LEDGER_COLUMNS`], and a query
/// without rows where there is no ledger. An older program may have left any number of rows; only
/// those that cts can have written are read.
pub fn select(catalog: &Catalog, ledger: &str) -> String {
    let has = |name: &str| {
        let table = catalog.table("migrations");
        table.is_some_and(|table| table.columns.iter().any(|column| column.name == name))
    };
    if !has("name") || !has("checksum") {
        return "SELECT NULL WHERE false".into();
    }
    let all = POSTGRES.migrations.iter().chain([&POSTGRES.fallback]);
    let names: Vec<String> = all.map(|migration| literal(migration.name)).collect();
    let cell = |name: &&str| match has(name) {
        true => as_text(&format!("m.{}", quoted(name))),
        false => "NULL".into(),
    };
    let cells: Vec<String> = LEDGER_COLUMNS.iter().map(cell).collect();
    format!(
        "SELECT {} FROM {ledger} m \
         WHERE length(concat(m.checksum)) = 64 OR m.checksum IS NOT NULL AND concat(m.name) IN ({})",
        cells.join(", "),
        names.join(", ")
    )
}

/// The ledger in the rows of [`select`], by id.
pub fn read(rows: &[Row]) -> Vec<AppliedMigration> {
    let rows = rows.iter().map(|row| applied(|at| row.get(at)));
    let mut ledger: Vec<AppliedMigration> = rows.collect();
    ledger.sort_by_key(|row| row.id);
    ledger
}

/// A row. The cells of an older program may hold anything; one that is not what the ledger of cts
/// holds there reads as if it were missing.
fn applied<'r>(cell: impl Fn(usize) -> Option<&'r str>) -> AppliedMigration {
    AppliedMigration {
        id: cell(0).and_then(|id| id.parse().ok()),
        name: cell(1).unwrap_or_default().to_string(),
        checksum: cell(2).map(str::to_string),
        executed_at: cell(3).map(stored_time),
        execution_time_ms: cell(4).and_then(|time| time.parse().ok()),
        version: cell(5).map(str::to_string),
    }
}

/// A time of the server (`2026-11-23 05:43:00.1234+00`) in the form in which SQLite stores it.
fn stored_time(time: &str) -> String {
    let (day, rest) = time.split_once(['T', ' ']).unwrap_or((time, "00:00:00"));
    let clock = rest.split(['+', '-', 'Z']).next().unwrap_or_default();
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    format!("{day} {seconds}.{:0<3}", fraction.get(..3).unwrap_or(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_server_are_shown_as_those_of_sqlite() {
        for (given, shown) in [
            ("2026-11-23 05:43:00.123456+00", "2026-11-23 05:43:00.123"),
            ("2026-11-23 05:43:00.1+00", "2026-11-23 05:43:00.100"),
            ("2026-11-23T05:43:00", "2026-11-23 05:43:00.000"),
            ("2026-11-23", "2026-11-23 00:00:00.000"),
        ] {
            assert_eq!(stored_time(given), shown);
        }
    }

    #[test]
    fn damaged_ledger_rows_are_read() {
        let row = applied(|at| [Some("x"), Some("7")].get(at).copied().flatten());
        assert_eq!((row.id, row.name.as_str(), row.checksum), (None, "7", None));
        assert_eq!(applied(|_| None).name, "");
    }
}
