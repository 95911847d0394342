//! The table `cts_server`: which cluster a database was last used on, and the highest timeline of it. A dump that is
//! restored elsewhere takes the row along, and so shows that it is a copy. One row; the table is not part of the
//! expected schema.

use super::catalog::{schema_oid, table_names};
use super::connect::SessionServer;
use super::foreign_code::ForeignCode;
use super::server_identity::ServerIdentity;
use super::session::Session;
use crate::error::{Kind, Result};
use crate::store::sql::literal;

/// The table.
pub const SERVER_TABLE: &str = "cts_server";

/// What a database says about where it belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerContent {
    /// How many tables of CTS there are.
    pub tables: usize,
    /// The server that the database was last used on, where that was recorded and can be read.
    pub recorded: Option<ServerIdentity>,
}

impl ServerContent {
    /// Reads it. A record that may not be read, or whose reading would run code of another role, counts as none.
    ///
    /// # Errors
    /// If the connection is lost, or the catalogue cannot be read.
    pub fn read(session: &mut Session) -> Result<ServerContent> {
        let row = session.row(&content_sql(&session.server.schema))?;
        let content = ServerContent { tables: row.number(0)?, recorded: None };
        if !row.flag(1)? {
            return Ok(content);
        }
        let recorded = ForeignCode::refuse_read_of(session, SERVER_TABLE)
            .and_then(|()| session.first_row(&select_sql(&session.qualified(SERVER_TABLE))));
        match recorded {
            Ok(Some(row)) => {
                let recorded = Some(ServerIdentity::read(&row, 0)?);
                Ok(ServerContent { recorded, ..content })
            }
            Err(error) if !matches!(error.kind, Kind::Permission | Kind::Data) => Err(error),
            Ok(None) | Err(_) => Ok(content),
        }
    }
}

fn content_sql(schema: &str) -> String {
    format!(
        "SELECT count(*) FILTER (WHERE c.relname IN ({})), \
             coalesce(bool_or(c.relname = {} AND has_table_privilege(c.oid, 'SELECT')), false) \
         FROM pg_class c WHERE c.relnamespace = {} AND c.relkind IN ('r', 'p')",
        table_names(),
        literal(SERVER_TABLE),
        schema_oid(schema)
    )
}

fn select_sql(table: &str) -> String {
    format!("SELECT system_identifier, to_hex(timeline) FROM {table} WHERE only_row")
}

/// The statements that record a server, for a transaction that is open; `None` where it is unknown.
pub fn record_sql(session: &Session) -> Option<String> {
    let SessionServer { identity, .. } = &session.server;
    let system = identity.system?;
    let timeline = identity.timeline.map_or("NULL".to_string(), |timeline| timeline.to_string());
    let table = session.qualified(SERVER_TABLE);
    Some(format!(
        "CREATE TABLE IF NOT EXISTS {table} ( \
             only_row          BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row), \
             system_identifier BIGINT NOT NULL, \
             timeline          BIGINT, \
             recorded_at       TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP); \
         INSERT INTO {table} (system_identifier, timeline) VALUES ({system}, {timeline}) \
         ON CONFLICT (only_row) DO UPDATE SET system_identifier = excluded.system_identifier, \
             timeline = excluded.timeline, recorded_at = excluded.recorded_at"
    ))
}

/// Records the server anew where a backup that was restored has brought a record of another one along.
///
/// # Errors
/// If a statement fails; the record is as it was then.
pub fn replace(session: &mut Session) -> Result<()> {
    if ServerContent::read(session)?.recorded.is_none() {
        return Ok(());
    }
    let table = session.qualified(SERVER_TABLE);
    let sql = record_sql(session).unwrap_or_else(|| format!("DELETE FROM {table}"));
    session.run(&sql)
}
