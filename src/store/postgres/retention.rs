//! Retention on PostgreSQL: short reads by id, and short transactions that delete rows by their ids. A row that another
//! transaction has locked is left for the next pass; writers of other rows never wait. The space is freed by autovacuum.

use std::time::{Duration, Instant};

use super::catalog::{schema_oid, table_names};
use super::database::DatabaseServer;
use super::foreign_code::ForeignCode;
use super::pool::SessionPool;
use super::row::Row;
use super::session::Session;
use super::settings::{TimeLimits, TransactionMode};
use crate::error::{Error, Kind, Result};
use crate::store::retention::{
    CATEGORY, DeletedBatch, OpenRetention, PROGRAM_ROWS, PROGRAM_TIMES, PrunableRow, PrunableRows,
    PruneRule, RetentionStore, SETTING_KEYS, StoredSetting, WalkSlice,
};
use crate::store::sql::{escaped_literal, insert_site_log, literal};
use crate::store::{Database, Moment, SiteLogEntry, WaitPolicy};

/// How long a statement and a lock are waited for.
const LIMITS: TimeLimits =
    TimeLimits { statement: Duration::from_secs(10), lock: Duration::from_millis(300) };
/// How long a transaction should take. Nobody waits for it, but for a program that writes the very rows.
const BATCH_GOAL: Duration = Duration::from_millis(40);
/// How long a connection is waited for.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// What a row has before its columns, in bytes: its header and its pointer. ("Database Page Layout")
const ROW_HEADER_BYTES: u32 = 28;
/// Heaps up to this size are taken for full.
const HEAP_BYTES_MIN: u32 = 1 << 20;

