//! The statistics of a PostgreSQL database, on one connection of their own. Rows are read by binary COPY.

mod write;

use std::collections::BTreeSet;
use std::time::Duration;

use super::copy_rows::read_selected;
use super::database::DatabaseServer;
use super::foreign_code::{ForeignCode, Use};
use super::pool::SessionPool;
use super::session::Session;
use super::settings::{TimeLimits, TransactionMode};
use crate::error::{Error, Result};
use crate::store::sql::escaped_literal;
use crate::store::statistics::{DELETED_UNTIL, recorded_day, start_of};
use crate::store::time_text::parse_day;
use crate::store::{
    ChangedDays, ChangesSince, Database, Day, DayRange, EXCHANGE_POSITION_COLUMNS,
    ExchangePositionRow, Moment, OPEN_EXCHANGE_STATUS, OpenStatistics, POSITION_COLUMNS,
    PositionRow, ReadStatistics, StatisticsStore, StatisticsTable, StoredStatistics, WaitPolicy,
    closed_statuses, read_position,
};

/// Rows that are read for each reason to find changed days.
const CHANGED_ROWS_MAX: u64 = 1_000_000;
/// 0001-01-01 and 9999-12-31.
const FIRST_DAY: Day = Day(-719_162);
const LAST_DAY: Day = Day(2_932_896);
/// How long a statement, a lock and a connection are waited for.
const LIMITS: TimeLimits =
    TimeLimits { statement: Duration::from_secs(60), lock: Duration::from_millis(300) };
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The tables that are read and written.
const TABLES: [&str; 8] = [
    "exchange_positions",
    "pseudo_positions",
    "real_pseudo_positions",
    "statistics_indication",
    "statistics_strategy",
    "statistics_daily",
    "exchange_connections",
    "system_settings",
];

