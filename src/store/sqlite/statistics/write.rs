//! Writing the statistics, and deleting positions that were counted, each in one transaction.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, Value as Owned, ValueRef};
use rusqlite::{Connection, OptionalExtension, Statement, ToSql, params_from_iter};

use super::FileStatistics;
use crate::error::{Error, Result};
use crate::store::retention::CATEGORY;
use crate::store::sqlite::catalog::text;
use crate::store::sqlite::copy_values::read_value;
use crate::store::sqlite::error::from_sqlite;
use crate::store::statistics::{CountedSource, DELETED_UNTIL, day_text, recorded_day};
use crate::store::time_text::TimeText;
use crate::store::{
    CountedRow, Day, DeletedRows, Field, POSITION_COLUMNS, RowHasher, StatisticsChange,
    StatisticsRow, StatisticsStore, StatisticsWritten, Value, closed_statuses, read_position,
};

/// How long positions are deleted in one transaction; its commit takes some time too.
const DELETE_TIME: Duration = Duration::from_millis(4);

impl StatisticsStore for FileStatistics {
    fn write(
        &mut self,
        changes: &[StatisticsChange],
        limit: Duration,
    ) -> Result<StatisticsWritten> {
        let mut written = StatisticsWritten::default();
        if changes.is_empty() {
            return Ok(written);
        }
        written.lock_held = self.in_transaction(|statements, since| {
            written.make(changes, since + limit, |change| {
                match is_as_expected(statements, change)? {
                    true => apply(statements, change).map(Some),
                    false => Ok(None),
                }
            })
        })?;
        Ok(written)
    }

    fn delete_counted(
        &mut self,
        day: Day,
        connection_id: &str,
        rows: &[CountedRow],
    ) -> Result<DeletedRows> {
        let mut deleted = DeletedRows::default();
        deleted.lock_held = self.in_transaction(|statements, since| {
            let mut source = read_source(statements, day, connection_id)?;
            let mut hasher = RowHasher::default();
            for row in rows {
                if deleted.tried() > 0 && since.elapsed() >= DELETE_TIME {
                    break;
                }
                if !is_unchanged(statements, row, day, &mut hasher)? {
                    deleted.changed += 1;
                } else if delete_unreferenced(statements, row.id)? {
                    deleted.deleted += 1;
                    source.remove(row).map_err(StatisticsFault::Refused)?;
                } else {
                    deleted.referenced += 1;
                }
            }
            if deleted.deleted == 0 {
                return Ok(());
            }
            record_day(statements, day)?;
            write_source(statements, &source)
        })?;
        Ok(deleted)
    }
}

/// The statements of a transaction, each prepared once.
struct PreparedStatements<'c> {
    conn: &'c Connection,
    prepared: BTreeMap<String, Statement<'c>>,
}

impl<'c> PreparedStatements<'c> {
    fn of(&mut self, sql: &str) -> rusqlite::Result<&mut Statement<'c>> {
        if !self.prepared.contains_key(sql) {
            self.prepared.insert(sql.to_string(), self.conn.prepare(sql)?);
        }
        self.prepared.get_mut(sql).ok_or(rusqlite::Error::InvalidQuery)
    }
}

/// Why a transaction of the statistics failed.
enum StatisticsFault {
    Sqlite(rusqlite::Error),
    Refused(Error),
}

impl From<rusqlite::Error> for StatisticsFault {
    fn from(error: rusqlite::Error) -> StatisticsFault {
        StatisticsFault::Sqlite(error)
    }
}

