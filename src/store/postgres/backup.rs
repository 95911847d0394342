//! Backups of a PostgreSQL database: our schema, by the server's own `pg_dump`.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::catalog::{is_our_table, schema_oid};
use super::client_environment::ClientConnection;
use super::client_program::ClientPrograms;
use super::client_run::{ClientEnd, ClientFailure, ClientOutput, ClientRun};
use super::client_watch::ServerWatch;
use super::connect::SessionServer;
use super::database::DatabaseServer;
use super::dump_file::{DumpFile, row_entries};
use super::inspect;
use super::lock::{self, LockedSession};
use super::pool::SessionPool;
use super::pooler;
use super::privileges::refuse_unreadable_tables;
use super::session::Session;
use super::store::INSPECTION_TIMEOUT;
use super::trial::ServerTrial;
use super::url::Host;
use crate::error::{Cause, Error, Kind, Result};
use crate::store::sql::quoted;
use crate::store::{
    BackUp, BackupContent, BackupLock, BackupSubject, Database, LongWork, Progress, TableRows,
    TrialDatabase, WaitPolicy,
};

/// The first key of the advisory lock on backups; the second is the oid of the schema.
const LOCK_KEY: i32 = 0x4354_5342;
/// How long `pg_dump` waits for a table that is locked, where nothing else is set.
const TABLE_LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// `pg_dump` compresses: a backup has about a quarter of the size of the tables without their indexes.
const TABLE_BYTES_PER_BACKUP_BYTE: u64 = 4;
/// The `application_name` of `pg_dump`.
const APPLICATION: &str = "cts backup";
/// What is written to see whether a disk is full.
const PAGE: [u8; 4096] = [0; 4096];

impl BackUp for DatabaseServer {
    fn backup_extension(&self) -> &'static str {
        "dump"
    }

    fn default_backup_folder(&self) -> Option<PathBuf> {
        None
    }

    fn refuse_as_backup(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    /// The lock is an advisory one of the database, held by a transaction: a pooler keeps the connection as long.
    fn lock_backups(&self, wait: &WaitPolicy<'_>) -> Result<BackupLock> {
        self.locked(wait).map_err(|error| error.at(self.identity().location))
    }

    fn backup_subject(&self, wait: &WaitPolicy<'_>) -> Result<BackupSubject> {
        let pool = self.session_pool(wait.cancelled)?;
        let examine = |session: &mut Session| {
            let snapshot = inspect::inspect(session)
                .map_err(|error| lock::with_lock_holder(session, error))?
                .snapshot;
            if snapshot.catalog.is_empty() {
                return Ok(None);
            }
            let size_bytes = estimated_bytes(session)?;
            Ok(Some(BackupSubject { database_id: snapshot.database_id(), size_bytes }))
        };
        let subject = wait.retry_while_blocked(|| pool.run_within(self.pool.connect, examine));
        let location = self.identity().location;
        subject.map_err(|error| error.at(location))?.ok_or_else(|| self.identity().absent_error())
    }

    fn copy_to(&self, to: &Path, opened: &File, wait: &WaitPolicy<'_>) -> Result<()> {
        self.dump(to, opened, wait).map_err(|error| match error.kind {
            Kind::Config => error,
            _ => error.at(self.identity().location),
        })
    }

    fn damage_before_backup(&self, _: &WaitPolicy<'_>) -> Result<Option<Error>> {
        Ok(None)
    }

    fn prove_backup(&self, file: &Path, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        let programs = self.programs.find(None, wait)?;
        DumpFile::read(file, &programs, wait).map(|dump| dump.content)
    }

    fn restore_for_trial(
        &self,
        file: &Path,
        wait: &WaitPolicy<'_>,
    ) -> Result<Box<dyn TrialDatabase>> {
        let located = |error: Error| error.at(self.identity().location);
        pooler::refuse_client_program(&self.session_pool(wait.cancelled)?, "pg_restore")
            .map_err(located)?;
        let programs = self.programs.find(None, wait)?;
        let dump = DumpFile::read(file, &programs, wait)?;
        let trial = ServerTrial::create(self, &dump.schema, wait).map_err(located)?;
        trial.server().restore_from(file, wait)?;
        let restored = trial.prove(wait)?;
        let rows = |content: &BackupContent, table: &TableRows| content.tables.contains(table);
        match dump.content.tables.iter().find(|table| !rows(&restored, table)) {
            None => Ok(Box::new(trial)),
            Some(TableRows { table, rows }) => {
                let what = format!(
                    "table {table} has not the {rows} rows of the backup after it was restored"
                );
                Err(Error::new(Kind::Data, what).at(file.display()))
            }
        }
    }
}

