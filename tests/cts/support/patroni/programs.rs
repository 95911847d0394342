//! Where Patroni and HAProxy are installed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::cluster::{ServerFiles, done};

/// Debian's Python: another one may lie in a folder that only its owner may enter.
pub const PYTHON: &str = "/usr/bin/python3";
pub const HAPROXY: &str = "/usr/sbin/haproxy";
/// What Patroni calls beside the server.
const CALLED: [&str; 5] = ["initdb", "pg_basebackup", "pg_controldata", "pg_ctl", "pg_rewind"];

/// The programs, where the user of the servers can run them.
pub struct Programs {
    /// The folder of Patroni's Python packages.
    pub packages: PathBuf,
}

impl Programs {
    /// Says that it is not tried and returns `None` where one of them is missing.
    pub fn installed() -> Option<Programs> {
        static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
        let packages = PACKAGES.get_or_init(packages_for_everyone).clone()?;
        Some(Programs { packages })
    }
}

/// A copy of what `tests/run.sh` installs, which may lie in a folder that only its owner may enter.
fn packages_for_everyone() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let packages = cache.unwrap_or_default().join("cts/patroni");
    let mut needed = vec![packages.join("patroni/__main__.py"), PYTHON.into(), HAPROXY.into()];
    let servers = ServerFiles::of_this_process().server_programs();
    needed.extend(CALLED.map(|program| servers.join(program)));
    if let Some(missing) = needed.iter().find(|path| !path.exists()) {
        crate::support::not_tried(&format!(
            "{} is missing; tests/run.sh installs it",
            missing.display()
        ));
        return None;
    }
    let copy = ServerFiles::of_this_process().folder.join("patroni");
    done(Command::new("cp").arg("-r").arg(&packages).arg(&copy));
    done(Command::new("chmod").args(["-R", "a+rX"]).arg(&copy));
    Some(copy)
}