impl FileStatistics {
    /// Runs `work` in a write transaction, with the moment at which it got the lock. Returns how long it was held.
    fn in_transaction(
        &self,
        work: impl FnOnce(&mut PreparedStatements<'_>, Instant) -> Result<(), StatisticsFault>,
    ) -> Result<Duration> {
        self.store.refuse_replaced()?;
        let conn = &self.store.conn;
        let failed = |fault| match fault {
            StatisticsFault::Sqlite(error) => from_sqlite(&self.store.path, &error),
            StatisticsFault::Refused(error) => error.at(self.store.path.display()),
        };
        conn.execute_batch("BEGIN IMMEDIATE").map_err(|e| failed(e.into()))?;
        let since = Instant::now();
        let mut statements = PreparedStatements { conn, prepared: BTreeMap::new() };
        let done = work(&mut statements, since)
            .and_then(|()| conn.execute_batch("COMMIT").map_err(StatisticsFault::Sqlite))
            .map_err(failed);
        drop(statements);
        if !conn.is_autocommit() {
            // If this fails, the transaction ends with its connection, uncommitted.
            let _ = conn.execute_batch("ROLLBACK");
        }
        done.map(|()| since.elapsed())
    }
}

/// A value of a copy as a parameter.
struct BoundValue<'v>(&'v Value<'v>);

impl ToSql for BoundValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let text = |text: TimeText| {
            let text = String::from_utf8_lossy(text.as_bytes()).into_owned();
            Ok(ToSqlOutput::Owned(Owned::Text(text)))
        };
        let borrowed = |value| Ok(ToSqlOutput::Borrowed(value));
        let no_time = || rusqlite::Error::ToSqlConversionFailure("a time without a text".into());
        match self.0 {
            Value::Null => borrowed(ValueRef::Null),
            Value::Boolean(value) => borrowed(ValueRef::Integer(i64::from(*value))),
            Value::Integer(number) => borrowed(ValueRef::Integer(*number)),
            Value::Real(number) => borrowed(ValueRef::Real(*number)),
            Value::Text(value) => borrowed(ValueRef::Text(value.as_bytes())),
            Value::Bytes(bytes) => borrowed(ValueRef::Blob(bytes)),
            Value::Time(moment) => {
                TimeText::of_moment(*moment).map_err(|_| no_time()).and_then(text)
            }
            Value::Day(day) => TimeText::of_day(*day).map_err(|_| no_time()).and_then(text),
        }
    }
}

const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f', 'now')";

/// Whether the statistics of the day and connection are as they were read, and may be written.
fn is_as_expected(
    statements: &mut PreparedStatements<'_>,
    change: &StatisticsChange,
) -> Result<bool, StatisticsFault> {
    let sql = "SELECT source_rows, source_digest, \
             source_rows_left IS NOT NULL OR source_digest_left IS NOT NULL FROM statistics_daily \
         WHERE connection_id = ?1 AND trade_date = ?2 ORDER BY id LIMIT 1";
    let statement = statements.of(sql)?;
    let row = statement.query_row([&change.connection_id, &day_text(change.day)], |row| {
        // What is of another type was read as no value.
        Ok(((row.get(0).unwrap_or(None), row.get(1).unwrap_or(None)), row.get::<_, bool>(2)?))
    });
    Ok(match (row.optional()?, &change.expected) {
        (Some((found, is_frozen)), Some(expected)) => !is_frozen && found == *expected,
        (None, None) => true,
        _ => false,
    })
}

/// Makes a change. Returns how many rows were written and deleted.
fn apply(
    statements: &mut PreparedStatements<'_>,
    change: &StatisticsChange,
) -> Result<u64, StatisticsFault> {
    let mut rows = 0;
    for (table, id) in &change.deleted {
        let sql = format!("DELETE FROM {} WHERE id = ?1", table.name());
        rows += statements.of(&sql)?.execute([id])?;
    }
    for (id, row) in &change.updated {
        rows += update(statements, *id, row)?;
    }
    for row in &change.inserted {
        rows += insert(statements, row)?;
    }
    Ok(rows as u64)
}

fn update(
    statements: &mut PreparedStatements<'_>,
    id: i64,
    row: &StatisticsRow,
) -> rusqlite::Result<usize> {
    let table = row.key.table;
    let set: Vec<String> = table
        .value_columns()
        .enumerate()
        .map(|(at, (name, _))| format!("{name} = ?{}", at + 1))
        .collect();
    let sql = format!(
        "UPDATE {} SET {}, last_calculated_at = {NOW} WHERE id = ?{}",
        table.name(),
        set.join(", "),
        set.len() + 1
    );
    let mut fields = row.values.fields();
    fields.push(Value::Integer(id));
    statements.of(&sql)?.execute(params_from_iter(fields.iter().map(BoundValue)))
}

/// Inserts a row, unless another cts has inserted it meanwhile.
fn insert(statements: &mut PreparedStatements<'_>, row: &StatisticsRow) -> rusqlite::Result<usize> {
    let table = row.key.table;
    let columns: Vec<&str> = table
        .key_columns()
        .iter()
        .copied()
        .chain(table.value_columns())
        .map(|(name, _)| name)
        .collect();
    let values: Vec<String> = (1..=columns.len()).map(|at| format!("?{at}")).collect();
    let sql = format!(
        "INSERT INTO {} ({}, last_calculated_at) VALUES ({}, {NOW}) ON CONFLICT DO NOTHING",
        table.name(),
        columns.join(", "),
        values.join(", ")
    );
    let fields: Vec<Value<'_>> = row.key_fields().into_iter().chain(row.values.fields()).collect();
    statements.of(&sql)?.execute(params_from_iter(fields.iter().map(BoundValue)))
}

