//! What tells one server from another: the identifier of its cluster, and its timeline, which grows with every
//! promotion. A role without rights can read both; where it may not, or the server has no such functions, they are
//! unknown. (PostgreSQL documentation, "Control Data Functions", "Continuous Archiving", on timelines)

use super::error::is_lost;
use super::row::Row;
use crate::error::{Cause, Error, Result};

/// The identity of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerIdentity {
    /// `system_identifier`, which a primary and its standbys share; `None` where it cannot be read.
    pub system: Option<i64>,
    /// The timeline that a primary writes, or that a standby replays; `None` where it cannot be read.
    pub timeline: Option<u32>,
}

impl ServerIdentity {
    /// Reads it from two cells of a row.
    ///
    /// # Errors
    /// `Kind::Io` if the first is no number. A timeline that is not hexadecimal is unknown.
    pub fn read(row: &Row, from: usize) -> Result<ServerIdentity> {
        let system = row.get(from).map(|_| row.number(from)).transpose()?;
        let timeline = row.get(from + 1).and_then(|text| u32::from_str_radix(text, 16).ok());
        Ok(ServerIdentity { system, timeline })
    }
}

/// How the identity can be read on a server: two columns of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityColumns {
    system: &'static str,
    timeline: &'static str,
}

const UNKNOWN: &str = "NULL";
const SYSTEM: &str = "(SELECT system_identifier FROM pg_control_system())";
/// The timeline in hexadecimal digits. That of the last checkpoint is the old one for many seconds after a promotion; the
/// name of the WAL file begins with the present one. In recovery there is no such name.
const TIMELINE: &str = "CASE WHEN pg_is_in_recovery() \
     THEN (SELECT to_hex(greatest(c.timeline_id, r.min_recovery_end_timeline)) \
         FROM pg_control_checkpoint() c, pg_control_recovery() r) \
     ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
/// The same without what a role may be forbidden to call.
const PRIMARY_TIMELINE: &str = "CASE WHEN NOT pg_is_in_recovery() \
     THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";

impl IdentityColumns {
    /// Those of a server that forbids nothing.
    pub const ALL: IdentityColumns = IdentityColumns { system: SYSTEM, timeline: TIMELINE };

    /// The columns, as SQL.
    pub fn sql(self) -> String {
        format!("{}, {}", self.system, self.timeline)
    }

    /// The columns that a server accepts which has refused [`IdentityColumns::ALL`]. `accepts` runs a query on it,
    /// outside a transaction.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn accepted_by(
        mut accepts: impl FnMut(&str) -> Result<Vec<Row>>,
    ) -> Result<IdentityColumns> {
        let mut first_of = |columns: &[&'static str]| {
            for column in columns {
                match accepts(&format!("SELECT {column}")) {
                    Ok(_) => return Ok(*column),
                    Err(error) if is_refused(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(UNKNOWN)
        };
        let system = first_of(&[SYSTEM])?;
        let timeline = first_of(&[TIMELINE, PRIMARY_TIMELINE])?;
        Ok(IdentityColumns { system, timeline })
    }
}

/// Whether the server has refused a query and can be asked another one.
pub fn is_refused(error: &Error) -> bool {
    matches!(error.cause.as_deref(), Some(Cause::SqlState(_))) && !is_lost(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn refused() -> Error {
        let cause = Cause::SqlState("42501".into());
        Error::new(Kind::Permission, "permission denied for function").caused_by(cause)
    }

    #[test]
    fn what_a_role_may_not_read_is_left_out() {
        let without = |forbidden: &'static str| {
            IdentityColumns::accepted_by(|sql| match sql.contains(forbidden) {
                true => Err(refused()),
                false => Ok(Vec::new()),
            })
        };
        assert_eq!(without("nothing").unwrap(), IdentityColumns::ALL);
        let found = without("pg_control_system").unwrap();
        assert_eq!((found.system, found.timeline), (UNKNOWN, TIMELINE));
        let found = without("pg_control").unwrap();
        assert_eq!((found.system, found.timeline), (UNKNOWN, PRIMARY_TIMELINE));
        assert_eq!(without("SELECT").unwrap().sql(), "NULL, NULL");
        let lost = || Error::new(Kind::Unavailable, "the server has closed the connection");
        assert_eq!(IdentityColumns::accepted_by(|_| Err(lost())).unwrap_err(), lost());
    }
}
