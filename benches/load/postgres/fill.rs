//! Fills a PostgreSQL database with the rows of the generator, in chronological order, by COPY.

use std::io::Write;
use std::time::Instant;

use postgres::Client;

use crate::Result;
use crate::fill::{Progress, reference_rows};
use crate::postgres::parameters::{borrowed, parameters, with_dollars, write_line};
use crate::postgres::side::PostgresSide;
use crate::rows::{Order, TABLES, Table};
use crate::world::World;

/// Rows of the large tables per transaction.
const CHUNK: u64 = 100_000;
/// Bytes of lines that are sent together.
const BUFFER: usize = 64 << 10;

fn insert_reference_rows(client: &mut Client, world: &World) -> Result<()> {
    let mut transaction = client.transaction()?;
    for (sql, rows) in reference_rows(world) {
        let insert = transaction.prepare(&with_dollars(sql))?;
        for row in rows {
            let row = parameters(&row, insert.params())?;
            transaction.execute(&insert, &borrowed(&row))?;
        }
    }
    Ok(transaction.commit()?)
}

/// Grows the tables from `before` rows to `after` rows, then cleans them up as autovacuum would, but
/// without statistics.
pub fn grow(
    side: &PostgresSide,
    world: &World,
    before: u64,
    after: u64,
    progress: &mut Progress,
) -> Result<()> {
    let mut client = side.connect()?;
    client.batch_execute("SET synchronous_commit = off")?;
    // Without the checks of foreign keys, which only a superuser may leave out; with them it takes longer.
    let _ = client.batch_execute("SET session_replication_role = replica");
    if before == 0 {
        insert_reference_rows(&mut client, world)?;
    }
    for sql in TABLES.iter().filter_map(Table::retire) {
        client.batch_execute(&sql)?;
    }
    let begun = Instant::now();
    for start in (before..after).step_by(CHUNK as usize) {
        let end = after.min(start + CHUNK);
        for table in &TABLES {
            let numbers = table.count(start)..table.count(end);
            let first_live = table.first_live(after);
            let rows =
                numbers.map(|number| table.row(world, number, number >= first_live, Order::Cycles));
            copy(&mut client, table, rows)?;
        }
        let rate = (end - before) as f64 / begun.elapsed().as_secs_f64();
        progress.report_rows(side.name, end, after, rate);
    }
    Ok(client.batch_execute("VACUUM")?)
}

/// Copies rows into a table, in one transaction.
pub fn copy(
    client: &mut Client,
    table: &Table,
    rows: impl Iterator<Item = Vec<rusqlite::types::Value>>,
) -> Result<()> {
    let sql = format!("COPY {} ({}) FROM STDIN", table.name, table.columns());
    let mut writer = client.copy_in(&sql)?;
    let mut lines = String::with_capacity(2 * BUFFER);
    for row in rows {
        write_line(&mut lines, &row);
        if lines.len() > BUFFER {
            writer.write_all(lines.as_bytes())?;
            lines.clear();
        }
    }
    writer.write_all(lines.as_bytes())?;
    writer.finish()?;
    Ok(())
}
