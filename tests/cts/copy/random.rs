//! There and back: random databases come back with the same digests, the same rows, and the same results of the
//! statements that the trading programs run.

use std::collections::BTreeSet;

use postgres::{Client, SimpleQueryMessage};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::support::harness::for_each;
use crate::support::hostile::{Forms, fill};
use crate::support::random::Random;
use crate::support::statements::{Shape, shapes};

use super::{Ends, columns, proved, rows};

const DATABASES: u64 = 20;
/// In each of the tables.
const ROWS: usize = 14;
/// A time that some rows are older than and some newer.
const SINCE: &str = "'1970-06-01 12:00:00.000'";

#[test]
fn random_databases_come_back_as_they_were() {
    columns();
    for_each(1..=DATABASES, |seed| {
        let forms = if seed % 2 == 0 { Forms::Own } else { Forms::Any };
        let ends = Ends::new();
        fill(&ends.machine.open(), columns(), &mut Random(seed), ROWS, forms);
        let there = proved(&ends.to_postgresql("--json").success().json());
        let back = proved(&ends.to_sqlite("--json").success().json());
        assert_eq!(there, back, "seed {seed}");
        assert!(there["pseudo_positions"].0 >= 10, "{there:?}");
        if seed < 3 {
            ends.server_is_good();
            ends.machine.cts("--check --deep").db(&ends.back()).success();
            ends.machine.cts("verify").db(&ends.back()).success();
        }
        if forms == Forms::Own {
            same_rows(&ends, seed);
        }
        same_results(&ends, seed, forms);
    });
}

/// Each value has come back with its type.
fn same_rows(ends: &Ends, seed: u64) {
    let tables: BTreeSet<_> = columns().iter().map(|column| &column.table).collect();
    for table in tables {
        let [first, back] = [&ends.machine.db(), &ends.back()].map(|db| rows(db, table));
        assert_eq!(first, back, "seed {seed}, {table}");
    }
}

/// Those that read come first: a row that is written gets the time of its writing.
fn same_results(ends: &Ends, seed: u64, forms: Forms) {
    let (first, back) = (ends.machine.open(), Connection::open(ends.back()).unwrap());
    let mut server = ends.database.open();
    let connection =
        "SELECT connection_id FROM pseudo_positions GROUP BY 1 ORDER BY count(*) DESC, 1";
    let connection: String = back.query_row(connection, [], |row| row.get(0)).unwrap();
    server.batch_execute("SET timezone = 'UTC'").unwrap();
    let mut found = 0;
    let mut shapes = shapes();
    shapes.sort_by_key(|shape| !shape.sql.starts_with("SELECT"));
    for shape in shapes {
        let sql = with_values(&shape, &connection);
        let came_back = results(&back, &sql);
        found += usize::from(came_back.len() > 1);
        let what = format!("seed {seed}: {sql}");
        // A text of a time in another form sorts by that form.
        if forms == Forms::Own {
            assert_eq!(results(&first, &sql), came_back, "{what}");
        }
        // Sums of doubles depend on the order in which they are added.
        let sums = ["SUM(profit_loss)", "AVG("].iter().any(|sum| sql.contains(sum));
        if !sums {
            assert_eq!(server_results(&mut server, &sql), came_back, "{what}");
        }
    }
    assert!(found > 6, "seed {seed}: only {found} statements found rows");
}

/// The statement with a literal for each parameter.
fn with_values(shape: &Shape, connection: &str) -> String {
    let mut sql = shape.sql.trim().to_string();
    let inserted: Vec<String> = match sql.split_once(") VALUES (") {
        Some((head, _)) => {
            let (_, names) = head.split_once('(').unwrap();
            names.split(", ").map(str::to_string).collect()
        }
        None => Vec::new(),
    };
    for number in (1..=12).rev() {
        let mark = format!("?{number}");
        let Some(at) = sql.find(&mark) else { continue };
        let name = if inserted.is_empty() {
            let before: Vec<&str> = sql[..at].split_whitespace().collect();
            let last = before[before.len() - 1];
            let is_operator = last.chars().all(|c| "=<>".contains(c));
            before[before.len() - if is_operator { 2 } else { 1 }].to_string()
        } else {
            inserted[number - 1].clone()
        };
        let name = name.rsplit('.').next().unwrap();
        sql = sql.replace(&mark, &literal(name, shape.table(), connection));
    }
    assert!(!sql.contains('?'), "{sql}");
    sql
}

