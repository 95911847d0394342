//! What the rows are made of: connections, symbols, names and the clock. It knows nothing of databases.

use std::time::{Duration, SystemTime};

use crate::random::Random;

pub const SEED: u64 = 3;
const CONNECTIONS: usize = 10;
const SYMBOLS: usize = 200;
/// Pairs of a connection and a symbol.
pub const PAIRS: u64 = (CONNECTIONS * SYMBOLS) as u64;
/// Length of the random ids of the trading programs, in characters.
const ID_LENGTH: usize = 21;
const ID_LETTERS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-";
/// Interval between two rows, in milliseconds: the large tables together grow by a hundred rows a
/// second, so that more rows mean a longer history, not a higher rate. Updates add no rows.
const MS_PER_ROW: u64 = 10;
/// 2026-01-01 00:00:00 UTC, in seconds.
const EPOCH: u64 = 1_767_225_600;

pub const INDICATION_TYPES: [&str; 5] = ["direction", "move", "active", "optimal", "auto"];
pub const SIDES: [&str; 2] = ["long", "short"];
pub const STRATEGY_TYPES: [&str; 5] = ["base", "main", "block", "dca", "trailing"];
pub const TAKE_PROFITS: [f64; 4] = [1.5, 2.0, 3.0, 4.0];
pub const STOP_LOSSES: [f64; 4] = [0.25, 0.5, 0.75, 1.0];
pub const CATEGORIES: [&str; 12] = [
    "engine",
    "exchange",
    "orders",
    "positions",
    "strategy",
    "indication",
    "websocket",
    "database",
    "settings",
    "monitoring",
    "auth",
    "api",
];
/// Each as frequent as in this list.
pub const LEVELS: [&str; 10] =
    ["info", "info", "info", "info", "info", "info", "debug", "warning", "warning", "error"];

pub struct World {
    pub connections: Vec<String>,
    pub symbols: Vec<String>,
}

impl World {
    pub fn new() -> Self {
        let random = &mut Random::new(SEED);
        let id = |random: &mut Random| {
            (0..ID_LENGTH).map(|_| char::from(*random.pick(ID_LETTERS))).collect()
        };
        let symbol = |random: &mut Random| {
            let letters = 3 + random.below(3);
            let base: String =
                (0..letters).map(|_| char::from(b'A' + random.below(26) as u8)).collect();
            base + "USDT"
        };
        Self {
            connections: (0..CONNECTIONS).map(|_| id(random)).collect(),
            symbols: (0..SYMBOLS).map(|_| symbol(random)).collect(),
        }
    }
}

/// A moment, expressed as the number of rows in the large tables at that time.
#[derive(Clone, Copy)]
pub struct Moment(pub u64);

impl Moment {
    /// As the tables store it: `2026-01-01 00:00:00.000`, UTC.
    pub fn text(self) -> String {
        self.earlier(0)
    }

    /// The moment that many seconds earlier, in the same format.
    pub fn earlier(self, seconds: u64) -> String {
        let since =
            Duration::from_millis(self.0 * MS_PER_ROW).saturating_sub(Duration::from_secs(seconds));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH) + since;
        let mut text = humantime::format_rfc3339_millis(time).to_string().replace('T', " ");
        text.pop();
        text
    }
}
