//! The write transaction on PostgreSQL, under the migration lock. It waits for a table lock only
//! briefly, it is cancelled with the wait policy, and it takes effect as a whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::cancel_watch::CancelWatch;
use super::catalog::InvalidIndex;
use super::copy_target::PreparedTables;
use super::error::is_lost;
use super::foreign_code::{ForeignCode, Use};
use super::lock::{self, LockedSession};
use super::pool::SessionPool;
use super::server_record::{SERVER_TABLE, record_sql};
use super::session::Session;
use super::{
    correction, counters, damage, exceptions, index, inspect, obstacles, rebuild, rebuild_copy,
    sequences, statements, violations,
};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::sql::{
    EXCEPTIONS_TABLE, delete_acceptance, delete_exception, insert_ledger_row, insert_site_log,
};
use crate::store::{
    Change, Damage, DamageScope, FailedStatement, Forecast, Inspect, ONLINE_INDEX_ROWS_MAX,
    Obstacle, RebuildCopy, Rebuilt, SiteLogEntry, Snapshot, StatementCounts, WaitPolicy,
    interrupted,
};
use cts_schema::catalog::{
    AcceptedDifference, Catalog, Column, Correction, CounterFault, Index, Object, Table,
};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::{Created, Statement};

/// A transaction under the migration lock; dropped before its commit, it rolls back.
pub struct PostgresTx {
    locked: LockedSession,
    pool: SessionPool,
    cancelled: Arc<AtomicBool>,
    /// Code of other roles on our tables.
    foreign_code: Vec<ForeignCode>,
    /// The tables of a copy.
    prepared: PreparedTables,
    _watch: CancelWatch,
}

impl PostgresTx {
    /// Begins the work in the transaction that holds the lock.
    ///
    /// # Errors
    /// If the server refuses a statement, or no thread can be started. No transaction is open then.
    pub fn begin(
        mut locked: LockedSession,
        pool: &SessionPool,
        wait: &WaitPolicy<'_>,
    ) -> Result<PostgresTx> {
        let watch = CancelWatch::start(locked.session(), wait.cancelled)?;
        let mut tx = PostgresTx {
            locked,
            pool: pool.clone(),
            cancelled: Arc::clone(wait.cancelled),
            foreign_code: Vec::new(),
            prepared: PreparedTables::default(),
            _watch: watch,
        };
        tx.session().run("SET LOCAL synchronous_commit = on")?;
        tx.find_foreign_code()?;
        Ok(tx)
    }

    pub(super) fn session(&mut self) -> &mut Session {
        self.locked.session()
    }

    /// The tables of a copy.
    pub(super) fn prepared(&mut self) -> &mut PreparedTables {
        &mut self.prepared
    }

    /// Looks for code of other roles on our tables.
    pub(super) fn find_foreign_code(&mut self) -> Result<()> {
        self.foreign_code = ForeignCode::find(self.session())?;
        Ok(())
    }

    /// Refuses to write rows of a table, or to alter it, where that would run code of another role.
    pub(super) fn refuse_foreign_code(&self, table: &str) -> Result<()> {
        ForeignCode::refuse_found(&self.foreign_code, &[table], Use::Write)
    }

    /// Rolls back after an error of a lock, and adds which transaction holds it.
    pub(super) fn with_lock_holder(&mut self, error: Error) -> Error {
        if error.kind != Kind::Blocked {
            return error;
        }
        // The transaction is aborted; the query for the holder needs one that is not.
        self.session().roll_back();
        lock::with_lock_holder(self.session(), error)
    }

    fn run(&mut self, sql: &str) -> Result<()> {
        let done = self.session().run(sql);
        done.map_err(|error| self.with_lock_holder(error))
    }

    /// Undoes what was done since a savepoint, and forgets the savepoint.
    fn return_to(&mut self, savepoint: &str) -> Result<()> {
        let sql = format!("ROLLBACK TO {savepoint}; RELEASE {savepoint}");
        self.run(&sql)
    }

    /// Records in the database which server it is on, where that is not recorded yet. A role that may not, or code of
    /// another role on that table, keeps nothing from being committed.
    fn record_server(&mut self) -> Result<()> {
        let identity = self.session().server.identity;
        if !self.pool.cluster.is_unrecorded(identity)
            || self.refuse_foreign_code(SERVER_TABLE).is_err()
        {
            return Ok(());
        }
        let Some(sql) = record_sql(self.session()) else { return Ok(()) };
        self.run("SAVEPOINT cts_server")?;
        match self.session().run(&sql) {
            Ok(()) => self.run("RELEASE cts_server"),
            Err(error) if is_lost(&error) => Err(error),
            Err(_) => self.return_to("cts_server"),
        }
    }

