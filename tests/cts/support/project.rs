//! A copy of this project, to build it with something changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file or folder of the project itself.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The copy, in a folder of its own.
pub struct ProjectCopy {
    pub folder: TempDir,
}

impl ProjectCopy {
    pub fn new() -> ProjectCopy {
        let folder = TempDir::new().unwrap();
        for name in ["Cargo.toml", "Cargo.lock", "build.rs"] {
            fs::copy(source(name), folder.path().join(name)).unwrap();
        }
        for name in ["build", "src", "schema", "tests/cts"] {
            copy_folder(&source(name), &folder.path().join(name));
        }
        ProjectCopy { folder }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("schema/sqlite").join(name)
    }

    pub fn postgres(&self, name: &str) -> PathBuf {
        self.folder.path().join("schema/postgres").join(name)
    }

    /// Whether it builds, and what cargo said. Crates that this build has made are shared.
    pub fn check(&self) -> (bool, String) {
        let target = Path::new(env!("CARGO_BIN_EXE_cts")).ancestors().nth(2).unwrap();
        let output = Command::new(env!("CARGO"))
            // What is built here runs for a moment: SQLite is compiled as fast as can be.
            .args(["--config", "profile.dev.package.libsqlite3-sys.opt-level=0"])
            .args(["build", "--offline", "--locked", "--bin", "cts", "--target-dir"])
            .arg(target.join("schema-tests"))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    pub fn refused(&self, parts: &[&str]) {
        let (built, said) = self.check();
        assert!(!built, "it was built");
        for part in parts {
            assert!(said.contains(part), "{part:?} is missing in:\n{said}");
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &to);
        } else {
            fs::copy(&path, to).unwrap();
        }
    }
}
