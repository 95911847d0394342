//! How an operator who started this program calls it again.

use std::env;
use std::ffi::OsStr;
use std::path::Path;

use crate::system::shell::word;

/// The name that a shell takes for this program: `cts` if its folder is one of `PATH`, and the path by which it was
/// started if not, as from the folder of a build.
pub fn command() -> String {
    let started_as = env::args_os().next().unwrap_or_default();
    command_of(Path::new(&started_as), &env::var_os("PATH").unwrap_or_default())
}

fn command_of(started_as: &Path, search_path: &OsStr) -> String {
    let is_searched = |folder: &Path| env::split_paths(search_path).any(|found| found == folder);
    match (started_as.parent(), started_as.file_name()) {
        (Some(folder), Some(name)) if folder.as_os_str().is_empty() || is_searched(folder) => {
            word(Path::new(name))
        }
        (Some(_), Some(_)) => word(started_as),
        _ => env!("CARGO_PKG_NAME").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_by_its_name_only_if_a_shell_finds_it_so() {
        let search_path = OsStr::new("/usr/bin:/bin");
        for (started_as, command) in [
            ("cts", "cts"),
            ("/usr/bin/cts", "cts"),
            ("/cts", "/cts"),
            ("target/release/cts", "target/release/cts"),
            ("/a b/cts", "'/a b/cts'"),
            ("", "cts"),
        ] {
            assert_eq!(command_of(Path::new(started_as), search_path), command);
        }
    }
}
