//! The statistics of a SQLite database, on a connection of their own.
//!
//! A text of a time sorts by the day that it begins with. Where it has an offset, its UTC day may be the one before or
//! after: of these two, the index alone is searched for texts with an offset.

mod conditions;
mod write;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use conditions::{bound, closed_condition, positions_condition, since_conditions};
use rusqlite::OptionalExtension;
use rusqlite::types::ValueRef;

use super::catalog::text;
use super::copy_values::read_value;
use super::restore::refuse_running;
use super::{DatabaseFile, Sqlite};
use crate::error::{Error, Kind, Result};
use crate::store::sql::literal;
use crate::store::statistics::{DELETED_UNTIL, recorded_day};
use crate::store::time_text::{parse_day, parse_moment};
use crate::store::{
    ChangedDays, ChangesSince, Database, Day, DayRange, EXCHANGE_POSITION_COLUMNS,
    ExchangePositionRow, Field, Moment, OPEN_EXCHANGE_STATUS, OpenStatistics, POSITION_COLUMNS,
    PositionRow, ReadStatistics, StatisticsStore, StatisticsTable, StoredStatistics,
    UNREADABLE_DAY, ValueType, WaitPolicy, day_of_text, days_of, read_position,
};

/// Rows that are read for each reason to find changed days.
const CHANGED_ROWS_MAX: usize = 1_000_000;
/// The beginning of the text of a time.
const DAY_PATTERN: &str = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*";
/// Bytes of a day at the beginning of the text of a time.
const DAY_BYTES: usize = 10;

impl OpenStatistics for DatabaseFile {
    fn open_statistics(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn StatisticsStore>> {
        let store = self.open_beside(wait)?.store;
        let settings = "PRAGMA foreign_keys = ON";
        store.conn.execute_batch(settings).map_err(|e| store.error(&e))?;
        Ok(Box::new(FileStatistics { store }))
    }

    fn open_statistics_to_read(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn ReadStatistics>> {
        refuse_running(self)?;
        let store = Sqlite::open_read_only(&self.path, self.access, wait)?;
        let store = store.ok_or_else(|| self.identity().absent_error())?;
        Ok(Box::new(FileStatistics { store }))
    }
}

/// What is called with the fields of a closed position, and with the day before which none comes after it.
type OnClosed<'c> = dyn FnMut(&[Field<'_>], Option<Day>) -> Result<()> + 'c;

/// The statistics of an open file.
struct FileStatistics {
    store: Sqlite,
}

impl FileStatistics {
    fn error(&self, cause: &rusqlite::Error) -> Error {
        self.store.error(cause)
    }