impl OpenRetention for DatabaseServer {
    fn open_retention(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>> {
        let store = self.connect_to_write(self.measuring_pool(wait.cancelled)?)?;
        if !store.state(|state| state.has_tables) {
            return Err(self.identity().absent_error());
        }
        Ok(Box::new(ServerRetention { pool: store.pool, location: store.location }))
    }

    fn read_retention(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>> {
        let store = self.connect(self.pool.connect, wait.cancelled)?;
        if !store.state(|state| state.has_tables) {
            return Err(self.identity().absent_error());
        }
        Ok(Box::new(ServerRetention { pool: store.pool, location: store.location }))
    }
}

/// A database of a server that is open for retention.
struct ServerRetention {
    pool: SessionPool,
    location: String,
}

impl ServerRetention {
    /// Runs `work` in a transaction that reads one state of the database.
    fn reading<T>(&self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let read = || {
            let mut session = self.pool.get(CONNECT_LIMIT)?;
            session.begin(TransactionMode::Snapshot, LIMITS, "")?;
            let done = work(&mut session);
            session.roll_back();
            done
        };
        read().map_err(|error| error.at(&self.location))
    }

    /// Runs `work` in a transaction that writes these tables, and commits it. What a crash takes away is done again, so that
    /// the disk is not waited for.
    fn writing<T>(
        &self,
        tables: &[&str],
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let write = || {
            let mut session = self.pool.get(CONNECT_LIMIT)?;
            // A trigger that another role creates meanwhile waits for the lock.
            let locks = tables.iter().map(|table| session.qualified(table)).collect::<Vec<_>>();
            let begin = format!(
                "SET LOCAL synchronous_commit = off; LOCK TABLE {} IN ROW EXCLUSIVE MODE",
                locks.join(", ")
            );
            session.begin(TransactionMode::ReadCommitted, LIMITS, &begin)?;
            let mut refused =
                tables.iter().map(|table| ForeignCode::refuse_write(&mut session, table));
            let checked = refused.find(Result::is_err).unwrap_or(Ok(()));
            let done = checked.and_then(|()| work(&mut session));
            // Another server may have been promoted meanwhile.
            let done =
                done.and_then(|done| self.pool.cluster.admit(&session.server).map(|()| done));
            let done = done.and_then(|done| session.commit().map(|()| done));
            session.roll_back();
            done
        };
        write().map_err(|error| error.at(&self.location))
    }
}

impl RetentionStore for ServerRetention {
    fn read_settings(&mut self) -> Result<Vec<StoredSetting>> {
        let keys: Vec<String> = SETTING_KEYS.iter().map(|key| literal(key)).collect();
        self.reading(|session| {
            ForeignCode::refuse_read_of(session, "system_settings")?;
            let sql = format!(
                "SELECT key, value::text, category::text FROM {} WHERE key IN ({}) ORDER BY key, id",
                session.qualified("system_settings"),
                keys.join(", ")
            );
            let setting = |row: &Row| {
                let value = row.get(1).unwrap_or_default().to_string();
                let category = row.get(2).map(str::to_string);
                Ok(StoredSetting { key: row.text(0)?.to_string(), value, category })
            };
            session.rows(&sql)?.iter().map(setting).collect()
        })
    }

    fn record(&mut self, records: &[StoredSetting], entry: Option<&SiteLogEntry>) -> Result<()> {
        let mut tables = Vec::new();
        tables.extend((!records.is_empty()).then_some("system_settings"));
        tables.extend(entry.map(|_| "site_logs"));
        if tables.is_empty() {
            return Ok(());
        }
        self.writing(&tables, |session| {
            for record in records {
                write_record(session, record)?;
            }
            match entry {
                Some(entry) => {
                    let insert = insert_site_log(&session.qualified("site_logs"), entry);
                    session.run(&insert)
                }
                None => Ok(()),
            }
        })
    }

    fn newest_time(&mut self, until: Moment) -> Result<Option<Moment>> {
        let mut newest = None;
        for (table, column, rows) in PROGRAM_TIMES {
            let found = self.reading(|session| {
                ForeignCode::refuse_read_of(session, table)?;
                let sql = format!(
                    "SELECT (extract(epoch FROM max(at)) * 1000000)::bigint FROM \
                         (SELECT {column} AS at FROM {} t WHERE {rows} ORDER BY t.id DESC LIMIT {PROGRAM_ROWS}) AS last \
                     WHERE isfinite(at) AND at <= to_timestamp({} / 1000000.0)",
                    session.qualified(table),
                    until.0
                );
                let row = session.first_row(&sql)?;
                Ok(row.and_then(|row| row.get(0)?.parse::<i64>().ok()))
            });
            match found {
                Ok(found) => newest = newest.into_iter().chain(found).max(),
                Err(error) if error.kind == Kind::Data && !error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newest.map(Moment))
    }

    fn refusal(&mut self, table: &'static str) -> Result<Option<Error>> {
        let other = self.reading(|session| {
            let row = session.first_row(&referring_sql(&session.server.schema, table))?;
            row.map(|row| row.text(0).map(str::to_string)).transpose()
        })?;
        Ok(other.map(|other| {
            let what = format!("table {other} refers to rows of {table}, so that none is deleted");
            Error::new(Kind::Data, what)
                .at(&self.location)
                .remedy("drop that foreign key, or delete old rows yourself")
        }))
    }

    fn read_slice(&mut self, rule: &PruneRule, after: i64, limit: usize) -> Result<WalkSlice> {
        let rows = rule.rows;
        self.reading(|session| {
            ForeignCode::refuse_read_of(session, rows.table())?;
            let sql = format!(
                "SELECT t.id, {}, {} FROM {} t WHERE t.id > {after} ORDER BY t.id LIMIT {limit}",
                microseconds(rows),
                rows.mark(),
                session.qualified(rows.table())
            );
            let mut slice = WalkSlice::default();
            for row in session.rows(&sql)? {
                let written = row.get(1).map(str::to_string);
                let at = written.as_deref().and_then(|text| text.parse().ok()).map(Moment);
                let mark = row.get(2).map(|mark| mark == "t");
                let found = PrunableRow {
                    id: row.number(0)?,
                    at: at.unwrap_or(Moment(0)),
                    written: written.unwrap_or_default(),
                    mark,
                };
                slice.add(rule, found, at.is_some());
            }
            Ok(slice)
        })
    }

    fn delete(
        &mut self,
        rows: PrunableRows,
        batch: &[PrunableRow],
        _: Duration,
    ) -> Result<Option<DeletedBatch>> {
        let mut lock_held = Duration::ZERO;
        let done = self.writing(&[rows.table()], |session| {
            let start = Instant::now();
            let sql = delete_sql(&session.qualified(rows.table()), rows, batch);
            let deleted = session.changed_rows(&sql)?.into_iter().sum();
            lock_held = start.elapsed();
            Ok(deleted)
        });
        match done {
            Ok(deleted) => Ok(Some(DeletedBatch { tried: batch.len(), deleted, lock_held })),
            // Another program has locked the whole table.
            Err(error) if error.kind == Kind::Blocked => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn batch_goal(&self) -> Duration {
        BATCH_GOAL
    }

    fn used_bytes(&mut self) -> Result<u64> {
        self.reading(|session| session.number(&used_sql(&session.server.schema)))
    }

    fn refuse_long_wal(&self) -> Result<()> {
        Ok(())
    }
}

/// The time of a row `t` in microseconds since 1970, of a day its end; NULL where it is infinite.
fn microseconds(rows: PrunableRows) -> String {
    let column = rows.time_column();
    let at = match rows {
        PrunableRows::Days => format!("(({column} + 1)::timestamp AT TIME ZONE 'UTC')"),
        _ => column.to_string(),
    };
    format!("CASE WHEN isfinite({column}) THEN (extract(epoch FROM {at}) * 1000000)::bigint END")
}

/// Deletes the rows that are still as they were read, and that nobody else has locked.
fn delete_sql(table: &str, rows: PrunableRows, batch: &[PrunableRow]) -> String {
    let flag = |mark: Option<bool>| mark.map_or("NULL".to_string(), |mark| mark.to_string());
    let value = |row: &PrunableRow| format!("({}, {}, {})", row.id, row.at.0, flag(row.mark));
    let values: Vec<String> = batch.iter().map(value).collect();
    format!(
        "DELETE FROM {table} WHERE id IN ( \
             SELECT t.id FROM {table} t \
             JOIN (VALUES (0::bigint, 0::bigint, NULL::boolean), {}) AS v (id, at, mark) ON v.id = t.id \
             WHERE {} = v.at AND {} IS NOT DISTINCT FROM v.mark FOR UPDATE OF t SKIP LOCKED)",
        values.join(", "),
        microseconds(rows),
        rows.mark()
    )
}

/// Updates the row of a record, or inserts it. A database of an older CTS may have no unique index on the key.
fn write_record(session: &mut Session, record: &StoredSetting) -> Result<()> {
    let table = session.qualified("system_settings");
    let (key, value) = (escaped_literal(&record.key), escaped_literal(&record.value));
    let update = format!(
        "UPDATE {table} SET value = {value}, updated_at = clock_timestamp() WHERE key = {key}"
    );
    if session.changed_rows(&update)?.iter().sum::<u64>() == 0 {
        session.run(&format!(
            "INSERT INTO {table} (key, value, category, value_type) VALUES ({key}, {value}, '{CATEGORY}', 'string')"
        ))?;
    }
    Ok(())
}

/// A table that is not of cts and has a foreign key to this one.
fn referring_sql(schema: &str, table: &str) -> String {
    format!(
        "SELECT k.conrelid::regclass::text FROM pg_constraint k \
         JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid \
         WHERE k.contype = 'f' AND p.relnamespace = {schema} AND p.relname = {} \
             AND NOT (c.relnamespace = {schema} AND c.relname IN ({ours})) ORDER BY 1 LIMIT 1",
        literal(table),
        schema = schema_oid(schema),
        ours = table_names()
    )
}

/// About what the rows and indexes of our tables occupy: their files, by the share of them that the rows need by the
/// server's estimates of their number and width. What was deleted is free in the files until it is used again.
fn used_sql(schema: &str) -> String {
    format!(
        "SELECT coalesce(sum(CASE WHEN t.heap <= {HEAP_BYTES_MIN} OR t.width IS NULL THEN t.total \
             ELSE t.total * least(1, t.live * ({ROW_HEADER_BYTES} + t.width) / t.heap) END), 0)::bigint \
         FROM (SELECT pg_total_relation_size(c.oid)::float8 AS total, pg_relation_size(c.oid)::float8 AS heap, \
                 pg_stat_get_live_tuples(c.oid)::float8 AS live, \
                 (SELECT sum(s.avg_width * (1 - s.null_frac))::float8 FROM pg_stats s \
                  WHERE s.schemaname = {} AND s.tablename = c.relname) AS width \
             FROM pg_class c WHERE c.relnamespace = {} AND c.relkind = 'r' AND c.relname IN ({})) t",
        literal(schema),
        schema_oid(schema),
        table_names()
    )
}
