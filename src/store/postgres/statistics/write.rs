//! Writing the statistics, and deleting positions that were counted, each in one transaction. A commit is not waited for
//! until it is on the disk: what a crash takes away is calculated, or deleted, again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{CONNECT_LIMIT, LIMITS, ServerStatistics, TABLES};
use crate::error::Result;
use crate::store::postgres::copy_rows::read_selected;
use crate::store::postgres::foreign_code::{ForeignCode, Use};
use crate::store::postgres::session::Session;
use crate::store::postgres::settings::TransactionMode;
use crate::store::retention::CATEGORY;
use crate::store::sql::escaped_literal;
use crate::store::statistics::{CountedSource, DELETED_UNTIL, day_text, recorded_day};
use crate::store::{
    CountedRow, Day, DeletedRows, POSITION_COLUMNS, RowHash, RowHasher, StatisticsChange,
    StatisticsRow, StatisticsStore, StatisticsTable, StatisticsWritten, Value, closed_statuses,
    read_position,
};

/// How many times the limit of a transaction on SQLite, which has one writer at a time, one takes here.
const LIMITS_AT_ONCE: u32 = 20;

impl StatisticsStore for ServerStatistics {
    fn write(
        &mut self,
        changes: &[StatisticsChange],
        limit: Duration,
    ) -> Result<StatisticsWritten> {
        let mut written = StatisticsWritten::default();
        if changes.is_empty() {
            return Ok(written);
        }
        // No program waits for the rows of the statistics: no lock is held that another one needs.
        let limit = limit * LIMITS_AT_ONCE;
        self.writing(|session, since| {
            written.make(changes, since + limit, |change| match is_as_expected(session, change)? {
                true => apply(session, change).map(Some),
                false => Ok(None),
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
        if rows.is_empty() {
            return Ok(deleted);
        }
        deleted.lock_held = self.writing(|session, _| {
            let mut source = read_source(session, day, connection_id)?;
            let found = locked_hashes(session, day, rows)?;
            let unchanged: BTreeMap<i64, &CountedRow> = rows
                .iter()
                .filter(|row| found.get(&row.id) == Some(&row.hash))
                .map(|row| (row.id, row))
                .collect();
            deleted.changed = (rows.len() - unchanged.len()) as u64;
            for id in delete_unreferenced(session, &unchanged)? {
                deleted.deleted += 1;
                if let Some(row) = unchanged.get(&id) {
                    source.remove(row)?;
                }
            }
            deleted.referenced = unchanged.len() as u64 - deleted.deleted;
            if deleted.deleted == 0 {
                return Ok(());
            }
            record_day(session, day)?;
            write_source(session, &source)
        })?;
        Ok(deleted)
    }

    fn rest(&mut self) {
        self.pool.close_idle();
    }
}

impl ServerStatistics {
    /// Runs `work` in a transaction that writes, with the moment at which it began. Returns how long it took.
    fn writing(&self, work: impl FnOnce(&mut Session, Instant) -> Result<()>) -> Result<Duration> {
        let write = || {
            ForeignCode::refuse_found(&self.foreign_code, &TABLES, Use::Write)?;
            let mut session = self.pool.get(CONNECT_LIMIT)?;
            let since = Instant::now();
            let settings = "SET LOCAL synchronous_commit = off";
            session.begin(TransactionMode::ReadCommitted, LIMITS, settings)?;
            let done = work(&mut session, since);
            // Another server may have been promoted meanwhile.
            let done = done.and_then(|()| self.pool.cluster.admit(&session.server));
            let done = done.and_then(|()| session.commit());
            session.roll_back();
            done.map(|()| since.elapsed())
        };
        write().map_err(|error| self.at(error))
    }
}

fn sql_value(value: &Value<'_>) -> String {
    match value {
        Value::Null | Value::Bytes(_) => "NULL".into(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(number) => number.to_string(),
        // The shortest text that is read as the same double.
        Value::Real(number) => format!("'{number:?}'::float8"),
        Value::Text(text) => escaped_literal(text),
        Value::Time(moment) => super::moment_literal(*moment),
        Value::Day(day) => format!("'{}'::date", day_text(*day)),
    }
}

fn daily_condition(day: Day, connection_id: &str) -> String {
    format!(
        "connection_id = {} AND trade_date = '{}'::date",
        escaped_literal(connection_id),
        day_text(day)
    )
}

/// Whether the statistics of the day and connection are as they were read, and may be written.
fn is_as_expected(session: &mut Session, change: &StatisticsChange) -> Result<bool> {
    let sql = format!(
        "SELECT source_rows, source_digest, source_rows_left IS NOT NULL OR source_digest_left IS NOT NULL \
         FROM {} WHERE {} ORDER BY id LIMIT 1 FOR UPDATE",
        session.qualified("statistics_daily"),
        daily_condition(change.day, &change.connection_id)
    );
    let row = session.first_row(&sql)?;
    Ok(match (row, &change.expected) {
        (Some(row), Some((rows, digest))) => {
            let found = row.get(0).and_then(|rows| rows.parse().ok());
            !row.flag(2)? && found == *rows && row.get(1) == digest.as_deref()
        }
        (None, None) => true,
        _ => false,
    })
}

/// Makes a change. Returns how many rows were written and deleted.
fn apply(session: &mut Session, change: &StatisticsChange) -> Result<u64> {
    let mut statements = Vec::new();
    for table in StatisticsTable::ALL {
        let name = session.qualified(table.name());
        let ids = change.deleted.iter().filter(|(of, _)| *of == table);
        let ids: Vec<String> = ids.map(|(_, id)| id.to_string()).collect();
        if !ids.is_empty() {
            statements.push(format!("DELETE FROM {name} WHERE id IN ({})", ids.join(", ")));
        }
        let updated = change.updated.iter().filter(|(_, row)| row.key.table == table);
        statements.extend(updated.map(|(id, row)| update_sql(&name, *id, row)));
        let inserted = change.inserted.iter().filter(|row| row.key.table == table);
        let inserted: Vec<&StatisticsRow> = inserted.collect();
        if !inserted.is_empty() {
            statements.push(insert_sql(&name, table, &inserted));
        }
    }
    if statements.is_empty() {
        return Ok(0);
    }
    Ok(session.changed_rows(&statements.join("; "))?.into_iter().sum())
}

fn update_sql(table: &str, id: i64, row: &StatisticsRow) -> String {
    let columns = row.key.table.value_columns();
    let set: Vec<String> = columns
        .zip(row.values.fields())
        .map(|((name, _), value)| format!("{name} = {}", sql_value(&value)))
        .collect();
    format!(
        "UPDATE {table} SET {}, last_calculated_at = clock_timestamp() WHERE id = {id}",
        set.join(", ")
    )
}

/// The statement that inserts rows, but for those that another cts has inserted meanwhile.
fn insert_sql(name: &str, table: StatisticsTable, rows: &[&StatisticsRow]) -> String {
    let columns: Vec<&str> = table
        .key_columns()
        .iter()
        .copied()
        .chain(table.value_columns())
        .map(|(name, _)| name)
        .collect();
    let row = |row: &&StatisticsRow| {
        let fields = row.key_fields().into_iter().chain(row.values.fields());
        let values: Vec<String> = fields.map(|value| sql_value(&value)).collect();
        format!("({}, clock_timestamp())", values.join(", "))
    };
    let rows: Vec<String> = rows.iter().map(row).collect();
    format!(
        "INSERT INTO {name} ({}, last_calculated_at) VALUES {} ON CONFLICT DO NOTHING",
        columns.join(", "),
        rows.join(", ")
    )
}

/// Reads what `statistics_daily` says of the positions of a day and connection that are left.
fn read_source(session: &mut Session, day: Day, connection_id: &str) -> Result<CountedSource> {
    let sql = format!(
        "SELECT id, coalesce(source_rows_left, source_rows), \
             CASE WHEN source_rows_left IS NULL THEN source_digest ELSE source_digest_left END \
         FROM {} WHERE {} ORDER BY id LIMIT 1 FOR UPDATE",
        session.qualified("statistics_daily"),
        daily_condition(day, connection_id)
    );
    let row = session.first_row(&sql)?;
    let found = match &row {
        Some(row) => {
            let rows = row.get(1).and_then(|rows| rows.parse().ok());
            Some((row.number(0)?, rows, row.get(2)))
        }
        None => None,
    };
    CountedSource::of(found, day, connection_id)
}

/// Records that positions of this day were deleted, unless those of a later day were.
fn record_day(session: &mut Session, day: Day) -> Result<()> {
    let settings = session.qualified("system_settings");
    let sql =
        format!("SELECT value::text FROM {settings} WHERE key = '{DELETED_UNTIL}' FOR UPDATE");
    let found = session.first_row(&sql)?;
    let found = found.as_ref().map(|row| row.get(0).unwrap_or_default());
    let day_text = day_text(day);
    match found {
        Some(found) if recorded_day(found) >= day => Ok(()),
        Some(_) => session.run(&format!(
            "UPDATE {settings} SET value = '{day_text}', updated_at = clock_timestamp() WHERE key = '{DELETED_UNTIL}'"
        )),
        None => session.run(&format!(
            "INSERT INTO {settings} (key, value, category, value_type) \
             VALUES ('{DELETED_UNTIL}', '{day_text}', '{CATEGORY}', 'string')"
        )),
    }
}

fn write_source(session: &mut Session, source: &CountedSource) -> Result<()> {
    session.run(&format!(
        "UPDATE {} SET source_rows_left = {}, source_digest_left = '{}' WHERE id = {}",
        session.qualified("statistics_daily"),
        source.left.rows,
        source.left,
        source.id
    ))
}

/// Locks positions, and reads their hashes, by id.
fn locked_hashes(
    session: &mut Session,
    day: Day,
    rows: &[CountedRow],
) -> Result<BTreeMap<i64, RowHash>> {
    let ids: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    let condition = format!("t.id IN ({})", ids.join(", "));
    let table = session.qualified("pseudo_positions");
    session.run(&format!(
        "SELECT count(*) FROM (SELECT t.id FROM {table} t WHERE {condition} ORDER BY t.id FOR UPDATE) AS locked"
    ))?;
    let rest = format!(
        " WHERE {condition} AND t.closed_at IS NOT NULL AND t.status IN ({})",
        closed_statuses()
    );
    let (mut hashes, mut hasher) = (BTreeMap::new(), RowHasher::default());
    read_selected(session, "pseudo_positions", &POSITION_COLUMNS, &rest, &mut |fields| {
        if let Ok(position) = read_position(fields)
            && position.day == day
        {
            hashes.insert(position.id, position.hash(&mut hasher));
        }
        Ok(())
    })?;
    Ok(hashes)
}

/// Deletes positions that no other row refers to. Returns the ids of those that were.
fn delete_unreferenced(
    session: &mut Session,
    rows: &BTreeMap<i64, &CountedRow>,
) -> Result<Vec<i64>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = rows.keys().map(ToString::to_string).collect();
    let positions = session.qualified("pseudo_positions");
    let real = session.qualified("real_pseudo_positions");
    let sql = format!(
        "DELETE FROM {positions} p WHERE p.id IN ({}) \
             AND NOT EXISTS (SELECT 1 FROM {real} r WHERE r.main_config_id = p.id) \
             AND NOT EXISTS (SELECT 1 FROM {real} r WHERE r.main_position_id = p.id) \
             AND NOT EXISTS (SELECT 1 FROM {positions} b WHERE b.base_position_id = p.id::text AND b.id <> p.id) \
         RETURNING p.id",
        ids.join(", ")
    );
    session.rows(&sql)?.iter().map(|row| row.number(0)).collect()
}
