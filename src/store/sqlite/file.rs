//! The file a SQLite database lives in, as the file system shows it: what is there before
//! SQLite opens it (opening an empty file deletes the `-wal` beside it), its creation, its
//! modes, its disk, and who holds its locks. Nothing here changes a byte of a database.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

use crate::error::{Cause, Error, Kind, Result};
use crate::store::{AS_ITS_OWNER, Holder, StorageStatus};

/// "CTS3": marks a file as ours, in the 4 bytes at offset 68 of its header.
pub const APPLICATION_ID: u32 = 0x4354_5333;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// The longest path, in bytes, that SQLite opens with the names of its side files
/// (`MAX_PATHNAME` in os_unix.c is 512).
const LONGEST: usize = 500;

/// Room that a new database needs, journal included, in bytes: twice its measured size.
const FIRST_RUN_BYTES: u64 = 2 << 20;

/// Room that the shared memory and a page of the WAL need, in bytes.
pub const SIDE_FILES_BYTES: u64 = 64 << 10;

/// What is at the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// Nothing, and nothing tells of a former database.
    Missing,
    /// A file without a byte, and nothing tells of a former database.
    Empty,
    /// A SQLite database with this application id, or one whose first write was cut off
    /// and that SQLite rolls back when it opens it (`None`).
    Database(Option<u32>),
}

/// The path of the database file itself: absolute, links followed, so that the files
/// beside it are looked for where SQLite puts them.
pub fn resolve(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|e| unreadable(path, &e))?;
    if absolute.as_os_str().len() > LONGEST {
        let what = format!("is longer than the {LONGEST} bytes that SQLite takes");
        return Err(Error::new(Kind::Config, what)
            .at(absolute.display())
            .remedy("set SQLITE_DB_PATH (or --db) to a shorter path"));
    }
    let Ok(meta) = fs::symlink_metadata(&absolute) else {
        return Ok(absolute);
    };
    if !meta.is_symlink() {
        return Ok(absolute);
    }
    fs::canonicalize(&absolute).map_err(|e| {
        Error::new(Kind::Data, "a symbolic link that leads nowhere")
            .at(absolute.display())
            .caused_by(e)
            .remedy("mount what it points to, or correct the link")
    })
}

/// Looks at the file and those beside it, and refuses what must not be opened.
pub fn inspect(path: &Path) -> Result<FileContent> {
    let meta = match fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return former_database(path, "there is no such file")
                .map_or(Ok(FileContent::Missing), Err);
        }
        Err(e) => return Err(unreadable(path, &e)),
    };
    if !meta.is_file() {
        let kind = match meta.file_type() {
            t if t.is_dir() => "a directory",
            t if t.is_fifo() => "a pipe",
            t if t.is_socket() => "a socket",
            _ => "a device",
        };
        return Err(Error::new(Kind::Config, format!("is {kind}, not a file"))
            .at(path.display())
            .remedy("set SQLITE_DB_PATH (or --db) to the path of a file"));
    }
    if meta.len() == 0 {
        let lost = former_database(path, "the file is empty");
        // Another starter may have filled the file since.
        return match lost {
            Some(error) if is_empty(path) => Err(error),
            Some(_) => inspect(path),
            None => Ok(FileContent::Empty),
        };
    }
    header(path).map(FileContent::Database)
}

/// The application id in the header; `None` where a rollback journal will restore it.
fn header(path: &Path) -> Result<Option<u32>> {
    let bytes = first_bytes::<72>(path).map_err(|e| unreadable(path, &e))?;
    match bytes {
        Some(bytes) if bytes.starts_with(MAGIC) && (bytes[18] > 2 || bytes[19] > 2) => {
            let what = format!(
                "its header asks for a later SQLite (versions {} and {}), or is damaged",
                bytes[18], bytes[19]
            );
            Err(Error::new(Kind::Data, what).at(path.display()).remedy("keep a copy of the file, and restore a backup"))
        }
        Some(bytes) if bytes.starts_with(MAGIC) => {
            Ok(Some(u32::from_be_bytes([bytes[68], bytes[69], bytes[70], bytes[71]])))
        }
        _ if journal_pages(path).is_some() => Ok(None),
        _ => Err(Error::new(
            Kind::Data,
            "is not a SQLite database (its header is damaged or another program's); it was left as it is",
        )
        .at(path.display())
        .remedy("restore a backup, or set SQLITE_DB_PATH (or --db) to another file")),
    }
}

/// Whether the header says WAL (sqlite.org/fileformat2.html, "File format version numbers").
pub fn is_wal(path: &Path) -> bool {
    matches!(first_bytes::<20>(path), Ok(Some(bytes)) if bytes[18] == 2)
}