/// The transaction that holds the lock on backups; it ends when this is dropped.
struct LockingSession(LockedSession);

impl Drop for LockingSession {
    fn drop(&mut self) {
        // The end of the connection releases the lock. A statement would wait for a server that hangs.
        self.0.give_up();
    }
}

impl DatabaseServer {
    /// The server of the URL that a connection was made to.
    pub(super) fn host(&self, server: &SessionServer) -> Result<&Host> {
        let host = self.target.hosts.iter().find(|host| host.name() == server.name);
        host.ok_or_else(|| Error::new(Kind::Config, "the URL names no host"))
    }

    fn locked(&self, wait: &WaitPolicy<'_>) -> Result<BackupLock> {
        let locked = LockedSession::take_lock(&self.session_pool(wait.cancelled)?, LOCK_KEY, wait)
            .map_err(|error| match error.kind {
                Kind::TryAgain => {
                    error.note("another cts makes or restores a backup of this database")
                }
                _ => error,
            })?;
        Ok(BackupLock { _held: Box::new(LockingSession(locked)) })
    }

    fn dump(&self, to: &Path, opened: &File, wait: &WaitPolicy<'_>) -> Result<()> {
        let pool = self.session_pool(wait.cancelled)?;
        pooler::refuse_client_program(&pool, "pg_dump")?;
        // A migration is not waited for by `pg_dump`, which would end with a table that is locked.
        drop(LockedSession::take(&pool, wait)?);
        let source = DumpSource::read(&pool)?;
        let programs = self.programs.find(Some(source.server.version), wait)?;
        let file = opened.try_clone().map_err(|e| cannot_write(to, &e))?;
        let mut run = ClientRun::of(&programs.dump, wait);
        let timeout = wait.timeout.unwrap_or(TABLE_LOCK_TIMEOUT).max(Duration::from_secs(1));
        run.command
            .args(["--format=custom", "--strict-names", "--load-via-partition-root"])
            .arg(format!("--lock-wait-timeout={}", timeout.as_millis()))
            .arg(format!("--schema={}", quoted(&source.server.schema)));
        let host = self.host(&source.server)?;
        run.password = host.password.as_ref();
        self.connection(host, APPLICATION).add_to(&mut run.command)?;
        let mut watch = ServerWatch::new(&pool);
        let mut look = || {
            let done = opened.metadata().map_or(0, |found| found.len());
            // The size of a backup is not known before.
            let total = source.size_bytes.max(done + 1);
            (wait.on_progress)(Progress::of_bytes(LongWork::Copying, done, total));
            watch.look(done)
        };
        run.watch = Some(&mut look);
        match run.finish(ClientOutput::File(file))? {
            ClientEnd::Succeeded => {
                let size = opened.metadata().map_or(1, |found| found.len());
                (wait.on_progress)(Progress::of_bytes(LongWork::Copying, size, size));
                source.compare_with(to, &programs, wait)
            }
            ClientEnd::Failed(failure) => Err(source.failure(to, opened, &pool, &failure)),
        }
    }

    /// How a client program connects to a host.
    pub(super) fn connection<'t>(
        &'t self,
        host: &'t Host,
        application_name: &'t str,
    ) -> ClientConnection<'t> {
        let connect_timeout = self.target.connect_timeout.unwrap_or(self.pool.connect);
        ClientConnection { target: &self.target, host, application_name, connect_timeout }
    }
}

/// What is known of a database before it is dumped.
#[derive(Clone)]
struct DumpSource {
    server: SessionServer,
    /// About how many bytes the dump will have.
    size_bytes: u64,
    /// The tables of ours whose rows a dump has under their own names.
    tables: Vec<String>,
}

impl DumpSource {
    /// Reads it, and refuses what `pg_dump` would refuse, by name.
    fn read(pool: &SessionPool) -> Result<DumpSource> {
        pool.run_within(INSPECTION_TIMEOUT, |session| {
            refuse_unreadable(session)?;
            let rows = session.rows(&format!(
                "SELECT c.relname FROM pg_class c WHERE {} AND c.relkind = 'r'",
                is_our_table(&session.server.schema)
            ))?;
            let tables = rows.iter().map(|row| row.text(0).map(str::to_string));
            Ok(DumpSource {
                size_bytes: estimated_bytes(session)?,
                server: session.server.clone(),
                tables: tables.collect::<Result<_>>()?,
            })
        })
    }