    /// Calls `on_row` with the fields of each row of a query, and with the row itself.
    fn read_rows(
        &self,
        sql: &str,
        types: &[ValueType],
        on_row: &mut dyn FnMut(&[Field<'_>], &rusqlite::Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let failed = |e: rusqlite::Error| self.error(&e);
        let mut statement = self.store.conn.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let mut fields = Vec::with_capacity(types.len());
            for (at, value_type) in types.iter().enumerate() {
                fields.push(read_value(row.get_ref(at).map_err(failed)?, *value_type));
            }
            on_row(&fields, row)?;
        }
        self.prove_at_rest()
    }

    /// Reads these columns of closed positions, about in the order of closing.
    fn read_closed(
        &self,
        table: &str,
        columns: &[(&str, ValueType)],
        condition: &str,
        on_row: &mut OnClosed<'_>,
    ) -> Result<()> {
        let (names, types): (Vec<_>, Vec<_>) = columns.iter().copied().unzip();
        let sql = format!(
            "SELECT {} FROM {table} WHERE {condition} ORDER BY closed_at",
            names.join(", ")
        );
        let closed_at = names.iter().position(|name| *name == "closed_at").unwrap_or_default();
        let mut horizon = None;
        self.read_rows(&sql, &types, &mut |fields, row| {
            if let Ok(ValueRef::Text(text)) = row.get_ref(closed_at)
                && let Some(Ok(Day(day))) = text.get(..DAY_BYTES).map(parse_day)
            {
                // Behind the last text of a day there may be one of the next day whose offset makes it this one's.
                horizon = Some(Day(day - 1));
            }
            on_row(fields, horizon)
        })
    }

    /// Refuses what was read without locks, where another program has opened the file meanwhile.
    fn prove_at_rest(&self) -> Result<()> {
        match &self.store.at_rest {
            Some(at_rest) if !at_rest.holds(&self.store.path) => {
                let what = "was opened by another program while it was read without locks";
                Err(Error::new(Kind::TryAgain, what)
                    .at(self.store.path.display())
                    .remedy("run it again"))
            }
            _ => Ok(()),
        }
    }

    /// The text that a query gives.
    fn text(&self, sql: &str) -> Result<Option<String>> {
        let found = self.store.conn.query_row(sql, [], |row| row.get_ref(0).map(text));
        found.optional().map(Option::flatten).map_err(|e| self.error(&e))
    }

    /// The first day on which a position may have been closed.
    fn first_position_day(&self, from: Option<Day>) -> Result<Option<Day>> {
        let condition = positions_condition(DayRange { from, until: None });
        let mut after = String::new();
        loop {
            let sql = format!(
                "SELECT closed_at FROM pseudo_positions WHERE {condition}{after} AND closed_at GLOB '{DAY_PATTERN}' AND typeof(closed_at) = 'text' \
                 ORDER BY closed_at LIMIT 1"
            );
            let Some(found) = self.text(&sql)? else { return Ok(None) };
            match day_of_text(&found) {
                // An offset may make it the day before.
                Some(Day(day)) => return Ok(Some(Day(day - 1))),
                None => after = format!(" AND closed_at > {}", literal(&found)),
            }
        }
    }

    /// Adds the days of closing of the rows of a query for `closed_at`.
    fn add_days(&self, sql: &str, found: &mut ChangedDays) -> Result<()> {
        let failed = |e: rusqlite::Error| self.error(&e);
        let sql = format!("{sql} LIMIT {}", CHANGED_ROWS_MAX + 1);
        let mut statement = self.store.conn.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            count += 1;
            if let ValueRef::Text(text) = row.get_ref(0).map_err(failed)?
                && let Ok(moment) = parse_moment(text)
            {
                found.days.extend(days_of(moment));
            }
        }
        found.is_complete &= count <= CHANGED_ROWS_MAX;
        Ok(())
    }
}

impl ReadStatistics for FileStatistics {
    fn now(&mut self) -> Result<Moment> {
        Ok(now())
    }