/// The error for a missing or empty file where something beside it tells of a database.
fn former_database(path: &Path, state: &str) -> Option<Error> {
    let wal = beside(path, "-wal");
    let witness = if wal.exists() {
        Some(wal)
    } else if journal_pages(path).is_some_and(|pages| pages > 0) {
        Some(beside(path, "-journal"))
    } else {
        backup_of(path)
    }?;
    let what = format!(
        "{state}, but {} tells that there was a database; both were left as they are",
        witness.display()
    );
    Some(Error::new(Kind::Data, what).at(path.display()).remedy(format!(
        "find the lost file or restore a backup; to begin anew all the same, move {} away",
        witness.display()
    )))
}

/// A backup that lies beside the database: `cts.db.before-…` or `cts.db.backup…`.
fn backup_of(path: &Path) -> Option<PathBuf> {
    let prefixes = [beside(path, ".before-"), beside(path, ".backup")];
    let mut entries =
        fs::read_dir(path.parent()?).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    entries.find(|entry| {
        let is_filled = || fs::metadata(entry).is_ok_and(|m| m.is_file() && m.len() > 0);
        let path = entry.as_os_str().as_encoded_bytes();
        prefixes.iter().any(|p| path.starts_with(p.as_os_str().as_encoded_bytes())) && is_filled()
    })
}

/// The size in pages that the database had when the journal beside it was begun, from the
/// journal's header; `None` where there is no journal to roll back.
pub fn journal_pages(path: &Path) -> Option<u32> {
    let bytes = first_bytes::<20>(&beside(path, "-journal")).ok()??;
    let pages = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    bytes.starts_with(&JOURNAL_MAGIC).then_some(pages)
}

fn first_bytes<const N: usize>(path: &Path) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match File::open(path)?.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// The path of a file that SQLite keeps beside the database.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The mode of the database, which SQLite gives its side files too.
pub fn mode(group: bool) -> u32 {
    if group { 0o660 } else { 0o600 }
}

/// Creates the folder, 0700 (2770 with `group`), where it is missing. The bit that hands the
/// group on comes from the folder above where we may not set it (`RestrictSUIDSGID=`).
pub fn create_folder(path: &Path, group: bool) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.exists() {
        return Ok(());
    }
    let mode = if group { 0o770 } else { 0o700 };
    let wanted = if group { 0o2770 } else { 0o700 };
    let set = |mode| fs::set_permissions(folder, Permissions::from_mode(mode));
    let complete = || match fs::metadata(folder)?.permissions().mode() & 0o7777 {
        is if is == wanted => Ok(()),
        is => {
            set(wanted).or_else(|e| if is & 0o777 == mode { Ok(()) } else { set(mode).or(Err(e)) })
        }
    };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .and_then(|()| complete())
        .map_err(|e| cannot_create(path, &format!("the folder {}", folder.display()), &e))
}

/// Creates the file, empty, with its [`mode`], and its folder where missing.
pub fn create(path: &Path, group: bool) -> Result<()> {
    create_folder(path, group)?;
    match OpenOptions::new().write(true).create_new(true).mode(mode(group)).open(path) {
        Ok(file) => set_mode(&file, path, group),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(cannot_create(path, "the file", &e)),
    }
}

/// Gives a new file the group's bits, which the umask may have taken.
pub fn set_mode(file: &File, path: &Path, group: bool) -> Result<()> {
    if !group {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(mode(group)))
        .map_err(|e| cannot_create(path, "the file", &e))
}

/// Tightens modes that let others in, of a file that has been recognised as ours.
/// Returns what was done, for the log.
pub fn tighten(path: &Path, group: bool) -> Vec<String> {
    let allowed = mode(group);
    let mut said = Vec::new();
    for file in [path.to_path_buf(), beside(path, "-wal"), beside(path, "-shm")] {
        let Ok(meta) = fs::metadata(&file) else {
            continue;
        };
        let mode = meta.permissions().mode() & 0o777;
        let is_right = if group { mode == allowed } else { mode & !allowed == 0 };
        if is_right {
            continue;
        }
        said.push(match fs::set_permissions(&file, Permissions::from_mode(allowed)) {
            Ok(()) => format!("{}: mode {mode:04o} changed to {allowed:04o}", file.display()),
            Err(e) => format!(
                "{}: mode {mode:04o} lets others in and cannot be changed: {e}",
                file.display()
            ),
        });
    }
    said
}

