//! Reads the ledger of a PostgreSQL database, whatever columns and types an older CTS gave it.

use serde_json::Value;

use super::session::Row;
use crate::error::Result;
use crate::store::schema::POSTGRES;
use crate::store::sql::literal;
use cts_schema::catalog::Catalog;
use cts_schema::migration::AppliedMigration;

/// The query for the ledger's rows as JSON, and a query without rows where there is no ledger. An
/// older program may have left any number of rows; only those that cts can have written are read.
pub fn select(catalog: &Catalog) -> String {
    let has = |name: &str| {
        let table = catalog.table("migrations");
        table.is_some_and(|table| table.columns.iter().any(|column| column.name == name))
    };
    if !has("name") || !has("checksum") {
        return "SELECT NULL WHERE false".into();
    }
    let all = POSTGRES.migrations.iter().chain([&POSTGRES.fallback]);
    let names: Vec<String> = all.map(|migration| literal(migration.name)).collect();
    format!(
        "SELECT to_json(m) FROM migrations m \
         WHERE length(m.checksum::text) = 64 OR m.checksum IS NOT NULL AND m.name::text IN ({})",
        names.join(", ")
    )
}

/// The ledger in the rows of [`select`], by id.
///
/// # Errors
/// `Kind::Io` if a row cannot be read.
pub fn read(rows: &[Row]) -> Result<Vec<AppliedMigration>> {
    let rows = rows.iter().map(|row| row.text(0).map(applied));
    let mut ledger = rows.collect::<Result<Vec<AppliedMigration>>>()?;
    ledger.sort_by_key(|row| row.id);
    Ok(ledger)
}

/// A row. The cells of an older program may hold anything; one that is not what the ledger of cts
/// holds there reads as if it were missing.
fn applied(json: &str) -> AppliedMigration {
    let row: Value = serde_json::from_str(json).unwrap_or_default();
    let text = |name: &str| match &row[name] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    AppliedMigration {
        id: text("id").and_then(|id| id.parse().ok()),
        name: text("name").unwrap_or_default(),
        checksum: text("checksum"),
        executed_at: text("executed_at").map(|time| stored_time(&time)),
        execution_time_ms: row["execution_time_ms"].as_i64(),
        version: text("version"),
    }
}

/// A time of the server (`2026-11-23T05:43:00.1234+00:00`) in the form in which SQLite stores it.
fn stored_time(time: &str) -> String {
    let (day, rest) = time.split_once('T').unwrap_or((time, "00:00:00"));
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
            ("2026-11-23T05:43:00.123456+00:00", "2026-11-23 05:43:00.123"),
            ("2026-11-23T05:43:00.1+00:00", "2026-11-23 05:43:00.100"),
            ("2026-11-23T05:43:00", "2026-11-23 05:43:00.000"),
            ("2026-11-23", "2026-11-23 00:00:00.000"),
        ] {
            assert_eq!(stored_time(given), shown);
        }
    }

    #[test]
    fn damaged_ledger_rows_are_read() {
        let row = applied(r#"{"id":"x","name":7,"checksum":null,"extra":1}"#);
        assert_eq!((row.id, row.name.as_str(), row.checksum), (None, "7", None));
        assert_eq!(applied("nonsense").name, "");
    }
}
