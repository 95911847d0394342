//! A server as the source of a copy: one read-only transaction on a connection of its own, all of whose statements see the
//! same state of the database.
//!
//! The tables are locked against what would change their form or empty them before that state is fixed: the server shows a
//! table as empty to an older snapshot once another transaction has emptied or rewritten it. Programs read and write rows as
//! ever. (PostgreSQL documentation, "Caveats" of concurrency control, and LOCK)

use std::time::Duration;

use super::catalog::{self, is_our_table, schema_oid, table_names};
use super::copy_rows;
use super::error::is_lost;
use super::foreign_code::ForeignCode;
use super::inspect::BACKUP_PREFIX;
use super::pool::PooledSession;
use super::privileges::refuse_unreadable_tables;
use super::server_record::SERVER_TABLE;
use super::session::Session;
use super::settings::{TimeLimits, TransactionMode};
use super::store::Postgres;
use super::{counters, damage, inspect, lock, obstacles, rebuild};
use crate::error::{Error, Kind, Result};
use crate::store::sql::{EXCEPTIONS_TABLE, literal};
use crate::store::{
    CopiedTable, CopySource, Damage, DamageScope, Field, Forecast, Inspect, Obstacle, OpenDatabase,
    ReadRows, Snapshot, ValueType, WaitPolicy,
};
use cts_schema::catalog::{Catalog, Column, CounterFault, Object, Table};

/// How often a snapshot is begun anew because a table was created or dropped just then.
const ATTEMPTS: u32 = 5;
/// What the transaction of the snapshot allows each statement but those whose time grows with the tables.
const LIMITS: TimeLimits =
    TimeLimits { statement: Duration::from_secs(60), lock: Duration::from_secs(2) };

/// The snapshot of a database. Dropped, it ends its transaction.
pub struct ServerSnapshot {
    session: PooledSession,
    store: Postgres,
}

impl ServerSnapshot {
    /// Begins it.
    ///
    /// # Errors
    /// If the server refuses a query, `Kind::Data` if there is no table of ours, `Kind::Permission` if rows are hidden from
    /// the role. No transaction is open then.
    pub fn open(store: Postgres, wait: &WaitPolicy<'_>) -> Result<ServerSnapshot> {
        let session = store.pool.get(store.pool.connect_timeout()).map_err(|e| store.at(e))?;
        let mut snapshot = ServerSnapshot { session, store };
        let opened = wait.retry_while_blocked(|| snapshot.begin());
        opened.and_then(|()| snapshot.refuse_what_hides_rows()).map_err(|e| snapshot.at(e))?;
        Ok(snapshot)
    }

    fn begin(&mut self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match begin(&mut self.session) {
                Ok(true) => return Ok(()),
                // A table was dropped, or another one created, before the tables were locked.
                Ok(false) => {}
                Err(error) => return Err(lock::with_lock_holder(&mut self.session, error)),
            }
        }
        Err(Error::new(Kind::TryAgain, "tables are created and dropped all the time")
            .remedy("run it again when no program changes the schema"))
    }

    fn refuse_what_hides_rows(&mut self) -> Result<()> {
        let ours = is_our_table(&self.session.server.schema);
        refuse_unreadable_tables(&mut self.session, &ours)?;
        let catalog = inspect::inspect_in_transaction(&mut self.session)?.snapshot.catalog;
        if catalog.tables.is_empty() {
            return Err(self.store.identity().absent_error());
        }
        let names: Vec<&str> = catalog.tables.iter().map(|table| &*table.name).collect();
        ForeignCode::refuse_read(&self.session, &names)
    }

    fn at(&self, error: Error) -> Error {
        self.store.at(error)
    }

    /// Runs work whose time grows with the tables.
    fn without_statement_timeout<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let done = self.session.without_statement_timeout(work);
        done.map_err(|error| self.at(error))
    }
}

/// Begins the transaction: first the locks, then the first query, which fixes what is seen. Returns false, and leaves no
/// transaction open, where there are other tables by then.
fn begin(session: &mut Session) -> Result<bool> {
    let before = lockable_tables(session)?;
    if before.is_empty() {
        session.begin(TransactionMode::Snapshot, LIMITS, "")?;
        return Ok(true);
    }
    let names: Vec<String> = before.iter().map(|name| session.qualified(name)).collect();
    let lock = format!("LOCK TABLE {} IN ACCESS SHARE MODE", names.join(", "));
    match session.begin(TransactionMode::Snapshot, LIMITS, &lock) {
        Err(error) if error.kind == Kind::Data => return Ok(false),
        begun => begun?,
    };
    match lockable_tables(session) {
        Ok(now) if now == before => Ok(true),
        Ok(_) => {
            session.roll_back();
            Ok(false)
        }
        Err(error) => {
            session.roll_back();
            Err(error)
        }
    }
}

/// The tables of our schema that the role can read.
fn lockable_tables(session: &mut Session) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = {} AND c.relkind IN ('r', 'p') \
             AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1",
        schema_oid(&session.server.schema)
    );
    session.rows(&sql)?.iter().map(|row| row.text(0).map(str::to_string)).collect()
}

impl Drop for ServerSnapshot {
    fn drop(&mut self) {
        self.session.roll_back();
    }
}