    /// Runs statements in one round trip; `None` if one of them fails, and then none has an effect.
    fn execute_at_once(&mut self, statements: &[Statement<'_>]) -> Result<Option<StatementCounts>> {
        match statements::run_at_once(self.session(), statements) {
            Ok(counts) => Ok(Some(counts)),
            Err(error) if error.kind == Kind::Data => {
                self.return_to(statements::SAVEPOINT).map(|()| None)
            }
            Err(error) => Err(self.with_lock_holder(error)),
        }
    }

    /// Runs work whose time grows with the tables.
    pub(super) fn without_statement_timeout<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let done = self.session().without_statement_timeout(work);
        done.map_err(|error| self.with_lock_holder(error))
    }
}

impl Drop for PostgresTx {
    fn drop(&mut self) {
        self.session().roll_back();
        // A cancel request may still be on its way to the server.
        if self.cancelled.load(Ordering::Relaxed) {
            self.session().mark_broken();
        }
    }
}

impl Inspect for PostgresTx {
    fn inspect(&mut self) -> Result<Snapshot> {
        let found = inspect::inspect_in_transaction(self.session())
            .map_err(|error| self.with_lock_holder(error))?;
        if found.snapshot.catalog.is_empty() {
            self.pool.cluster.refuse_creation()?;
        }
        // An index that a cancelled build has left keeps its name taken. On a large table it is
        // dropped when the index is built; on one of another role only the owner can drop it.
        for InvalidIndex { table, index } in &found.invalid_indexes {
            if obstacles::is_owner(self.session(), table)?
                && !self.has_more_rows(table, ONLINE_INDEX_ROWS_MAX)?
            {
                let name = self.session().qualified(index);
                self.run(&format!("DROP INDEX {name}"))?;
            }
        }
        Ok(found.snapshot)
    }

    /// Behind a savepoint: a table or a sequence may go meanwhile.
    fn find_counter_faults(&mut self, _: &Catalog) -> Result<Vec<CounterFault>> {
        self.run("SAVEPOINT cts_counters")?;
        match counters::find_faults(self.session()) {
            Ok(faults) => self.run("RELEASE cts_counters").map(|()| faults),
            Err(error) if matches!(error.kind, Kind::Data | Kind::Permission) => {
                self.return_to("cts_counters").map(|()| Vec::new())
            }
            Err(error) => Err(self.with_lock_holder(error)),
        }
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        let found = obstacles::find(self.session(), missing);
        found.map_err(|error| self.with_lock_holder(error))
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        if scope != DamageScope::Everything {
            return Ok(Damage::default());
        }
        self.without_statement_timeout(damage::find_damaged_indexes)
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        let found = damage::has_more_rows(self.session(), table, than);
        found.map_err(|error| self.with_lock_holder(error))
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        self.without_statement_timeout(|session| rebuild::forecast(session, expected))
    }
}

impl Change for PostgresTx {
    /// First all in one round trip, whose error does not say which statement failed; then one by one.
    fn execute(
        &mut self,
        statements: &[Statement<'_>],
        wait: &WaitPolicy<'_>,
    ) -> Result<StatementCounts, FailedStatement> {
        let between = |error| FailedStatement { position: None, error: Box::new(error) };
        for (position, statement) in statements.iter().enumerate() {
            let (Created::Rows(table) | Created::Column(table, _)) = statement.creates() else {
                continue;
            };
            self.refuse_foreign_code(&table).map_err(|error| FailedStatement {
                position: Some(position),
                error: Box::new(error),
            })?;
        }
        if let Some(counts) = self.execute_at_once(statements).map_err(between)? {
            return Ok(counts);
        }
        let mut counts = StatementCounts::default();
        for (position, statement) in statements.iter().enumerate() {
            if wait.is_stopped() {
                return Err(between(interrupted()));
            }
            let done = statements::run_one(self.session(), statement);
            match done.map_err(|error| self.with_lock_holder(error)) {
                Ok(true) => counts.applied += 1,
                Ok(false) => counts.skipped += 1,
                Err(error) => {
                    let error = Box::new(error);
                    return Err(FailedStatement { position: Some(position), error });
                }
            }
        }
        Ok(counts)
    }

    fn add_column(&mut self, table: &str, column: &Column) -> Result<()> {
        self.refuse_foreign_code(table)?;
        let sql = rebuild::add_column_with_keys_sql(self.session(), table, column);
        self.run(&sql)
    }

    fn rebuild(&mut self, expected: &Table, wait: &WaitPolicy<'_>) -> Result<Rebuilt> {
        self.refuse_foreign_code(&expected.name)?;
        self.without_statement_timeout(|session| {
            rebuild::rebuild(session, expected, wait.on_progress)
        })
    }

    fn create_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        self.without_statement_timeout(|session| {
            index::create(session, table, index, wait.on_progress)
        })
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.without_statement_timeout(|session| {
            let name = session.qualified(index);
            session.run(&format!("REINDEX INDEX {name}"))
        })
    }

