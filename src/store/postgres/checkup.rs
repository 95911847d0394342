//! Examines a PostgreSQL server for `cts doctor`: how it is reached, its TLS, its clock, and what the
//! role may do. Everything is read on one connection; nothing is written.

use std::time::{Duration, SystemTime};

use super::cluster::{Cluster, described};
use super::connect::{ReadOnlyReason, SessionServer};
use super::pool::SessionPool;
use super::pooler;
use super::role::RoleState;
use super::session::Session;
use super::space::{self, DiskRoom};
use super::store::read_only_status;
use super::tls::verifies_server;
use super::url::{SslMode, WarningSubject};
use super::{DatabaseServer, counters, inspect};
use crate::error::{Error, Result};
use crate::store::finding::{Finding, Group};
use crate::store::{Examination, MissingRights, Snapshot, WaitPolicy};

/// How long the server may take for all of it.
const EXAMINE_TIMEOUT: Duration = Duration::from_secs(5);
/// The first version that notices while it runs a statement that the client is gone.
const CHECKS_CONNECTION_SINCE: u32 = 140_000;
/// The largest difference of the two clocks that is accepted; the round trip is part of it.
const CLOCK_DIFFERENCE_MAX: Duration = Duration::from_secs(5);

const GROUP: Group = Group::Server;

/// Examines the server and the database.
pub fn examine(database: &DatabaseServer, wait: &WaitPolicy<'_>) -> Examination {
    let target = &database.target;
    let mut findings = vec![password(database)];
    findings.extend(target.warnings.iter().map(|warning| {
        let what = &warning.what;
        let finding = match warning.subject {
            WarningSubject::Url => Finding::skipped(Group::Configuration, "URL", what),
            WarningSubject::Environment => {
                Finding::attention(Group::Configuration, "environment", what)
            }
            WarningSubject::PasswordFile => {
                Finding::attention(Group::Credentials, "password file", what)
            }
        };
        finding.remedy(&warning.remedy)
    }));
    let found = database
        .session_pool(wait.cancelled)
        .and_then(|pool| Ok((pool.run_within(EXAMINE_TIMEOUT, read)?, pool)));
    let (found, pool) = match found {
        Ok(found) => found,
        Err(error) => {
            findings.push(unreachable(error, &target.location()));
            return Examination { findings, ..Examination::default() };
        }
    };
    let host = target.hosts.iter().find(|host| host.name() == found.server.name);
    let transport = Transport {
        mode: target.tls.mode,
        is_local: host.is_some_and(|host| host.is_local()),
        encryption: found.role.encryption.clone(),
        is_verified: verifies_server(&target.tls),
    };
    findings.push(connection(&found.server));
    findings.extend(pooler(&pool));
    findings.extend(servers(&database.cluster, &found.server));
    findings.push(transport.finding());
    findings.extend(found.role.findings(
        &found.server.schema,
        found.missing_rights.as_ref(),
        database.pool.max,
    ));
    findings.extend(room(&found.room));
    findings.push(programs(database, &found.server, wait));
    findings.extend(clock(found.role.server_clock_seconds, SystemTime::now()));
    let storage = read_only_status(found.server.read_only);
    let snapshot = content(found, &mut findings);
    Examination { findings, snapshot, storage, ..Examination::default() }
}

/// Whether the disks of the tables have room for a temporary file, which is all that a role can see of them.
fn room(found: &Result<Vec<String>>) -> Vec<Finding> {
    let name = "free disk";
    match found {
        Ok(unknown) if unknown.is_empty() => {
            let what = "there is room for a temporary file; how much more is not known here";
            vec![Finding::good(GROUP, name, what)]
        }
        Ok(unknown) => unknown.iter().map(|what| Finding::skipped(GROUP, name, what)).collect(),
        Err(error) => {
            let finding = Finding::bad(GROUP, name, error.message());
            vec![Finding { remedy: error.remedy.clone(), ..finding }]
        }
    }
}

