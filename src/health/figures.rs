//! The figures of a database that cost something to take: sizes, and the rows of its tables. A thread of the service
//! takes them now and then; every answer shows those that were taken last, with their time. The threads of retention and
//! of the statistics add what they have done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::store::{DatabaseSizes, MeasuredTables, TableFigures};

/// Figures of a database. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// When the tables were measured; `None` before the first time.
    pub measured_at: Option<SystemTime>,
    /// Bytes of the database, its WAL aside.
    pub database_size_bytes: Option<u64>,
    /// Bytes of its WAL; `None` on a server.
    pub wal_size_bytes: Option<u64>,
    /// When the certificate of the server ends, where the connection is encrypted.
    pub certificate_ends_at: Option<SystemTime>,
    /// The tables of cts first, then the others.
    pub tables: Vec<TableFigures>,
    /// How many other tables there are that were not measured.
    pub tables_omitted: usize,
    /// Rows that retention has deleted since the start, by table; empty where it does not run.
    pub deleted_rows: BTreeMap<&'static str, u64>,
    /// When retention last went through all tables without a fault.
    pub retention_at: Option<SystemTime>,
    /// When the statistics were last brought up to date without a fault.
    pub statistics_at: Option<SystemTime>,
}

/// The figures as they were taken last, shared by those who take them and those who show them.
#[derive(Clone, Default)]
pub struct FigureWatch(Arc<Mutex<Arc<Figures>>>);

impl FigureWatch {
    /// The figures that were taken last. Waits for nothing.
    pub fn current(&self) -> Arc<Figures> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the sizes; they are unknown where they could not be measured.
    pub fn set_sizes(&self, sizes: DatabaseSizes) {
        self.replace(|figures| {
            figures.database_size_bytes = sizes.database_bytes;
            figures.wal_size_bytes = sizes.wal_bytes;
            figures.certificate_ends_at = sizes.certificate_ends_at;
        });
    }

    /// Replaces the figures of the tables, which were measured now.
    pub fn set_tables(&self, measured: MeasuredTables) {
        self.replace(|figures| {
            figures.measured_at = Some(SystemTime::now());
            figures.tables = measured.tables;
            figures.tables_omitted = measured.omitted;
        });
    }

    /// Adds rows that retention has deleted from a table; 0 says that it may delete there.
    pub fn add_deleted(&self, table: &'static str, rows: u64) {
        self.replace(|figures| *figures.deleted_rows.entry(table).or_default() += rows);
    }

    /// Notes that retention has gone through all tables now.
    pub fn note_retention(&self) {
        self.replace(|figures| figures.retention_at = Some(SystemTime::now()));
    }

    /// Notes that the statistics are up to date now.
    pub fn note_statistics(&self) {
        self.replace(|figures| figures.statistics_at = Some(SystemTime::now()));
    }

    fn replace(&self, change: impl FnOnce(&mut Figures)) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut current));
    }
}
