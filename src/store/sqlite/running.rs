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

/// The databases that other cts processes have open, of those processes whose files this user may see. SQLite
/// keeps a lock on the files of an open database, so that only the processes in `/proc/locks` are examined.
pub fn running_databases() -> Vec<RunningDatabase> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let own = std::process::id();
    let pids: BTreeSet<u32> =
        locks.lines().filter_map(holder_of).filter(|pid| *pid != own).collect();
    let programs = pids.into_iter().filter(|pid| process::program(*pid).as_deref() == Some("cts"));
    programs
        .flat_map(|pid| {
            open_databases(pid).into_iter().map(move |path| RunningDatabase { pid, path })
        })
        .collect()
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

fn has_thread(pid: u32, name: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = threads.filter_map(|thread| fs::read(thread.path().join("comm")).ok());
    names.any(|found| found.trim_ascii_end() == name.as_bytes())
}

/// The process that holds the lock of a line (proc(5)); `None` for one that waits.
fn holder_of(line: &str) -> Option<u32> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "POSIX" | "OFDLCK", _, _, pid, ..] => pid.parse().ok().filter(|pid| *pid != 0),
        _ => None,
    }
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
    fn only_holders_of_locks_are_examined_and_only_databases_are_named() {
        assert_eq!(holder_of("2: POSIX  ADVISORY  READ 42 fe:00:131 128 128"), Some(42));
        assert_eq!(holder_of("2: -> POSIX  ADVISORY  WRITE 43 fe:00:131 120 120"), None);
        assert_eq!(holder_of("3: FLOCK  ADVISORY  WRITE 44 fe:00:131 0 EOF"), None);
        assert_eq!(database_of(Path::new("/data/cts.db-shm")), Some("/data/cts.db".into()));
        assert_eq!(database_of(Path::new("/data/cts.db")), None);
    }
}
