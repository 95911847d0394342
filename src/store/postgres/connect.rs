//! Opens one connection to one host of the URL, with timeouts and TCP keepalives. Here, too, it is found
//! which schema the tables are in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Config;
use tokio_postgres::error::DbError;

use super::answer_watch::AnswerBounds;
use super::client::{Client, ClientError};
use super::engine;
use super::error::{self, is_protocol_violation};
use super::row;
use super::server_address::ServerAddress;
use super::server_identity::{IdentityColumns, ServerIdentity, is_refused};
use super::session::Session;
use super::settings::SEARCH_PATH;
use super::tls::Tls;
use super::url::{ChannelBinding, Host, Password, Target, search_path_of};
use crate::error::{Error, Kind, Result};
use crate::store::sql::escaped_literal;

/// TCP keepalives: idle time before the first one, time between two, and lost ones after which the
/// connection counts as lost.
pub const KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
pub const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(5);
pub const KEEPALIVES_COUNT: u32 = 3;
/// How long sent data may stay unacknowledged before the connection counts as lost.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// The oldest supported version, as `server_version_num`.
const OLDEST_VERSION: u32 = 130_000;
/// The first version with `client_connection_check_interval`.
pub const VERSION_14: u32 = 140_000;
/// The first version with `LOCALE_PROVIDER`.
pub const VERSION_15: u32 = 150_000;
/// The first version with `transaction_timeout`.
pub const VERSION_17: u32 = 170_000;
/// SQLSTATEs of the notices that an object exists already: duplicate table (and index),
/// column, object. (PostgreSQL documentation, appendix A)
const EXISTS_STATES: [&str; 3] = ["42P07", "42701", "42710"];

/// The server of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionServer {
    /// Host and port, as the URL has them.
    pub name: String,
    /// `server_version_num`, such as 150004.
    pub version: u32,
    /// When it was started, as the server shows it; changes with a restart or a failover.
    pub started_at: String,
    /// Why it accepts no writes.
    pub read_only: Option<ReadOnlyReason>,
    /// The schema of the tables.
    pub schema: String,
    /// Which server of which cluster it is.
    pub identity: ServerIdentity,
    /// How that can be read on it.
    pub identity_columns: IdentityColumns,
}

/// Why a server accepts no writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnlyReason {
    /// It is a standby.
    Standby,
    /// `default_transaction_read_only` is on, for the server, the database or the role.
    DefaultTransactionReadOnly,
}

impl ReadOnlyReason {
    /// The reason, from `pg_is_in_recovery()` and `default_transaction_read_only`.
    pub fn of(is_in_recovery: bool, is_set_read_only: bool) -> Option<ReadOnlyReason> {
        match (is_in_recovery, is_set_read_only) {
            (true, _) => Some(ReadOnlyReason::Standby),
            (_, true) => Some(ReadOnlyReason::DefaultTransactionReadOnly),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            ReadOnlyReason::Standby => {
                "find the primary, check that it runs, and name it in the URL"
            }
            ReadOnlyReason::DefaultTransactionReadOnly => {
                "reset it where it is set: `ALTER ROLE … RESET default_transaction_read_only`, or ALTER DATABASE, or ALTER SYSTEM"
            }
        }
    }

    /// The error of work that needs a server which accepts writes.
    pub fn error(self) -> Error {
        Error::new(Kind::Unavailable, self.to_string()).remedy(self.remedy())
    }
}

impl fmt::Display for ReadOnlyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadOnlyReason::Standby => {
                "the server is in recovery (a standby) and accepts no writes"
            }
            ReadOnlyReason::DefaultTransactionReadOnly => {
                "the server accepts no writes: default_transaction_read_only is on"
            }
        })
    }
}

/// Connects to a host within the bounds.
///
/// # Errors
/// `Kind::Unavailable` if the host does not answer or accepts no connection now; `Kind::Permission` if it refuses the
/// login or the use of the schema; `Kind::Config` if the URL does not fit the server, or a pooler before it;
/// `Kind::TryAgain` when told to stop. No connection is left.
pub fn connect(target: &Target, tls: &Tls, host: &Host, bounds: &AnswerBounds) -> Result<Session> {
    let connected = connect_as(target, tls, host, bounds);
    match (&connected, &target.options) {
        (Err(error), Some(options)) if is_protocol_violation(error) => {
            let without_options = Target { options: None, ..target.clone() };
            match connect_as(&without_options, tls, host, bounds) {
                Ok(_) => Err(options_refused(error, options)),
                Err(_) => connected,
            }
        }
        _ => connected,
    }
}

