//! The seam between cts and a database. [`Database`] is one as it is configured, [`Inspect`] reads
//! one that is open, [`Change`] is its write transaction under the migration lock, and [`Store`]
//! maintains it. The folders below implement these traits; nothing above knows which it has.

pub mod archive;
mod backup;
mod change;
mod compact;
mod copy;
mod database;
#[allow(dead_code)]
mod digest;
#[cfg(test)]
pub mod failing;
pub mod finding;
mod free_pages;
mod inspect;
pub mod journal;
mod maintain;
mod measure;
#[cfg(feature = "postgres")]
pub mod postgres;
mod restore;
pub mod retention;
mod rights;
pub mod schema;
pub mod sql;
pub mod sqlite;
#[allow(dead_code)]
mod statistics;
mod time_text;
pub mod url_kind;
mod wait;

pub use backup::{BackUp, BackupContent, BackupLock, BackupSubject, TableRows, TrialDatabase};
pub use change::{
    Change, FailedStatement, LongWork, Progress, RebuildCopy, Rebuilt, SiteLogEntry,
    StatementCounts,
};
pub use compact::{Compact, CompactionPlace, RebuiltDatabase};
pub use copy::{
    CopiedColumn, CopiedTable, CopyDraft, CopyEnd, CopySource, CopyTarget, Day, Field,
    Incompatibility, IncompatibleValue, Moment, ReadRows, RowSink, StoredValue, Value, ValueType,
};
pub use database::{
    Backend, Database, DatabaseIdentity, Examination, FileOwner, Holder, Opened, OpenedReadOnly,
    as_its_owner,
};
pub use digest::{RowHash, RowHasher, TableDigest, TableHasher};
pub use free_pages::{FreePages, GiveBack, GivenBack, KeptFree, OpenFreePages};
pub use inspect::{
    Damage, DamageScope, Forecast, Inspect, KeptWal, Obstacle, OpenDatabase, Origin, Orphans,
    PoolState, ReadExtent, ServerInstance, Snapshot, StorageStatus, Unchecked,
};
pub use maintain::{
    Settled, Store, UPKEEP_THREAD, Upkeep, UpkeepOpener, UpkeepTurn, write_site_log,
};
pub use measure::{DatabaseSizes, Measure, MeasuredTables, OTHER_TABLES_MAX, TableFigures};
pub use restore::{BackupSource, ProofDepth, Restore, RestoreDraft, RestoreOrigin, RestorePlace};
pub use rights::MissingRights;
#[cfg(feature = "postgres")]
pub use rights::MissingTableRights;
pub use statistics::{
    ChangedDays, ChangesSince, ClosedPosition, CountedRow, DayRange, DeletedRows,
    EXCHANGE_POSITION_COLUMNS, ExchangePositionRow, OPEN_EXCHANGE_STATUS, Omission, OpenStatistics,
    POSITION_COLUMNS, PositionRow, ReadStatistics, SourceLeft, StatisticsChange, StatisticsKey,
    StatisticsRow, StatisticsStore, StatisticsTable, StatisticsValues, StatisticsWritten,
    StoredStatistics, UNREADABLE_DAY, closed_statuses, day_of_text, days_of, read_position,
    start_of,
};
pub use wait::{WaitPolicy, WaitReason, interrupted};

/// Rows up to which an index is built in a transaction. Together with the check of its table for
/// damage, 20,000 positions took 20 to 32 ms on SQLite (ext4, 2 cores).
pub const ONLINE_INDEX_ROWS_MAX: u64 = 20_000;
