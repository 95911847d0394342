//! What is at the path of a SQLite database before SQLite opens it, read with stat(2) and from the
//! first bytes of the files: opening an empty file with SQLite deletes the `-wal` next to it. Refuses
//! what must not be opened. Nothing here changes a file.

use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file_error::unreadable;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::system::file_handle::{open_regular, type_name};
use crate::system::shell::word;

/// "CTS3": marks a database as one of CTS, in the 4 bytes at offset 68 of its header.
pub const APPLICATION_ID: u32 = 0x4354_5333;

/// The first bytes of every SQLite database. (sqlite.org/fileformat2.html, 1.3.1)
const HEADER_STRING: &[u8; 16] = b"SQLite format 3\0";
/// The first bytes of every rollback journal. (sqlite.org/fileformat2.html, 3)
const JOURNAL_HEADER_STRING: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Offset in the header of the file format write version.
const WRITE_VERSION_AT: usize = 18;
/// Offset in the header of the file format read version.
const READ_VERSION_AT: usize = 19;
/// The highest file format version that is known: WAL.
const WAL_VERSION: u8 = 2;

/// Bytes from the start of the header to the end of both versions.
pub const HEADER_START_BYTES: usize = READ_VERSION_AT + 1;

/// What SQLite puts behind the name of a database to name the files that it keeps beside it.
pub const SIDE_FILES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The longest path, in bytes, that SQLite opens together with the names of its side files
/// (`MAX_PATHNAME` in os_unix.c is 512).
pub const PATH_BYTES_MAX: usize = 500;

/// What is at the path of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// No file, and no file next to the path shows that there was a database.
    Missing,
    /// An empty file, and no file next to it shows that there was a database.
    Empty,
    /// A SQLite database with this application id.
    Database(u32),
    /// A database whose first transaction was interrupted. SQLite rolls it back when it opens it.
    Interrupted,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The number of its device.
    pub device: u64,
    /// Its inode on that device.
    pub inode: u64,
}

impl FileIdentity {
    /// The file that is at a path now. `None` if it cannot be seen.
    pub fn of(path: &Path) -> Option<FileIdentity> {
        FileIdentity::read(path).ok()?
    }

    /// The file that is at a path now. `None` if there is none.
    ///
    /// # Errors
    /// The file system does not say whether there is one.
    pub fn read(path: &Path) -> io::Result<Option<FileIdentity>> {
        match fs::metadata(path) {
            Ok(found) => Ok(Some(FileIdentity { device: found.dev(), inode: found.ino() })),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }
}

/// The path of the database file itself: absolute, and with symbolic links resolved, so that the side
/// files are looked for where SQLite puts them.
///
/// # Errors
/// The path is too long for SQLite, or a symbolic link whose target does not exist.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|e| unreadable(path, &e))?;
    if absolute.as_os_str().len() > PATH_BYTES_MAX {
        let what =
            format!("the path is longer than the {PATH_BYTES_MAX} bytes that SQLite accepts");
        return Err(Error::new(Kind::Config, what)
            .at(absolute.display())
            .remedy("set SQLITE_DB_PATH (or --db) to a shorter path"));
    }
    if !fs::symlink_metadata(&absolute).is_ok_and(|metadata| metadata.is_symlink()) {
        return Ok(absolute);
    }
    fs::canonicalize(&absolute).map_err(|e| {
        Error::new(Kind::Data, "the symbolic link cannot be followed")
            .at(absolute.display())
            .caused_by(e)
            .remedy("mount the file system that holds its target, or correct the link")
    })
}

/// Reads what is at the path, without opening it with SQLite.
///
/// # Errors
/// The file cannot be read, it or a file that SQLite keeps beside it is not a regular file, or it is not a
/// SQLite database; or it is missing or empty, and a file next to it shows that there was a database.
pub fn inspect(path: &Path) -> Result<FileContent> {
    refuse_other_types(path)?;
    match attributes(path)? {
        None => {
            return refuse_lost(path, "there is no such file").map(|()| FileContent::Missing);
        }
        Some(metadata) if metadata.len() > 0 => return inspect_header(path),
        Some(_) => {}
    }
    match refuse_lost(path, "the file is empty") {
        Ok(()) => Ok(FileContent::Empty),
        Err(error) if is_empty(path) => Err(error),
        // Another process has filled the file in the meantime.
        Err(_) => inspect(path),
    }
}