    /// Refuses a dump that has not the rows of each table.
    fn compare_with(
        &self,
        dump: &Path,
        programs: &ClientPrograms,
        wait: &WaitPolicy<'_>,
    ) -> Result<()> {
        let entries = row_entries(dump, programs, wait)?;
        let begin = |table: &String| format!("{} {table} ", self.server.schema);
        let is_there =
            |table: &&String| entries.iter().any(|entry| entry.starts_with(&begin(table)));
        match self.tables.iter().find(|table| !is_there(table)) {
            None => Ok(()),
            Some(table) => {
                let what = format!("pg_dump has left out the rows of table {table}");
                Err(Error::new(Kind::Data, what).remedy(
                    "check that the table was not dropped meanwhile, and make the backup again",
                ))
            }
        }
    }

    /// Why `pg_dump` has failed, by what can be seen of the disk and the server: no code reads its sentence.
    fn failure(
        &self,
        to: &Path,
        opened: &File,
        pool: &SessionPool,
        failure: &ClientFailure,
    ) -> Error {
        if failure.exceeds_file_size {
            return cannot_write(to, &ErrorKind::FileTooLarge.into());
        }
        let mut file = opened;
        if let Err(e) = file.seek(SeekFrom::End(0)).and_then(|_| file.write_all(&PAGE)) {
            return cannot_write(to, &e);
        }
        let sentence = format!("pg_dump: {}", failure.sentence);
        let seen = pool.run_within(INSPECTION_TIMEOUT, |session| {
            Ok((session.server.started_at.clone(), lock::table_lock_holder(session)?))
        });
        match seen {
            Err(error) => error.note(sentence),
            Ok((started_at, _)) if started_at != self.server.started_at => {
                let what = format!("the server was restarted meanwhile; {sentence}");
                Error::new(Kind::Unavailable, what).remedy("make the backup again")
            }
            Ok((_, Some(holder))) => Error::new(Kind::TryAgain, sentence)
                .note(holder)
                .remedy("let that transaction end, and make the backup again"),
            Ok((_, None)) => Error::new(Kind::Io, sentence)
                .remedy("see the log of the server, and look for damage (`cts --check --deep`)"),
        }
    }
}

/// About how many bytes a dump will have.
fn estimated_bytes(session: &mut Session) -> Result<u64> {
    let schema = &session.server.schema;
    // The size of a table is read under a lock. Those of others may be locked; an estimate does for them.
    let sql = format!(
        "SELECT coalesce(sum(CASE WHEN {} THEN pg_table_size(c.oid) \
             ELSE c.relpages::bigint * current_setting('block_size')::bigint END), 0) \
         FROM pg_class c WHERE c.relnamespace = {} AND c.relkind IN ('r', 'p', 'm')",
        is_our_table(schema),
        schema_oid(schema)
    );
    Ok(session.number::<u64>(&sql)? / TABLE_BYTES_PER_BACKUP_BYTE)
}

/// Refuses tables and sequences that `pg_dump` cannot read completely with the rights of our role, and rows that are outside
/// of our schema.
fn refuse_unreadable(session: &mut Session) -> Result<()> {
    let is_dumped = format!(
        "c.relnamespace = {} \
         AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')",
        schema_oid(&session.server.schema)
    );
    refuse_unreadable_tables(session, &is_dumped)?;
    let outside = session.row(&format!(
        "SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c WHERE {is_dumped} \
         AND c.relkind = 'p' AND EXISTS (SELECT 1 FROM pg_partition_tree(c.oid) p JOIN pg_class o ON o.oid = p.relid \
         WHERE o.relnamespace <> c.relnamespace)"
    ))?;
    match outside.get(0) {
        None => Ok(()),
        Some(tables) => {
            let what = format!(
                "partitions are in another schema, and would not be in the backup: {tables}"
            );
            Err(Error::new(Kind::Data, what)
                .remedy("move them (`ALTER TABLE … SET SCHEMA`), or make backups with pg_dump"))
        }
    }
}

fn cannot_write(path: &Path, cause: &std::io::Error) -> Error {
    let error = Error::new(Kind::Io, format!("{}: cannot be written: {cause}", path.display()));
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => error
            .caused_by(Cause::DiskFull)
            .remedy("free some space on that disk, or set CTS_BACKUP_DIR to a folder on another"),
        _ => error.remedy("check the disk and its mount (`dmesg`, `findmnt`)"),
    }
}
