//! What a person should know of a PostgreSQL database before trading hangs on it: the server, the
//! way to it, and what the role may do. All of it is asked on one connection, and nothing written.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::session::{Row, Session, SessionServer, Sessions, name};
use super::tls::proves;
use super::url::SslMode;
use super::{DatabaseServer, inspect};
use crate::error::{Error, Result};
use crate::store::finding::{Finding, Group};
use crate::store::{Examination, Snapshot, StorageStatus};

/// How long the server may take for all of it.
const WITHIN: Duration = Duration::from_secs(5);
/// From this version on a server ends what it does for a cts that was killed.
const NOTICES_THE_END: u32 = 140_000;
/// How far the server's clock may be from ours, the way to it included.
const CLOCKS_WITHIN: Duration = Duration::from_secs(5);

const GROUP: Group = Group::Server;

/// Looks at the server and into the database.
pub fn examine(database: &DatabaseServer) -> Examination {
    let target = &database.target;
    let mut findings = vec![password(database)];
    findings.extend(target.warnings.iter().map(|warning| {
        let finding = Finding::attention(Group::Credentials, "password file", &warning.what);
        finding.remedy(&warning.remedy)
    }));
    let asked = Sessions::new(Arc::clone(target), database.pool)
        .and_then(|sessions| sessions.ask(WITHIN, ask));
    let found = match asked {
        Ok(found) => found,
        Err(error) => {
            findings.push(unreached(error, &target.location()));
            return Examination { findings, ..Examination::default() };
        }
    };
    let host = target.hosts.iter().find(|host| name(host) == found.server.name);
    let way = Way {
        mode: target.tls.mode,
        is_local: host.is_some_and(|host| host.is_local()),
        encrypted: found.state.encryption.clone(),
        is_proved: proves(&target.tls),
    };
    findings.push(reached(&found.server));
    findings.push(way.judged());
    findings.extend(found.state.judged(&found.server.schema, database.pool.max));
    findings.extend(clock(found.state.time, SystemTime::now()));
    let snapshot = match found.snapshot {
        Ok(snapshot) if snapshot.catalog.is_empty() => {
            let what = format!("schema {} has no table of CTS yet", found.server.schema);
            let seen = Finding::attention(Group::Database, "database", what);
            findings.push(seen.remedy("cts migrate, or systemctl start cts"));
            None
        }
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            let seen = Finding::bad(Group::Database, "database", error.message());
            findings.push(Finding { remedy: error.remedy, ..seen });
            None
        }
    };
    let storage =
        StorageStatus { read_only: found.server.read_only, pool: None, ..StorageStatus::default() };
    Examination { findings, snapshot, storage, owner: None }
}

/// What one connection tells.
#[derive(Clone)]
struct ServerFindings {
    server: SessionServer,
    state: RoleState,
    snapshot: Result<Snapshot>,
}

fn ask(session: &mut Session) -> Result<ServerFindings> {
    let sql = state_sql(&session.server.schema);
    let row = session.ask(&sql)?.into_iter().flatten().next();
    let state = row.as_ref().map(RoleState::of).unwrap_or_default();
    let snapshot = inspect::snapshot(session, true).map(|found| found.snapshot);
    Ok(ServerFindings { server: session.server.clone(), state, snapshot })
}