/// What the file system tells of the place: its disk, and whether the file that was opened
/// (`identity`) is still the one at the path.
pub fn storage_status(path: &Path, identity: Option<(u64, u64)>) -> StorageStatus {
    let mut place = StorageStatus::default();
    let folder = path.parent().unwrap_or(path);
    if let Ok(disk) = rustix::fs::statvfs(if path.exists() { path } else { folder }) {
        place.free_bytes = Some(disk.f_bavail.saturating_mul(disk.f_frsize));
        place.total_bytes = Some(disk.f_blocks.saturating_mul(disk.f_frsize));
        if disk.f_flag.contains(StatVfsMountFlags::RDONLY) {
            place.read_only = Some(format!("{} is mounted read-only", folder.display()));
        }
    }
    let refused = [path, folder]
        .into_iter()
        .filter(|p| p.exists())
        .find_map(|p| rustix::fs::access(p, Access::WRITE_OK).err().map(|e| (p, e)));
    if let Some((p, e)) = refused.filter(|_| place.read_only.is_none()) {
        let why = format!("{} cannot be written: {}", p.display(), io::Error::from(e));
        // Its owner may well be able to.
        let is_others = fs::metadata(p).is_ok_and(|meta| meta.uid() != geteuid().as_raw());
        match e {
            Errno::ACCESS if is_others => place.not_ours = Some(why),
            _ => place.read_only = Some(why),
        }
    }
    if let Some(opened) = identity {
        place.replaced = match self::identity(path) {
            None => Some(format!("{} was deleted while it was open", path.display())),
            Some(now) if now != opened => {
                Some(format!("{} was replaced by another file while it was open", path.display()))
            }
            Some(_) => None,
        };
    }
    place
}

/// Whether there is a file without a byte at the path.
pub fn is_empty(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.len() == 0)
}

/// Device and inode of the file at the path.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Refuses a network file system, on which SQLite's locks and shared memory do not hold.
pub fn refuse_network(path: &Path, allowed: bool) -> Result<()> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    let Ok(fs) = rustix::fs::statfs(existing) else {
        return Ok(());
    };
    match network_name(fs.f_type as u64) {
        Some(name) if !allowed => Err(Error::new(
            Kind::Config,
            format!("is on a network file system ({name}), where SQLite's locks and shared memory are not safe"),
        )
        .at(path.display())
        .remedy("set SQLITE_DB_PATH (or --db) to a local disk, or set CTS_ALLOW_NETWORK_FS=1 if you know better")),
        _ => Ok(()),
    }
}

/// The name of a network file system by its magic number, from statfs(2) and linux/magic.h.
pub fn network_name(magic: u64) -> Option<&'static str> {
    Some(match magic & 0xffff_ffff {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x00c3_6400 => "Ceph",
        0x0102_1997 => "9P",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        _ => return None,
    })
}

/// Who holds the write lock, from `/proc/locks`: the byte of the write lock in the `-shm`
/// file (WAL), or the pending, reserved or shared bytes of the database file (SQLite's
/// "File Format" and os.h give their places).
pub fn holder(path: &Path) -> Option<Holder> {
    const WAL_WRITE: (u64, u64) = (120, 120);
    const PENDING_TO_SHARED: (u64, u64) = (0x4000_0000, 0x4000_0000 + 511);
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let own = std::process::id();
    let pid = [(beside(path, "-shm"), WAL_WRITE), (path.to_path_buf(), PENDING_TO_SHARED)]
        .iter()
        .filter_map(|(file, range)| Some((fs::metadata(file).ok()?, range)))
        .find_map(|(meta, range)| {
            let device = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
            write_lock(&locks, device, meta.ino(), *range, own)
        })?;
    let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let program = if program.trim().is_empty() { "a program" } else { program.trim() };
    Some(Holder { pid, program: program.to_string(), is_on_server: false })
}

/// The process, other than `own`, that holds a write lock on a byte of the range.
fn write_lock(
    locks: &str,
    device: (u32, u32),
    inode: u64,
    range: (u64, u64),
    own: u32,
) -> Option<u32> {
    let held: Vec<(bool, u32)> = locks
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, "POSIX" | "OFDLCK", _, "WRITE", pid, place, start, end] = fields[..] else {
                return None;
            };
            let mut parts = place.split(':');
            let major = u32::from_str_radix(parts.next()?, 16).ok()?;
            let minor = u32::from_str_radix(parts.next()?, 16).ok()?;
            let is_it = parts.next()?.parse() == Ok(inode);
            let start: u64 = start.parse().ok()?;
            let end: u64 = end.parse().unwrap_or(u64::MAX);
            let pid = pid.parse().ok().filter(|pid| *pid != 0 && *pid != own)?;
            (is_it && start <= range.1 && end >= range.0).then_some(((major, minor) == device, pid))
        })
        .collect();
    // Some file systems (btrfs, overlayfs) show another device there than stat(2) does.
    held.iter().find(|(same, _)| *same).or(held.first()).map(|(_, pid)| *pid)
}

/// Whether the disk has no room left for the files that SQLite keeps beside a database.
pub fn is_full(path: &Path) -> bool {
    storage_status(path, None).free_bytes.is_some_and(|free| free < SIDE_FILES_BYTES)
}