/// [`connect`], of which a pooler may refuse a parameter.
fn connect_as(target: &Target, tls: &Tls, host: &Host, bounds: &AnswerBounds) -> Result<Session> {
    let start = Instant::now();
    let exists_notices = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&exists_notices);
    let on_notice = move |notice: &DbError| {
        if EXISTS_STATES.contains(&notice.code().code()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    };
    let password = host.password.as_ref();
    let mut client = ServerAddress::find(config(target, host), tls.connector(host), host, bounds)
        .and_then(|address| Client::connect(address, bounds.clone(), Box::new(on_notice)))
        .map_err(|cause| {
            match &cause {
                ClientError::Server(error) => tls.explain(error),
                _ => None,
            }
            .unwrap_or_else(|| error::from_client(&cause, password))
        })?;
    let server = read_server(&mut client, host.name(), password, target.options.as_deref())?;
    Ok(Session::new(client, server, exists_notices, password.cloned(), start))
}

/// Login, settings and socket options, without the host.
fn config(target: &Target, host: &Host) -> Config {
    let mut config = Config::new();
    Tls::configure(&mut config);
    config.user(&target.user).dbname(&target.database);
    config.application_name(&target.application_name);
    if let Some(password) = &host.password {
        config.password(password.expose());
    }
    if let Some(options) = &target.options {
        config.options(options);
    }
    if let Some(limit) = target.connect_timeout {
        config.connect_timeout(limit);
    }
    config.channel_binding(match target.channel_binding {
        ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
        ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
        ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
    });
    let keepalives = &target.keepalives;
    config
        .keepalives(keepalives.on)
        .keepalives_idle(keepalives.idle.unwrap_or(KEEPALIVES_IDLE))
        .keepalives_interval(keepalives.interval.unwrap_or(KEEPALIVES_INTERVAL))
        .keepalives_retries(keepalives.count.unwrap_or(KEEPALIVES_COUNT))
        .tcp_user_timeout(target.tcp_user_timeout.unwrap_or(TCP_USER_TIMEOUT));
    config
}

/// The search path that the role, the database or the URL has set decides which schema is ours, and
/// nothing else: its functions are named with their schema here.
const SCHEMA: &str =
    "SELECT pg_catalog.current_schema(), pg_catalog.current_setting('search_path')";
/// What another program has set on the same connection of a pooler does not count. What the URL has set does; a
/// pooler may have made it a setting of the session.
const DEFAULT_PATH: &str = "SET LOCAL search_path TO DEFAULT; ";

/// How times are shown, so that they can be compared.
const TIMES: &str = "SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO'";

const SERVER: &str = "SELECT current_setting('server_version_num'), pg_postmaster_start_time(), \
         pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', version()";
/// Two columns for [`ReadOnlyReason::of`].
const READ_ONLY: &str =
    "pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'";

/// The query for the first schema of a search path that exists, whether or not the role may use it.
fn first_existing_schema(search_path: &str) -> String {
    format!(
        "{SEARCH_PATH}; SELECT n.nspname \
         FROM unnest(string_to_array({}, ',')) WITH ORDINALITY p(name, place) \
             JOIN pg_namespace n ON n.nspname = CASE btrim(p.name) WHEN '\"$user\"' THEN current_user::text \
                 ELSE replace(btrim(btrim(p.name), '\"'), '\"\"', '\"') END \
         ORDER BY place LIMIT 1",
        escaped_literal(search_path)
    )
}

