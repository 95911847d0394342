//! The statements of the trading programs, their kinds and their parameters.

use rusqlite::types::Value;

use crate::Result;
use crate::fill::{SETTINGS, STATES, setting_key, state_key};
use crate::random::Random;
use crate::rows::Table;
use crate::side::is_reindexed;
use crate::values::{BASES_FOR, base_id};
use crate::world::{
    CATEGORIES, INDICATION_TYPES, LEVELS, Moment, SIDES, STOP_LOSSES, STRATEGY_TYPES, TAKE_PROFITS,
    World,
};

const TEXTS: &str = include_str!("../../tests/cts/support/hot_queries.sql");

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// A lookup, or a list of the newest or best rows, for which the schema has an index.
    Lookup,
    /// By a key that the baseline has too, or in a table of a few rows: an index makes no difference.
    Key,
    /// An aggregate, which reads all its rows.
    Totals,
    Write,
}

pub struct Shape {
    /// `H01 indications_move`, as in the shapes file.
    pub label: &'static str,
    /// `H01`
    pub number: &'static str,
    pub table: &'static str,
    pub sql: &'static str,
    pub kind: Kind,
}

impl Shape {
    /// Of similar tables, one is filled and judged; the others hold too few rows.
    pub fn is_judged(&self) -> bool {
        self.kind == Kind::Lookup && !self.is_twin()
    }

    /// Whether the plan of the baseline differs: elsewhere its index differs only in not being partial.
    pub fn is_compared(&self) -> bool {
        self.is_judged() && is_reindexed(self.table)
    }

    pub fn is_twin(&self) -> bool {
        Table::named(self.table).is_some_and(Table::is_small)
    }
}

pub fn shapes() -> impl Iterator<Item = Shape> {
    TEXTS.split("\n\n").filter_map(|text| {
        let (title, sql) = text.trim().strip_prefix("-- ")?.split_once('\n')?;
        let (label, what) = title.split_once(": ")?;
        let (number, table) = label.split_once(' ')?;
        // Two statements share this number.
        let label = if what == "heartbeat" { "H30 heartbeat" } else { label };
        Some(Shape { label, number, table, sql, kind: kind(number, sql) })
    })
}

/// The first statement with that number.
pub fn shape(number: &str) -> Result<Shape> {
    let found = shapes().find(|shape| shape.number == number);
    found.ok_or_else(|| format!("{number}: not in the shapes file").into())
}

fn kind(number: &str, sql: &str) -> Kind {
    match number {
        _ if !sql.starts_with("SELECT") => Kind::Write,
        "H07" | "H19" | "H26" => Kind::Totals,
        "H20" | "H27" | "H29" | "H30" => Kind::Key,
        _ => Kind::Lookup,
    }
}

/// Draws the parameters of a statement.
pub struct Binder<'a> {
    pub world: &'a World,
    pub random: Random,
    /// The time of the newest row.
    pub now: Moment,
    /// Ids of live paper positions.
    pub live: &'a [i64],
}