impl ReadRows for ServerSnapshot {
    fn read_rows(
        &mut self,
        table: &CopiedTable,
        on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<()>,
    ) -> Result<()> {
        // An error of the caller is none of this database.
        let mut refused = None;
        let mut on_row =
            |row: &[Field<'_>]| on_row(row).inspect_err(|error| refused = Some(error.clone()));
        let read = self
            .session
            .without_statement_timeout(|session| copy_rows::read_rows(session, table, &mut on_row));
        match refused {
            Some(error) => Err(error),
            None => read.map_err(|error| self.at(error)),
        }
    }

    fn count_rows(&mut self, table: &str) -> Result<u64> {
        self.without_statement_timeout(|session| {
            let rows = copy_rows::own_rows(session, table)?;
            session.number(&format!("SELECT count(*) FROM {rows}"))
        })
    }
}

impl CopySource for ServerSnapshot {
    fn other_tables(&mut self) -> Result<Vec<String>> {
        let schema = self.session.server.schema.clone();
        let sql = format!(
            "SELECT c.relname FROM pg_class c WHERE c.relnamespace = {} AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
                 AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
                 AND c.relname NOT IN ({}, {}, {}) AND NOT starts_with(c.relname, {}) \
                 AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
             ORDER BY 1",
            schema_oid(&schema),
            table_names(),
            literal(EXCEPTIONS_TABLE),
            literal(SERVER_TABLE),
            literal(BACKUP_PREFIX)
        );
        let rows = self.session.rows(&sql).map_err(|error| self.at(error))?;
        rows.iter().map(|row| row.text(0).map(str::to_string)).collect()
    }

    fn other_table(&mut self, name: &str) -> Result<Table> {
        let is_it = format!(
            "c.relnamespace = {} AND c.relname = {}",
            schema_oid(&self.session.server.schema),
            literal(name)
        );
        let session = &mut self.session;
        let found = refuse_unreadable_tables(session, &is_it)
            .and_then(|()| ForeignCode::refuse_read_of(session, name))
            .and_then(|()| catalog::read_table(session, &is_it));
        let missing = || Error::new(Kind::Data, format!("there is no table {name}"));
        found.and_then(|table| table.ok_or_else(missing)).map_err(|error| self.at(error))
    }

    /// A domain holds what its base type does.
    fn value_type(&mut self, table: &str, column: &Column) -> Result<ValueType> {
        let sql = format!(
            "SELECT CASE b.typnamespace WHEN 'pg_catalog'::regnamespace THEN b.typname ELSE '' END \
             FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
                 JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
             WHERE a.attrelid = {}::regclass AND a.attname = {} AND NOT a.attisdropped",
            self.session.qualified_literal(table),
            literal(&column.name)
        );
        let row = self.session.row(&sql).map_err(|error| self.at(error))?;
        Ok(value_type_of(row.text(0)?))
    }

    /// The transaction is open still, so the server has not been started anew; another one may have been promoted.
    fn prove_in_place(&mut self) -> Result<()> {
        let server = self.session.server.clone();
        let proved = self.session.run("SELECT 1").and_then(|()| self.store.pool.confirm(&server));
        proved.map_err(|error| {
            let error = match is_lost(&error) && self.session.is_alive() {
                true => Error { kind: Kind::TryAgain, ..error },
                false => error,
            };
            self.at(error)
        })
    }
}

/// What a column holds whose type has this name in the catalogue of the server; every value has a text.
fn value_type_of(type_name: &str) -> ValueType {
    match type_name {
        "bool" => ValueType::Boolean,
        "int2" | "int4" | "int8" => ValueType::Integer,
        "float4" | "float8" => ValueType::Real,
        "timestamp" | "timestamptz" => ValueType::Time,
        "date" => ValueType::Day,
        "bytea" => ValueType::Bytes,
        _ => ValueType::Text,
    }
}

impl Inspect for ServerSnapshot {
    fn inspect(&mut self) -> Result<Snapshot> {
        let found = inspect::inspect_in_transaction(&mut self.session);
        found.map(|found| found.snapshot).map_err(|error| self.at(error))
    }

    fn find_counter_faults(&mut self, _: &Catalog) -> Result<Vec<CounterFault>> {
        counters::find_faults(&mut self.session).map_err(|error| self.at(error))
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        obstacles::find(&mut self.session, missing).map_err(|error| self.at(error))
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        if scope != DamageScope::Everything {
            return Ok(Damage::default());
        }
        self.without_statement_timeout(damage::find_damaged_indexes)
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        self.without_statement_timeout(|session| damage::has_more_rows(session, table, than))
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        self.without_statement_timeout(|session| rebuild::forecast(session, expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_no_other_store_has_is_copied_as_its_text() {
        for (name, expected) in [
            ("bool", ValueType::Boolean),
            ("int2", ValueType::Integer),
            ("float4", ValueType::Real),
            ("timestamp", ValueType::Time),
            ("date", ValueType::Day),
            ("bytea", ValueType::Bytes),
            ("numeric", ValueType::Text),
            ("_int4", ValueType::Text),
            ("timetz", ValueType::Text),
            ("", ValueType::Text),
        ] {
            assert_eq!(value_type_of(name), expected, "{name}");
        }
    }
}
