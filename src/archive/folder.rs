//! The folder of an archive: the files of its segments, which appear whole or not at all, and their list.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

use super::chain::{CHAIN, Segment, SegmentKind, SegmentList};
use super::ltx::{LtxReader, LtxWriter};
use crate::backup::PartialFile;
use crate::error::{Cause, Error, Kind, Result};
use crate::system::clock::unix_milliseconds;
use crate::system::errno::{errno_of, meaning};
use crate::system::file_handle::open_regular;
use crate::system::new_file::create_file;

/// The mode of the folder, and that of its files: they hold keys of exchanges.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The folder of the segments, and what their names end with.
const LTX: &str = "ltx";
/// The copy that a base is made of; it is there as a partial file while one is made.
pub const BASE: &str = "base";
/// The level of segments as they were captured.
const CAPTURED_LEVEL: u8 = 0;
/// The file that the process which writes the archive has locked.
const LOCK: &str = "lock";

/// The folder of an archive.
#[derive(Clone, Debug)]
pub struct ArchiveFolder {
    path: PathBuf,
}

/// What a folder has, as its list says.
pub struct Listed {
    /// The segments up to the first fault of the list.
    pub chain: SegmentList,
    /// That fault.
    pub fault: Option<Error>,
}

/// The lock of the process that writes an archive; released when dropped.
pub struct WriteLock {
    file: File,
}

/// What the name of the file of a segment says.
struct FileName {
    level: u8,
    first: u64,
    last: u64,
}

impl FileName {
    fn of(path: &Path) -> Option<FileName> {
        let level = path.parent()?.file_name()?.to_str()?.parse().ok()?;
        let (first, last) = path.file_name()?.to_str()?.strip_suffix(".ltx")?.split_once('-')?;
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        Some(FileName { level, first: number(first)?, last: number(last)? })
    }
}

impl ArchiveFolder {
    /// The archive in this folder.
    pub fn at(path: &Path) -> ArchiveFolder {
        ArchiveFolder { path: path.to_path_buf() }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Creates it, if it is not there, and locks it for one that writes.
    ///
    /// # Errors
    /// [`Kind::Config`] where another process writes it; or it cannot be created.
    pub fn lock(&self) -> Result<WriteLock> {
        let failed = |e: &io::Error| cannot_write(&self.path, e);
        create_folders(&self.path).map_err(|e| failed(&e))?;
        let path = self.file(LOCK);
        let file = match create_file(&path, FILE_MODE) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                open_regular(&path, OpenOptions::new().read(true).write(true))
            }
            created => created.map(|(file, _)| file),
        };
        let file = file.map_err(|e| failed(&e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(WriteLock { file }),
            Err(e) if e == rustix::io::Errno::WOULDBLOCK => {
                let what =
                    "another cts archives into this folder. Each database needs one of its own";
                Err(Error::new(Kind::Config, what).at(self.path.display()))
            }
            Err(e) => Err(failed(&e.into())),
        }
    }

    /// Whether the folder at the path is the one that was locked.
    ///
    /// # Errors
    /// It is not, or cannot be seen.
    pub fn is_locked_by(&self, lock: &WriteLock) -> Result<()> {
        let path = self.file(LOCK);
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let locked = lock.file.metadata().map(identity).map_err(|e| cannot_read(&path, &e))?;
        match fs::symlink_metadata(&path).map(identity) {
            Ok(found) if found == locked => Ok(()),
            Err(e) if e.kind() != ErrorKind::NotFound => Err(cannot_read(&path, &e)),
            _ => Err(Error::new(Kind::Io, "it is not the folder any more that was archived into")
                .at(self.path.display())
                .remedy("look whether its file system is mounted (`findmnt`)")),
        }
    }

