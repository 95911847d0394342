//! The limit on the size of the database: what is older than a year goes first, then what is older than half a year, and so
//! on, until it is small enough. What is younger than an hour is never deleted for its size.

use std::time::Duration;

use super::walk::TableOutcome;

const HOUR: Duration = Duration::from_secs(3600);

/// The ages in hours, from the highest to the lowest.
const AGES_HOURS: [u32; 20] = [
    365 * 24,
    270 * 24,
    180 * 24,
    120 * 24,
    90 * 24,
    60 * 24,
    45 * 24,
    30 * 24,
    21 * 24,
    14 * 24,
    10 * 24,
    7 * 24,
    5 * 24,
    4 * 24,
    3 * 24,
    2 * 24,
    24,
    12,
    6,
    1,
];

/// The ages from which on rows go, one after the other.
pub fn ages() -> impl Iterator<Item = Duration> {
    AGES_HOURS.into_iter().map(|hours| HOUR * hours)
}

/// What was done about the size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeOutcome {
    /// The limit, in bytes.
    pub max_bytes: u64,
    /// What the database occupied before, in bytes.
    pub before_bytes: u64,
    /// What it occupies now.
    pub after_bytes: u64,
    /// What was deleted, by table.
    pub tables: Vec<TableOutcome>,
}

impl SizeOutcome {
    /// Whether it is still too large although nothing more may go.
    pub fn is_exceeded(&self) -> bool {
        self.after_bytes > self.max_bytes
    }
}
