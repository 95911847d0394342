//! Bytes per row, including its index entries.

use rusqlite::Connection;

use crate::Result;
use crate::figures::{Goal, Line};
use crate::rows::{BIG, TABLES};
use crate::side::Side;

const GOAL: Goal = Goal::RatioAtMost(0.75);

/// After a checkpoint: for the whole file, then for each large table with its indexes (`dbstat`).
pub fn measure(sides: [&Side; 2], rows: u64) -> Result<Vec<Line>> {
    let conns = [sides[0].open(sides[0].settings)?, sides[1].open(sides[1].settings)?];
    let line = |what: String, ours: f64, baseline: f64| {
        Line::new(what, rows, "bytes/row", ours.into()).beside(baseline.into()).goal(GOAL)
    };
    let files = [file_bytes(&conns[0])?, file_bytes(&conns[1])?];
    let all = count(&conns[0], TABLES.iter().map(|table| table.name))?;
    let mut lines = vec![line("file".into(), files[0] / all, files[1] / all)];
    for table in BIG {
        let many = count(&conns[0], [table])?;
        let [ours, baseline] = [table_bytes(&conns[0], table)?, table_bytes(&conns[1], table)?];
        lines.push(line(table.into(), ours / many, baseline / many));
    }
    Ok(lines)
}

fn file_bytes(conn: &Connection) -> Result<f64> {
    let sql = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    Ok(conn.query_row(sql, [], |row| row.get::<_, i64>(0))? as f64)
}

fn count<'a>(conn: &Connection, tables: impl IntoIterator<Item = &'a str>) -> Result<f64> {
    let mut all = 0;
    for table in tables {
        all += conn
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))?;
    }
    Ok(all as f64)
}

fn table_bytes(conn: &Connection, table: &str) -> Result<f64> {
    let sql = "SELECT sum(s.pgsize) FROM sqlite_schema t JOIN dbstat s ON s.name = t.name AND s.aggregate = TRUE \
               WHERE t.tbl_name = ?1";
    Ok(conn.query_row(sql, [table], |row| row.get::<_, i64>(0))? as f64)
}
