//! The values of a row: drawn at random from what rows are made of, the same in every run.

use rusqlite::types::Value;

use crate::random::Random;
use crate::rows::Order;
use crate::world::{
    CATEGORIES, INDICATION_TYPES, LEVELS, SIDES, STOP_LOSSES, STRATEGY_TYPES, TAKE_PROFITS, World,
};

/// A base configuration is in use while this many positions are opened.
pub const BASES_FOR: u64 = 10_000;
const BASES_AT_ONCE: u64 = 20;

/// A row before it is inserted.
pub struct Draw<'a> {
    pub world: &'a World,
    pub random: Random,
    pub number: u64,
    pub order: Order,
    pub time: String,
    pub is_live: bool,
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

/// Values in the order of [`crate::rows::INDICATION`].
pub fn expiring(draw: &mut Draw) -> Vec<Value> {
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

pub fn direction(draw: &mut Draw) -> Vec<Value> {
    let mut row = expiring(draw);
    row.extend([draw.word(&SIDES), draw.random.between(0.0, 1.0).into()]);
    row
}

/// Values in the order of [`crate::rows::STRATEGY`].
pub fn judged(draw: &mut Draw) -> Vec<Value> {
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

pub fn trade(draw: &mut Draw) -> Vec<Value> {
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
pub fn position(draw: &mut Draw) -> Vec<Value> {
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
pub fn real_position(draw: &mut Draw) -> Vec<Value> {
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
pub fn exchange_position(draw: &mut Draw) -> Vec<Value> {
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

pub fn log_line(draw: &mut Draw) -> Vec<Value> {
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