impl OpenStatistics for DatabaseServer {
    fn open_statistics(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn StatisticsStore>> {
        let store = self.connect_to_write(self.measuring_pool(wait.cancelled)?)?;
        if !store.state(|state| state.has_tables) {
            return Err(self.identity().absent_error());
        }
        Ok(Box::new(ServerStatistics::open(store.pool, store.location)?))
    }

    fn open_statistics_to_read(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn ReadStatistics>> {
        let store = self.connect(self.pool.connect, wait.cancelled)?;
        if !store.state(|state| state.has_tables) {
            return Err(self.identity().absent_error());
        }
        Ok(Box::new(ServerStatistics::open(store.pool, store.location)?))
    }
}

/// The statistics of a server.
struct ServerStatistics {
    pool: SessionPool,
    location: String,
    /// Code of other roles on our tables, as it was last looked for.
    foreign_code: Vec<ForeignCode>,
}

impl ServerStatistics {
    fn open(pool: SessionPool, location: String) -> Result<ServerStatistics> {
        let mut statistics = ServerStatistics { pool, location, foreign_code: Vec::new() };
        statistics.find_foreign_code()?;
        Ok(statistics)
    }

    fn find_foreign_code(&mut self) -> Result<()> {
        let found = self.pool.run_within(CONNECT_LIMIT, ForeignCode::find);
        self.foreign_code = found.map_err(|error| self.at(error))?;
        Ok(())
    }

    fn at(&self, error: Error) -> Error {
        error.at(&self.location)
    }

    /// Runs `work` in a transaction that reads one state of the database.
    fn reading<T>(&self, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
        let read = || {
            ForeignCode::refuse_found(&self.foreign_code, &TABLES, Use::Read)?;
            let mut session = self.pool.get(CONNECT_LIMIT)?;
            session.begin(TransactionMode::Snapshot, LIMITS, "")?;
            let done = work(&mut session);
            session.roll_back();
            done
        };
        read().map_err(|error| self.at(error))
    }
}

impl ReadStatistics for ServerStatistics {
    fn now(&mut self) -> Result<Moment> {
        let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
        self.reading(|session| session.number(sql).map(Moment))
    }

    fn connections(&mut self) -> Result<BTreeSet<String>> {
        self.reading(|session| {
            let sql = format!("SELECT id::text FROM {}", session.qualified("exchange_connections"));
            session.rows(&sql)?.iter().map(|row| row.text(0).map(str::to_string)).collect()
        })
    }

    fn setting(&mut self, key: &str) -> Result<Option<String>> {
        self.reading(|session| {
            let table = session.qualified("system_settings");
            let sql =
                format!("SELECT value::text FROM {table} WHERE key = {}", escaped_literal(key));
            let row = session.first_row(&sql)?;
            Ok(row.and_then(|row| row.get(0).map(str::to_string)))
        })
    }

    fn last_final_day(&mut self) -> Result<Option<Day>> {
        if let Some(recorded) = self.setting(DELETED_UNTIL)? {
            return Ok(Some(recorded_day(&recorded)));
        }
        self.reading(|session| {
            let sql = format!(
                "SELECT max(trade_date)::text FROM {} \
                 WHERE source_rows_left IS NOT NULL OR source_digest_left IS NOT NULL",
                session.qualified("statistics_daily")
            );
            Ok(session.first_row(&sql)?.and_then(|row| row.get(0).map(recorded_day)))
        })
    }

    fn first_day(&mut self, from: Option<Day>) -> Result<Option<Day>> {
        self.reading(|session| {
            let positions = session.qualified("pseudo_positions");
            // A time of a year that is no text on SQLite is not one of a day.
            let mut queries = vec![format!(
                "SELECT (t.closed_at AT TIME ZONE 'UTC')::date::text FROM {positions} t \
                 WHERE {} AND t.closed_at >= {} AND t.closed_at < {} ORDER BY t.closed_at LIMIT 1",
                positions_condition(DayRange { from, until: None }),
                moment_literal(start_of(FIRST_DAY)),
                moment_literal(start_of(LAST_DAY))
            )];
            for table in StatisticsTable::ALL {
                let conditions = day_conditions(table, DayRange { from, until: None });
                let column = table.day_column();
                let day = match table {
                    StatisticsTable::Daily => format!("t.{column}::text"),
                    _ => format!("(t.{column} AT TIME ZONE 'UTC')::date::text"),
                };
                queries.push(format!(
                    "SELECT {day} FROM {} t WHERE {} ORDER BY t.{column} LIMIT 1",
                    session.qualified(table.name()),
                    conditions.join(" AND ")
                ));
            }
            let mut first: Option<Day> = None;
            for query in queries {
                let row = session.first_row(&query)?;
                let day = row.and_then(|row| parse_day(row.get(0)?.as_bytes()).ok());
                first = first.into_iter().chain(day).min();
            }
            Ok(first)
        })
    }

    fn count_unreadable_times(&mut self) -> Result<u64> {
        self.reading(|session| {
            session.number(&format!(
                "SELECT count(*) FROM {} t WHERE {} AND NOT (t.closed_at >= {} AND t.closed_at < {})",
                session.qualified("pseudo_positions"),
                positions_condition(DayRange::default()),
                moment_literal(start_of(FIRST_DAY)),
                moment_literal(start_of(LAST_DAY))
            ))
        })
    }

    fn day_after(&mut self, from: Option<Day>, rows: u64) -> Result<Option<Day>> {
        self.reading(|session| {
            let sql = format!(
                "SELECT (t.closed_at AT TIME ZONE 'UTC')::date::text FROM {} t WHERE {} \
                 ORDER BY t.closed_at OFFSET {rows} LIMIT 1",
                session.qualified("pseudo_positions"),
                positions_condition(DayRange { from, until: None })
            );
            let row = session.first_row(&sql)?;
            Ok(row.and_then(|row| parse_day(row.get(0)?.as_bytes()).ok()))
        })
    }

    fn read_positions(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(PositionRow<'_>) -> Result<()>,
    ) -> Result<()> {
        let rest = format!(" WHERE {} ORDER BY t.closed_at", positions_condition(range));
        let mut horizon = None;
        self.reading(|session| {
            read_selected(session, "pseudo_positions", &POSITION_COLUMNS, &rest, &mut |fields| {
                let position = read_position(fields);
                if let Ok(position) = &position {
                    horizon = Some(position.day);
                }
                on_row(PositionRow { position, horizon })
            })
        })
    }

    fn read_exchange_positions(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(ExchangePositionRow<'_>) -> Result<()>,
    ) -> Result<()> {
        let rest = format!(
            " WHERE t.closed_at IS NOT NULL AND coalesce(t.status, '') <> '{OPEN_EXCHANGE_STATUS}'{} ORDER BY t.closed_at",
            closed_condition(range)
        );
        let columns = &EXCHANGE_POSITION_COLUMNS;
        let mut horizon = None;
        self.reading(|session| {
            read_selected(session, "exchange_positions", columns, &rest, &mut |fields| {
                ExchangePositionRow::read(fields, horizon, |mut found| {
                    if let Ok(position) = &found.row.position {
                        horizon = Some(position.day);
                        found.row.horizon = horizon;
                    }
                    on_row(found)
                })
            })
        })
    }

    fn read_statistics(
        &mut self,
        range: DayRange,
        on_row: &mut dyn FnMut(StoredStatistics) -> Result<()>,
    ) -> Result<()> {
        self.reading(|session| {
            for table in StatisticsTable::ALL {
                let conditions = day_conditions(table, range);
                let rest = format!(" WHERE {} ORDER BY t.id", conditions.join(" AND "));
                read_selected(
                    session,
                    table.name(),
                    &table.read_columns(),
                    &rest,
                    &mut |fields| {
                        StoredStatistics::read(table, fields, None).map_or(Ok(()), &mut *on_row)
                    },
                )?;
            }
            Ok(())
        })
    }

    fn changed_days(&mut self, since: ChangesSince) -> Result<ChangedDays> {
        // The catalogue may have changed since the last time.
        self.find_foreign_code()?;
        self.reading(|session| {
            let table = session.qualified("pseudo_positions");
            let mut found = ChangedDays { is_complete: true, ..ChangedDays::default() };
            let highest = session.row(&format!("SELECT max(id) FROM {table}"))?;
            found.highest_id = highest.get(0).and_then(|id| id.parse().ok());
            let moment = moment_literal(since.moment);
            for condition in [
                format!("id > {}", since.above_id),
                format!("closed_at >= {moment}"),
            ] {
                let sql = format!(
                    "SELECT (closed_at AT TIME ZONE 'UTC')::date::text, count(*) FROM ( \
                         SELECT closed_at FROM {table} WHERE {condition} AND closed_at IS NOT NULL LIMIT {}) AS changed \
                     GROUP BY 1",
                    CHANGED_ROWS_MAX + 1
                );
                let mut rows = 0;
                for row in session.rows(&sql)? {
                    rows += row.number::<u64>(1)?;
                    found.days.extend(row.get(0).and_then(|day| parse_day(day.as_bytes()).ok()));
                }
                found.is_complete &= rows <= CHANGED_ROWS_MAX;
            }
            Ok(found)
        })
    }
}

/// The condition of the closed positions of some days, of the table `t`.
fn positions_condition(range: DayRange) -> String {
    let statuses = closed_statuses();
    format!("t.closed_at IS NOT NULL AND t.status IN ({statuses}){}", closed_condition(range))
}

/// The condition of positions that were closed in some days, to stand behind another one.
fn closed_condition(range: DayRange) -> String {
    let mut condition = String::new();
    if let Some(from) = range.from {
        condition += &format!(" AND t.closed_at >= {}", moment_literal(start_of(from)));
    }
    if let Some(Day(until)) = range.until {
        condition += &format!(" AND t.closed_at < {}", moment_literal(start_of(Day(until + 1))));
    }
    condition
}

/// The conditions of the rows of a statistics table of some days.
fn day_conditions(table: StatisticsTable, range: DayRange) -> Vec<String> {
    let column = table.day_column();
    let start = |day: Day| match table {
        StatisticsTable::Daily => {
            format!("({} AT TIME ZONE 'UTC')::date", moment_literal(start_of(day)))
        }
        _ => moment_literal(start_of(day)),
    };
    let from = range.from.map(|from| format!("t.{column} >= {}", start(from)));
    let until = range.until.map(|until| format!("t.{column} < {}", start(Day(until.0 + 1))));
    ["true".to_string()].into_iter().chain(from).chain(until).collect()
}

/// A moment as a literal. One of a year that SQLite has no text for is before all others, or after them.
fn moment_literal(moment: Moment) -> String {
    match crate::store::time_text::prove_moment(moment) {
        Ok(()) => format!("'{moment}+00'::timestamptz"),
        Err(_) if moment.0 < 0 => "'-infinity'::timestamptz".into(),
        Err(_) => "'infinity'::timestamptz".into(),
    }
}
