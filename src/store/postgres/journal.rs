//! The newest rows of `site_logs` and the statistics of the newest day, read within a time limit and without running code of
//! another role.

use std::time::Duration;

use super::foreign_code::ForeignCode;
use super::row::Row;
use super::session::Session;
use super::settings::TransactionMode;
use super::store::Postgres;
use crate::error::{Error, Result};
use crate::store::journal::{
    DayStatistics, EVENTS_MAX, Journal, LoggedEvent, LoggedText, READ_TIMEOUT, ReadJournal,
    TEXT_BYTES_MAX, TEXT_CHARS_MAX,
};

/// How long the answer of a server is waited for: the server ends the query after [`READ_TIMEOUT`], and the network takes
/// its time.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

impl ReadJournal for Postgres {
    fn read_journal(&mut self) -> Journal {
        let events = self.read_table(read_events);
        match events {
            // A server that does not answer is not asked again.
            Err(error) if error.kind == crate::error::Kind::Unavailable => {
                Journal { errors: vec![error], ..Journal::default() }
            }
            events => Journal::of(events, self.read_table(read_statistics)),
        }
    }
}

impl Postgres {
    fn read_table<T>(&self, read: fn(&mut Session) -> Result<T>) -> Result<T> {
        let limited = move |session: &mut Session| {
            session.begin(TransactionMode::ReadCommitted, session.limits(), "")?;
            let done = session.limit_statements(READ_TIMEOUT).and_then(|()| read(session));
            session.roll_back();
            done
        };
        self.pool.run_within(ANSWER_TIMEOUT, limited).map_err(|error: Error| self.at(error))
    }
}

/// The beginning of a column, NULL where it is too long. The size of a text is known without reading it.
fn beginning(column: &str) -> String {
    format!(
        "CASE WHEN octet_length({column}) <= {TEXT_BYTES_MAX} THEN substr({column}, 1, {TEXT_CHARS_MAX}) END"
    )
}

fn read_events(session: &mut Session) -> Result<Vec<LoggedEvent>> {
    ForeignCode::refuse_read_of(session, "site_logs")?;
    let sql = format!(
        "SELECT to_char(t.timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), {}, {}, octet_length(t.message) \
         FROM {} t ORDER BY t.id DESC LIMIT {EVENTS_MAX}",
        beginning("t.level"),
        beginning("t.message"),
        session.qualified("site_logs"),
    );
    let event = |row: Row| {
        let text = |at| row.get(at).map(str::to_string);
        let bytes = row.get(3).and_then(|bytes| bytes.parse().ok());
        LoggedEvent { at: text(0), level: text(1), message: LoggedText::of(text(2), bytes) }
    };
    Ok(session.rows(&sql)?.into_iter().map(event).collect())
}

fn read_statistics(session: &mut Session) -> Result<Option<DayStatistics>> {
    ForeignCode::refuse_read_of(session, "statistics_daily")?;
    let table = session.qualified("statistics_daily");
    let sql = format!(
        "SELECT to_char(max(t.trade_date), 'YYYY-MM-DD'), sum(t.total_trades)::bigint, sum(t.winning_trades)::bigint, \
         sum(t.losing_trades)::bigint, sum(t.total_pnl)::double precision \
         FROM {table} t WHERE t.trade_date = (SELECT max(trade_date) FROM {table})"
    );
    let row = session.row(&sql)?;
    let Some(day) = row.get(0).map(str::to_string) else { return Ok(None) };
    let number = |at| row.get(at).and_then(|number| number.parse().ok());
    let profit = row.get(4).and_then(|number| number.parse().ok());
    let (trades, wins, losses) = (number(1), number(2), number(3));
    Ok(Some(DayStatistics { day, trades, wins, losses, profit }))
}
