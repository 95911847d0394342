//! Examining a file that is said to be a backup, before anything is restored from it: what it is, whether it is still what
//! was made, and its content as a plain file. Nothing is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::compress::{Decompressed, is_compressed};
use super::digest::compare_with_digest_file;
use super::failure::failed;
use super::folder::read_manifest;
use super::manifest::Manifest;
use super::name::{DIGEST, PARTIAL, beside, folder_of};
use super::room::refuse_full_disk;
use super::trial_folder::TrialFolder;
use crate::error::{Error, Kind, Result};
use crate::store::{Backend, BackupContent, BackupSource, Database, TableRows, WaitPolicy};
use crate::system::file_handle::{open_regular, type_name};
use crate::system::new_file::create_file;
use crate::system::visible::hexadecimal;

/// The mode of the plain file: it holds keys of exchanges.
const FILE_MODE: u32 = 0o600;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes that are written between two syncs, so that a commit of the database on the same disk never waits for more of them.
const BYTES_BETWEEN_SYNCS: usize = 8 << 20;
/// The first bytes of a SQLite database. (sqlite.org/fileformat2.html, 1.3.1)
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
/// The first bytes of what `pg_dump -Fc` writes. (`ReadHead` in pg_backup_archiver.c)
const PG_DUMP_MAGIC: &[u8] = b"PGDMP";
/// What to do with a file that is no sound backup.
pub const USE_ANOTHER: &str = "use another backup (`cts backups` lists them)";

/// A file that is what a backup of one of the stores is, as far as that shows without opening its content. Its SHA-256 is
/// that of its companions, where it has any.
#[derive(Debug)]
pub struct ExaminedBackup {
    /// The path of its file, with symbolic links resolved.
    pub path: PathBuf,
    /// The kind of database that it is of.
    pub backend: Backend,
    /// Whether it is compressed.
    pub is_compressed: bool,
    /// The size in bytes of its content, which is larger where it is compressed.
    pub content_bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Whether a SHA-256 that was recorded when it was made proves every bit of it: beside it, or in a compressed one. Without,
    /// a changed bit within a value or in unused space is not found.
    pub has_digest: bool,
    /// The manifest beside it, where there is one of a file of its name.
    pub manifest: Option<Manifest>,
}

/// Examines a file that is said to be a backup.
///
/// # Errors
/// [`Kind::Data`] with why it cannot be one: it does not exist, is no regular file, is empty, was not completed, differs from
/// what its companions say, or is no database; or it cannot be read; or what cancels `wait`.
pub fn examine(file: &Path, wait: &WaitPolicy<'_>) -> Result<ExaminedBackup> {
    let path = resolve(file)?;
    let mut opened = open(&path)?;
    let size_bytes = opened.metadata().map_err(|e| unreadable(&path, &e))?.len();
    if size_bytes == 0 {
        return Err(refused(&path, "the file is empty"));
    }
    if path.as_os_str().as_encoded_bytes().ends_with(PARTIAL.as_bytes()) {
        return Err(refused(&path, "is a part of a backup that was not completed"));
    }
    let sha256 = hash(&path, &mut opened, wait)?;
    let manifest = read_manifest(&path);
    compare_with_manifest(&path, manifest.as_ref(), size_bytes, &sha256)?;
    let has_digest_file =
        compare_with_digest_file(&path, &sha256).map_err(|error| match &manifest {
            Some(_) => error
                .note("its manifest has the same as the file, so it is that file which is wrong")
                .remedy(format!("move {} away", beside(&path, DIGEST).display())),
            None => error,
        })?;
    let content = Content::recognise(&path, size_bytes)?;
    let has_digest = has_digest_file || manifest.is_some() || content.has_digest;
    if !has_digest {
        refuse_side_files(&path)?;
    }
    Ok(ExaminedBackup {
        path,
        backend: content.backend,
        is_compressed: content.is_compressed,
        content_bytes: content.bytes,
        sha256,
        has_digest,
        manifest,
    })
}

impl ExaminedBackup {
    /// Proves its content, if need be that of a copy in a temporary folder within `folder`, which is taken away again.
    ///
    /// # Errors
    /// [`Kind::Data`] with why it is no sound backup of such a database; or where it cannot be read, or a copy not be written.
    pub fn prove(
        &self,
        database: &dyn Database,
        folder: &Path,
        wait: &WaitPolicy<'_>,
    ) -> Result<BackupContent> {
        self.refuse_other_store(database)?;
        match self.plain_file() {
            Some(plain) => self.prove_plain(database, plain, wait),
            None => {
                let place = TrialFolder::create(folder)?;
                let plain = place.path().join(format!("cts.{}", database.backup_extension()));
                self.unpack(&plain, wait)?;
                self.prove_plain(database, &plain, wait)
            }
        }
    }