/// Whether there is far more room than a run may need.
pub fn has_plenty(path: &Path) -> bool {
    let needed = usual_need(path).saturating_mul(8);
    size_limit().is_none()
        && storage_status(path, None).free_bytes.is_some_and(|free| free > needed)
}

/// About what a run may write: all that a new database holds, and, where indexes are put
/// back, at most about as much as is there.
fn usual_need(path: &Path) -> u64 {
    FIRST_RUN_BYTES + fs::metadata(path).map_or(0, |meta| meta.len())
}

/// "… free, about … needed", for errors of a full disk.
pub fn room(path: &Path, needed: Option<u64>) -> String {
    let free = storage_status(path, None).free_bytes.unwrap_or_default();
    let needed = needed.unwrap_or_else(|| usual_need(path));
    format!("{} KiB are free there, about {} KiB are needed", free >> 10, needed >> 10)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied => Kind::Permission,
        ErrorKind::NotADirectory | ErrorKind::InvalidFilename => Kind::Config,
        _ => Kind::Io,
    };
    let remedy = match kind {
        Kind::Permission => AS_ITS_OWNER,
        Kind::Config => "correct SQLITE_DB_PATH (or --db)",
        _ => "look at the disk (`dmesg`, `smartctl`)",
    };
    Error::new(kind, "cannot be read").at(path.display()).caused_by(error).remedy(remedy)
}

/// The error of a file or folder that cannot be made.
pub fn cannot_create(path: &Path, object: &str, error: &io::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied => Kind::Permission,
        _ if is_disk_fault(error) => return cannot_write(path, FIRST_RUN_BYTES, error),
        _ => Kind::CannotCreate,
    };
    let what = format!("cannot create {object}");
    Error::new(kind, what).at(path.display()).caused_by(error).remedy(
        "set SQLITE_DB_PATH (or --db) to a file that this user may write, such as $HOME/cts.db, or run as a user who may write there",
    )
}

/// The error of a write of `needed` bytes that failed.
pub fn cannot_write(path: &Path, needed: u64, error: &io::Error) -> Error {
    if error.kind() == ErrorKind::FileTooLarge {
        return limited(path, &error.to_string(), Some(needed));
    }
    let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
    let failed = if is_full {
        let what = format!("the disk is full: {error} ({})", room(path, Some(needed)));
        Error::new(Kind::Io, what)
            .caused_by(Cause::DiskFull)
            .remedy("free some space on that disk and run it again")
    } else {
        Error::new(Kind::Io, "cannot be written")
            .caused_by(error)
            .remedy("look at the disk (`dmesg`, `df`), then run it again")
    };
    failed.at(path.display())
}

/// The size beyond which this process may not write files, if there is one.
pub fn size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// The error of a write beyond the [`size_limit`].
pub fn limited(path: &Path, cause: &str, needed: Option<u64>) -> Error {
    let limit = size_limit().unwrap_or_default() >> 10;
    let needed = needed.unwrap_or_else(|| usual_need(path)) >> 10;
    let what = format!(
        "{cause}; files may not grow beyond {limit} KiB here, about {needed} KiB are needed"
    );
    Error::new(Kind::Io, what)
        .at(path.display())
        .remedy("raise the limit on the size of files (`ulimit -f`, LimitFSIZE=) and run it again")
}

/// A disk that fails or is full may be well again after a restart, unlike a wrong path.
fn is_disk_fault(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
        || error.raw_os_error() == Some(Errno::IO.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  READ 41 fe:00:131 128 128
2: POSIX  ADVISORY  WRITE 42 fe:00:131 120 120
2: -> POSIX  ADVISORY  WRITE 43 fe:00:131 120 120
3: FLOCK  ADVISORY  WRITE 44 fe:00:131 0 EOF
4: POSIX  ADVISORY  WRITE 45 00:2a:132 0 EOF
";

    #[test]
    fn the_holder_is_the_writer_of_that_byte_of_that_file() {
        let holder = |inode, own| write_lock(LOCKS, (0xfe, 0), inode, (120, 120), own);
        assert_eq!(holder(131, 1), Some(42));
        assert_eq!(holder(131, 42), None);
        assert_eq!(holder(133, 1), None);
    }

    #[test]
    fn a_lock_to_the_end_of_a_file_on_another_device_number_is_seen() {
        assert_eq!(write_lock(LOCKS, (0xfe, 0), 132, (120, 120), 1), Some(45));
    }

    #[test]
    fn network_file_systems_are_known_and_local_ones_are_not() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xffff_ffff_ff53_4d42), Some("CIFS"));
        for local in [0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630] {
            assert_eq!(network_name(local), None, "{local:x}");
        }
    }
}
