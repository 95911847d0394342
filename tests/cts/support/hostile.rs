//! Databases full of random values, each of which both stores can hold, among them those that a copy may easily lose.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::random::Random;

/// A column of the schema, with its type on PostgreSQL, which tells booleans and times apart.
#[derive(Clone, Debug)]
pub struct TypedColumn {
    pub table: String,
    pub name: String,
    pub data_type: String,
    pub is_required: bool,
}

/// How values are written that have more than one form on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forms {
    /// As cts writes them: what comes back is the same text.
    Own,
    /// In any form that a trading program may have written.
    Any,
}

/// Texts of columns that statements search by, so that they find rows.
const WORDS: &[(&str, &[&str])] = &[
    ("symbol", &["BTCUSDT", "ETHUSDT", "币安USDT", ""]),
    ("status", &["active", "closed", "open", "main_closed", "validated", "idle"]),
    ("side", &["long", "short"]),
    ("indication_type", &["direction", "move"]),
    ("strategy_type", &["base", "x"]),
    ("position_level", &["base", "main"]),
    ("base_position_id", &["base-1", "base-2"]),
    ("level", &["info", "warn"]),
    ("category", &["trade", "x"]),
];
/// Columns without an index, which may hold a long text. (An entry of an index of PostgreSQL has at most 2704 bytes.)
const LONG: &[&str] =
    &["message", "context", "details", "metadata", "settings", "stack", "close_reason"];
const REALS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1 + 0.2,
    5e-324,
    -2.225_073_858_507_201e-308,
    f64::MIN_POSITIVE,
    f64::MAX,
    f64::MIN,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::EPSILON,
    9_007_199_254_740_993.0,
    1e22,
    123_456_789.123_456_79,
];
const INTEGERS: &[i64] =
    &[0, 1, -1, i64::MAX, i64::MIN, 9_007_199_254_740_993, i32::MAX as i64, i32::MIN as i64];
const CHARACTERS: &[char] = &[
    'a',
    'Z',
    '0',
    ' ',
    '\'',
    '"',
    '\\',
    '\n',
    '\r',
    '\t',
    '\u{1}',
    '\u{7f}',
    '\u{80}',
    'é',
    'ß',
    '\u{301}',
    '✓',
    '币',
    '🚀',
    '\u{202e}',
    '\u{fffd}',
    '\u{fffe}',
    '\u{ffff}',
    '\u{10ffff}',
    '\u{feff}',
    '{',
    ',',
    'N',
    '.',
    '%',
];

/// Adds up to `rows` rows to each table.
pub fn fill(
    conn: &Connection,
    columns: &[TypedColumn],
    random: &mut Random,
    rows: usize,
    forms: Forms,
) {
    let mut tables: Vec<&str> = columns.iter().map(|column| &*column.table).collect();
    tables.dedup();
    // The others refer to its rows.
    tables.sort_by_key(|table| *table != "exchange_connections");
    let mut connections = vec![Value::Text("okx".into()), Value::Text(String::new())];
    connections.extend((0..4).map(|_| Value::Text(text(random, 12))));
    conn.execute_batch("BEGIN").unwrap();
    for table in tables {
        let columns: Vec<_> = columns.iter().filter(|column| column.table == table).collect();
        let names: Vec<_> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let marks = vec!["?"; columns.len()].join(", ");
        let sql = format!("INSERT OR IGNORE INTO {table} ({}) VALUES ({marks})", names.join(", "));
        let mut id = 100;
        for row in 0..rows {
            id += 1 + i64::try_from(random.below(5)).unwrap();
            let values = columns.iter().map(|column| match (table, &*column.name) {
                ("exchange_connections", "id") => connections[row % connections.len()].clone(),
                (_, "id") => Value::Integer(id),
                (_, "connection_id") if table != "site_logs" => {
                    // Most rows are of the first, so that statements find several.
                    let most = if random.below(2) == 0 { 1 } else { connections.len() };
                    connections[random.below(most)].clone()
                }
                _ => value(random, column, forms),
            });
            let values: Vec<_> = values.collect();
            conn.execute(&sql, params_from_iter(values)).unwrap_or_else(|e| panic!("{table}: {e}"));
        }
    }
    conn.execute_batch("COMMIT").unwrap();
}

