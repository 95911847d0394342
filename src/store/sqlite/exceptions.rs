//! The record of relaxed rules in a SQLite database: a table that is made when the first one is.

use rusqlite::{Connection, Result};

use cts_schema::catalog::Catalog;
use cts_schema::constraint_exception::{ConstraintException, Rule};

const TABLE: &str = "cts_relaxations";

/// The rules that are relaxed in this database, by table.
pub fn read(conn: &Connection, catalog: &Catalog) -> Result<Vec<ConstraintException>> {
    if !catalog.other_tables.iter().any(|name| name.eq_ignore_ascii_case(TABLE)) {
        return Ok(Vec::new());
    }
    let sql =
        format!("SELECT table_name, rule, object, detail, row_count FROM {TABLE} ORDER BY 1, 2, 3");
    let mut statement = conn.prepare(&sql).map_err(|_| {
        let what = format!("table {TABLE} is not the one that cts makes: rename it");
        rusqlite::Error::ToSqlConversionFailure(what.into())
    })?;
    let rows = statement.query_map([], |row| {
        let kind: String = row.get(1)?;
        let rule = Rule::from_record(&kind, row.get(2)?, row.get(3)?);
        Ok(rule.map(|rule| (row.get(0), rule, row.get::<_, i64>(4))))
    })?;
    let mut found = Vec::new();
    for row in rows {
        if let Some((table, rule, rows)) = row? {
            found.push(ConstraintException { table: table?, rule, rows: rows?.unsigned_abs() });
        }
    }
    Ok(found)
}

/// Records a rule as relaxed.
pub fn write(conn: &Connection, exception: &ConstraintException) -> Result<()> {
    conn.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} ( \
             table_name TEXT NOT NULL, \
             rule       TEXT NOT NULL, \
             object     TEXT NOT NULL, \
             detail     TEXT NOT NULL DEFAULT '', \
             row_count  INTEGER NOT NULL, \
             since      TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')), \
             PRIMARY KEY (table_name, rule, object) \
         )"
    ))?;
    let ConstraintException { table, rule, rows } = exception;
    let detail = if let Rule::Type(_, kind) = rule { kind } else { "" };
    let rows = i64::try_from(*rows).unwrap_or(i64::MAX);
    let sql = format!(
        "INSERT INTO {TABLE} (table_name, rule, object, detail, row_count) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT (table_name, rule, object) DO UPDATE SET detail = excluded.detail, row_count = excluded.row_count"
    );
    conn.execute(&sql, (table, rule.record_name(), rule.object(), detail, rows)).map(|_| ())
}

/// Takes a rule off the record.
pub fn remove(conn: &Connection, exception: &ConstraintException) -> Result<()> {
    let sql = format!("DELETE FROM {TABLE} WHERE table_name = ?1 AND rule = ?2 AND object = ?3");
    let ConstraintException { table, rule, .. } = exception;
    conn.execute(&sql, (table, rule.record_name(), rule.object())).map(|_| ())
}
