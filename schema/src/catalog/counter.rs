//! The counters that give new rows their ids. They are no part of the catalogue, and a database whose catalogue is as
//! expected takes no row where they are wrong.

use std::fmt;

/// A counter of a table that gives ids which rows have already, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterFault {
    /// The table.
    pub table: String,
    /// The column that the ids are for.
    pub column: String,
    /// What is wrong.
    pub state: CounterState,
}

/// Where a counter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterState {
    /// It gives this id next, and would reach that of a row.
    Behind {
        /// The id that it gives next.
        next: i64,
        /// The id of a row, the last one in the direction of the counter.
        used: i64,
    },
    /// It has given its last id.
    Exhausted {
        /// That id.
        last: i64,
    },
}

impl fmt::Display for CounterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CounterFault { table, column, state } = self;
        match state {
            CounterState::Behind { next, used } => {
                write!(
                    f,
                    "ids of {table}.{column}: the next is {next}, though rows have ids up to {used}"
                )
            }
            CounterState::Exhausted { last } => {
                write!(f, "ids of {table}.{column}: none is left for a new row after {last}")
            }
        }
    }
}