fn literal(name: &str, table: &str, connection: &str) -> String {
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    match name {
        "connection_id" => text(connection),
        "id" if table == "exchange_connections" => text(connection),
        "id" => "(SELECT max(id) FROM pseudo_positions)".into(),
        "LIMIT" => "1000".into(),
        "symbol" => text("BTCUSDT"),
        "side" => text("long"),
        "indication_type" => text("direction"),
        "strategy_type" => text("base"),
        "position_level" => text("base"),
        "base_position_id" => text("base-1"),
        "level" => text("info"),
        "category" => text("trade"),
        "status" => text("idle"),
        "key" => text("positionCost"),
        "trailing_enabled" | "is_enabled" | "is_live_trade" => "true".into(),
        _ if name.ends_with("_at") || ["timestamp", "last_heartbeat"].contains(&name) => {
            SINCE.into()
        }
        "value" | "state_key" | "close_reason" => text("größer ✓"),
        "user_id" | "message" | "context" | "error_message" | "error_stack" | "metadata" => {
            text(name)
        }
        // Prices, quantities and factors.
        _ => "-1.5".into(),
    }
}

/// The rows, or how many were changed.
fn results(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    let width = statement.column_count();
    if width == 0 {
        return vec![format!("{} changed", statement.execute([]).unwrap())];
    }
    let value = |value: ValueRef| match value {
        ValueRef::Null => "NULL".to_string(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => plain(&number.to_string()),
        ValueRef::Text(text) => plain(std::str::from_utf8(text).unwrap()),
        ValueRef::Blob(_) => panic!("{sql}: bytes"),
    };
    let row = |row: &rusqlite::Row| {
        (0..width).map(|at| row.get_ref(at).map(value)).collect::<Result<Vec<_>, _>>()
    };
    let rows = statement.query_map([], row).unwrap().map(|row| format!("{:?}", row.unwrap()));
    sorted(rows.collect())
}

fn server_results(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let mut rows = Vec::new();
    let mut changed = 0;
    let mut has_rows = false;
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                let value = |at| row.get(at).map_or("NULL".to_string(), plain);
                rows.push(format!("{:?}", (0..row.len()).map(value).collect::<Vec<_>>()));
            }
            SimpleQueryMessage::RowDescription(_) => has_rows = true,
            SimpleQueryMessage::CommandComplete(count) => changed = count,
            _ => {}
        }
    }
    if has_rows { sorted(rows) } else { vec![format!("{changed} changed")] }
}

/// Rows of which the statement does not determine the order come in any.
fn sorted(mut rows: Vec<String>) -> Vec<String> {
    rows.sort();
    rows
}

/// A value in one form, whichever store has printed it.
fn plain(text: &str) -> String {
    match text {
        "t" => return "1".into(),
        "f" => return "0".into(),
        _ => {}
    }
    let is_time = text.len() > 18 && text.get(4..5) == Some("-") && text.get(10..11) == Some(" ");
    let text = if is_time { text.strip_suffix("+00").unwrap_or(text) } else { text };
    if is_time && text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_string();
    }
    if text.parse::<i64>().is_ok() {
        return text.to_string();
    }
    // The bits, but for the sign of zero, or the integer where Rust prints one.
    match text.parse::<f64>().map(|number| number.to_string()) {
        Ok(integer) if integer.parse::<i64>().is_ok() => integer,
        Ok(number) => format!("{:x}", (number.parse::<f64>().unwrap() + 0.0).to_bits()),
        Err(_) => text.to_string(),
    }
}
