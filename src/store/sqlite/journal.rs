//! The newest rows of `site_logs` and the statistics of the newest day, read within a time limit and without reading a long
//! text whole.

use std::time::Instant;

use rusqlite::{Connection, Row};

use super::catalog::text;
use super::connect::interrupted_when;
use super::store::Sqlite;
use crate::store::journal::{
    DayStatistics, EVENTS_MAX, Journal, LoggedEvent, LoggedText, READ_TIMEOUT, ReadJournal,
    TEXT_BYTES_MAX, TEXT_CHARS_MAX,
};

impl ReadJournal for Sqlite {
    fn read_journal(&mut self) -> Journal {
        let events = within_limit(&mut self.conn, read_events).map_err(|e| self.error(&e));
        let statistics = within_limit(&mut self.conn, read_statistics).map_err(|e| self.error(&e));
        Journal::of(events, statistics)
    }
}

/// Runs a query that is interrupted after [`READ_TIMEOUT`].
fn within_limit<T>(
    conn: &mut Connection,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let deadline = Instant::now() + READ_TIMEOUT;
    interrupted_when(conn, move || Instant::now() >= deadline, read)
}

/// The beginning of a column, NULL where it is too long. `octet_length` reads no more than the header of the row; `substr`
/// would read a text of a gigabyte whole. (sqlite.org/lang_corefunc.html)
fn beginning(column: &str) -> String {
    format!(
        "CASE WHEN octet_length({column}) <= {TEXT_BYTES_MAX} THEN substr({column}, 1, {TEXT_CHARS_MAX}) END"
    )
}

fn read_events(conn: &Connection) -> rusqlite::Result<Vec<LoggedEvent>> {
    // With the name of the table, a column that is missing is an error. Without it, it would be a text.
    let [at, level, message] = ["timestamp", "level", "message"].map(|c| format!("site_logs.{c}"));
    let sql = format!(
        "SELECT {}, {}, {}, octet_length({message}) FROM site_logs ORDER BY site_logs.id DESC LIMIT {EVENTS_MAX}",
        beginning(&at),
        beginning(&level),
        beginning(&message),
    );
    let cell = |row: &Row<'_>, at| row.get_ref(at).map(text);
    let mut statement = conn.prepare(&sql)?;
    let rows = statement.query_map([], |row| {
        Ok(LoggedEvent {
            at: cell(row, 0)?,
            level: cell(row, 1)?,
            message: LoggedText::of(cell(row, 2)?, row.get(3)?),
        })
    })?;
    rows.collect()
}

fn read_statistics(conn: &Connection) -> rusqlite::Result<Option<DayStatistics>> {
    let day = "SELECT max(statistics_daily.trade_date) FROM statistics_daily";
    let sum = |column| format!("sum(statistics_daily.{column})");
    let count = |column| format!("CAST({} AS INTEGER)", sum(column));
    let sql = format!(
        "SELECT substr(max(trade_date), 1, 10), {}, {}, {}, CAST({} AS REAL) FROM statistics_daily WHERE trade_date = ({day})",
        count("total_trades"),
        count("winning_trades"),
        count("losing_trades"),
        sum("total_pnl"),
    );
    conn.query_row(&sql, [], |row| {
        let Some(day) = text(row.get_ref(0)?) else { return Ok(None) };
        let (trades, wins, losses) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Some(DayStatistics { day, trades, wins, losses, profit: row.get(4)? }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::FileAccess;

    fn journal(sql: &str) -> Journal {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        Sqlite::new(conn, "/data/cts.db".into(), FileAccess::default()).read_journal()
    }

    #[test]
    fn a_table_that_is_missing_or_altered_or_never_ends_is_unknown_and_the_other_is_read() {
        let endless = "CREATE VIEW site_logs AS WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) \
                       SELECT id, id AS timestamp, 'info' AS level, 'm' AS message FROM n";
        let statistics = "CREATE TABLE statistics_daily (trade_date, total_trades, winning_trades, losing_trades, total_pnl); \
                          INSERT INTO statistics_daily VALUES ('2026-11-27', 9, 9, 0, 9.0), ('2026-11-28', 2, 1, 1, 1.5), ('2026-11-28', 1, 1, 0, NULL);";
        for site_logs in ["SELECT 1", "CREATE TABLE site_logs (id, level, message)", endless] {
            let start = Instant::now();
            let found = journal(&format!("{statistics}{site_logs}"));
            assert!(start.elapsed().as_secs() < 5, "{site_logs}");
            assert_eq!((found.events, found.errors.len()), (None, 1), "{site_logs}");
            let day = "2026-11-28".to_string();
            let (trades, wins, losses) = (Some(3), Some(2), Some(1));
            let expected = DayStatistics { day, trades, wins, losses, profit: Some(1.5) };
            assert_eq!(found.statistics, Some(expected));
        }
    }

    #[test]
    fn a_row_may_hold_anything_and_a_long_text_is_not_read() {
        let found = journal(
            "CREATE TABLE site_logs (id INTEGER PRIMARY KEY, timestamp, level, message); \
             INSERT INTO site_logs VALUES (1, NULL, 7, x'ff61'), (2, 'now', 'info', zeroblob(3000000)), \
             (3, 1.5, NULL, NULL), (4, 'now', 'info', printf('%.*c', 5000, 'a'))",
        );
        let texts: Vec<LoggedText> =
            found.events.unwrap().into_iter().map(|event| event.message).collect();
        let read = |text: &str| LoggedText::Read(text.to_string());
        let expected = [
            read(&"a".repeat(TEXT_CHARS_MAX)),
            read(""),
            LoggedText::TooLong(3_000_000),
            read("\u{fffd}a"),
        ];
        assert_eq!(texts, expected);
    }
}
