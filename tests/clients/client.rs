//! A trading program in Rust: `client writer|reader DATABASE SECONDS`.
//!
//! Prints as JSON how many transactions it made, how often SQLite said `SQLITE_BUSY`, and how
//! long the longest took.

use std::thread::sleep;
use std::time::Instant;

use rusqlite::ErrorCode;
use serde_json::json;

// docs/sqlite.md
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Result, TransactionBehavior};

fn connect(path: &str) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE; // never creates a database
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(Duration::from_secs(5))?;
    db.set_transaction_behavior(TransactionBehavior::Immediate);
    db.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536;
         PRAGMA wal_autocheckpoint = 10000; PRAGMA foreign_keys = ON;",
    )?;
    Ok(db)
}
// docs/sqlite.md

const SYMBOLS: [&str; 3] = ["BTCUSDT", "ETHUSDT", "SOLUSDT"];
const LIMIT: &str = "SELECT count(*) FROM pseudo_positions WHERE connection_id = ?1 AND symbol = ?2 \
                     AND indication_type = 'move' AND side = 'long' AND status = 'active'";

fn write(db: &mut Connection, symbol: &str) -> Result<()> {
    let transaction = db.transaction()?;
    let _: i64 = transaction.query_row(LIMIT, ["bybit-x03", symbol], |row| row.get(0))?;
    transaction.execute(
        "INSERT INTO pseudo_positions (connection_id, symbol, indication_type, entry_price) VALUES (?1, ?2, ?3, ?4)",
        ("bybit-x03", symbol, "move", 1.5),
    )?;
    transaction.execute(
        "INSERT INTO site_logs (level, category, message) VALUES ('info', 'orders', 'opened')",
        [],
    )?;
    transaction.commit()
}

fn read(db: &mut Connection, symbol: &str) -> Result<()> {
    let live = "SELECT id, opened_at FROM pseudo_positions WHERE connection_id = 'bybit-x03' AND status = 'active' \
                ORDER BY opened_at DESC LIMIT 20";
    let mut live = db.prepare(live)?;
    let ids: Result<Vec<i64>> = live.query_map([], |row| row.get(0))?.collect();
    ids?;
    let _: i64 = db.query_row(LIMIT, ["bybit-x03", symbol], |row| row.get(0))?;
    Ok(())
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [role, path, seconds] = words.as_slice() else {
        return Err("client writer|reader DATABASE SECONDS".into());
    };
    let mut db = connect(path)?;
    let is_writer = role == "writer";
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let (mut transactions, mut busy, mut longest) = (0, 0, Duration::ZERO);
    while Instant::now() < end {
        let begun = Instant::now();
        let symbol = SYMBOLS[(std::process::id() as usize + transactions) % SYMBOLS.len()];
        let work = if is_writer { write } else { read };
        match work(&mut db, symbol) {
            Ok(()) => transactions += 1,
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => busy += 1,
            Err(e) => return Err(e.into()),
        }
        longest = longest.max(begun.elapsed());
        sleep(Duration::from_millis(if is_writer { 10 } else { 2 }));
    }
    let longest_ms = longest.as_secs_f64() * 1000.0;
    println!("{}", json!({ "transactions": transactions, "busy": busy, "longest_ms": longest_ms }));
    Ok(())
}
