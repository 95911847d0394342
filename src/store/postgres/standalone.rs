//! Connections for statements that the server does not run in a transaction, such as `CREATE INDEX
//! CONCURRENTLY`. Nothing can be set for these alone; so the time limits come with the connection, as startup
//! options. A pooler that does not accept any is used without, and the limits of the role apply.

use std::time::Duration;

use super::connect::SessionServer;
use super::error::{is_lost, is_protocol_violation};
use super::pool::{PooledSession, SessionPool};
use super::session::Session;
use super::settings::options_outside_transaction;
use super::url::Target;
use crate::error::{Error, Kind, Result};

/// How long a pooler may take to give a second connection of the server, while a first one is in use.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection of its own.
pub struct StandaloneSession {
    /// The connection.
    pub session: PooledSession,
    /// The `statement_timeout` of the role, where it has one and a pooler lets nothing else be set.
    pub statement_timeout: Option<String>,
    /// What gave the connection, so that it stays open.
    _pool: SessionPool,
}

impl StandaloneSession {
    /// Opens one to a server that a connection of the pool leads to, within `limit`, with an
    /// `application_name` of its own where one is given.
    ///
    /// # Errors
    /// Those of [`SessionPool::get`]; `Kind::Unavailable` if another server answers meanwhile.
    pub fn open(
        pool: &SessionPool,
        server: &SessionServer,
        application_name: Option<&str>,
        limit: Duration,
    ) -> Result<StandaloneSession> {
        let new = NewSession { pool, server, application_name, limit };
        match new.open(Some(new.options())) {
            Err(error) if is_protocol_violation(&error) => new.open(pool.target().options.clone()),
            opened => opened,
        }
    }

    /// Opens one beside a connection that is in use; `None` where the pooler, or the limit of the role, has
    /// no second one to give.
    ///
    /// # Errors
    /// Those of [`StandaloneSession::open`].
    pub fn open_beside(
        in_use: &mut Session,
        pool: &SessionPool,
    ) -> Result<Option<StandaloneSession>> {
        let limit = "SELECT rolconnlimit = 1 FROM pg_roles WHERE rolname = current_user";
        if in_use.flag(limit)? {
            return Ok(None);
        }
        let is_pooled = in_use.is_pooled()?;
        let server = &in_use.server.clone();
        let new = NewSession { pool, server, application_name: None, limit: PLACE_TIMEOUT };
        let open = |options| new.open(options).and_then(with_role_timeout);
        let (opened, is_pooled) = match open(Some(new.options())) {
            Err(error) if is_protocol_violation(&error) => {
                (open(pool.target().options.clone()), true)
            }
            opened => (opened, is_pooled),
        };
        match opened {
            // Where the server does not answer at all, it does not answer this either.
            Err(error) if is_pooled && is_lost(&error) && in_use.run("SELECT 1").is_ok() => {
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }
}

/// A connection that is to be opened.
struct NewSession<'s> {
    pool: &'s SessionPool,
    server: &'s SessionServer,
    application_name: Option<&'s str>,
    limit: Duration,
}

impl NewSession<'_> {
    /// The startup options of the URL, and those that a statement outside of a transaction needs.
    fn options(&self) -> String {
        let added = options_outside_transaction(self.server.version);
        match &self.pool.target().options {
            Some(own) => format!("{own} {added}"),
            None => added,
        }
    }

    fn open(&self, options: Option<String>) -> Result<StandaloneSession> {
        let pool = self.pool.single(|target| Target {
            hosts: target.hosts.iter().filter(|h| h.name() == self.server.name).cloned().collect(),
            application_name: self.application_name.unwrap_or(&target.application_name).into(),
            options,
            ..target.clone()
        })?;
        let session = pool.get(self.limit)?;
        match session.server.started_at == self.server.started_at {
            true => Ok(StandaloneSession { session, statement_timeout: None, _pool: pool }),
            false => Err(Error::new(Kind::Unavailable, "another server answers meanwhile")
                .remedy("run it again")),
        }
    }
}

/// Reads the time limit of the role, which applies where a pooler refuses the startup options, or drops them in silence.
fn with_role_timeout(mut opened: StandaloneSession) -> Result<StandaloneSession> {
    // A timeout that another program has left on the connection of the pooler is not the role's.
    let timeout =
        "SET LOCAL statement_timeout TO DEFAULT; SELECT current_setting('statement_timeout')";
    let timeout = opened.session.row(timeout)?.text(0)?.to_string();
    opened.statement_timeout = Some(timeout).filter(|timeout| timeout != "0");
    Ok(opened)
}
