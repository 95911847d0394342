//! The tables that grow, and their rows. Row n of a table is the same in every run and on every side.
//!
//! Of N rows, half are direction indications and a quarter each paper positions and log lines: the
//! large tables. The other tables grow with them, by the shares below.

use rusqlite::types::Value;

use crate::random::Random;
use crate::world::{
    CATEGORIES, INDICATION_TYPES, LEVELS, Moment, PAIRS, SEED, SIDES, STOP_LOSSES, STRATEGY_TYPES,
    TAKE_PROFITS, World,
};

/// The large tables, whose rows are counted when a size is given.
pub const BIG: [&str; 3] = ["indications_direction", "pseudo_positions", "site_logs"];
/// A base configuration is in use while this many positions are opened.
pub const BASES_FOR: u64 = 10_000;
const BASES_AT_ONCE: u64 = 20;

pub struct Table {
    pub name: &'static str,
    /// Rows of this table per thousand rows of the large tables.
    share: u64,
    columns: &'static str,
    /// How many of the newest rows are live, independent of the length of the history; at most half.
    live: u64,
    /// The SET clause by which a live row becomes history; empty if no row is live.
    past: &'static str,
    row: fn(&mut Draw) -> Vec<Value>,
}

/// The order in which indications are inserted.
#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    /// As engines write them: each works on one connection and cycles through its symbols.
    Cycles,
    /// Connection and symbol are random.
    Scattered,
}

/// A row before it is inserted.
struct Draw<'a> {
    world: &'a World,
    random: Random,
    number: u64,
    order: Order,
    time: String,
    is_live: bool,
}

const INDICATION: &str =
    "connection_id, symbol, profit_factor, confidence, status, calculated_at, updated_at, metadata";
const STRATEGY: &str =
    "connection_id, symbol, profit_factor, win_rate, total_trades, status, created_at, updated_at";

const EXPIRED: &str = "status = 'expired'";
const CLOSED: &str = "status = 'closed'";
const CLOSED_NOW: &str = "status = 'closed', closed_at = updated_at";

pub const TABLES: [Table; 15] = [
    Table {
        name: "indications_direction",
        share: 500,
        columns: "connection_id, symbol, profit_factor, confidence, status, calculated_at, updated_at, metadata, \
                  direction, signal_strength",
        live: 5 * PAIRS,
        past: EXPIRED,
        row: direction,
    },
    indication("indications_move"),
    indication("indications_active"),
    indication("indications_optimal"),
    indication("indications_auto"),
    strategy("strategies_base", 5),
    strategy("strategies_main", 10),
    strategy("strategies_block", 5),
    strategy("strategies_dca", 5),
    strategy("strategies_trailing", 5),
    Table {
        name: "strategies_real",
        share: 20,
        columns: "connection_id, symbol, side, indication_type, volume, entry_price, current_price, profit_loss, \
                  profit_loss_percent, status, created_at, updated_at, closed_at",
        live: 200,
        past: CLOSED_NOW,
        row: trade,
    },
    Table {
        name: "pseudo_positions",
        share: 250,
        columns: "connection_id, symbol, indication_type, side, entry_price, current_price, quantity, position_cost, \
                  takeprofit_factor, stoploss_ratio, profit_factor, trailing_enabled, strategy_type, \
                  base_position_id, position_level, status, profit_loss, profit_loss_percent, close_reason, \
                  opened_at, closed_at, created_at, updated_at",
        live: 300,
        past: CLOSED_NOW,
        row: position,
    },
    Table {
        name: "real_pseudo_positions",
        share: 20,
        columns: "connection_id, symbol, main_config_id, side, status, entry_price, quantity, profit_factor, \
                  validated_at, created_at",
        live: 300,
        past: CLOSED,
        row: real_position,
    },
    Table {
        name: "exchange_positions",
        share: 10,
        columns: "connection_id, real_pseudo_position_id, exchange_order_id, symbol, side, status, entry_price, \
                  current_price, quantity, opened_at, last_updated_at",
        live: 200,
        past: CLOSED,
        row: exchange_position,
    },
    Table {
        name: "site_logs",
        share: 250,
        columns: "level, category, message, connection_id, error_message, metadata, timestamp, created_at",
        live: 0,
        past: "",
        row: log_line,
    },
];

