//! Where SQLite puts its temporary files: what a large sort (`CREATE INDEX`) or a large statement does not
//! keep in memory. A container often has no such folder, or none that can be written.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use rustix::fs::{Access, access};

use super::file::folder_of;

/// The folders that SQLite uses after those of the environment (`unixTempFileDir` in os_unix.c).
const FOLDERS: [&str; 4] = ["/var/tmp", "/usr/tmp", "/tmp", "."];

/// Makes SQLite put its temporary files beside the first database that the process opens, if it can write none of
/// its own folders. It removes each file as soon as it is open, so that none stays after a crash. The setting is one
/// of the process, made under a lock of SQLite (`PRAGMA temp_store_directory`).
pub fn ensure_folder(conn: &Connection, path: &Path) {
    static IS_SET: AtomicBool = AtomicBool::new(false);
    let folder = folder_of(path);
    if folders(env::var_os).any(|folder| is_usable(&folder))
        || !is_usable(folder)
        || IS_SET.swap(true, Ordering::Relaxed)
    {
        return;
    }
    // A statement that then has no folder for its temporary file reports it.
    let _ = conn.pragma_update(None, "temp_store_directory", folder.to_str());
}

/// The folders in which SQLite puts temporary files, in its order.
fn folders(
    environment: impl Fn(&'static str) -> Option<OsString>,
) -> impl Iterator<Item = PathBuf> {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(environment);
    named.map(PathBuf::from).chain(FOLDERS.map(PathBuf::from))
}

fn is_usable(folder: &Path) -> bool {
    folder.is_dir() && access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_of_the_environment_come_first() {
        let environment = |name| (name == "TMPDIR").then(|| "/mine".into());
        let all: Vec<_> = folders(environment).collect();
        assert_eq!(all[..2], [Path::new("/mine"), Path::new("/var/tmp")]);
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn a_folder_is_usable_if_files_can_be_made_in_it() {
        let folder = tempfile::TempDir::new().unwrap();
        assert!(is_usable(folder.path()));
        assert!(!is_usable(&folder.path().join("missing")));
        assert!(!is_usable(Path::new("/proc/version")));
    }
}