/// Refuses a database of which a file is not a regular file: SQLite would wait for the writer of a pipe
/// without end, and has no sentence for a folder.
///
/// # Errors
/// The database or a side file exists and is not a regular file, or cannot be seen.
pub fn refuse_other_types(path: &Path) -> Result<()> {
    refuse_other_type(path, |what| {
        Error::new(Kind::Config, format!("is {what}, not a file"))
            .remedy("set SQLITE_DB_PATH (or --db) to the path of a regular file")
    })?;
    for suffix in SIDE_FILES {
        let file = side_file(path, suffix);
        refuse_other_type(&file, |what| {
            let what = format!("is {what}, where SQLite keeps a file of its own");
            let shown = word(&file);
            Error::new(Kind::Data, what).note("nothing was opened").remedy(format!(
                "find out who made it, and move it away (`mv {shown} {shown}.moved`)"
            ))
        })?;
    }
    Ok(())
}

/// The path by which SQLite opens a database, with the symbolic links of its folder resolved, so that
/// SQLite can be told to follow none (`SQLITE_OPEN_NOFOLLOW`): one that another user puts in the place of
/// the file between this look and the opening is refused.
///
/// # Errors
/// As [`refuse_other_types`], or the folder cannot be seen.
pub fn path_to_open(path: &Path) -> Result<PathBuf> {
    refuse_other_types(path)?;
    let folder = fs::canonicalize(folder_of(path)).map_err(|e| unreadable(path, &e))?;
    Ok(folder.join(path.file_name().unwrap_or_default()))
}

fn refuse_other_type(path: &Path, refusal: impl Fn(&str) -> Error) -> Result<()> {
    match attributes(path)? {
        Some(metadata) if !metadata.is_file() => {
            Err(refusal(type_name(metadata.file_type())).at(path.display()))
        }
        _ => Ok(()),
    }
}

fn inspect_header(path: &Path) -> Result<FileContent> {
    let bytes = first_bytes::<72>(path).map_err(|e| unreadable(path, &e))?;
    match bytes.filter(|bytes| bytes.starts_with(HEADER_STRING)) {
        Some(bytes) => {
            refuse_later_format(path, bytes[WRITE_VERSION_AT], bytes[READ_VERSION_AT])?;
            let id = u32::from_be_bytes([bytes[68], bytes[69], bytes[70], bytes[71]]);
            Ok(FileContent::Database(id))
        }
        None if journal_pages(path)?.is_some() => Ok(FileContent::Interrupted),
        None => Err(Error::new(
            Kind::Data,
            "is not a SQLite database: its header is damaged, or it is a file of another program",
        )
        .at(path.display())
        .note("the file was left as it is")
        .remedy("restore a backup, with no -wal and -shm beside it, or set SQLITE_DB_PATH (or --db) to another file")),
    }
}

fn refuse_later_format(path: &Path, write_version: u8, read_version: u8) -> Result<()> {
    if write_version.max(read_version) <= WAL_VERSION {
        return Ok(());
    }
    let what = format!(
        "its header is damaged, or of a later SQLite: file format write version {write_version} and read version {read_version}"
    );
    Err(Error::new(Kind::Data, what).at(path.display()).note("the file was left as it is").remedy(
        "keep a copy of the file, its -wal and its -shm, move these two away, and restore a backup",
    ))
}

/// Whether the header says that the journal mode is WAL (sqlite.org/fileformat2.html, 1.3.3).
pub fn is_wal(path: &Path) -> bool {
    matches!(first_bytes::<20>(path), Ok(Some(bytes)) if bytes[WRITE_VERSION_AT] == WAL_VERSION)
}