    fn correct(&mut self, correction: &Correction) -> Result<u64> {
        self.without_statement_timeout(|session| correction::make(session, correction))
    }

    fn back_up(&mut self) -> Result<Option<RebuildCopy>> {
        let copy = self.without_statement_timeout(rebuild_copy::back_up)?;
        Ok(copy.map(RebuildCopy::in_database))
    }

    fn count_violations(&mut self, expected: &Table, rule: &Rule) -> Result<u64> {
        self.without_statement_timeout(|session| {
            violations::count_violations(session, expected, rule)
        })
    }

    fn record_exception(&mut self, exception: &ConstraintException) -> Result<()> {
        self.refuse_foreign_code(EXCEPTIONS_TABLE)?;
        let done = exceptions::record(self.session(), exception);
        done.map_err(|error| self.with_lock_holder(error))
    }

    fn enforce(&mut self, exception: &ConstraintException) -> Result<()> {
        let ConstraintException { table, rule, .. } = exception;
        self.refuse_foreign_code(EXCEPTIONS_TABLE)?;
        if let Rule::ForeignKey(parent) = rule {
            self.without_statement_timeout(|session| {
                exceptions::validate_foreign_keys(session, table, parent)
            })?;
        }
        let exceptions = self.session().qualified(EXCEPTIONS_TABLE);
        self.run(&delete_exception(&exceptions, exception))
    }

    fn record_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()> {
        self.refuse_foreign_code(EXCEPTIONS_TABLE)?;
        let done = exceptions::record_acceptance(self.session(), accepted);
        done.map_err(|error| self.with_lock_holder(error))
    }

    fn withdraw_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()> {
        self.refuse_foreign_code(EXCEPTIONS_TABLE)?;
        let name = self.session().qualified(EXCEPTIONS_TABLE);
        self.run(&delete_acceptance(&name, accepted))
    }

    fn advance_counter(&mut self, fault: &CounterFault) -> Result<()> {
        let done = counters::advance(self.session(), fault);
        done.map_err(|error| self.with_lock_holder(error))
    }

    fn finish_adoption(&mut self) -> Result<Vec<String>> {
        self.without_statement_timeout(sequences::advance_sequences)
    }

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Change) -> Result<()>) -> Result<()> {
        self.run("SAVEPOINT cts_attempt")?;
        // Deferred constraints and triggers of the database's owner would fail at the commit.
        let done = work(self).and_then(|()| self.run("SET CONSTRAINTS ALL IMMEDIATE"));
        match &done {
            Ok(()) => self.run("RELEASE cts_attempt")?,
            Err(_) if !self.is_open() => {}
            Err(error) if is_lost(error) => {}
            Err(_) => self.return_to("cts_attempt")?,
        }
        done
    }

    fn is_open(&self) -> bool {
        self.locked.is_in_transaction()
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        self.refuse_foreign_code("migrations")?;
        let ledger = self.session().qualified("migrations");
        let sql = insert_ledger_row(&ledger, migration, took, "clock_timestamp()");
        let counts = self.session().changed_rows(&sql);
        match counts.map_err(|error| self.with_lock_holder(error))?.as_slice() {
            [1] => Ok(()),
            _ => Err(Error::new(Kind::Data, "a row inserted into table migrations is not stored")
                .remedy("find the trigger or rule on that table that prevents it")),
        }
    }

    fn write_site_log(&mut self, entry: &SiteLogEntry) -> Result<()> {
        // As a table that does not take the row, it does not stop the box.
        self.refuse_foreign_code("site_logs")
            .map_err(|error| Error { kind: Kind::Data, ..error })?;
        let site_logs = self.session().qualified("site_logs");
        self.run(&insert_site_log(&site_logs, entry))
    }

    fn commit(mut self: Box<Self>, _: &WaitPolicy<'_>) -> Result<()> {
        self.record_server()?;
        let server = self.session().server.clone();
        // Another server may have been promoted meanwhile.
        self.pool.confirm(&server).map_err(|error| error.leaving(StateLeft::Unchanged))?;
        let committed = self.session().commit();
        let is_answered = self.session().is_alive();
        let committed = committed.map_err(|error| match is_lost(&error) || !is_answered {
            true => Error { kind: Kind::InDoubt, ..error }
                .leaving(StateLeft::InDoubt)
                .remedy("run it again, which finds out"),
            false => error,
        });
        committed.map(|()| self.pool.cluster.committed(&server))
    }
}