    /// Reads the list, and whether it ends where the files of the folder end. Called while another process may write.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn list(&self) -> Result<Listed> {
        // In this order: what is written meanwhile is in the list that is read last.
        let files: Vec<FileName> = self
            .levels()
            .flat_map(|level| files_of(&level))
            .filter_map(|f| FileName::of(&f))
            .collect();
        let makes_base = self.file(BASE).with_extension("partial").exists();
        let path = self.file(CHAIN);
        let text = match fs::read(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Vec::new(),
            text => text.map_err(|e| cannot_read(&path, &e))?,
        };
        let (chain, fault) = SegmentList::parse(&String::from_utf8_lossy(&text));
        let end = chain.segments.last().map_or(0, |last| last.last);
        // A process that was killed leaves one at most that is not listed, but for those behind a base.
        let is_unknown = |file: &FileName| {
            let is_next = file.level == CAPTURED_LEVEL && file.first == end + 1;
            file.last > end && !(is_next && file.last == end + 1)
        };
        let is_cut = !makes_base && files.iter().any(is_unknown);
        let cut = || {
            Error::new(
                Kind::Data,
                format!("it ends at segment {end}, but there are files of later ones"),
            )
        };
        let fault = fault.or_else(|| is_cut.then(cut)).map(|fault| fault.at(path.display()));
        Ok(Listed { chain, fault })
    }

    /// Makes the folder ready to be written behind the segments of its list: what a killed process has left is removed. An archive
    /// whose list has a fault is put aside as a whole, where it can be restored up to the fault, and the list is empty then. Returns
    /// the list and its size.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn prepare(&self, listed: Listed) -> Result<(SegmentList, u64)> {
        let Listed { chain, fault } = listed;
        if fault.is_some() {
            let aside = self.aside();
            let moved = create_folders(&aside).and_then(|()| {
                [CHAIN, LTX]
                    .into_iter()
                    .filter(|name| self.file(name).exists())
                    .try_for_each(|name| fs::rename(self.file(name), aside.join(name)))
            });
            moved.map_err(|e| cannot_write(&aside, &e))?;
            return Ok((SegmentList::default(), 0));
        }
        let (list, bytes) = (self.file(CHAIN), chain.text().len() as u64);
        if fs::metadata(&list).is_ok_and(|file| file.len() != bytes) {
            // Its last line was cut off.
            self.replace_list(&chain)?;
        }
        let known: HashSet<PathBuf> = chain.segments.iter().map(|s| self.file(s.file())).collect();
        let is_left = |file: &PathBuf| {
            is_partial(file)
                || file.extension().is_some_and(|kind| kind == LTX) && !known.contains(file)
        };
        // Those of the folder itself last: as long as the copy of a base is there, files behind the list are expected.
        for folder in self.levels().chain([self.path.clone()]) {
            let left: Vec<PathBuf> = files_of(&folder).filter(is_left).collect();
            for file in &left {
                fs::remove_file(file).map_err(|e| cannot_write(file, &e))?;
            }
            if !left.is_empty() {
                sync_folder(&folder).map_err(|e| cannot_write(&folder, &e))?;
            }
        }
        Ok((chain, bytes))
    }

    /// Moves the files of segments to where what is damaged is kept. Those that are missing are left out.
    ///
    /// # Errors
    /// One cannot be moved.
    pub fn put_aside(&self, segments: &[Segment]) -> Result<()> {
        let aside = self.aside();
        segments.iter().map(Segment::file).try_for_each(|file| {
            let to = aside.join(&file);
            let folder = to.parent().unwrap_or(&aside);
            match create_folders(folder).and_then(|()| fs::rename(self.file(&file), &to)) {
                Err(e) if e.kind() != ErrorKind::NotFound => Err(cannot_write(&to, &e)),
                _ => Ok(()),
            }
        })
    }

    fn aside(&self) -> PathBuf {
        self.file(format!("damaged-{}", unix_milliseconds()))
    }

    /// Syncs it, so that the names in it are on its disk.
    ///
    /// # Errors
    /// It cannot be synced.
    pub fn sync(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    fn levels(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.file(LTX)).into_iter().flatten();
        entries.flatten().map(|entry| entry.path())
    }

    /// Writes the file of a segment, whole and synced. `pages` is called with what takes the pages. Completes the segment's checksum
    /// and size.
    ///
    /// # Errors
    /// It cannot be written. Nothing of it is left then.
    pub fn write(
        &self,
        segment: &mut Segment,
        page_bytes: u32,
        pages: impl FnOnce(&mut LtxWriter<BufWriter<&File>>) -> Result<()>,
    ) -> Result<()> {
        let file = self.create(segment)?;
        let failed = |e: io::Error| cannot_write(&self.file(segment.file()), &e);
        let header = segment.header(page_bytes);
        let mut writer = LtxWriter::begin(BufWriter::new(file.file()), header).map_err(failed)?;
        pages(&mut writer)?;
        let (checksum, out) = writer.finish().map_err(failed)?;
        out.into_inner().map_err(|e| failed(e.into_error()))?;
        self.publish(segment, file, checksum)
    }

    /// Creates the file of a segment, which gets its name by [`ArchiveFolder::publish`].
    ///
    /// # Errors
    /// It cannot be created.
    pub fn create(&self, segment: &Segment) -> Result<PartialFile> {
        let path = self.file(segment.file());
        let folder = path.parent().unwrap_or(&self.path);
        for folder in [&self.file(LTX), folder] {
            create_folder(folder).map_err(|e| cannot_write(folder, &e))?;
        }
        PartialFile::create(&path).map_err(|e| cannot_write(&path, &e))
    }

    /// Syncs a whole file and gives it its name.
    ///
    /// # Errors
    /// It cannot be synced or renamed.
    pub fn publish(&self, segment: &mut Segment, file: PartialFile, checksum: u64) -> Result<()> {
        let path = self.file(segment.file());
        let failed = |e: io::Error| cannot_write(&path, &e);
        // Litestream takes this for the time of the transactions.
        let at = SystemTime::UNIX_EPOCH
            + Duration::from_millis(u64::try_from(segment.at).unwrap_or_default());
        file.file().set_times(FileTimes::new().set_modified(at)).map_err(failed)?;
        file.file().sync_all().map_err(failed)?;
        segment.bytes = file.file().metadata().map_err(failed)?.len();
        segment.checksum = checksum;
        file.replace(&path).map_err(failed)?;
        sync_folder(path.parent().unwrap_or(&self.path)).map_err(failed)
    }

    /// Adds lines to the list, which has so many bytes, and syncs it.
    ///
    /// # Errors
    /// It has another size, or cannot be written. What is there of the lines then is cut off at the next start.
    pub fn append(&self, lines: &str, bytes: u64) -> Result<()> {
        let path = self.file(CHAIN);
        let failed = |e: io::Error| cannot_write(&path, &e);
        let is_new = !path.exists();
        let open = || match create_file(&path, FILE_MODE) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                open_regular(&path, OpenOptions::new().append(true))
            }
            created => created.map(|(file, _)| file),
        };
        let mut list = open().map_err(failed)?;
        let length = list.metadata().map_err(failed)?.len();
        if length != bytes {
            let what = "it is not the list any more that was written last";
            return Err(Error::new(Kind::Data, what).at(path.display()));
        }
        let written = list.write_all(lines.as_bytes()).and_then(|()| list.sync_data());
        if let Err(e) = written {
            let _ = list.set_len(length);
            return Err(failed(e));
        }
        if is_new { sync_folder(&self.path).map_err(failed) } else { Ok(()) }
    }

    /// Writes the list anew. Returns its size.
    ///
    /// # Errors
    /// It cannot be written. The one before is in place then.
    pub fn replace_list(&self, chain: &SegmentList) -> Result<u64> {
        let (path, text) = (self.file(CHAIN), chain.text());
        crate::backup::write_whole(&path, &text)
            .and_then(|()| sync_folder(&self.path))
            .map(|()| text.len() as u64)
            .map_err(|e| cannot_write(&path, &e))
    }

    /// Opens the file of a segment, and compares its header and checksum with what the list says.
    ///
    /// # Errors
    /// [`Kind::Data`] where it is missing or another one; or it cannot be read.
    pub fn open(&self, segment: &Segment) -> Result<LtxReader> {
        let path = self.file(segment.file());
        let reader = open_regular(&path, OpenOptions::new().read(true)).and_then(LtxReader::open);
        let reader = reader.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::new(Kind::Data, "it is missing").at(path.display()),
            _ => cannot_read(&path, &e),
        })?;
        let is_same = reader.header == segment.header(reader.header.page_bytes)
            && reader.checksum() == segment.checksum;
        match is_same {
            true => Ok(reader),
            false => {
                Err(Error::new(Kind::Data, "it is not the file that was archived")
                    .at(path.display()))
            }
        }
    }

    /// Removes the files of segments that no list has, or has any more. What cannot be removed stays.
    pub fn remove(&self, segments: &[Segment]) {
        let files: Vec<PathBuf> =
            segments.iter().map(|segment| self.file(segment.file())).collect();
        for file in &files {
            let _ = fs::remove_file(file);
        }
        let folders: HashSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for folder in folders {
            let _ = sync_folder(folder);
        }
    }
}