/// The size of the database in bytes, by its header; `None` where the header does not hold a valid one (sqlite.org/fileformat2.html,
/// 1.3.8).
///
/// # Errors
/// The file cannot be read.
pub fn size_in_header(path: &Path) -> io::Result<Option<u64>> {
    let Some(bytes) = first_bytes::<100>(path)? else { return Ok(None) };
    let number =
        |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let page_bytes = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        bytes => u64::from(bytes),
    };
    let is_valid = number(24) == number(92) && number(28) > 0;
    Ok(is_valid.then(|| u64::from(number(28)) * page_bytes))
}

/// Sets in a serialized database that the journal mode is WAL.
pub fn set_wal(database: &mut [u8]) {
    for version in database.iter_mut().take(READ_VERSION_AT + 1).skip(WRITE_VERSION_AT) {
        *version = WAL_VERSION;
    }
}

/// Whether a WAL that is not empty is next to the database.
///
/// # Errors
/// It cannot be seen whether there is one.
pub fn has_wal(path: &Path) -> Result<bool> {
    let wal = side_file(path, "-wal");
    Ok(attributes(&wal)?.is_some_and(|metadata| metadata.len() > 0))
}

/// Whether there is an empty file at the path.
pub fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0)
}

/// The attributes of what is at the path, itself if it is a symbolic link. `None` if there is nothing.
///
/// # Errors
/// It cannot be seen whether there is something.
pub fn attributes(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(path, &e)),
    }
}

/// Refuses a missing or empty file if a file next to it shows that there was a database.
fn refuse_lost(path: &Path, state: &str) -> Result<()> {
    let Some(evidence) = evidence_of_database(path)? else { return Ok(()) };
    let evidence = evidence.display();
    let what = format!("{state}, but {evidence} shows that there was a database");
    Err(Error::new(Kind::Data, what).at(path.display()).leaving(StateLeft::Unchanged).remedy(format!(
        "find the lost file, or move the -wal and -shm that are beside the path away and restore a backup; to create a new, empty database instead, first move {evidence} away"
    )))
}

/// A WAL, a journal or a backup of a database that was at the path.
fn evidence_of_database(path: &Path) -> Result<Option<PathBuf>> {
    let wal = side_file(path, "-wal");
    if attributes(&wal)?.is_some() {
        Ok(Some(wal))
    } else if journal_pages(path)?.is_some_and(|pages| pages > 0) {
        Ok(Some(side_file(path, "-journal")))
    } else {
        backup_of(path)
    }
}

/// A backup next to the database: `cts.db.before-…` or `cts.db.backup…`.
fn backup_of(path: &Path) -> Result<Option<PathBuf>> {
    let folder = folder_of(path);
    let prefixes = [side_file(path, ".before-"), side_file(path, ".backup")];
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        // A folder that may be entered and not listed.
        Err(e) if e.kind() == ErrorKind::PermissionDenied => return Ok(None),
        Err(e) => return Err(unreadable(folder, &e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| unreadable(folder, &e))?.path();
        let name = entry.as_os_str().as_encoded_bytes();
        let is_filled = || fs::metadata(&entry).is_ok_and(|m| m.is_file() && m.len() > 0);
        if prefixes.iter().any(|p| name.starts_with(p.as_os_str().as_encoded_bytes()))
            && is_filled()
        {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// The size in pages that the database had when the journal next to it was begun, from the journal's
/// header. `None` if there is no journal to roll back.
///
/// # Errors
/// There is a journal, and it cannot be read.
pub fn journal_pages(path: &Path) -> Result<Option<u32>> {
    let journal = side_file(path, "-journal");
    let bytes = match first_bytes::<20>(&journal) {
        Ok(bytes) => bytes.filter(|bytes| bytes.starts_with(&JOURNAL_HEADER_STRING)),
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        Err(e) => return Err(unreadable(&journal, &e)),
    };
    Ok(bytes.map(|bytes| u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]])))
}

/// The first `N` bytes of a regular file. `None` if it is shorter. No connection of this process may have
/// the file open: closing it releases the locks (see [`open_regular`]).
fn first_bytes<const N: usize>(path: &Path) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match open_regular(path, OpenOptions::new().read(true))?.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// The path of a file that belongs to the database and is next to it, such as its `-wal`.
pub fn side_file(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