/// Reads what the server is, and refuses one that cts does not support.
fn read_server(
    client: &mut Client,
    name: String,
    password: Option<&Password>,
    options: Option<&str>,
) -> Result<SessionServer> {
    let mut rows = |sql: &str| {
        row::results(client, password, sql, sql)
            .map(|results| results.into_iter().flatten().collect::<Vec<_>>())
    };
    let asked_path = options.and_then(search_path_of);
    let default_path = if asked_path.is_none() { DEFAULT_PATH } else { "" };
    let sql = |columns: IdentityColumns| {
        let columns = columns.sql();
        format!("{default_path}{SCHEMA}; {SEARCH_PATH}; {TIMES}; {SERVER}, {columns}")
    };
    let (mut columns, mut found) = (IdentityColumns::ALL, rows(&sql(IdentityColumns::ALL)));
    if found.as_ref().is_err_and(is_refused) {
        let accepts = |query: &str| rows(&format!("{SEARCH_PATH}; {query}"));
        columns = IdentityColumns::accepted_by(accepts)?;
        found = rows(&sql(columns));
    }
    let found = found.map_err(|error| {
        // Another engine may lack one of the functions; it is named all the same.
        let version = rows("SELECT version()").ok().filter(|_| !error::is_lost(&error));
        let version = version.iter().flatten().find_map(|row| row.get(0));
        version.map_or(Ok(()), engine::require_postgresql).err().unwrap_or(error)
    })?;
    let [path, row] = found.as_slice() else {
        return Err(Error::new(Kind::Io, "the server gives no row for its version and settings"));
    };
    engine::require_postgresql(row.text(4)?)?;
    let version = row.number(0)?;
    if version < OLDEST_VERSION {
        let what = format!("PostgreSQL {} is too old", version / 10_000);
        return Err(Error::new(Kind::Config, what).remedy("use PostgreSQL 13 or later"));
    }
    let search_path = path.text(1)?;
    if let Some(asked) = asked_path.filter(|asked| asked != search_path) {
        return Err(options_dropped(&asked, search_path));
    }
    let Some(schema) = path.get(0) else {
        return Err(match rows(&first_existing_schema(search_path))?.first() {
            Some(unusable) => error::no_schema_rights(unusable.text(0)?),
            None => no_schema(search_path),
        });
    };
    Ok(SessionServer {
        name,
        version,
        started_at: row.text(1)?.to_string(),
        read_only: ReadOnlyReason::of(row.flag(2)?, row.flag(3)?),
        schema: schema.to_string(),
        identity: ServerIdentity::read(row, 5)?,
        identity_columns: columns,
    })
}

/// The remedy where a pooler does not pass on what the URL asks the server for.
const SET_FOR_ROLE: &str = "set it for the role instead, so that every program has it (`ALTER ROLE … IN DATABASE … SET search_path = …`), and take options out of the URL; or name the server's own address (docs/postgresql.md, \"Poolers\")";

/// The error of a pooler that refuses startup options.
fn options_refused(error: &Error, options: &str) -> Error {
    let what = format!(
        "a connection pooler before the server refuses the parameter options of the URL ({options}): {}",
        error.what
    );
    Error { kind: Kind::Config, what, ..error.clone() }.remedy(SET_FOR_ROLE)
}

/// The error of a pooler that drops startup options without saying so.
fn options_dropped(asked: &str, found: &str) -> Error {
    let what = format!(
        "a connection pooler before the server drops the parameter options of the URL: it asks for search_path={asked}, and the server has search_path={found}"
    );
    Error::new(Kind::Config, what).remedy(SET_FOR_ROLE)
}

/// Reads again on an open connection whether the server accepts writes, and on which timeline it is.
///
/// # Errors
/// If the query fails. What was read before stays.
pub fn refresh_identity(session: &mut Session) -> Result<()> {
    let columns = session.server.identity_columns.sql();
    let row = session.row(&format!("SELECT {READ_ONLY}, {columns}"))?;
    session.server.read_only = ReadOnlyReason::of(row.flag(0)?, row.flag(1)?);
    session.server.identity = ServerIdentity::read(&row, 2)?;
    Ok(())
}

fn no_schema(search_path: &str) -> Error {
    let what = format!("no schema of the search path ({search_path}) exists");
    Error::new(Kind::Config, what).remedy(
        "create it (`CREATE SCHEMA cts AUTHORIZATION …`), or name one in the URL: options=-csearch_path%3Dcts",
    )
}
