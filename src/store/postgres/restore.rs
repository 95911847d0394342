//! Restoring backups of a PostgreSQL database by `pg_restore`: into an empty schema, in one transaction. What the owner has
//! beside the tables of cts in the schema is restored with them; owners of objects, rights of other roles and tablespaces
//! are not: everything belongs to the role of cts then.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;

use super::catalog::schema_oid;
use super::client_program::ClientPrograms;
use super::client_run::{ClientEnd, ClientInput, ClientOutput, ClientRun};
use super::client_watch::ServerWatch;
use super::connect::SessionServer;
use super::database::DatabaseServer;
use super::dump_file::DumpFile;
use super::pool::SessionPool;
use super::pooler;
use super::server_record;
use super::session::Session;
use super::store::INSPECTION_TIMEOUT;
use crate::error::{Cause, Error, Kind, Result, StateLeft};
use crate::store::sql::quoted;
use crate::store::{
    BackUp, BackupContent, BackupLock, BackupSource, DamageScope, Database, Inspect, Restore,
    RestoreDraft, RestoreOrigin, RestorePlace, TableRows, WaitPolicy,
};
use crate::system::clock::UtcTime;

/// The `application_name` of `pg_restore`.
const APPLICATION: &str = "cts restore";
/// Objects and programs that a message names.
const SHOWN_NAMES: usize = 5;

impl Restore for DatabaseServer {
    fn restore_place(&self, _: UtcTime, wait: &WaitPolicy<'_>) -> Result<RestorePlace> {
        let location = self.identity().location;
        let store = self.connect_to_write(self.session_pool(wait.cancelled)?)?;
        store
            .pool
            .run_within(INSPECTION_TIMEOUT, refuse_occupied_schema)
            .map_err(|error| error.at(&location).leaving(StateLeft::Unchanged))?;
        Ok(RestorePlace { location, present: None, kept_as: None, free_bytes: None })
    }

    /// Nobody is locked out: nobody can use tables that do not exist.
    fn begin_restore<'d>(
        &'d self,
        _: &RestorePlace,
        origin: &RestoreOrigin,
        wait: &WaitPolicy<'_>,
    ) -> Result<Box<dyn RestoreDraft + 'd>> {
        let lock = self.lock_backups(wait)?;
        self.restore_place(origin.begun_at, wait)?;
        Ok(Box::new(ServerDraft { database: self, _lock: lock }))
    }

    /// A restore that was killed was rolled back, or had been committed.
    fn interrupted_restore(&self) -> Option<String> {
        None
    }
}

/// A restore into the schema of the URL. [`RestoreDraft::fill`] commits all of it at once; what fails after that leaves the
/// restored tables there.
struct ServerDraft<'d> {
    database: &'d DatabaseServer,
    _lock: BackupLock,
}

impl RestoreDraft for ServerDraft<'_> {
    fn fill(&mut self, backup: &dyn BackupSource, wait: &WaitPolicy<'_>) -> Result<()> {
        if let Some(file) = backup.plain_file() {
            return self.database.restore_from(file, wait);
        }
        let unpacked = Unpacked::path();
        backup.unpack(&unpacked.0, wait)?;
        self.database.restore_from(&unpacked.0, wait)
    }

    fn database(&self) -> &dyn Database {
        self.database
    }

    fn prove(&self, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        self.database.content(wait)
    }

    fn keep_present(&mut self, _: &WaitPolicy<'_>) -> Result<()> {
        Ok(())
    }

    fn put_in_place(&mut self, _: &WaitPolicy<'_>) -> Result<()> {
        Ok(())
    }
}

/// The content of a compressed backup, as a file that is removed when this is dropped.
struct Unpacked(PathBuf);

