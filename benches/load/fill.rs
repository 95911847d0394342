//! Fills a database with rows in chronological order.
//!
//! Rows that are history at the end are inserted as history; the programs insert them as live and
//! update them later, which `expire` measures.

use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::Result;
use crate::rows::{Order, TABLES};
use crate::settings::UNSAFE_BUT_FAST;
use crate::side::{Side, checkpoint};
use crate::world::{CATEGORIES, Moment, World};

/// Rows of the large tables per transaction.
const CHUNK: u64 = 10_000;
pub const SETTINGS: u64 = 200;
pub const STATES: u64 = 2000;

/// Reports the progress of the run on standard error.
pub struct Progress {
    /// Rows at the end; `None` if the run is too short to report progress.
    pub rows: Option<u64>,
    begun: Instant,
    reported_at: Instant,
}

impl Progress {
    pub fn new(rows: Option<u64>) -> Self {
        Self { rows, begun: Instant::now(), reported_at: Instant::now() }
    }

    /// Reports the current step at once.
    pub fn report(&mut self, what: &str) {
        if self.rows.is_some() {
            eprintln!("{:>6.0} s  {what}", self.begun.elapsed().as_secs_f64());
        }
        self.reported_at = Instant::now();
    }

    /// Reports every few seconds how many rows one side has.
    pub fn report_rows(&mut self, side: &str, done: u64, next: u64, rate: f64) {
        if self.reported_at.elapsed() > Duration::from_secs(5) {
            let left = (next - done) as f64 / rate;
            self.report(&format!(
                "{side}: {done} of {next} rows, {rate:.0} a second, {left:.0} s left"
            ));
        }
    }
}

/// An insert statement and its rows.
pub type Inserts = (&'static str, Vec<Vec<Value>>);

/// The rows that exist from the start on every side.
pub fn reference_rows(world: &World) -> [Inserts; 4] {
    let now = Value::from(Moment(0).text());
    let numbered = || world.connections.iter().enumerate();
    let connection = |(number, id): (usize, &String)| {
        vec![id.clone().into(), format!("Account {number}").into(), (number as i64 % 2).into()]
    };
    let setting = |number: u64| {
        let category = CATEGORIES[number as usize % CATEGORIES.len()].to_owned();
        vec![setting_key(number).into(), number.to_string().into(), category.into()]
    };
    let state = |number| vec![state_key(world, number).into(), now.clone()];
    [
        (
            "INSERT INTO exchange_connections (id, name, exchange, is_enabled, is_active) VALUES (?1, ?2, 'bybit', ?3, TRUE)",
            numbered().map(connection).collect(),
        ),
        (
            "INSERT INTO connection_coordination (connection_id, status, last_heartbeat) VALUES (?1, 'running', ?2)",
            numbered().map(|(_, id)| vec![id.clone().into(), now.clone()]).collect(),
        ),
        (
            "INSERT INTO system_settings (key, value, category) VALUES (?1, ?2, ?3)",
            (0..SETTINGS).map(setting).collect(),
        ),
        (
            "INSERT INTO indication_states (state_key, validated_at) VALUES (?1, ?2)",
            (0..STATES).map(state).collect(),
        ),
    ]
}

/// Inserts the rows that exist from the start.
pub fn insert_reference_rows(conn: &Connection, world: &World) -> Result<()> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    for (sql, rows) in reference_rows(world) {
        let mut insert = conn.prepare(sql)?;
        for row in rows {
            insert.execute(params_from_iter(row))?;
        }
    }
    conn.execute_batch("COMMIT")?;
    Ok(())
}

pub fn setting_key(number: u64) -> String {
    format!("engineParameter{number}")
}

/// Composed as the engine does: connection, symbol, type.
pub fn state_key(world: &World, number: u64) -> String {
    let connection = &world.connections[number as usize % world.connections.len()];
    let symbol = &world.symbols[number as usize / world.connections.len() % world.symbols.len()];
    format!("{connection}:{symbol}:direction")
}

/// Grows the tables from `before` rows to `after` rows.
pub fn grow(
    side: &Side,
    world: &World,
    before: u64,
    after: u64,
    progress: &mut Progress,
) -> Result<()> {
    let conn = side.open(UNSAFE_BUT_FAST)?;
    if before == 0 {
        insert_reference_rows(&conn, world)?;
    }
    for sql in TABLES.iter().filter_map(|table| table.retire()) {
        conn.execute(&sql, [])?;
    }
    let mut inserts = Vec::new();
    for table in &TABLES {
        inserts.push((table, conn.prepare(&table.insert())?));
    }
    let begun = Instant::now();
    for start in (before..after).step_by(CHUNK as usize) {
        let end = after.min(start + CHUNK);
        conn.execute_batch("BEGIN IMMEDIATE")?;
        for (table, insert) in &mut inserts {
            for number in table.count(start)..table.count(end) {
                let is_live = number >= table.first_live(after);
                insert.execute(params_from_iter(table.row(
                    world,
                    number,
                    is_live,
                    Order::Cycles,
                )))?;
            }
        }
        conn.execute_batch("COMMIT")?;
        let rate = (end - before) as f64 / begun.elapsed().as_secs_f64();
        progress.report_rows(side.name, end, after, rate);
    }
    checkpoint(&conn, "TRUNCATE")
}
