//! Rebuilds a SQLite file without its free pages: `VACUUM INTO` a new file beside it, which takes its place as a restored
//! backup does (`restore_draft`). The file before is removed only when the new one is in its place, and that is lasting.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, ValueRef};
use sha2::{Digest, Sha256};

use super::at_rest::connect_immutable;
use super::connect::interrupt_when;
use super::error::from_sqlite;
use super::file::{attributes, has_wal, path_to_open, resolve, side_file};
use super::file_error::{cannot_create, disk_full};
use super::free_pages::{MAKE_SHRINKABLE, free_pages};
use super::permissions::create_new;
use super::restore_draft::FileDraft;
use super::restore_intent::Purpose;
use super::{DatabaseFile, FileAccess, Sqlite};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::sql::quoted;
use crate::store::{
    BackUp, Compact, CompactionPlace, Database, RebuiltDatabase, Restore, RestoreDraft,
    RestoreOrigin, SiteLogEntry, WaitPolicy, write_site_log,
};
use crate::system::clock::UtcTime;
use crate::system::size::Bytes;
use crate::system::version::VERSION;

impl Compact for DatabaseFile {
    fn compaction_place(&self, wait: &WaitPolicy<'_>) -> Result<CompactionPlace> {
        let path = resolve(&self.path)?;
        if attributes(&path)?.is_none() {
            return Err(self.identity().absent_error());
        }
        self.restore_place(UtcTime::now(), wait)?;
        let store = Sqlite::open_read_only(&self.path, self.access, wait)?;
        let store = store.ok_or_else(|| self.identity().absent_error())?;
        let found = free_pages(&store.conn).map_err(|e| store.error(&e))?;
        Ok(CompactionPlace {
            location: path.display().to_string(),
            present_bytes: size(&path)? + size(&side_file(&path, "-wal"))?,
            needed_bytes: found.total_bytes.saturating_sub(found.free_bytes),
        })
    }

    fn compact(&self, origin: &RestoreOrigin, wait: &WaitPolicy<'_>) -> Result<RebuiltDatabase> {
        let path = resolve(&self.path)?;
        let before_bytes = size(&path)? + size(&side_file(&path, "-wal"))?;
        let lock = self.lock_backups(wait)?;
        self.restore_place(origin.begun_at, wait)?;
        let kept =
            side_file(&path, &format!(".before-compact-{}", origin.begun_at.for_file_name()));
        let purpose = Purpose::Compact;
        let kept = Some(kept);
        let mut draft =
            FileDraft::begin(path.clone(), self.access, kept, origin, purpose, lock, wait)?;
        if has_wal(&path)? {
            return Err(unsound(&path));
        }
        let prepared = draft.prepared_path().to_path_buf();
        // Not closed before the new file is in the place: that would release the lock on the old one.
        let source = draft.read_present(connect_immutable(&path)?);
        rebuild(source, &path, &prepared, self.access, wait)?;
        prove_equal(source, &path, &prepared, wait)?;
        record(draft.database(), origin, before_bytes, wait)?;
        let content = draft.prove(wait)?;
        wait.check_cancelled()?;
        draft.keep_present(wait)?;
        draft.put_in_place(wait)?;
        Ok(RebuiltDatabase { before_bytes, after_bytes: size(&path)?, content })
    }
}

fn size(path: &Path) -> Result<u64> {
    Ok(attributes(path)?.map_or(0, |found| found.len()))
}

/// The error of a database whose WAL could not be copied into its file.
fn unsound(path: &Path) -> Error {
    Error::new(Kind::Data, "its WAL cannot be copied into the file: the database is damaged")
        .at(path.display())
        .leaving(StateLeft::Unchanged)
        .remedy("look at the damage (`cts --check --deep`), and restore a backup (`cts restore latest`)")
}

/// Writes all that the database holds into a new file.
fn rebuild(
    source: &mut Connection,
    path: &Path,
    prepared: &Path,
    access: FileAccess,
    wait: &WaitPolicy<'_>,
) -> Result<()> {
    // SQLite keeps the mode of an empty file.
    create_new(prepared, access.group).map_err(|e| cannot_create(prepared, "the file", &e))?;
    interrupt_when(source, wait.cancelled).map_err(|e| from_sqlite(path, &e))?;
    // A file that was made without gets it in the new one. One that has it keeps it, and the statement is refused here.
    let _ = source.execute_batch(MAKE_SHRINKABLE);
    // A path need not be UTF-8.
    let target = path_to_open(prepared)?.into_os_string().into_encoded_bytes();
    let target = ToSqlOutput::Borrowed(ValueRef::Text(&target));
    source.execute("VACUUM INTO ?1", [target]).map_err(|e| match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => disk_full(prepared, None, None),
        _ => from_sqlite(path, &e),
    })?;
    Ok(())
}

/// Proves that two files hold the same definitions and rows.
///
/// # Errors
/// [`Kind::Data`] with the first table that differs; or one of them cannot be read.
fn prove_equal(
    source: &Connection,
    path: &Path,
    prepared: &Path,
    wait: &WaitPolicy<'_>,
) -> Result<()> {
    let mut target = connect_immutable(prepared)?;
    interrupt_when(&mut target, wait.cancelled).map_err(|e| from_sqlite(prepared, &e))?;
    let before = ComparedContent::read(source).map_err(|e| from_sqlite(path, &e))?;
    let after = ComparedContent::read(&target).map_err(|e| from_sqlite(prepared, &e))?;
    let different = before.tables.iter().zip(&after.tables).find(|(one, other)| one != other);
    let what = match different {
        _ if before.definitions != after.definitions => "its definitions differ".to_string(),
        Some((one, other)) => {
            format!("table {} has {} rows, or others than the {}", one.name, other.rows, one.rows)
        }
        None => return Ok(()),
    };
    Err(Error::new(Kind::Data, format!("the rebuilt database is not the same: {what}"))
        .at(path.display())
        .leaving(StateLeft::Unchanged)
        .remedy("check the disk and the memory of this machine (`dmesg`, `smartctl`)"))
}

