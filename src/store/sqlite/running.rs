//! The databases that other cts processes on this machine have open, from `/proc`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::file::FileIdentity;
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
    let own = std::process::id();
    let names =
        fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let programs = pids
        .filter(|pid| *pid != own && process::program(*pid).as_deref() == Some("cts"))
        .collect::<BTreeSet<u32>>();
    let database =
        |pid| open_databases(pid).into_iter().map(move |path| RunningDatabase { pid, path });
    programs.into_iter().flat_map(database).collect()
}

/// The other services of cts that have this database open, as far as this user may see them. Only a service
/// has a thread of this name.
pub fn other_services(path: &Path) -> Vec<u32> {
    let file = FileIdentity::of(path);
    let is_it =
        |running: &RunningDatabase| file.is_some() && FileIdentity::of(&running.path) == file;
    let has_it = running_databases().into_iter().filter(is_it);
    has_it.map(|running| running.pid).filter(|pid| has_thread(*pid, UPKEEP_THREAD)).collect()
}

/// Whether a process has a thread of this name, as far as this user may see it.
pub fn has_thread(pid: u32, name: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = threads.filter_map(|thread| fs::read(thread.path().join("comm")).ok());
    names.any(|found| found.trim_ascii_end() == name.as_bytes())
}

/// The databases whose shared memory a process has open.
fn open_databases(pid: u32) -> BTreeSet<PathBuf> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let open = files.filter_map(|file| fs::read_link(file.path()).ok());
    open.filter_map(|path| database_of(&path)).collect()
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