    fn connections(&mut self) -> Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        let sql = "SELECT id FROM exchange_connections";
        self.read_rows(sql, &[], &mut |_, row| {
            ids.extend(row.get_ref(0).ok().and_then(text));
            Ok(())
        })?;
        Ok(ids)
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM system_settings WHERE key = ?1";
        let found = self.store.conn.query_row(sql, [key], |row| row.get_ref(0).map(text));
        found.optional().map(Option::flatten).map_err(|e| self.error(&e))
    }

    fn last_final_day(&mut self) -> Result<Option<Day>> {
        if let Some(recorded) = self.setting(DELETED_UNTIL)? {
            return Ok(Some(recorded_day(&recorded)));
        }
        let sql = "SELECT max(trade_date) FROM statistics_daily \
             WHERE source_rows_left IS NOT NULL OR source_digest_left IS NOT NULL";
        Ok(self.text(sql)?.map(|day| recorded_day(&day)))
    }

    fn first_day(&mut self, from: Option<Day>) -> Result<Option<Day>> {
        let mut first = self.first_position_day(from)?;
        for table in StatisticsTable::ALL {
            let column = table.day_column();
            let from = from.map_or_else(String::new, |from| bound(&format!("{column} >="), from));
            let sql = format!(
                "SELECT {column} FROM {} WHERE {column} GLOB '{DAY_PATTERN}' AND typeof({column}) = 'text'{from} ORDER BY {column} LIMIT 1",
                table.name()
            );
            let day = self.text(&sql)?.and_then(|text| day_of_text(&text));
            first = first.into_iter().chain(day).min();
        }
        Ok(first.map(|first| from.map_or(first, |from| first.max(from))))
    }

    fn count_unreadable_times(&mut self) -> Result<u64> {
        let failed = |e: rusqlite::Error| self.error(&e);
        let sql = format!(
            "SELECT closed_at FROM pseudo_positions WHERE {}",
            positions_condition(DayRange::default())
        );
        let mut statement = self.store.conn.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut count = 0;
        while let Some(row) = rows.next().map_err(failed)? {
            let is_time = match row.get_ref(0).map_err(failed)? {
                ValueRef::Text(text) => parse_moment(text).ok().and_then(days_of).is_some(),
                _ => false,
            };
            count += u64::from(!is_time);
        }
        Ok(count)
    }

    fn day_after(&mut self, from: Option<Day>, rows: u64) -> Result<Option<Day>> {
        let closed = format!(
            "closed_at IS NOT NULL{}",
            from.map_or_else(String::new, |from| bound("closed_at >=", from))
        );
        let found = |condition: &str| {
            self.text(&format!(
                "SELECT closed_at FROM pseudo_positions WHERE {condition} ORDER BY closed_at LIMIT 1 OFFSET {rows}"
            ))
        };
        // Rows are skipped twenty times as fast where nothing but the index is read of them.
        let Some(first) = found(&closed)? else { return Ok(None) };
        if let Some(day) = day_of_text(&first) {
            return Ok(Some(day));
        }
        let is_day = format!("closed_at GLOB '{DAY_PATTERN}' AND typeof(closed_at) = 'text'");
        Ok(found(&format!("{closed} AND {is_day}"))?.and_then(|text| day_of_text(&text)))
    }

    fn read_positions(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(PositionRow<'_>) -> Result<()>,
    ) -> Result<()> {
        let condition = positions_condition(range);
        self.read_closed(
            "pseudo_positions",
            &POSITION_COLUMNS,
            &condition,
            &mut |fields, horizon| {
                let position = read_position(fields);
                match &position {
                    Ok(position) if !range.contains(position.day) => Ok(()),
                    _ => on_row(PositionRow { position, horizon }),
                }
            },
        )
    }

    fn read_exchange_positions(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(ExchangePositionRow<'_>) -> Result<()>,
    ) -> Result<()> {
        let condition = format!(
            "closed_at IS NOT NULL AND coalesce(status, '') <> '{OPEN_EXCHANGE_STATUS}'{}",
            closed_condition(range)
        );
        let columns = &EXCHANGE_POSITION_COLUMNS;
        self.read_closed("exchange_positions", columns, &condition, &mut |fields, horizon| {
            ExchangePositionRow::read(fields, horizon, |found| match &found.row.position {
                Ok(position) if !range.contains(position.day) => Ok(()),
                _ => on_row(found),
            })
        })
    }

    fn read_statistics(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(StoredStatistics) -> Result<()>,
    ) -> Result<()> {
        for table in StatisticsTable::ALL {
            let (names, types): (Vec<_>, Vec<_>) = table.read_columns().into_iter().unzip();
            let day = table.day_column();
            let mut condition = "1".to_string();
            // Those whose day is no day come with the first days.
            let unreadable = range.from.is_none().then_some(UNREADABLE_DAY);
            if let Some(from) = range.from {
                condition += &bound(&format!("{day} >="), from);
            }
            if let Some(until) = range.until {
                condition += &bound(&format!("{day} <"), Day(until.0 + 1));
            }
            if unreadable.is_some() {
                condition +=
                    &format!(" OR {day} NOT GLOB '{DAY_PATTERN}' OR typeof({day}) <> 'text'");
            }
            let sql = format!(
                "SELECT {} FROM {} WHERE {condition} ORDER BY id",
                names.join(", "),
                table.name()
            );
            self.read_rows(&sql, &types, &mut |fields, _| {
                StoredStatistics::read(table, fields, unreadable).map_or(Ok(()), &mut *on_row)
            })?;
        }
        Ok(())
    }

    fn changed_days(&mut self, since: ChangesSince) -> Result<ChangedDays> {
        let mut found = ChangedDays { is_complete: true, ..ChangedDays::default() };
        let highest = "SELECT max(id) FROM pseudo_positions";
        let highest = self.store.conn.query_row(highest, [], |row| row.get(0));
        found.highest_id = highest.map_err(|e| self.error(&e))?;
        let select = "SELECT closed_at FROM pseudo_positions";
        let new =
            format!("{select} NOT INDEXED WHERE id > {} AND closed_at IS NOT NULL", since.above_id);
        self.add_days(&new, &mut found)?;
        for condition in since_conditions("closed_at", since.moment) {
            let sql = format!("{select} WHERE {condition} AND closed_at IS NOT NULL");
            self.add_days(&sql, &mut found)?;
        }
        Ok(found)
    }
}

fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_micros()).unwrap_or(i64::MAX - 1))
}
