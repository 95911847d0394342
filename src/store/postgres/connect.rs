//! Opens one connection to one host of the URL, with the settings that every connection of cts
//! has: timeouts and TCP keepalives. Here, too, it is found which schema the tables are in.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::error::DbError;

use super::answer_watch::AnswerBounds;
use super::client::{Client, ClientError};
use super::engine;
use super::error;
use super::server_address::ServerAddress;
use super::session::{self, SEARCH_PATH, Session};
use super::tls::Tls;
use super::url::{ChannelBinding, Host, Password, SessionAttrs, Target};
use crate::error::{Error, Kind, Result};
use crate::store::sql::literal;

/// `lock_timeout` of an inspection.
const INSPECTION_LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// `statement_timeout` of an inspection.
pub const INSPECTION_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the server checks, while it runs a statement, that the client is still connected.
const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// TCP keepalives: idle time before the first one, time between two, and lost ones after which the
/// connection counts as lost.
pub const KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
pub const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(5);
pub const KEEPALIVES_COUNT: u32 = 3;
/// How long sent data may stay unacknowledged before the connection counts as lost.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// The oldest supported version, as `server_version_num`.
const OLDEST_VERSION: u32 = 130_000;
/// The first version with `client_connection_check_interval` and `idle_session_timeout`.
const VERSION_14: u32 = 140_000;
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

/// Connects to a host within the bounds, and sets the connection up.
///
/// # Errors
/// `Kind::Unavailable` if the host does not answer or accepts no connection now, or accepts no
/// writes where the URL demands a server that does; `Kind::Permission` if it refuses the login or
/// the use of the schema; `Kind::Config` if the URL does not fit the server; `Kind::TryAgain` when told to
/// stop. No connection is left.
pub fn connect(target: &Target, tls: &Tls, host: &Host, bounds: &AnswerBounds) -> Result<Session> {
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
    let server = read_server(&mut client, host.name(), password)?;
    match server.read_only {
        Some(reason) if target.session_attrs == SessionAttrs::ReadWrite => Err(reason.error()),
        _ => {
            let settings = settings(&server);
            let mut session = Session::new(client, server, exists_notices, password.cloned());
            session.run(&settings)?;
            Ok(session)
        }
    }
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

const SERVER: &str = "SELECT current_setting('server_version_num'), pg_postmaster_start_time(), \
         pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', version()";

/// The query for the first schema of a search path that exists, whether or not the role may use it.
fn first_existing_schema(search_path: &str) -> String {
    format!(
        "{SEARCH_PATH}; SELECT n.nspname \
         FROM unnest(string_to_array({}, ',')) WITH ORDINALITY p(name, place) \
             JOIN pg_namespace n ON n.nspname = CASE btrim(p.name) WHEN '\"$user\"' THEN current_user::text \
                 ELSE replace(btrim(btrim(p.name), '\"'), '\"\"', '\"') END \
         ORDER BY place LIMIT 1",
        literal(search_path)
    )
}

/// Reads what the server is, and refuses one that cts does not support.
fn read_server(
    client: &mut Client,
    name: String,
    password: Option<&Password>,
) -> Result<SessionServer> {
    let mut rows = |sql: &str| {
        session::results(client, password, sql)
            .map(|results| results.into_iter().flatten().collect::<Vec<_>>())
    };
    let found = rows(&format!("{SCHEMA}; {SEARCH_PATH}; {SERVER}")).map_err(|error| {
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
    let Some(schema) = path.get(0) else {
        let search_path = path.text(1)?;
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
    })
}

fn no_schema(search_path: &str) -> Error {
    let what = format!("no schema of the search path ({search_path}) exists");
    Error::new(Kind::Config, what).remedy(
        "create it (`CREATE SCHEMA cts AUTHORIZATION …`), or name one in the URL: options=-csearch_path%3Dcts",
    )
}

/// The settings of every connection.
fn settings(server: &SessionServer) -> String {
    let since_14 = match server.version {
        VERSION_14.. => format!(
            "SET client_connection_check_interval = {}; SET idle_session_timeout = 0; ",
            CONNECTION_CHECK_INTERVAL.as_millis()
        ),
        _ => String::new(),
    };
    format!(
        "{since_14}SET timezone = 'UTC'; SET datestyle = 'ISO'; \
         SET standard_conforming_strings = on; SET client_min_messages = notice; \
         SET default_transaction_isolation = 'read committed'; SET quote_all_identifiers = off; \
         SET idle_in_transaction_session_timeout = 0; SET row_security = off; \
         SET lock_timeout = {}; SET statement_timeout = {}",
        INSPECTION_LOCK_TIMEOUT.as_millis(),
        INSPECTION_STATEMENT_TIMEOUT.as_millis()
    )
}