/// What the role may do, and what the server has. (PostgreSQL documentation, "Access Privilege
/// Inquiry Functions", `pg_stat_ssl`)
fn state_sql(schema: &str) -> String {
    let lacking = |condition: &str| {
        format!(
            "(SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c WHERE {} AND {condition})",
            inspect::ours(schema)
        )
    };
    format!(
        "SELECT current_user, has_schema_privilege(current_schema(), 'CREATE'), {}, {}, \
         (SELECT concat_ws(', ', version, cipher) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), \
         (SELECT extversion FROM pg_extension WHERE extname = 'amcheck'), \
         current_setting('max_connections'), \
         (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user), \
         floor(extract(epoch FROM clock_timestamp()))",
        lacking("NOT pg_has_role(c.relowner, 'USAGE')"),
        lacking(
            "NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT') \
             AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))"
        )
    )
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct RoleState {
    role: String,
    may_create: bool,
    /// Tables of ours that the role does not own.
    not_owned: Option<String>,
    /// Tables of ours that the role may not read and write.
    no_rights: Option<String>,
    /// Version and cipher of TLS, where it is used.
    encryption: Option<String>,
    amcheck: Option<String>,
    connections: u32,
    /// Of the role; negative where there is no limit.
    role_connections: i64,
    /// The server's clock, in seconds since 1970.
    time: u64,
}

impl RoleState {
    fn of(row: &Row) -> RoleState {
        let some = |at| row.get(at).filter(|text| !text.is_empty()).map(str::to_string);
        RoleState {
            role: row.text(0).to_string(),
            may_create: row.is(1),
            not_owned: some(2),
            no_rights: some(3),
            encryption: some(4),
            amcheck: some(5),
            connections: row.number(6),
            role_connections: row.number(7),
            time: row.number(8),
        }
    }

    fn judged(&self, schema: &str, pool: u32) -> Vec<Finding> {
        vec![self.creation(schema), self.rights(), self.limit(pool), self.amcheck()]
    }

    fn creation(&self, schema: &str) -> Finding {
        let (role, name) = (&self.role, "create");
        if self.may_create {
            let what = format!("role {role} may create tables in schema {schema}");
            return Finding::good(GROUP, name, what);
        }
        let what = format!("role {role} may not create tables in schema {schema}");
        Finding::bad(GROUP, name, what)
            .remedy(format!("GRANT USAGE, CREATE ON SCHEMA \"{schema}\" TO \"{role}\""))
    }

    fn rights(&self) -> Finding {
        let (role, name) = (&self.role, "rights");
        match (&self.no_rights, &self.not_owned) {
            (Some(tables), _) => {
                let what = format!("role {role} may not read and write: {tables}");
                Finding::bad(GROUP, name, what).remedy(owned_by(role))
            }
            (_, Some(tables)) => {
                let what =
                    format!("role {role} does not own, and cannot migrate or repair: {tables}");
                Finding::attention(GROUP, name, what).remedy(owned_by(role))
            }
            _ => {
                let what =
                    format!("role {role} owns the tables that are there, reads and writes them");
                Finding::good(GROUP, name, what)
            }
        }
    }

    fn limit(&self, pool: u32) -> Finding {
        let of_role = u32::try_from(self.role_connections).unwrap_or(u32::MAX);
        let (most, whose) = match of_role < self.connections {
            true => (of_role, "the role's CONNECTION LIMIT"),
            false => (self.connections, "max_connections of the server"),
        };
        let what = format!("CTS_POOL_MAX {pool}, {whose} {most}");
        if pool < most {
            return Finding::good(GROUP, "connections", what);
        }
        Finding::attention(GROUP, "connections", format!("{what}: none is left for others"))
            .remedy("lower CTS_POOL_MAX, or raise that limit")
    }

    fn amcheck(&self) -> Finding {
        match &self.amcheck {
            Some(version) => Finding::good(GROUP, "amcheck", version),
            None => Finding::skipped(
                GROUP,
                "amcheck",
                "not installed: cts --check --deep reads every row, and no index entry",
            )
            .remedy("CREATE EXTENSION amcheck, as a superuser of the database"),
        }
    }
}

fn owned_by(role: &str) -> String {
    format!(
        "REASSIGN OWNED BY … TO \"{role}\", or GRANT what is missing (docs/postgresql.md, \"Rights\")"
    )
}

/// Where the password is from is the URL's matter; that one can be read by others is said apart.
fn password(database: &DatabaseServer) -> Finding {
    let has_one = database.target.hosts.iter().any(|host| host.password.is_some());
    let what = match has_one {
        true => "there is one, in the URL or the password file",
        false => "none, in the URL or a password file: the server must let the role in without",
    };
    Finding::good(Group::Credentials, "password", what)
}

fn unreached(error: Error, location: &str) -> Finding {
    let error = error.at(location);
    let seen = Finding::bad(GROUP, "connection", error.message());
    let remedy = error.remedy.unwrap_or(
        "look whether the server runs (pg_isready), and at host and port in the URL".into(),
    );
    seen.remedy(remedy)
}

fn reached(server: &SessionServer) -> Finding {
    let SessionServer { name, version, started, .. } = server;
    let (major, minor) = (version / 10_000, version % 10_000);
    let what = format!("{name}, PostgreSQL {major}.{minor}, runs since {started}");
    if *version < NOTICES_THE_END {
        let what = format!("{what}; it goes on for a while with the work of a cts that was killed");
        return Finding::attention(GROUP, "connection", what)
            .remedy("PostgreSQL 14 or later notices it");
    }
    Finding::good(GROUP, "connection", what)
}

/// The way to the server.
struct Way {
    mode: SslMode,
    is_local: bool,
    encrypted: Option<String>,
    is_proved: bool,
}

impl Way {
    fn judged(&self) -> Finding {
        let mode = self.mode.name();
        let attention =
            |what: String| Finding::attention(GROUP, "TLS", format!("sslmode={mode}: {what}"));
        match &self.encrypted {
            _ if self.is_local && self.encrypted.is_none() => {
                Finding::good(GROUP, "TLS", "not encrypted, and does not leave this machine")
            }
            None => {
                attention("not encrypted: who is on the way reads the keys of exchanges".into())
                    .remedy(
                        "set ssl=on at the server, and leave sslmode out of the URL (verify-full)",
                    )
            }
            Some(how) if self.is_proved => {
                let what = format!("sslmode={mode}: {how}, and the server has proved who it is");
                Finding::good(GROUP, "TLS", what)
            }
            Some(how) if self.is_local => {
                Finding::good(GROUP, "TLS", format!("sslmode={mode}: {how}, on this machine"))
            }
            Some(how) => attention(format!("{how}, but whoever answers is believed"))
                .remedy("set sslrootcert=/path/of/its/CA.pem in the URL, and sslmode=verify-full"),
        }
    }
}

/// Times in the tables are the server's.
fn clock(theirs: u64, now: SystemTime) -> Option<Finding> {
    let ours = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    let apart = Duration::from_secs(ours.abs_diff(theirs));
    let what = format!("that of the server is {} s from ours", apart.as_secs());
    Some(if apart <= CLOCKS_WITHIN {
        Finding::good(Group::Clock, "server", what)
    } else {
        Finding::attention(Group::Clock, "server", what)
            .remedy("timedatectl on both machines tells which one is not synchronised")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::finding::Grade::{Attention, Bad, Good, Skipped};

    fn whole() -> RoleState {
        RoleState {
            role: "cts".into(),
            may_create: true,
            amcheck: Some("1.3".into()),
            connections: 100,
            role_connections: -1,
            ..RoleState::default()
        }
    }

    #[test]
    fn a_role_that_owns_its_schema_is_good() {
        assert!(whole().judged("cts", 20).iter().all(|seen| seen.grade == Good));
    }

    #[test]
    fn each_thing_that_a_role_lacks_is_said() {
        let grades = |change: fn(&mut RoleState)| {
            let mut state = whole();
            change(&mut state);
            let all = state.judged("cts", 20);
            all.into_iter()
                .filter(|o| o.grade != Good)
                .map(|o| (o.name, o.grade))
                .collect::<Vec<_>>()
        };
        assert_eq!(grades(|state| state.may_create = false), [("create".into(), Bad)]);
        assert_eq!(
            grades(|state| state.no_rights = Some("users".into())),
            [("rights".into(), Bad)]
        );
        assert_eq!(
            grades(|state| state.not_owned = Some("users".into())),
            [("rights".into(), Attention)]
        );
        assert_eq!(grades(|state| state.connections = 20), [("connections".into(), Attention)]);
        assert_eq!(grades(|state| state.role_connections = 5), [("connections".into(), Attention)]);
        assert_eq!(grades(|state| state.amcheck = None), [("amcheck".into(), Skipped)]);
    }

    #[test]
    fn only_a_remote_server_must_encrypt_and_prove_itself() {
        let grade = |is_local, encrypted: Option<&str>, is_proved| {
            let encrypted = encrypted.map(str::to_string);
            Way { mode: SslMode::Require, is_local, encrypted, is_proved }.judged().grade
        };
        assert_eq!(grade(true, None, false), Good);
        assert_eq!(grade(true, Some("TLSv1.3"), false), Good);
        assert_eq!(grade(false, None, false), Attention);
        assert_eq!(grade(false, None, true), Attention);
        assert_eq!(grade(false, Some("TLSv1.3"), false), Attention);
        assert_eq!(grade(false, Some("TLSv1.3"), true), Good);
    }

    #[test]
    fn an_old_server_an_unreached_one_and_a_clock_apart_are_said() {
        let server = |version| SessionServer {
            name: "db:5432".into(),
            version,
            started: "yesterday".into(),
            read_only: None,
            schema: "cts".into(),
        };
        assert_eq!(reached(&server(150_004)).grade, Good);
        assert_eq!(reached(&server(130_004)).grade, Attention);
        let seen = unreached(Error::new(Kind::Unavailable, "refused"), "postgresql://u:***@h:1/d");
        assert_eq!((seen.grade, seen.what.as_str()), (Bad, "postgresql://u:***@h:1/d: refused"));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let grade = |theirs| clock(theirs, now).map(|seen| seen.grade);
        assert_eq!((grade(998), grade(2000)), (Some(Good), Some(Attention)));
    }
}