impl Unpacked {
    fn path() -> Unpacked {
        let name = format!("cts-restore-{}-{}.dump", process::id(), UtcTime::now().for_file_name());
        Unpacked(std::env::temp_dir().join(name))
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl DatabaseServer {
    /// Restores a file of `pg_dump` into the empty schema of this database.
    ///
    /// # Errors
    /// Where the file cannot be restored here. Nothing was changed, unless the error says otherwise.
    pub(super) fn restore_from(&self, file: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
        let pool = self.session_pool(wait.cancelled)?;
        pooler::refuse_client_program(&pool, "pg_restore")
            .map_err(|error| error.at(self.identity().location).leaving(StateLeft::Unchanged))?;
        let server = pool.run_within(INSPECTION_TIMEOUT, |session| Ok(session.server.clone()))?;
        let programs = self.programs.find(Some(server.version), wait)?;
        let schema = DumpFile::read(file, &programs, wait)?.schema;
        if schema != server.schema {
            let (its, ours) = (quoted(&schema), quoted(&server.schema));
            let what = format!("is a backup of schema {its}, and the URL leads to schema {ours}");
            return Err(Error::new(Kind::Config, what)
                .at(file.display())
                .leaving(StateLeft::Unchanged)
                .remedy(format!(
                    "`CREATE SCHEMA {its}`, and add options=-csearch_path%3D… with its name to the URL"
                )));
        }
        match self.run_restore(file, &programs, &server, &pool, wait)? {
            ClientEnd::Succeeded => pool
                .run_within(INSPECTION_TIMEOUT, server_record::replace)
                .map_err(|error| error.at(self.identity().location)),
            ClientEnd::Failed(failure) => {
                let sentence = format!("pg_restore: {}", failure.sentence);
                Err(restore_failure(&pool, &server, sentence).at(self.identity().location))
            }
        }
    }

    fn run_restore(
        &self,
        file: &Path,
        programs: &ClientPrograms,
        server: &SessionServer,
        pool: &SessionPool,
        wait: &WaitPolicy<'_>,
    ) -> Result<ClientEnd> {
        let opened = File::open(file)
            .map_err(|e| Error::new(Kind::Io, "cannot be read").at(file.display()).caused_by(e))?;
        let mut run = ClientRun::of(&programs.restore, wait);
        run.input = ClientInput::File(opened);
        run.command
            .args(["--single-transaction", "--exit-on-error"])
            .args(["--no-owner", "--no-privileges", "--no-tablespaces"])
            .arg(format!("--schema={}", server.schema));
        let host = self.host(server)?;
        run.password = host.password.as_ref();
        self.connection(host, APPLICATION).add_to(&mut run.command)?;
        let mut watch = ServerWatch::new(pool);
        // A program that builds an index shows no progress.
        let mut look = || watch.look(0);
        run.watch = Some(&mut look);
        run.finish(ClientOutput::Dropped).map_err(|error| error.leaving(StateLeft::Unchanged))
    }

    /// Looks for damage in the database, and counts its rows.
    ///
    /// # Errors
    /// [`Kind::Data`] with the damage; or where it cannot be read.
    pub(super) fn content(&self, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        let mut store = self.connect(self.pool.connect, wait.cancelled)?;
        let damage = store.find_damage(DamageScope::Everything)?;
        if let Some(line) = damage.pages.first() {
            return Err(Error::new(
                Kind::Data,
                format!("the restored database is damaged: {line}"),
            )
            .at(self.identity().location)
            .caused_by(Cause::Damage));
        }
        let snapshot = store.inspect()?;
        let tables = store.without_statement_timeout(|session| {
            let count = |table: &cts_schema::catalog::Table| {
                let sql = format!("SELECT count(*) FROM {}", session.qualified(&table.name));
                Ok(TableRows { table: table.name.to_string(), rows: session.number(&sql)? })
            };
            snapshot.catalog.tables.iter().map(count).collect::<Result<Vec<_>>>()
        })?;
        let own = snapshot.ledger.iter().filter(|row| row.is_ours());
        let migrations = own.map(|row| row.name.clone()).collect();
        Ok(BackupContent { migrations, tables, orphans: damage.orphans })
    }
}

/// Why `pg_restore` has failed. It works in one transaction.
fn restore_failure(pool: &SessionPool, server: &SessionServer, sentence: String) -> Error {
    let seen = pool.run_within(INSPECTION_TIMEOUT, |session| {
        Ok((session.server.started_at.clone(), objects(session)?))
    });
    let remedy =
        "make what is missing on the server (an extension, a schema, a right), and restore again";
    match seen {
        Err(error) => error.note(sentence).leaving(StateLeft::InDoubt),
        Ok((_, objects)) if !objects.is_empty() => {
            Error::new(Kind::Io, sentence).leaving(StateLeft::InDoubt)
        }
        Ok((started_at, _)) if started_at != server.started_at => {
            let what = format!("the server was restarted meanwhile; {sentence}");
            Error::new(Kind::Unavailable, what)
                .leaving(StateLeft::Unchanged)
                .remedy("restore again")
        }
        Ok(_) => Error::new(Kind::Data, sentence).leaving(StateLeft::Unchanged).remedy(remedy),
    }
}

/// The names of the objects in our schema, those of extensions left out; not more than a message names, and one.
fn objects(session: &mut Session) -> Result<Vec<String>> {
    let member = |class: &str| {
        format!(
            "EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = '{class}'::regclass AND d.objid = o.oid AND d.deptype = 'e')"
        )
    };
    let schema = schema_oid(&session.server.schema);
    let rows = session.rows(&format!(
        "SELECT o.relname FROM pg_class o WHERE o.relnamespace = {schema} AND NOT {} \
         UNION ALL SELECT o.proname FROM pg_proc o WHERE o.pronamespace = {schema} AND NOT {} \
         UNION ALL SELECT o.typname FROM pg_type o WHERE o.typnamespace = {schema} AND o.typtype IN ('d', 'e', 'r') AND NOT {} \
         ORDER BY 1 LIMIT {}",
        member("pg_class"),
        member("pg_proc"),
        member("pg_type"),
        SHOWN_NAMES + 1
    ))?;
    rows.iter().map(|row| row.text(0).map(str::to_string)).collect()
}

/// Refuses a schema that has objects, with the programs that are connected.
fn refuse_occupied_schema(session: &mut Session) -> Result<()> {
    let mut objects = objects(session)?;
    if objects.is_empty() {
        return Ok(());
    }
    if objects.len() > SHOWN_NAMES {
        objects.truncate(SHOWN_NAMES);
        objects.push("…".into());
    }
    let (role, schema) =
        (session.row("SELECT current_user")?.text(0)?.to_string(), quoted(&session.server.schema));
    let what = format!(
        "schema {schema} is not empty ({}), and a backup is restored into an empty one only",
        objects.join(", ")
    );
    let rows = session.rows(&format!(
        "SELECT DISTINCT coalesce(nullif(application_name, ''), 'a program without application_name') || ' (pid ' || pid || ')' \
         FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND backend_type = 'client backend' AND application_name NOT LIKE 'cts%' ORDER BY 1 LIMIT {SHOWN_NAMES}"
    ))?;
    let programs: Vec<&str> = rows.iter().filter_map(|row| row.get(0)).collect();
    let error = Error::new(Kind::CannotCreate, what).remedy(format!(
        "stop the programs that use it, keep it under another name (`ALTER SCHEMA {schema} RENAME TO cts_before_restore`), \
         and create an empty one (`CREATE SCHEMA {schema} AUTHORIZATION {}`)", quoted(&role)
    ));
    Err(match programs.is_empty() {
        true => error,
        false => error.note(format!("connected to the database: {}", programs.join(", "))),
    })
}