    /// Proves its content, which is in a plain file: there is no damage, and it is what its manifest says.
    ///
    /// # Errors
    /// As [`ExaminedBackup::prove`]; the error names the backup, not the copy.
    pub fn prove_plain(
        &self,
        database: &dyn Database,
        plain: &Path,
        wait: &WaitPolicy<'_>,
    ) -> Result<BackupContent> {
        let content =
            database.prove_backup(plain, wait).map_err(|error| self.at_fault(error, plain))?;
        self.compare_content(&content)?;
        Ok(content)
    }

    /// Refuses a backup of the other store.
    ///
    /// # Errors
    /// [`Kind::Data`].
    pub fn refuse_other_store(&self, database: &dyn Database) -> Result<()> {
        let own = database.identity().backend;
        if self.backend == own {
            return Ok(());
        }
        let (its, own) = (self.backend.label(), own.label());
        let what = format!("is a backup of a {its} database, and cts is configured for {own}");
        let remedy = format!("set DATABASE_TYPE={} for this run", self.backend.name());
        Err(refused(&self.path, &what).remedy(remedy))
    }

    /// The error of reading a copy of its content, which is gone when a person reads it, as one of the backup.
    pub fn at_fault(&self, mut error: Error, plain: &Path) -> Error {
        let plain = plain.display().to_string();
        error.location.retain(|location| *location != plain);
        let error = error.at(self.path.display());
        if error.kind == Kind::Data { error.remedy(USE_ANOTHER) } else { error }
    }

    /// Compares tables, rows and ledger with those that the manifest says, as far as they are known.
    ///
    /// # Errors
    /// [`Kind::Data`] with the first difference.
    pub fn compare_content(&self, found: &BackupContent) -> Result<()> {
        let Some(manifest) = &self.manifest else { return Ok(()) };
        let recorded = |table: &str| manifest.tables.get(table).copied();
        let differs = |table: &&TableRows| recorded(&table.table) != Some(table.rows);
        let what = if found.tables.is_empty() || manifest.tables.is_empty() {
            None
        } else if let Some(TableRows { table, rows }) = found.tables.iter().find(differs) {
            Some(match recorded(table) {
                Some(before) => {
                    format!("table {table} has {rows} rows, and had {before} when it was made")
                }
                None => format!("table {table} was not there when it was made"),
            })
        } else {
            let is_lost = |name: &&String| found.tables.iter().all(|found| found.table != **name);
            let lost = manifest.tables.keys().find(is_lost);
            lost.map(|table| format!("table {table} is not in it, and was when it was made"))
        };
        let has_other_ledger = found.migrations != manifest.migrations;
        let ledger =
            || has_other_ledger.then(|| "its ledger is not the one that it was made with".into());
        match what.or_else(ledger) {
            None => Ok(()),
            Some(what) => Err(refused(&self.path, &what)),
        }
    }
}

impl BackupSource for ExaminedBackup {
    fn plain_file(&self) -> Option<&Path> {
        (!self.is_compressed).then_some(&self.path)
    }

    /// The file is the very one that was examined. A disk that would be filled is refused before anything is written.
    fn unpack(&self, to: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
        refuse_full_disk(folder_of(to), "the content of the backup", self.content_bytes)?;
        let (mut plain, _) =
            create_file(to, FILE_MODE).map_err(|e| failed(to, "cannot be created", &e))?;
        let unpacked = self
            .write_content(to, &mut plain, wait)
            .and_then(|()| plain.sync_all().map_err(|e| failed(to, "cannot be written", &e)));
        unpacked.inspect_err(|_| drop(fs::remove_file(to)))
    }
}

impl ExaminedBackup {
    fn write_content(&self, to: &Path, plain: &mut File, wait: &WaitPolicy<'_>) -> Result<()> {
        let opened = open(&self.path)?;
        let mut hash = Sha256::new();
        let mut unsynced_bytes = 0;
        let mut write = |bytes: &[u8]| {
            let mut written = plain.write_all(bytes);
            unsynced_bytes += bytes.len();
            if written.is_ok() && unsynced_bytes >= BYTES_BETWEEN_SYNCS {
                unsynced_bytes = 0;
                written = plain.sync_data();
            }
            written.map_err(|e| failed(to, "cannot be written", &e))
        };
        if self.is_compressed {
            // Its own checksums prove what is read; whether it is the one that was examined, its SHA-256.
            let mut content = Decompressed::open(opened).map_err(|e| unreadable(&self.path, &e))?;
            if content.content_bytes != self.content_bytes {
                return Err(changed(&self.path));
            }
            read_all(&self.path, &mut content, wait, write)?;
            let mut again = open(&self.path)?;
            return match self::hash(&self.path, &mut again, wait)? == self.sha256 {
                true => Ok(()),
                false => Err(changed(&self.path)),
            };
        }
        let mut content = opened.take(self.content_bytes);
        read_all(&self.path, &mut content, wait, |bytes| {
            hash.update(bytes);
            write(bytes)
        })?;
        match hexadecimal(&hash.finalize()) == self.sha256 {
            true => Ok(()),
            false => Err(changed(&self.path)),
        }
    }
}