/// Reads what `statistics_daily` says of the positions of a day and connection that are left.
fn read_source(
    statements: &mut PreparedStatements<'_>,
    day: Day,
    connection_id: &str,
) -> Result<CountedSource, StatisticsFault> {
    let sql = "SELECT id, coalesce(source_rows_left, source_rows), \
             CASE WHEN source_rows_left IS NULL THEN source_digest ELSE source_digest_left END \
         FROM statistics_daily WHERE connection_id = ?1 AND trade_date = ?2 ORDER BY id LIMIT 1";
    let found = statements.of(sql)?.query_row([connection_id, &day_text(day)], |row| {
        let rows = row.get::<_, i64>(1).ok().and_then(|rows| u64::try_from(rows).ok());
        Ok((row.get::<_, i64>(0)?, rows, row.get::<_, Option<String>>(2).unwrap_or(None)))
    });
    let found = found.optional()?;
    let found = found.as_ref().map(|(id, rows, digest)| (*id, *rows, digest.as_deref()));
    CountedSource::of(found, day, connection_id).map_err(StatisticsFault::Refused)
}

/// Records that positions of this day were deleted, unless those of a later day were.
fn record_day(statements: &mut PreparedStatements<'_>, day: Day) -> Result<(), StatisticsFault> {
    let sql = "SELECT value FROM system_settings WHERE key = ?1";
    let found = statements.of(sql)?.query_row([DELETED_UNTIL], |row| row.get_ref(0).map(text));
    if found.optional()?.flatten().is_some_and(|found| recorded_day(&found) >= day) {
        return Ok(());
    }
    let update =
        format!("UPDATE system_settings SET value = ?2, updated_at = {NOW} WHERE key = ?1");
    let day = day_text(day);
    if statements.of(&update)?.execute([DELETED_UNTIL, &day])? == 0 {
        let insert = "INSERT INTO system_settings (key, value, category, value_type) VALUES (?1, ?2, ?3, 'string')";
        statements.of(insert)?.execute([DELETED_UNTIL, &day, CATEGORY])?;
    }
    Ok(())
}

fn write_source(
    statements: &mut PreparedStatements<'_>,
    source: &CountedSource,
) -> Result<(), StatisticsFault> {
    let sql =
        "UPDATE statistics_daily SET source_rows_left = ?1, source_digest_left = ?2 WHERE id = ?3";
    let rows = i64::try_from(source.left.rows).unwrap_or(i64::MAX);
    statements.of(sql)?.execute((rows, source.left.to_string(), source.id))?;
    Ok(())
}

/// Whether a position is as it was counted.
fn is_unchanged(
    statements: &mut PreparedStatements<'_>,
    row: &CountedRow,
    day: Day,
    hasher: &mut RowHasher,
) -> Result<bool, StatisticsFault> {
    let names = POSITION_COLUMNS.map(|(name, _)| name).join(", ");
    let sql = format!(
        "SELECT {names} FROM pseudo_positions WHERE id = ?1 AND closed_at IS NOT NULL AND status IN ({})",
        closed_statuses()
    );
    let statement = statements.of(&sql)?;
    let hash = statement.query_row([row.id], |found| {
        let mut fields: Vec<Field<'_>> = Vec::with_capacity(POSITION_COLUMNS.len());
        for (at, (_, value_type)) in POSITION_COLUMNS.iter().enumerate() {
            fields.push(read_value(found.get_ref(at)?, *value_type));
        }
        let position = read_position(&fields).ok().filter(|position| position.day == day);
        Ok(position.map(|position| position.hash(hasher)))
    });
    Ok(hash.optional()?.flatten() == Some(row.hash))
}

/// Deletes a position that no other row refers to. Returns whether it was.
fn delete_unreferenced(
    statements: &mut PreparedStatements<'_>,
    id: i64,
) -> Result<bool, StatisticsFault> {
    let sql = "DELETE FROM pseudo_positions WHERE id = ?1 \
         AND NOT EXISTS (SELECT 1 FROM real_pseudo_positions WHERE main_config_id = ?1) \
         AND NOT EXISTS (SELECT 1 FROM real_pseudo_positions WHERE main_position_id = ?1) \
         AND NOT EXISTS (SELECT 1 FROM pseudo_positions WHERE base_position_id = CAST(?1 AS TEXT) AND id <> ?1)";
    Ok(statements.of(sql)?.execute([id])? > 0)
}