/// Syncs a folder, so that the names in it are on its disk.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn files_of(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_partial(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "partial")
}

/// Whether it is a base.
pub fn is_base(segment: &Segment) -> bool {
    segment.kind == SegmentKind::Base
}

/// Creates a folder, if it is not there, and those above it. Their names are on the disk then.
fn create_folders(path: &Path) -> io::Result<()> {
    match path.parent().filter(|above| !above.as_os_str().is_empty()) {
        Some(above) if !path.is_dir() && !above.is_dir() => create_folders(above)?,
        _ => {}
    }
    create_folder(path)
}

/// Creates a folder, if it is not there, in one that is.
fn create_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            if path.is_dir() {
                Ok(())
            } else {
                Err(ErrorKind::NotADirectory.into())
            }
        }
        created => {
            created?;
            let above = path.parent().filter(|above| !above.as_os_str().is_empty());
            sync_folder(above.unwrap_or(Path::new(".")))
        }
    }
}

/// The error of a path that cannot be written.
pub fn cannot_write(path: &Path, cause: &io::Error) -> Error {
    failed(path, "cannot be written", cause)
}

/// The error of a path that cannot be read.
pub fn cannot_read(path: &Path, cause: &io::Error) -> Error {
    match cause.kind() {
        ErrorKind::InvalidData => Error::new(Kind::Data, cause.to_string()).at(path.display()),
        _ => failed(path, "cannot be read", cause),
    }
}

fn failed(path: &Path, what: &str, cause: &io::Error) -> Error {
    let error = Error::new(Kind::Io, format!("{what}: {cause}")).at(path.display());
    if matches!(cause.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        let remedy = "free some space on that disk, or set CTS_ARCHIVE_DIR to a folder on another";
        return error.caused_by(Cause::DiskFull).remedy(remedy);
    }
    match errno_of(cause).and_then(meaning) {
        Some((kind, remedy)) => {
            Error::new(kind, what).at(path.display()).caused_by(cause).remedy(remedy)
        }
        None => error.remedy("check the disk and its mount (`dmesg`, `findmnt`)"),
    }
}
