//! Whether this process can write a database or create one, as far as the file system shows it: the mount, the
//! folder, the file and its side files. What to do about it follows from whose they are. Nothing is changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfs, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::file::{folder_of, side_file};
use super::storage::disk;
use crate::error::{Error, Kind, Result};
use crate::system::shell::word;
use crate::system::users;

/// Why this process cannot write a database.
pub struct WriteObstacle {
    fault: WriteFault,
    /// What cannot be written.
    path: PathBuf,
    /// Its owner; `None` if that cannot be seen.
    owner: Option<u32>,
    errno: Errno,
    /// Whether the database belongs to another user, who may be able to write it.
    pub is_of_other_user: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriteFault {
    ReadOnlyMount,
    File,
    Folder,
    SideFile,
}

impl WriteObstacle {
    /// The reason as a clause about the database.
    pub fn reason(&self) -> String {
        let cause = io::Error::from(self.errno);
        let owner = match self.owner {
            Some(uid) if uid != geteuid().as_raw() => format!(" (of {})", users::name(uid)),
            _ => String::new(),
        };
        match self.fault {
            WriteFault::ReadOnlyMount => "its disk is mounted read-only".to_string(),
            WriteFault::File => format!("the file{owner} cannot be written: {cause}"),
            WriteFault::Folder => format!(
                "its folder {}{owner} cannot be written: {cause}; SQLite creates files beside the database",
                self.path.display()
            ),
            WriteFault::SideFile => {
                format!("{}{owner} cannot be written: {cause}", self.path.display())
            }
        }
    }

    /// What the operator can do about it.
    pub fn remedy(&self) -> String {
        let (user, own) = (geteuid().as_raw(), word(&self.path));
        let (name, argument) = (users::name(user), users::owner_argument(user));
        match (self.fault, self.owner) {
            (WriteFault::ReadOnlyMount, _) => {
                "mount the disk so that it can be written (`findmnt`)".into()
            }
            (_, Some(owner)) if self.is_of_other_user => format!(
                "run as the owner of the file and its folder, {} (`{} cts …`)",
                users::name(owner),
                users::sudo(owner)
            ),
            _ if self.errno != Errno::ACCESS => {
                format!(
                    "check the attributes and the mount of it: lsattr -d {own}, findmnt -T {own}"
                )
            }
            (WriteFault::Folder, _) if self.owner == Some(user) => format!("chmod u+rwx {own}"),
            (_, _) if self.owner == Some(user) => format!("chmod u+rw {own}"),
            (WriteFault::Folder, _) => {
                format!(
                    "give the folder to {name}, whose database is in it: sudo chown {argument} {own}"
                )
            }
            _ => format!("give it to {name}: sudo chown {argument} {own}"),
        }
    }
}

/// What keeps this process from writing the database or from creating it in its folder. A folder that does
/// not exist is no obstacle.
pub fn write_obstacle(path: &Path) -> Option<WriteObstacle> {
    write_obstacle_on(disk(path).ok().as_ref(), path)
}

/// Refuses a database that this process cannot write.
///
/// # Errors
/// [`Kind::Permission`], with what is in the way.
pub fn refuse_obstacle(path: &Path) -> Result<()> {
    match write_obstacle(path) {
        Some(obstacle) => Err(Error::new(Kind::Permission, obstacle.reason())
            .at(path.display())
            .remedy(obstacle.remedy())),
        None => Ok(()),
    }
}

/// As [`write_obstacle`], with what statvfs(3) says of the disk.
pub fn write_obstacle_on(disk: Option<&StatVfs>, path: &Path) -> Option<WriteObstacle> {
    let owner = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.uid());
    let owner_of_database = owner(path).or_else(|| owner(folder_of(path)));
    let is_of_other = owner_of_database.is_some_and(|uid| uid != geteuid().as_raw());
    let obstacle = |fault, existing: &Path, errno| WriteObstacle {
        fault,
        path: existing.to_path_buf(),
        owner: owner(existing).or(owner_of_database),
        errno,
        is_of_other_user: is_of_other && errno == Errno::ACCESS,
    };
    if disk.is_some_and(|disk| disk.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Some(obstacle(WriteFault::ReadOnlyMount, path, Errno::ROFS));
    }
    let missing = |existing: &Path, access| {
        rustix::fs::access(existing, access).err().filter(|errno| *errno != Errno::NOENT)
    };
    if let Some(errno) = missing(path, Access::WRITE_OK) {
        return Some(obstacle(WriteFault::File, path, errno));
    }
    let folder = folder_of(path);
    if let Some(errno) = missing(folder, Access::WRITE_OK | Access::EXEC_OK) {
        return Some(obstacle(WriteFault::Folder, folder, errno));
    }
    ["-wal", "-shm", "-journal"].iter().find_map(|suffix| {
        let file = side_file(path, suffix);
        missing(&file, Access::WRITE_OK).map(|errno| obstacle(WriteFault::SideFile, &file, errno))
    })
}
