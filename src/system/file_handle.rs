//! Files that are examined, opened and changed as one and the same file, whatever another user puts at their
//! path meanwhile: the last component of the path is never followed as a symbolic link, a pipe is never
//! waited for, and modes and owners are set on the file that was examined.

use std::ffi::OsStr;
use std::fs::{self, File, FileType, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, chownat, mkdirat, openat};
use rustix::io::Errno;

/// Opens a regular file. `options` says how, and with which mode it is created.
///
/// On Linux, closing any descriptor of a file releases the locks that this process has on it (fcntl(2)): a
/// file that SQLite has open is not opened with this function.
///
/// # Errors
/// If it cannot be opened, is a symbolic link (ELOOP), or is not a regular file; it is not waited for.
pub fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = options.custom_flags(flags).open(path)?;
    match file.metadata()?.file_type() {
        found if found.is_file() => Ok(file),
        found => Err(io::Error::other(format!("it is {}, not a regular file", type_name(found)))),
    }
}

/// What a file is that is not a regular file.
pub fn type_name(file_type: FileType) -> &'static str {
    match file_type {
        t if t.is_dir() => "a directory",
        t if t.is_symlink() => "a symbolic link",
        t if t.is_fifo() => "a pipe",
        t if t.is_socket() => "a socket",
        _ => "a device",
    }
}

/// One file or folder, whatever its path leads to later. Its content cannot be read through it, and to close
/// it releases no lock.
#[derive(Debug)]
pub struct FileHandle(File);

impl FileHandle {
    /// A handle of what is at the path, itself if it is a symbolic link.
    ///
    /// # Errors
    /// If it does not exist or cannot be seen.
    pub fn open(path: &Path) -> io::Result<FileHandle> {
        FileHandle::open_at(CWD, path.as_os_str(), OFlags::NOFOLLOW)
    }

    /// A handle of an existing folder, which a symbolic link may lead to.
    ///
    /// # Errors
    /// If it does not exist, cannot be seen or is not a folder.
    pub fn open_folder(path: &Path) -> io::Result<FileHandle> {
        FileHandle::open_at(CWD, path.as_os_str(), OFlags::DIRECTORY)
    }

    /// Creates a folder in this one, and returns its handle; `None` if there is one of this name already.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create_folder(&self, name: &OsStr, mode: u32) -> io::Result<Option<FileHandle>> {
        match mkdirat(&self.0, name, Mode::from_raw_mode(mode)) {
            Ok(()) => self.enter(name).map(Some),
            Err(Errno::EXIST) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A handle of the folder of this name in this one.
    ///
    /// # Errors
    /// If there is none; a symbolic link is none.
    pub fn enter(&self, name: &OsStr) -> io::Result<FileHandle> {
        FileHandle::open_at(self.0.as_fd(), name, OFlags::NOFOLLOW | OFlags::DIRECTORY)
    }

    fn open_at(folder: impl AsFd, name: &OsStr, flags: OFlags) -> io::Result<FileHandle> {
        let fd: OwnedFd =
            openat(folder, name, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(FileHandle(File::from(fd)))
    }

    /// Its attributes.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    /// Sets its mode, through `/proc`.
    ///
    /// # Errors
    /// If it cannot be set, or `/proc` is not mounted. It is as before.
    pub fn set_mode(&self, mode: u32) -> io::Result<()> {
        // chmod(2) follows this link to the file itself, not to its path (proc_pid_fd(5)).
        let itself = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        fs::set_permissions(itself, Permissions::from_mode(mode))
    }

    /// Gives it to this user and group.
    ///
    /// # Errors
    /// If this process may not. It is as before.
    pub fn set_owner(&self, uid: u32, gid: u32) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(chownat(&self.0, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_not_followed_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "x").unwrap();
        fs::set_permissions(path("file"), Permissions::from_mode(0o644)).unwrap();
        symlink(path("file"), path("link")).unwrap();
        rustix::fs::mknodat(
            CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let open = |name: &str| open_regular(&path(name), OpenOptions::new().read(true));
        assert!(open("file").is_ok());
        assert_eq!(open("link").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
        assert!(open("pipe").unwrap_err().to_string().contains("a pipe"));
        assert!(open(".").unwrap_err().to_string().contains("a directory"));
        // The handle stays with the file when another takes its name.
        let handle = FileHandle::open(&path("file")).unwrap();
        fs::rename(path("file"), path("moved")).unwrap();
        fs::rename(path("link"), path("file")).unwrap();
        handle.set_mode(0o600).unwrap();
        assert_eq!(fs::metadata(path("moved")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(FileHandle::open(&path("file")).unwrap().metadata().unwrap().is_symlink());
    }
}