const fn indication(name: &'static str) -> Table {
    Table { name, share: 5, columns: INDICATION, live: PAIRS / 10, past: EXPIRED, row: expiring }
}

const fn strategy(name: &'static str, share: u64) -> Table {
    Table { name, share, columns: STRATEGY, live: PAIRS / 10, past: CLOSED, row: judged }
}

impl Table {
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLES.iter().find(|table| table.name == name)
    }

    pub fn is_small(&self) -> bool {
        self.share < 10
    }

    /// Rows of this table when the large tables together hold this many.
    pub fn count(&self, rows: u64) -> u64 {
        rows * self.share / 1000
    }

    /// Rows with lower numbers are history when the large tables together hold this many rows.
    pub fn first_live(&self, rows: u64) -> u64 {
        let count = self.count(rows);
        count - self.live.min(count / 2)
    }

    pub fn insert(&self) -> String {
        let holes = vec!["?"; self.columns.split(',').count()].join(", ");
        format!("INSERT INTO {} ({}) VALUES ({holes})", self.name, self.columns)
    }

    /// Turns all live rows into history, as programs do over time.
    pub fn retire(&self) -> Option<String> {
        if self.past.is_empty() {
            return None;
        }
        let live = "('active', 'open', 'validated', 'main_active')";
        Some(format!("UPDATE {} SET {} WHERE status IN {live}", self.name, self.past))
    }

    /// Turns a range of rows into history; the end is excluded.
    pub fn retire_some(&self) -> Option<String> {
        Some(self.retire()? + " AND id > ?1 AND id <= ?2")
    }

    /// The values of row `number`, counted from 0, in the order of [`Table::insert`].
    pub fn row(&self, world: &World, number: u64, is_live: bool, order: Order) -> Vec<Value> {
        let seed = SEED ^ (self.name.len() as u64) << 56 ^ number << 4 ^ self.share;
        let time = Moment(number * 1000 / self.share).text();
        (self.row)(&mut Draw { world, random: Random::new(seed), number, order, time, is_live })
    }
}

impl Draw<'_> {
    fn connection(&mut self) -> Value {
        self.random.pick(&self.world.connections).clone().into()
    }

    fn symbol(&mut self) -> Value {
        self.random.pick(&self.world.symbols).clone().into()
    }

    /// The next connection and symbol.
    fn next_pair(&self) -> (Value, Value) {
        let World { connections, symbols } = self.world;
        let symbol = self.number as usize % symbols.len();
        let connection = self.number as usize / symbols.len() % connections.len();
        (connections[connection].clone().into(), symbols[symbol].clone().into())
    }

    fn word(&mut self, words: &[&str]) -> Value {
        self.random.pick(words).to_string().into()
    }

    fn price(&mut self) -> Value {
        self.random.between(0.1, 60_000.0).into()
    }

    fn factor(&mut self) -> Value {
        self.random.between(0.2, 3.0).into()
    }

    fn time(&self) -> Value {
        self.time.clone().into()
    }

    fn status(&self, live: &str, past: &str) -> Value {
        if self.is_live { live } else { past }.to_owned().into()
    }

    /// The value if the row is history, else NULL.
    fn past(&self, value: Value) -> Value {
        if self.is_live { Value::Null } else { value }
    }
}