/// What a file holds.
struct Content {
    backend: Backend,
    is_compressed: bool,
    /// Its size in bytes.
    bytes: u64,
    /// Whether the file itself holds a SHA-256 of it.
    has_digest: bool,
}

impl Content {
    /// What the file holds, by its first bytes.
    fn recognise(path: &Path, size_bytes: u64) -> Result<Content> {
        let mut first = first_bytes(path, &mut open(path)?)?;
        let (mut bytes, mut has_digest) = (size_bytes, false);
        let is_compressed = is_compressed(&first);
        if is_compressed {
            let mut content = Decompressed::open(open(path)?).map_err(|e| unreadable(path, &e))?;
            (bytes, has_digest) = (content.content_bytes, content.has_digest());
            first = first_bytes(path, &mut content)?;
        }
        let backend = if first.starts_with(SQLITE_MAGIC) {
            Backend::Sqlite
        } else if first.starts_with(PG_DUMP_MAGIC) {
            Backend::Postgresql
        } else {
            let what =
                "is no backup: it is neither a SQLite database nor what `pg_dump -Fc` writes";
            return Err(refused(path, what));
        };
        Ok(Content { backend, is_compressed, bytes, has_digest })
    }
}

/// The path of a file, with symbolic links resolved, so that its companions are looked for beside the file itself.
fn resolve(file: &Path) -> Result<PathBuf> {
    fs::canonicalize(file).map_err(|e| match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => refused(file, "there is no such file"),
        _ => failed(file, "cannot be read", &e),
    })
}

/// Opens a regular file for reading.
fn open(path: &Path) -> Result<File> {
    let found = fs::symlink_metadata(path).map_err(|e| failed(path, "cannot be read", &e))?;
    if !found.is_file() {
        let what = format!("is {}, not a file", type_name(found.file_type()));
        return Err(refused(path, &what));
    }
    open_regular(path, OpenOptions::new().read(true))
        .map_err(|e| failed(path, "cannot be read", &e))
}

fn first_bytes(path: &Path, content: &mut impl Read) -> Result<Vec<u8>> {
    let mut first = Vec::new();
    let read = content.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut first);
    read.map_err(|e| unreadable(path, &e)).map(|_| first)
}

/// The SHA-256 of a file, from its beginning.
pub fn hash(path: &Path, file: &mut File, wait: &WaitPolicy<'_>) -> Result<String> {
    let mut hash = Sha256::new();
    read_all(path, file, wait, |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    Ok(hexadecimal(&hash.finalize()))
}

/// Reads to the end.
fn read_all(
    path: &Path,
    from: &mut impl Read,
    wait: &WaitPolicy<'_>,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        wait.check_cancelled()?;
        match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => take(chunk.get(..count).unwrap_or_default())?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(unreadable(path, &e)),
        }
    }
}

fn compare_with_manifest(
    path: &Path,
    manifest: Option<&Manifest>,
    size_bytes: u64,
    sha256: &str,
) -> Result<()> {
    let Some(manifest) = manifest else { return Ok(()) };
    let what = if manifest.size_bytes != size_bytes {
        format!("it has {size_bytes} bytes, and was made with {}", manifest.size_bytes)
    } else if manifest.sha256 != sha256 {
        format!("its SHA-256 is {sha256}, and was {} when it was made", manifest.sha256)
    } else {
        return Ok(());
    };
    Err(refused(path, &what))
}

/// Refuses a copy of a database that is complete only with what is beside it, which is not restored.
fn refuse_side_files(path: &Path) -> Result<()> {
    for ending in ["-wal", "-journal"] {
        let side_file = beside(path, ending);
        if fs::symlink_metadata(&side_file).is_ok_and(|found| found.len() > 0) {
            let what = format!(
                "is not complete by itself: changes of it are in {}, as in a file that was copied while it was open",
                side_file.display()
            );
            return Err(refused(path, &what).remedy(
                "make one with `cts backup`; if the two belong together, open them once with `sqlite3 FILE .tables`, which puts them together",
            ));
        }
    }
    Ok(())
}

/// The error of a file that is no sound backup.
pub fn refused(path: &Path, what: &str) -> Error {
    Error::new(Kind::Data, what).at(path.display()).remedy(USE_ANOTHER)
}

fn changed(path: &Path) -> Error {
    refused(path, "it was changed while it was read")
}

/// The error of content that cannot be read: what it holds is wrong, or the disk does not give it.
fn unreadable(path: &Path, cause: &io::Error) -> Error {
    match cause.kind() {
        ErrorKind::InvalidInput => refused(path, &cause.to_string())
            .remedy("decompress it (`zstd -d`) and name the result"),
        ErrorKind::InvalidData => refused(path, &cause.to_string()),
        _ => failed(path, "cannot be read", cause),
    }
}