/// What a file holds.
struct ComparedContent {
    /// Its definitions, and the numbers in its header that are its owner's.
    definitions: Vec<String>,
    tables: Vec<TableContent>,
}

#[derive(PartialEq, Eq)]
struct TableContent {
    name: String,
    rows: u64,
    /// SHA-256 of all values, in the order of the keys.
    digest: Vec<u8>,
}

impl ComparedContent {
    fn read(conn: &Connection) -> rusqlite::Result<ComparedContent> {
        let sql = "SELECT type || ' ' || name || ' ' || tbl_name || ' ' || ifnull(sql, '') FROM sqlite_schema
                   UNION ALL SELECT 'application_id ' || application_id FROM pragma_application_id
                   UNION ALL SELECT 'user_version ' || user_version FROM pragma_user_version
                   UNION ALL SELECT 'encoding ' || encoding FROM pragma_encoding ORDER BY 1";
        let definitions =
            conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        // Without the virtual ones, which keep their rows in other tables.
        let sql =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0 ORDER BY name";
        let names = conn
            .prepare(sql)?
            .query_map([], |row| row.get(0))?
            .collect::<Result<Vec<String>, _>>()?;
        let tables = names
            .into_iter()
            .map(|name| TableContent::read(conn, name))
            .collect::<Result<_, _>>()?;
        Ok(ComparedContent { definitions, tables })
    }
}

impl TableContent {
    fn read(conn: &Connection, name: String) -> rusqlite::Result<TableContent> {
        let mut statement =
            conn.prepare(&format!("SELECT * FROM {} NOT INDEXED", quoted(&name)))?;
        let columns = statement.column_count();
        let (mut hash, mut count, mut rows) = (Sha256::new(), 0, statement.query([])?);
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                add_value(&mut hash, row.get_ref(column)?);
            }
            count += 1;
        }
        Ok(TableContent { name, rows: count, digest: hash.finalize().to_vec() })
    }
}

/// Adds a value with its type and its length, so that no two rows give the same bytes.
fn add_value(hash: &mut Sha256, value: ValueRef<'_>) {
    let mut add = |kind: u8, bytes: &[u8]| {
        hash.update([kind]);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    match value {
        ValueRef::Null => add(0, &[]),
        ValueRef::Integer(number) => add(1, &number.to_le_bytes()),
        ValueRef::Real(number) => add(2, &number.to_bits().to_le_bytes()),
        ValueRef::Text(text) => add(3, text),
        ValueRef::Blob(bytes) => add(4, bytes),
    }
}

/// Writes what matters later into the rebuilt database, and brings it into WAL mode. A table `site_logs` that somebody has
/// changed, so that it does not take the row, must not keep the database from being rebuilt.
fn record(
    rebuilt: &dyn Database,
    origin: &RestoreOrigin,
    before_bytes: u64,
    wait: &WaitPolicy<'_>,
) -> Result<()> {
    let mut store = rebuilt.open(wait, &mut |_| Ok(()))?.store;
    store.settle(wait)?;
    let message = format!(
        "rebuilt without free pages by cts {VERSION}, from a file of {}; the backup made before is {}",
        Bytes(before_bytes),
        origin.backup
    );
    match write_site_log(&mut *store, wait, &SiteLogEntry { level: "info", message }) {
        Err(Error { kind: Kind::Data, .. }) => {}
        written => written?,
    }
    store.close()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_value_a_row_or_a_definition_that_differs_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, sql: &str| {
            let path = folder.path().join(name);
            let conn = Connection::open(&path).unwrap();
            conn.execute_batch(
                "CREATE TABLE a (x); CREATE TABLE b (x); INSERT INTO b VALUES (1), (NULL)",
            )
            .unwrap();
            conn.execute_batch(sql).unwrap();
            path
        };
        let one = file("one.db", "INSERT INTO a VALUES ('ab'), ('c')");
        let (never, source) = (Arc::default(), Connection::open(&one).unwrap());
        let wait = WaitPolicy::silent(Duration::ZERO, &never);
        let found = |name: &str, sql: &str| {
            let proved = prove_equal(&source, &one, &file(name, sql), &wait);
            proved.map_err(|error| error.what)
        };
        assert_eq!(found("same.db", "INSERT INTO a VALUES ('ab'), ('c')"), Ok(()));
        for (name, sql, what) in [
            ("moved.db", "INSERT INTO a VALUES ('a'), ('bc')", "table a has 2 rows, or others"),
            ("type.db", "INSERT INTO a VALUES (x'6162'), ('c')", "table a has 2 rows, or others"),
            ("fewer.db", "INSERT INTO a VALUES ('ab')", "table a has 1 rows, or others than the 2"),
            (
                "index.db",
                "INSERT INTO a VALUES ('ab'), ('c'); CREATE INDEX i ON a (x)",
                "definitions",
            ),
            (
                "id.db",
                "INSERT INTO a VALUES ('ab'), ('c'); PRAGMA application_id = 7",
                "definitions",
            ),
        ] {
            let error = found(name, sql).unwrap_err();
            assert!(error.contains(what), "{name}: {error}");
        }
    }
}