/// The servers of the URL, and whether they can be told apart.
fn servers(cluster: &Cluster, server: &SessionServer) -> Vec<Finding> {
    let (hosts, used) = cluster.hosts();
    let mut findings = Vec::new();
    for (at, host) in hosts.iter().enumerate().filter(|_| hosts.len() > 1) {
        let name = "host";
        findings.push(match &host.found {
            Some(Ok(found)) => {
                let role = match found.server.read_only {
                    None => "can be written",
                    Some(ReadOnlyReason::Standby) => "a standby",
                    Some(ReadOnlyReason::DefaultTransactionReadOnly) => "set read-only",
                };
                let is_used = if used == Some(at) { ", in use" } else { "" };
                let identity = described(found.server.identity);
                Finding::good(GROUP, name, format!("{}: {role}, {identity}{is_used}", host.name))
            }
            Some(Err(error)) => {
                let what = format!("{}: {}", host.name, error.message());
                let finding = Finding::attention(GROUP, name, what);
                Finding { remedy: error.remedy.clone(), ..finding }
            }
            None => Finding::attention(GROUP, name, format!("{}: has not been asked", host.name)),
        });
    }
    findings.extend(cluster.conflict().map(|error| {
        let finding = Finding::attention(GROUP, "servers", error.message());
        Finding { remedy: error.remedy, ..finding }
    }));
    if server.identity.system.is_none() || server.identity.timeline.is_none() {
        let what = format!(
            "another server in its place would not be noticed: {} may not be read by this role",
            if server.identity.system.is_none() { "pg_control_system()" } else { "the timeline" }
        );
        findings.push(Finding::skipped(GROUP, "identity", what).remedy(
            "`GRANT EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(), pg_control_recovery() TO` the role, where the provider of the server allows that",
        ));
    }
    findings
}

/// The programs that make backups. Without them, those of the server may be enough.
fn programs(database: &DatabaseServer, server: &SessionServer, wait: &WaitPolicy<'_>) -> Finding {
    let name = "pg_dump";
    match database.programs.find(Some(server.version), wait) {
        Ok(programs) => {
            let what = format!("{} {}", programs.dump.display(), programs.version.text);
            Finding::good(GROUP, name, what)
        }
        Err(error) => {
            let finding = match database.programs.configured {
                Some(_) => Finding::attention(GROUP, name, error.message()),
                None => {
                    let what = format!("cts can make no backups: {}", error.message());
                    Finding::skipped(GROUP, name, what)
                }
            };
            Finding { remedy: error.remedy, ..finding }
        }
    }
}

/// What is read on one connection.
#[derive(Clone)]
struct ServerFindings {
    server: SessionServer,
    role: RoleState,
    /// What is not known of the room on the disks, or that there is none.
    room: Result<Vec<String>>,
    /// What the role may not do with the tables.
    missing_rights: Option<MissingRights>,
    snapshot: Result<Snapshot>,
}

fn read(session: &mut Session) -> Result<ServerFindings> {
    let role = RoleState::read(session)?;
    let room = space::find_room(session).unwrap_or_else(DiskRoom::not_asked).unless_full();
    let mut missing_rights = None;
    let snapshot = inspect::inspect(session).and_then(|found| {
        missing_rights = found.missing_rights;
        let counters = counters::find_faults_outside_transaction(session)?;
        Ok(Snapshot { counters, ..found.snapshot })
    });
    Ok(ServerFindings { server: session.server.clone(), role, room, missing_rights, snapshot })
}

/// The snapshot, if there are tables of CTS; else a finding says why there is none.
fn content(found: ServerFindings, findings: &mut Vec<Finding>) -> Option<Snapshot> {
    let finding = match found.snapshot {
        Ok(snapshot) if !snapshot.catalog.is_empty() => return Some(snapshot),
        Ok(_) => {
            let what = format!("schema {} has no table of CTS yet", found.server.schema);
            Finding::attention(Group::Database, "database", what)
                .remedy("cts migrate, or systemctl start cts")
        }
        Err(error) => {
            let finding = Finding::bad(Group::Database, "database", error.message());
            Finding { remedy: error.remedy, ..finding }
        }
    };
    findings.push(finding);
    None
}

/// Where the password comes from. That the file of it can be read by others is a finding of its own.
fn password(database: &DatabaseServer) -> Finding {
    let has_one = database.target.hosts.iter().any(|host| host.password.is_some());
    let what = match has_one {
        true => "there is one, in the URL or in the password file",
        false => {
            "none, neither in the URL nor in a password file: the server must accept the role without one"
        }
    };
    Finding::good(Group::Credentials, "password", what)
}

fn unreachable(error: Error, location: &str) -> Finding {
    let error = error.at(location);
    let finding = Finding::bad(GROUP, "connection", error.message());
    Finding { remedy: error.remedy, ..finding }
}

fn connection(server: &SessionServer) -> Finding {
    let SessionServer { name, version, started_at, .. } = server;
    let (major, minor) = (version / 10_000, version % 10_000);
    let what = format!("{name}, PostgreSQL {major}.{minor}, running since {started_at}");
    if *version < CHECKS_CONNECTION_SINCE {
        let what = format!("{what}; it goes on with a statement of a cts that was killed");
        return Finding::attention(GROUP, "connection", what)
            .remedy("use PostgreSQL 14 or later, which cancels it");
    }
    Finding::good(GROUP, "connection", what)
}

