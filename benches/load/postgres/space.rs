//! Bytes per row on PostgreSQL: the table's own, and with its indexes.

use postgres::Client;

use crate::Result;
use crate::figures::Line;
use crate::postgres::side::{PostgresSide, connect_both};
use crate::rows::BIG;

pub fn measure(sides: [&PostgresSide; 2], rows: u64) -> Result<Vec<Line>> {
    let [mut ours, mut baseline] = connect_both(sides)?;
    let mut lines = Vec::new();
    for table in BIG {
        for (part, function) in [("heap", "pg_table_size"), ("indexes", "pg_indexes_size")] {
            let [ours, baseline] =
                [&mut ours, &mut baseline].map(|client| bytes_per_row(client, table, function));
            let line = Line::new(format!("{table}, {part}"), rows, "bytes/row", ours?.into());
            lines.push(line.beside(baseline?.into()));
        }
    }
    Ok(lines)
}

fn bytes_per_row(client: &mut Client, table: &str, function: &str) -> Result<f64> {
    let sql = format!("SELECT {function}('{table}')::float8 / count(*) FROM {table}");
    Ok(client.query_one(&sql, &[])?.get(0))
}
