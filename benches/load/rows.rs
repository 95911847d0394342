//! The tables that grow, and their rows. Row n of a table is the same in every run and on every side.
//!
//! Of N rows, half are direction indications and a quarter each paper positions and log lines: the
//! large tables. The other tables grow with them, by the shares below.

use rusqlite::types::Value;

use crate::random::Random;
use crate::values::{
    Draw, direction, exchange_position, expiring, judged, log_line, position, real_position, trade,
};
use crate::world::{Moment, PAIRS, SEED, World};

/// The large tables, whose rows are counted when a size is given.
pub const BIG: [&str; 3] = ["indications_direction", "pseudo_positions", "site_logs"];

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

pub const INDICATION: &str =
    "connection_id, symbol, profit_factor, confidence, status, calculated_at, updated_at, metadata";
pub const STRATEGY: &str =
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

    /// The columns that are written, separated by commas.
    #[cfg(feature = "postgres")]
    pub fn columns(&self) -> &'static str {
        self.columns
    }

    /// A statement for PostgreSQL that inserts so many rows.
    #[cfg(feature = "postgres")]
    pub fn insert_many(&self, rows: usize) -> String {
        let width = self.columns.split(',').count();
        let row = |number: usize| {
            let holes = (1..=width).map(|column| format!("${}", number * width + column));
            format!("({})", holes.collect::<Vec<_>>().join(", "))
        };
        let rows = (0..rows).map(row).collect::<Vec<_>>().join(", ");
        format!("INSERT INTO {} ({}) VALUES {rows}", self.name, self.columns)
    }

    /// Rows of the large tables together when this one holds so many.
    #[cfg(feature = "postgres")]
    pub fn rows_at(&self, count: u64) -> u64 {
        count * 1000 / self.share
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