impl Binder<'_> {
    /// The parameters ?1, ?2, ... of a statement; none if its number is not known.
    pub fn draw(&mut self, shape: &Shape) -> Vec<Value> {
        let now = self.now.text();
        match shape.number {
            "H01" | "H04" => vec![self.connection(), self.symbol(), 10.into()],
            "H02" | "H05" | "H06" => vec![self.connection(), 50.into()],
            "H03" => {
                let minutes = 1 + self.random.below(10);
                vec![self.connection(), self.now.earlier(60 * minutes).into(), 100.into()]
            }
            "H07" | "H19" | "H27" => vec![self.connection()],
            "H08" | "H25" => vec![self.connection(), 100.into()],
            "H09" => vec![self.connection(), self.word(&SIDES)],
            "H10" => self.limit(),
            "H11" => [self.limit(), self.exits()].concat(),
            "H12" => self.opening(),
            "H13" => vec![self.factor(), self.factor(), now.into(), self.position()],
            "H14" => vec![now.into(), "stop_loss".to_owned().into(), self.position()],
            "H15" => {
                vec![self.connection(), self.symbol(), 0.6.into(), self.now.earlier(3600).into()]
            }
            "H16" => vec![(*self.random.pick(&[25, 50, 100])).into()],
            "H17" => vec![self.base(shape), "main".to_owned().into(), 10.into()],
            "H18" => vec![self.connection(), 10.into()],
            "H20" => vec![self.key()],
            "H21" => vec![self.key(), self.random.below(1000).to_string().into(), now.into()],
            "H22" => vec![self.word(&CATEGORIES)],
            "H23" => self.log_line(),
            "H24" => vec![self.word(&LEVELS), self.word(&CATEGORIES), 100.into()],
            "H26" => vec![self.now.earlier(300).into()],
            "H28" => vec![self.flag(), self.flag(), now.into(), self.connection()],
            "H30" if shape.kind == Kind::Write => {
                vec![self.connection(), "running".to_owned().into(), now.into()]
            }
            "H30" => vec!["running".to_owned().into(), self.now.earlier(60).into(), 10.into()],
            "H31" => {
                let number = self.random.below(STATES);
                vec![state_key(self.world, number).into(), now.into()]
            }
            "H32" => vec![now.into(), self.word(&STRATEGY_TYPES), 20.into()],
            _ => Vec::new(),
        }
    }

    pub fn connection(&mut self) -> Value {
        self.random.pick(&self.world.connections).clone().into()
    }

    fn symbol(&mut self) -> Value {
        self.random.pick(&self.world.symbols).clone().into()
    }

    fn word(&mut self, words: &[&str]) -> Value {
        self.random.pick(words).to_string().into()
    }

    fn factor(&mut self) -> Value {
        self.random.between(0.2, 3.0).into()
    }

    fn flag(&mut self) -> Value {
        i64::from(self.random.one_in(2)).into()
    }

    fn key(&mut self) -> Value {
        setting_key(self.random.below(SETTINGS)).into()
    }

    fn position(&mut self) -> Value {
        (*self.random.pick(self.live)).into()
    }

    /// Queried after one of its positions was closed, so it is one of the newest.
    fn base(&mut self, shape: &Shape) -> Value {
        let positions = Table::named(shape.table).map_or(1, |table| table.count(self.now.0));
        let number = positions - 1 - self.random.below(positions.min(BASES_FOR));
        base_id(number, self.random.next()).into()
    }

    fn limit(&mut self) -> Vec<Value> {
        vec![self.connection(), self.symbol(), self.word(&INDICATION_TYPES), self.word(&SIDES)]
    }

    /// Take profit, stop loss, whether the stop is trailing.
    fn exits(&mut self) -> Vec<Value> {
        let take_profit = *self.random.pick(&TAKE_PROFITS);
        vec![take_profit.into(), (*self.random.pick(&STOP_LOSSES)).into(), self.flag()]
    }

    fn opening(&mut self) -> Vec<Value> {
        let [take_profit, stop_loss, trailing] = [2.0.into(), 0.5.into(), self.flag()];
        let price = self.factor();
        let money = [price.clone(), price, self.factor(), 0.1.into(), take_profit, stop_loss];
        [self.limit(), money.into(), vec![self.factor(), trailing]].concat()
    }

    fn log_line(&mut self) -> Vec<Value> {
        let said = "position opened after its limit was checked".to_owned();
        let (level, category) = (self.word(&LEVELS), self.word(&CATEGORIES));
        let nothing = Value::Null;
        let about = [nothing.clone(), nothing.clone(), self.connection()];
        let wrong = [nothing.clone(), nothing.clone(), nothing];
        [vec![level, category, said.into()], about.into(), wrong.into()].concat()
    }
}
