//! Measuring a database: figures that cost a search of its tables or of its files, so that they are taken now and
//! then beside the programs that use it, and never for an answer that somebody waits for.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use crate::error::Result;

/// How many tables that are not of cts are measured and kept, so that an owner with thousands of them makes neither a
/// long measurement nor an answer of megabytes.
pub const OTHER_TABLES_MAX: usize = 250;

/// The sizes of a database. What is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseSizes {
    /// Bytes of the database, its WAL aside.
    pub database_bytes: Option<u64>,
    /// Bytes of its WAL.
    pub wal_bytes: Option<u64>,
    /// When the certificate of its server ends, where the connection is encrypted.
    pub certificate_ends_at: Option<SystemTime>,
}

/// The figures of one table. What is not known is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFigures {
    /// Its name.
    pub name: String,
    /// Its number of rows.
    pub rows: Option<u64>,
    /// Whether every row was counted; otherwise the number is an estimate.
    pub is_exact: bool,
    /// Bytes of the table with its indexes.
    pub size_bytes: Option<u64>,
    /// Whether it is a table of cts.
    pub is_ours: bool,
}

/// The figures of the tables of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeasuredTables {
    /// Those of cts first, then the others, each part by name.
    pub tables: Vec<TableFigures>,
    /// How many other tables there are that were not measured.
    pub omitted: usize,
}

/// Measures a database that this process has open, on a connection opened for it and closed after. Nothing is
/// changed, and no program that writes waits for it.
pub trait Measure {
    /// The interval between two measurements of the sizes: short where they cost nothing.
    fn sizes_interval(&self) -> Duration;

    /// Measures the sizes. Ends early once `stopping` is set.
    ///
    /// # Errors
    /// Where the database cannot be asked.
    fn measure_sizes(&self, stopping: &Arc<AtomicBool>) -> Result<DatabaseSizes>;

    /// Measures the tables. Ends early once `stopping` is set.
    ///
    /// # Errors
    /// Where the database cannot be read.
    fn measure_tables(&self, stopping: &Arc<AtomicBool>) -> Result<MeasuredTables>;
}