/// Values in the order of [`INDICATION`].
fn expiring(draw: &mut Draw) -> Vec<Value> {
    let metadata = draw.random.one_in(4).then(|| r#"{"timeframe":"1m","candles":60}"#.to_owned());
    let (connection, symbol) = match draw.order {
        Order::Cycles => draw.next_pair(),
        Order::Scattered => (draw.connection(), draw.symbol()),
    };
    vec![
        connection,
        symbol,
        draw.factor(),
        draw.random.between(0.0, 1.0).into(),
        draw.status("active", "expired"),
        draw.time(),
        draw.time(),
        metadata.into(),
    ]
}

fn direction(draw: &mut Draw) -> Vec<Value> {
    let mut row = expiring(draw);
    row.extend([draw.word(&SIDES), draw.random.between(0.0, 1.0).into()]);
    row
}

/// Values in the order of [`STRATEGY`].
fn judged(draw: &mut Draw) -> Vec<Value> {
    let live = if draw.random.one_in(3) { "open" } else { "active" };
    vec![
        draw.connection(),
        draw.symbol(),
        draw.factor(),
        draw.random.between(0.0, 1.0).into(),
        (draw.random.below(500) as i64).into(),
        draw.status(live, "closed"),
        draw.time(),
        draw.time(),
    ]
}

fn trade(draw: &mut Draw) -> Vec<Value> {
    let result = draw.random.between(-50.0, 60.0);
    vec![
        draw.connection(),
        draw.symbol(),
        draw.word(&SIDES),
        draw.word(&INDICATION_TYPES),
        draw.factor(),
        draw.price(),
        draw.price(),
        result.into(),
        (result / 10.0).into(),
        draw.status("open", "closed"),
        draw.time(),
        draw.time(),
        draw.past(draw.time()),
    ]
}

/// Every tenth position belongs to a base configuration and has its statuses.
fn position(draw: &mut Draw) -> Vec<Value> {
    let is_based = draw.number.is_multiple_of(10);
    let base = is_based.then(|| base_id(draw.number, draw.random.next()));
    let level = if is_based { "main" } else { "base" };
    let strategy = draw.random.one_in(2).then(|| draw.random.pick(&STRATEGY_TYPES).to_string());
    let result = draw.random.between(-5.0, 6.0);
    let status = if is_based {
        draw.status("main_active", "main_closed")
    } else {
        draw.status("active", "closed")
    };
    vec![
        draw.connection(),
        draw.symbol(),
        draw.word(&INDICATION_TYPES),
        draw.word(&SIDES),
        draw.price(),
        draw.price(),
        draw.factor(),
        0.1.into(),
        (*draw.random.pick(&TAKE_PROFITS)).into(),
        (*draw.random.pick(&STOP_LOSSES)).into(),
        draw.factor(),
        i64::from(draw.random.one_in(3)).into(),
        strategy.into(),
        base.into(),
        level.to_owned().into(),
        status,
        draw.past(result.into()),
        draw.past((result / 10.0).into()),
        draw.past("take_profit".to_owned().into()),
        draw.time(),
        draw.past(draw.time()),
        draw.time(),
        draw.time(),
    ]
}

/// The id of a base configuration in use when position `number` was opened.
pub fn base_id(number: u64, choice: u64) -> String {
    format!("base-{}", number / BASES_FOR * BASES_AT_ONCE + choice % BASES_AT_ONCE)
}

/// One for every tenth position.
fn real_position(draw: &mut Draw) -> Vec<Value> {
    vec![
        draw.connection(),
        draw.symbol(),
        (draw.number as i64 * 10 + 1).into(),
        draw.word(&SIDES),
        draw.status("validated", "closed"),
        draw.price(),
        draw.factor(),
        draw.factor(),
        draw.time(),
        draw.time(),
    ]
}

/// One for every second real position.
fn exchange_position(draw: &mut Draw) -> Vec<Value> {
    vec![
        draw.connection(),
        (draw.number as i64 * 2 + 1).into(),
        format!("{:016x}", draw.random.next()).into(),
        draw.symbol(),
        draw.word(&SIDES),
        draw.status("open", "closed"),
        draw.price(),
        draw.price(),
        draw.factor(),
        draw.time(),
        draw.time(),
    ]
}

fn log_line(draw: &mut Draw) -> Vec<Value> {
    let level = *draw.random.pick(&LEVELS);
    let symbol = draw.random.pick(&draw.world.symbols).clone();
    let message = format!(
        "order book of {symbol} read in {} ms, spread within limits",
        draw.random.below(400)
    );
    let connection = if draw.random.one_in(3) { Value::Null } else { draw.connection() };
    let error =
        (level == "error").then(|| "ETIMEDOUT: no answer from the exchange within 10 s".to_owned());
    let metadata = draw.random.one_in(3).then(|| format!(r#"{{"symbol":"{symbol}","attempt":1}}"#));
    vec![
        level.to_owned().into(),
        draw.word(&CATEGORIES),
        message.into(),
        connection,
        error.into(),
        metadata.into(),
        draw.time(),
        draw.time(),
    ]
}
