//! The databases that other cts processes on this machine have open, from `/proc`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::file::{FileIdentity, side_file};
use crate::store::UPKEEP_THREAD;
use crate::system::process;

/// A database that another cts has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningDatabase {
    /// The process.
    pub pid: u32,
    /// The path of the database.
    pub path: PathBuf,
}

/// The databases that other cts processes have open, of those processes whose files this user may see.
///
/// The locks in `/proc/locks` would name them too, but to read it holds up every lock of every process of the
/// machine for a moment (10 ms on two cores; `locks_start` in fs/locks.c of Linux), and services look often.
pub fn running_databases() -> Vec<RunningDatabase> {
    let database =
        |pid| open_databases(pid).into_iter().map(move |path| RunningDatabase { pid, path });
    other_processes().into_iter().flat_map(database).collect()
}

/// The other cts processes.
fn other_processes() -> BTreeSet<u32> {
    let own = std::process::id();
    let names =
        fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own && process::program(*pid).as_deref() == Some("cts")).collect()
}

/// The other services of cts that have this database open, as far as this user may see them. Only a service
/// has a thread of this name.
pub fn other_services(path: &Path) -> Vec<u32> {
    // A process in a container may have it at another path, and another file at this one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let Some(own) = FileIdentity::of(&side_file(&path, "-shm")) else { return Vec::new() };
    let has_it = |pid: &u32| open_shared_memory(*pid).any(|(_, open)| open == own);
    let has_thread = |pid: &u32| has_thread(*pid, UPKEEP_THREAD);
    other_processes().into_iter().filter(has_it).filter(has_thread).collect()
}

/// Whether a process has a thread of this name, as far as this user may see it.
pub fn has_thread(pid: u32, name: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = threads.filter_map(|thread| fs::read(thread.path().join("comm")).ok());
    names.any(|found| found.trim_ascii_end() == name.as_bytes())
}

/// The databases whose shared memory a process has open, as far as they are at these paths for this process too: those
/// of a process in a container are at paths of its own.
fn open_databases(pid: u32) -> BTreeSet<PathBuf> {
    let here = open_shared_memory(pid).filter(|(path, open)| FileIdentity::of(path) == Some(*open));
    here.filter_map(|(path, _)| database_of(&path)).collect()
}

/// The shared memory of databases that a process has open: the path that it has for the process, and the file.
fn open_shared_memory(pid: u32) -> impl Iterator<Item = (PathBuf, FileIdentity)> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.filter_map(|file| {
        let path = fs::read_link(file.path()).ok().filter(|path| database_of(path).is_some())?;
        Some((path, FileIdentity::of(&file.path())?))
    })
}

fn database_of(shared_memory: &Path) -> Option<PathBuf> {
    let path = shared_memory.as_os_str().as_bytes().strip_suffix(b"-shm")?;
    Some(PathBuf::from(OsStr::from_bytes(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_its_shared_memory() {
        assert_eq!(database_of(Path::new("/data/cts.db-shm")), Some("/data/cts.db".into()));
        assert_eq!(database_of(Path::new("/data/cts.db")), None);
    }
}
