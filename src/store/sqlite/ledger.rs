//! Reads the ledger of a SQLite database, whatever columns and values an older CTS gave it.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::catalog::text;
use crate::store::sql::LEDGER_COLUMNS;
use cts_schema::catalog::Catalog;
use cts_schema::migration::AppliedMigration;

/// The rows of the ledger, by id; none if there is no ledger. A column that it has not reads as NULL.
///
/// # Errors
/// If SQLite cannot read the table.
pub fn read(conn: &Connection, catalog: &Catalog) -> rusqlite::Result<Vec<AppliedMigration>> {
    let Some(table) = catalog.table("migrations") else {
        return Ok(Vec::new());
    };
    let column = |name: &str| {
        let exists = table.columns.iter().any(|column| column.name == name);
        if exists { name.to_string() } else { format!("NULL AS {name}") }
    };
    let columns = LEDGER_COLUMNS.map(column).join(", ");
    let mut statement = conn.prepare(&format!("SELECT {columns} FROM migrations ORDER BY 1"))?;
    statement.query_map([], applied)?.collect()
}

/// A row. Other programs may have stored any values; a text is read from all but NULL, so that a
/// damaged row is not taken for one without a checksum.
fn applied(row: &Row<'_>) -> rusqlite::Result<AppliedMigration> {
    Ok(AppliedMigration {
        id: integer(row.get_ref(0)?),
        name: text(row.get_ref(1)?).unwrap_or_default(),
        checksum: text(row.get_ref(2)?),
        executed_at: text(row.get_ref(3)?),
        execution_time_ms: integer(row.get_ref(4)?),
        version: text(row.get_ref(5)?),
    })
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(value) => Some(value),
        _ => None,
    }
}