/// What is to be known about a pooler in transaction mode; `None` where none was recognised.
fn pooler(pool: &SessionPool) -> Option<Finding> {
    let is_there = pooler::is_in_transaction_mode(pool).unwrap_or_default();
    let what = format!(
        "{}: cts leaves no setting and no lock on its connections, and makes and restores no backups through it",
        pooler::TRANSACTION_MODE
    );
    is_there.then(|| {
        Finding::attention(GROUP, "pooler", what)
            .remedy(format!("for backups, {}", pooler::DIRECT_ADDRESS))
    })
}

/// How the data travels to the server.
struct Transport {
    mode: SslMode,
    is_local: bool,
    /// Version and cipher of TLS; `None` without TLS.
    encryption: Option<String>,
    is_verified: bool,
}

impl Transport {
    fn finding(&self) -> Finding {
        let mode = self.mode.name();
        let good = |what: String| Finding::good(GROUP, "TLS", what);
        let attention =
            |what: String| Finding::attention(GROUP, "TLS", format!("sslmode={mode}: {what}"));
        match &self.encryption {
            None if self.is_local => good("not encrypted, on this machine".into()),
            None => attention(
                "not encrypted: everybody on the network path can read the API keys of exchanges"
                    .into(),
            )
            .remedy("set ssl=on at the server, and leave sslmode out of the URL (verify-full)"),
            Some(tls) if self.is_verified => {
                good(format!("sslmode={mode}: {tls}, and the server's certificate is verified"))
            }
            Some(tls) if self.is_local => good(format!("sslmode={mode}: {tls}, on this machine")),
            Some(tls) => attention(format!("{tls}, but the server's certificate is not verified"))
                .remedy("set sslrootcert=/path/of/its/CA.pem in the URL, and sslmode=verify-full"),
        }
    }
}

/// Compares the server's clock, in seconds since 1970, with that of this machine: times in the
/// tables are the server's.
fn clock(server_seconds: u64, now: SystemTime) -> Option<Finding> {
    let server = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(server_seconds))?;
    let difference = now.duration_since(server).unwrap_or_else(|earlier| earlier.duration());
    let what = format!(
        "the clocks of the server and of this machine differ by {} s",
        difference.as_secs()
    );
    Some(if difference <= CLOCK_DIFFERENCE_MAX {
        Finding::good(Group::Clock, "server", what)
    } else {
        Finding::attention(Group::Clock, "server", what)
            .remedy("find the machine whose clock is not synchronised: `timedatectl` on both")
    })
}

#[cfg(test)]
mod tests {
    use super::super::server_identity::{IdentityColumns, ServerIdentity};
    use super::*;
    use crate::error::Kind;
    use crate::store::finding::Grade::{Attention, Bad, Good};

    #[test]
    fn only_a_remote_server_must_encrypt_and_be_verified() {
        let grade = |is_local, encryption: Option<&str>, is_verified| {
            let encryption = encryption.map(str::to_string);
            Transport { mode: SslMode::Require, is_local, encryption, is_verified }.finding().grade
        };
        assert_eq!(grade(true, None, false), Good);
        assert_eq!(grade(true, Some("TLSv1.3"), false), Good);
        assert_eq!(grade(false, None, false), Attention);
        assert_eq!(grade(false, None, true), Attention);
        assert_eq!(grade(false, Some("TLSv1.3"), false), Attention);
        assert_eq!(grade(false, Some("TLSv1.3"), true), Good);
    }

    #[test]
    fn an_old_server_an_unreachable_one_and_a_clock_apart_are_reported() {
        let server = |version| SessionServer {
            name: "db:5432".into(),
            version,
            started_at: "yesterday".into(),
            read_only: None,
            schema: "cts".into(),
            identity: ServerIdentity::default(),
            identity_columns: IdentityColumns::ALL,
        };
        assert_eq!(connection(&server(150_004)).grade, Good);
        assert_eq!(connection(&server(130_004)).grade, Attention);
        let seen =
            unreachable(Error::new(Kind::Unavailable, "refused"), "postgresql://u:***@h:1/d");
        assert_eq!((seen.grade, seen.what.as_str()), (Bad, "postgresql://u:***@h:1/d: refused"));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let grade = |seconds| clock(seconds, now).map(|seen| seen.grade);
        assert_eq!((grade(998), grade(2000)), (Some(Good), Some(Attention)));
    }
}
