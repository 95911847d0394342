//! The database that a backup is restored to for a trial: one of its own on the same server, which only a role that may
//! create databases can make. It needs the room of a second copy there.

use std::process;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::connect::{SessionServer, VERSION_15};
use super::database::DatabaseServer;
use super::pool::SessionPool;
use super::row::Row;
use super::session::Session;
use super::standalone::StandaloneSession;
use super::url::{Target, with_search_path};
use crate::error::{Error, Kind, Result};
use crate::store::sql::{escaped_literal, literal, quoted};
use crate::store::{BackupContent, Database, TrialDatabase, WaitPolicy};

/// What the name of such a database begins with.
const PREFIX: &str = "cts_drill_";
/// How long the server has to drop the database after the work was told to stop. It goes on with it afterwards.
const DROP_TIMEOUT: Duration = Duration::from_secs(2);

/// A database for a trial. Dropping it drops the database.
pub struct ServerTrial {
    database: DatabaseServer,
    name: String,
    /// A connection to the database of the URL, whose `application_name` says that the trial goes on.
    session: StandaloneSession,
}

impl ServerTrial {
    /// Creates one with an empty schema of this name, and drops those that killed processes have left.
    ///
    /// # Errors
    /// [`Kind::Permission`] where the role may not create databases; or why it cannot be created.
    pub fn create(of: &DatabaseServer, schema: &str, wait: &WaitPolicy<'_>) -> Result<ServerTrial> {
        let pool = of.session_pool(wait.cancelled)?;
        let nanoseconds =
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let name = format!("{PREFIX}{}_{:x}", process::id(), nanoseconds & 0xffff_ffff_ffff);
        let server = pool.get(of.pool.connect)?.server.clone();
        let mut opened = StandaloneSession::open(&pool, &server, Some(&name), of.pool.connect)?;
        let session = &mut opened.session;
        let row = session.row(
            "SELECT rolcreatedb OR rolsuper, rolname FROM pg_roles WHERE rolname = current_user",
        )?;
        if !row.flag(0)? {
            return Err(may_not_create(row.text(1)?));
        }
        drop_abandoned(session)?;
        let create = create_sql(session, &name)?;
        let database = on_database(of, &server, &name, schema)?;
        // Where the work is told to stop meanwhile, the server may have created it all the same.
        let mut trial = ServerTrial { database, name, session: opened };
        trial.session.session.run_outside_transaction(&create)?;
        if schema != "public" {
            let target = trial.database.target.as_ref();
            let without_schema = Target { options: of.target.options.clone(), ..target.clone() };
            let cluster = Arc::clone(&trial.database.cluster);
            let pool =
                SessionPool::new(Arc::new(on_schema(without_schema, "public")), cluster, of.pool)?
                    .stopped_by(wait.cancelled);
            pool.get(of.pool.connect)?.run(&format!("CREATE SCHEMA {}", quoted(schema)))?;
        }
        Ok(trial)
    }

    /// It, to be restored to.
    pub fn server(&self) -> &DatabaseServer {
        &self.database
    }
}

impl TrialDatabase for ServerTrial {
    fn database(&self) -> &dyn Database {
        &self.database
    }

    fn prove(&self, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        self.database.content(wait)
    }
}

impl Drop for ServerTrial {
    fn drop(&mut self) {
        let session = &mut self.session.session;
        session.finish_within(DROP_TIMEOUT);
        // Where this fails, the next trial drops it.
        let _ = session.run_outside_transaction(&drop_sql(&self.name));
        // A server goes on creating the database of a process that was killed, which only shows afterwards.
        let _ = drop_abandoned(session);
    }
}

fn may_not_create(role: &str) -> Error {
    let what =
        format!("role {role} may not create the database that a backup is restored to for a trial");
    Error::new(Kind::Permission, what).remedy(format!(
        "`ALTER ROLE {} CREATEDB`, where the server has room for a second copy, or try the backup on another server (`cts backup --verify FILE`)",
        quoted(role)
    ))
}

fn drop_sql(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name))
}

/// Drops the databases of trials of our role whose process is gone: no connection has their name.
fn drop_abandoned(session: &mut Session) -> Result<()> {
    let rows = session.rows(&format!(
        "SELECT d.datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba AND r.rolname = current_user \
         WHERE starts_with(d.datname, {}) AND NOT EXISTS ( \
             SELECT 1 FROM pg_stat_activity a WHERE a.application_name = d.datname OR a.datname = d.datname)",
        literal(PREFIX)
    ))?;
    for row in &rows {
        session.run_outside_transaction(&drop_sql(row.text(0)?))?;
    }
    Ok(())
}

/// The statement that creates a database with the encoding and the collations of ours.
fn create_sql(session: &mut Session, name: &str) -> Result<String> {
    let row = session.row(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, to_jsonb(d) ->> 'datlocprovider', \
             coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') \
         FROM pg_database d WHERE datname = current_database()",
    )?;
    let text = |at: usize| row.text(at).map(escaped_literal);
    let provider =
        if session.server.version >= VERSION_15 { provider(&row) } else { String::new() };
    Ok(format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}{provider}",
        quoted(name),
        text(0)?,
        text(1)?,
        text(2)?
    ))
}

fn provider(row: &Row) -> String {
    match (row.get(3), row.get(4)) {
        (Some("i"), Some(locale)) => {
            format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", escaped_literal(locale))
        }
        (Some("b"), Some(locale)) => {
            format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", escaped_literal(locale))
        }
        _ => " LOCALE_PROVIDER libc".into(),
    }
}

/// The very server of a connection, with another database whose tables are in this schema.
fn on_database(
    of: &DatabaseServer,
    server: &SessionServer,
    name: &str,
    schema: &str,
) -> Result<DatabaseServer> {
    let hosts = vec![of.host(server)?.clone()];
    let target = Target { database: name.into(), hosts, ..Target::clone(&of.target) };
    let target = on_schema(target, &quoted(schema));
    Ok(DatabaseServer::new(target, of.wait, of.pool, of.programs.clone()))
}

/// Adds a search path to the options.
fn on_schema(target: Target, path: &str) -> Target {
    Target { options: Some(with_search_path(target.options.as_deref(), path)), ..target }
}