fn value(random: &mut Random, column: &TypedColumn, forms: Forms) -> Value {
    if !column.is_required && random.below(6) == 0 {
        return Value::Null;
    }
    match &*column.data_type {
        "boolean" => boolean(random, forms),
        "bigint" if random.below(4) == 0 => Value::Integer(random.next().cast_signed()),
        "bigint" => Value::Integer(INTEGERS[random.below(INTEGERS.len())]),
        "integer" => match random.below(3) {
            0 => Value::Integer([i32::MAX, i32::MIN][random.below(2)].into()),
            1 => Value::Integer((random.next() as i32).into()),
            _ => Value::Integer(i64::from(random.next() as i8)),
        },
        "double precision" => Value::Real(real(random)),
        "text" => words(random, column),
        "timestamp with time zone" => Value::Text(time(random, forms)),
        "date" => Value::Text(format!(
            "{:04}-{:02}-{:02}",
            year(random),
            1 + random.below(12),
            1 + random.below(28)
        )),
        other => panic!("{column:?}: {other}"),
    }
}

fn boolean(random: &mut Random, forms: Forms) -> Value {
    let text = |text: &str| Value::Text(text.into());
    match (forms, random.below(10)) {
        (Forms::Any, 0) => text("true"),
        (Forms::Any, 1) => text("FALSE"),
        (Forms::Any, 2) => text("t"),
        (Forms::Any, 3) => text("F"),
        (_, n) => Value::Integer(i64::from(n % 2 == 0)),
    }
}

fn real(random: &mut Random) -> f64 {
    if random.below(2) == 0 {
        return REALS[random.below(REALS.len())];
    }
    match f64::from_bits(random.next()) {
        number if number.is_nan() => 0.5,
        number => number,
    }
}

fn words(random: &mut Random, column: &TypedColumn) -> Value {
    let known = WORDS.iter().find(|(name, _)| *name == column.name);
    Value::Text(match known {
        Some((_, words)) if random.below(8) > 0 => words[random.below(words.len())].into(),
        _ if LONG.contains(&&*column.name) && random.below(4) == 0 => text(random, 9000),
        _ => text(random, 40),
    })
}

fn text(random: &mut Random, most: usize) -> String {
    (0..random.below(most)).map(|_| CHARACTERS[random.below(CHARACTERS.len())]).collect()
}

fn year(random: &mut Random) -> usize {
    [1, 1582, 1900, 1969, 1970, 2000, 2024, 2025, 2026, 2038, 9998][random.below(11)]
}

/// A time between the years 1 and 9999, whatever its offset.
fn time(random: &mut Random, forms: Forms) -> String {
    let day =
        format!("{:04}-{:02}-{:02}", year(random), 1 + random.below(12), 2 + random.below(26));
    let minute = format!("{:02}:{:02}", random.below(24), random.below(60));
    let second = format!("{:02}", random.below(60));
    let milliseconds = format!("{:03}", random.below(1000));
    let microseconds = format!("{milliseconds}{:03}", 1 + random.below(999));
    if forms == Forms::Own {
        let fraction = [&milliseconds, &microseconds][random.below(2)];
        return format!("{day} {minute}:{second}.{fraction}");
    }
    let between = [" ", "T"][random.below(2)];
    let zone = ["", "Z", "+00", "+05:30", "-0930", "+14:00", "-14"][random.below(7)];
    match random.below(6) {
        0 => day,
        1 => format!("{day}{between}{minute}{zone}"),
        2 => format!("{day}{between}{minute}:{second}{zone}"),
        3 => format!("{day}{between}{minute}:{second}.{microseconds}{zone}"),
        4 => format!("{day}{between}{minute}:{second}.{}{zone}", random.below(10)),
        _ => format!("{day}{between}{minute}:{second}.{milliseconds}{zone}"),
    }
}
