//! The record of relaxed rules in a PostgreSQL database: a table that is made when the first one is.

use super::session::{Row, Session, literal};
use crate::error::Result;
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// Its name.
pub const TABLE: &str = "cts_relaxations";

/// The question for them; none where there is no record.
pub fn asking(are_there: bool) -> String {
    if are_there {
        format!("SELECT table_name, rule, object, detail, row_count FROM {TABLE} ORDER BY 1, 2, 3")
    } else {
        "SELECT NULL WHERE false".into()
    }
}

/// The rules that the rows of [`asking`] tell.
pub fn read(rows: &[Row]) -> Vec<ConstraintException> {
    let exception = |row: &Row| {
        let rule = Rule::from_record(row.text(1), row.text(2).into(), row.text(3).into())?;
        Some(ConstraintException { table: row.text(0).into(), rule, rows: row.number(4) })
    };
    rows.iter().filter_map(exception).collect()
}

/// Records a rule as relaxed; the record is made when the first one is.
pub fn record(session: &mut Session, exception: &ConstraintException) -> Result<()> {
    let ConstraintException { table, rule, rows } = exception;
    let detail = if let Rule::Type(_, kind) = rule { kind } else { "" };
    session.run(&format!(
        "CREATE TABLE IF NOT EXISTS {TABLE} ( \
             table_name TEXT NOT NULL, \
             rule       TEXT NOT NULL, \
             object     TEXT NOT NULL, \
             detail     TEXT NOT NULL DEFAULT '', \
             row_count  BIGINT NOT NULL, \
             since      TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP, \
             PRIMARY KEY (table_name, rule, object) \
         ); \
         INSERT INTO {TABLE} (table_name, rule, object, detail, row_count) \
         VALUES ({}, {}, {}, {}, {rows}) ON CONFLICT (table_name, rule, object) \
         DO UPDATE SET detail = excluded.detail, row_count = excluded.row_count",
        literal(table),
        literal(rule.record_name()),
        literal(rule.object()),
        literal(detail)
    ))
}

/// The statement that takes a rule off the record.
pub fn removing(exception: &ConstraintException) -> String {
    let ConstraintException { table, rule, .. } = exception;
    format!(
        "DELETE FROM {TABLE} WHERE table_name = {} AND rule = {} AND object = {}",
        literal(table),
        literal(rule.record_name()),
        literal(rule.object())
    )
}
