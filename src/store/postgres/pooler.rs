//! A connection pooler between cts and the server, such as PgBouncer. In transaction mode it gives each
//! transaction another connection of the server: a program that changes a setting of its session changes that
//! of the programs that use the connection next.

use std::time::{Duration, Instant};

use super::error::is_lost;
use super::pool::SessionPool;
use super::session::Session;
use super::settings::TransactionMode;
use crate::error::{Error, Kind, Result};

/// How often the processes behind two connections are compared. With three comparisons, one of thirty poolers
/// that served other programs meanwhile was not recognised; with eight, none.
const ROUNDS: usize = 8;
/// How often a connection that is closed at `BEGIN` is tried again, and how long each may take.
const PROBES: usize = 2;
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a pooler in transaction mode is, for messages.
pub const TRANSACTION_MODE: &str = "a connection pooler in transaction mode is before the server";
/// The remedy where such a pooler cannot be used.
pub const DIRECT_ADDRESS: &str = "name the server's own address in the URL, or a pool in session mode (docs/postgresql.md, \"Poolers\")";

/// Whether a pooler in transaction mode was recognised: of two connections, both lead to one process of the
/// server, or one leads to several.
///
/// # Errors
/// If the server does not answer. That a second connection cannot be had is none: then nothing is known.
pub fn is_in_transaction_mode(pool: &SessionPool) -> Result<bool> {
    let limit = pool.connect_timeout();
    let mut first = pool.get(limit)?;
    let second_pool = pool.single(Clone::clone)?;
    let mut second = match second_pool.get(limit) {
        Err(error) if is_lost(&error) => return Ok(false),
        other => other?,
    };
    let pid = |session: &mut Session| session.number::<u32>("SELECT pg_backend_pid()");
    let known = (pid(&mut first)?, pid(&mut second)?);
    let mut seen = known;
    for _ in 1..ROUNDS {
        if seen.0 == seen.1 || seen != known {
            return Ok(true);
        }
        seen = (pid(&mut first)?, pid(&mut second)?);
    }
    Ok(seen.0 == seen.1 || seen != known)
}

/// The error of a server whose transactions end with their connection, where a pooler in statement mode is the
/// reason, else `error` itself. Such a pooler runs single statements, and closes the connection at `BEGIN`: at
/// once, so that there is time left to try it, within `limit`.
pub fn explain_lost_transaction(pool: &SessionPool, error: Error, limit: Duration) -> Error {
    let closes_at_begin = |session: &mut Session| {
        session.run("SELECT 1")?;
        let begun = session.begin(TransactionMode::ReadCommitted, session.limits(), "SELECT 1");
        session.roll_back();
        Ok(begun.is_err_and(|error| is_lost(&error)))
    };
    // A server that is restarted meanwhile does not do it again and again.
    let deadline = Instant::now() + limit;
    let is_refused = |_| {
        let left = deadline.saturating_duration_since(Instant::now()).min(PROBE_TIMEOUT);
        !left.is_zero() && pool.run_within(left, closes_at_begin).unwrap_or_default()
    };
    if !is_lost(&error) || !(0..PROBES).all(is_refused) {
        return error;
    }
    let what =
        "a connection pooler in statement mode is before the server, which allows no transaction";
    Error::new(Kind::Config, what).remedy(DIRECT_ADDRESS)
}

/// Refuses to run a client program of PostgreSQL through a pooler in transaction mode.
///
/// # Errors
/// `Kind::Config` through such a pooler; or if the server does not answer.
pub fn refuse_client_program(pool: &SessionPool, program: &str) -> Result<()> {
    if !is_in_transaction_mode(pool)? {
        return Ok(());
    }
    let what = format!(
        "{TRANSACTION_MODE}: {program} would change settings of connections that other programs use next"
    );
    Err(Error::new(Kind::Config, what).remedy(DIRECT_ADDRESS))
}
