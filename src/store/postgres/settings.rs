//! The settings of a transaction. The role, the database and, behind a pooler, programs that used the
//! same connection of the server before may have set anything; every statement of cts must mean the
//! same nevertheless, and must leave nothing behind for the next program. So each transaction begins
//! with `SET LOCAL`, which the server undoes at its end.

use std::time::Duration;

use super::connect::{VERSION_14, VERSION_17};

/// How often the server checks, while it runs a statement, that the client is still connected.
const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// In our schema other roles may be allowed to create functions, operators and types, and one whose
/// arguments fit a call better than those of `pg_catalog` is chosen wherever it stands in the path. So
/// our schema is not in it, and every object of ours is named with its schema. (PostgreSQL
/// documentation, "Writing SECURITY DEFINER Functions Safely", "Function Type Resolution")
pub const SEARCH_PATH: &str = "SET LOCAL search_path = pg_catalog, pg_temp";
/// What is set besides the path, the time limits, and what only newer versions have.
const FIXED: &str = "; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'; \
     SET LOCAL standard_conforming_strings = on; SET LOCAL client_min_messages = notice; \
     SET LOCAL quote_all_identifiers = off; SET LOCAL extra_float_digits = 1; \
     SET LOCAL row_security = off; SET LOCAL idle_in_transaction_session_timeout = 0";

/// How long the statements of a transaction may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// `statement_timeout`; zero is no limit.
    pub statement: Duration,
    /// `lock_timeout`; zero is no limit.
    pub lock: Duration,
}

impl TimeLimits {
    /// Those of an inspection.
    pub const INSPECTION: TimeLimits =
        TimeLimits { statement: Duration::from_secs(5), lock: Duration::from_secs(2) };
    /// Those of a migration, except for work whose time grows with the tables. While it waits for a
    /// table, every program that needs the same table waits behind it; after the limit they go first.
    pub const MIGRATION: TimeLimits =
        TimeLimits { statement: Duration::from_secs(60), lock: Duration::from_millis(300) };
}

/// The isolation and the access of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionMode {
    /// Each statement sees what was committed before it.
    ReadCommitted,
    /// All statements see the same state, and none writes.
    Snapshot,
}

impl TransactionMode {
    /// The statement that begins one.
    pub fn begin_sql(self) -> &'static str {
        match self {
            TransactionMode::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
            TransactionMode::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }
}

/// The statement that sets the isolation of statements that are sent as one message without `BEGIN`:
/// the server runs them in one transaction.
pub const MESSAGE_ISOLATION: &str = "SET LOCAL transaction_isolation = 'read committed'";

/// The statements that set what a transaction needs, on a server of this version (`server_version_num`).
pub fn settings(version: u32, limits: TimeLimits) -> String {
    let since_14 = match version {
        VERSION_14.. => format!(
            "; SET LOCAL client_connection_check_interval = {}",
            CONNECTION_CHECK_INTERVAL.as_millis()
        ),
        _ => String::new(),
    };
    let since_17 = if version >= VERSION_17 { "; SET LOCAL transaction_timeout = 0" } else { "" };
    format!(
        "{SEARCH_PATH}{FIXED}{since_14}{since_17}; {}; SET LOCAL lock_timeout = {}",
        statement_timeout(limits.statement),
        limits.lock.as_millis()
    )
}

/// The statement that limits the time of the following statements of a transaction.
pub fn statement_timeout(limit: Duration) -> String {
    format!("SET LOCAL statement_timeout = {}", limit.as_millis())
}

/// The startup options of a connection that runs statements outside of a transaction, where nothing can be
/// set: no limit of the role ends them, and the server notices that the client is gone.
pub fn options_outside_transaction(version: u32) -> String {
    let since_14 = match version {
        VERSION_14.. => {
            format!(" -cclient_connection_check_interval={}", CONNECTION_CHECK_INTERVAL.as_millis())
        }
        _ => String::new(),
    };
    let since_17 = if version >= VERSION_17 { " -ctransaction_timeout=0" } else { "" };
    format!("-cstatement_timeout=0 -clock_timeout=0{since_14}{since_17}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_for_one_transaction_only() {
        for version in [130_000, 150_004, 180_000] {
            let sql = settings(version, TimeLimits::INSPECTION);
            let statements: Vec<&str> = sql.split("; ").collect();
            assert!(statements.iter().all(|sql| sql.starts_with("SET LOCAL ")), "{sql}");
            assert_eq!(sql.contains("check_interval"), version >= 140_000);
            assert_eq!(sql.contains("transaction_timeout = 0"), version >= 170_000);
        }
    }
}
