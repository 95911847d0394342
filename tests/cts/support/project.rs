//! A copy of this project, to be built with changed files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file or folder of the project itself.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The copy. Its package has another name, and its schema crate another version, so that it is built
/// into the same target folder as the project itself, with the dependencies that are compiled there
/// already, and replaces nothing of the project: cargo tells packages of one name and version apart
/// only by their path in the workspace, which is the same.
pub struct ProjectCopy {
    name: &'static str,
    folder: PathBuf,
}

impl ProjectCopy {
    /// Replaces an earlier copy. The folder is the same each time, so that old builds are
    /// overwritten.
    pub fn make(name: &'static str, version: &str) -> ProjectCopy {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&folder);
        for part in ["src", "build", "schema", "release", "tests/cts"] {
            copy_folder(&source(part), &folder.join(part));
        }
        fs::copy(source("build.rs"), folder.join("build.rs")).unwrap();
        let copy = ProjectCopy { name, folder };
        let package =
            |name: &str, version: &str| format!("name = \"{name}\"\nversion = \"{version}\"");
        let (project, renamed) = (package("cts", VERSION), package(name, version));
        let schema = package("cts-schema", VERSION);
        let other_schema = package("cts-schema", &format!("0.0.0-{name}"));
        copy.write_replaced("Cargo.toml", &[(&project, &renamed)]);
        copy.write_replaced("schema/Cargo.toml", &[(&schema, &other_schema)]);
        copy.write_replaced("Cargo.lock", &[(&project, &renamed), (&schema, &other_schema)]);
        copy
    }

    /// Writes a file of the project into the copy, with these replacements.
    fn write_replaced(&self, file: &str, replacements: &[(&str, &str)]) {
        let mut text = fs::read_to_string(source(file)).unwrap();
        for (old, new) in replacements {
            assert!(text.contains(old), "{file}: {old}");
            text = text.replace(old, new);
        }
        fs::write(self.path(file), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Builds the copy with the features of this build. Returns the binary, or cargo's output.
    pub fn build(&self) -> Result<PathBuf, String> {
        self.build_with(&[])
    }

    /// Builds the copy as a static binary. The dependencies are those of this build, which the linker takes as well.
    pub fn build_static(&self) -> Result<PathBuf, String> {
        self.build_with(&["--", "-C", "target-feature=+crt-static"])
    }

    /// Builds the copy with these arguments of `cargo rustc`, which reach the compiler for the binary alone.
    fn build_with(&self, arguments: &[&str]) -> Result<PathBuf, String> {
        let target = Path::new(env!("CARGO_BIN_EXE_cts")).ancestors().nth(2).unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.args(["rustc", "--offline", "--locked", "--bin", self.name, "--target-dir"]);
        command.arg(target).current_dir(&self.folder);
        // What cargo tells of the package under test would have the crates compiled anew whose build scripts ask for it.
        for (name, _) in std::env::vars() {
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        if cfg!(feature = "postgres") {
            command.args(["--features", "postgres"]);
        }
        let output = command.args(arguments).output().unwrap();
        if output.status.success() {
            Ok(target.join("debug").join(self.name))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Expects the build to fail with these texts in cargo's output.
    pub fn refused(&self, parts: &[&str]) {
        let said = self.build().expect_err("it was built");
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
