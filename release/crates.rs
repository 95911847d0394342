//! The libraries that are linked into the binaries of a release, as Cargo knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The targets of a release. The list is that of all of them, so that their packages have the same documents.
const TARGETS: [&str; 3] =
    ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

/// The crate that has SQLite's source.
pub const SQLITE_CRATE: &str = "libsqlite3-sys";

/// A library.
pub struct Crate {
    /// Its name in the registry.
    pub name: String,
    /// Its version in Cargo.lock.
    pub version: String,
    /// The licences as its manifest has them, an SPDX expression.
    pub licence: String,
    /// Where its source is.
    pub folder: PathBuf,
    authors: Vec<String>,
}

impl Crate {
    fn new(package: &Value) -> Option<Crate> {
        let text = |key: &str| package[key].as_str().map(String::from);
        let authors = package["authors"].as_array()?.iter().filter_map(|author| author.as_str());
        Some(Crate {
            name: text("name")?,
            version: text("version")?,
            licence: text("license").unwrap_or_default(),
            folder: Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf(),
            authors: authors.map(String::from).collect(),
        })
    }

    /// The folder that `cargo vendor --versioned-dirs` gives to it.
    pub fn vendored(&self) -> String {
        format!("vendor/{}-{}", self.name, self.version)
    }

    /// Who has written it, for where no notice says it: its manifest, or else its name.
    pub fn authors(&self) -> String {
        match self.authors.is_empty() {
            true => format!("the authors of {}", self.name),
            false => self.authors.join("\n           "),
        }
    }

    /// The texts of the files in its folder that are about licences, by their names.
    ///
    /// # Errors
    ///
    /// The folder or a file cannot be read.
    pub fn licence_files(&self) -> io::Result<Vec<String>> {
        let mut files = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
            let is_named =
                ["LICENSE", "LICENCE", "COPYING"].iter().any(|start| name.starts_with(start));
            if is_named && path.is_file() {
                files.insert(path);
            }
        }
        files.into_iter().map(fs::read_to_string).collect()
    }
}

/// The libraries that are linked into the binary that has both stores, by name and version.
///
/// # Errors
///
/// `cargo metadata` fails, or its answer is not the documented one.
pub fn linked() -> io::Result<Vec<Crate>> {
    let answer = metadata()?;
    let by_id = |list: &Value| {
        let entries = list.as_array().cloned().unwrap_or_default();
        let with_id = |entry: Value| Some((entry["id"].as_str()?.to_string(), entry));
        entries.into_iter().filter_map(with_id).collect::<BTreeMap<String, Value>>()
    };
    let packages = by_id(&answer["packages"]);
    let nodes = by_id(&answer["resolve"]["nodes"]);
    let root = answer["resolve"]["root"].as_str();
    let root = root.ok_or_else(|| io::Error::other("cargo metadata names no root package"))?;
    let mut reached = BTreeSet::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        if is_linked(&packages[id]) && reached.insert(id) {
            let dependencies = nodes[id]["deps"].as_array().into_iter().flatten();
            next.extend(dependencies.filter(|d| is_normal(d)).filter_map(|d| d["pkg"].as_str()));
        }
    }
    // Those without a source are parts of cts.
    let found =
        reached.into_iter().map(|id| &packages[id]).filter(|package| !package["source"].is_null());
    let mut found: Vec<Crate> = found.filter_map(Crate::new).collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(found)
}

fn metadata() -> io::Result<Value> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(["metadata", "--locked", "--format-version=1", "--features=postgres"]);
    command.args(TARGETS.map(|target| format!("--filter-platform={target}")));
    let output = command.output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Whether code of a package becomes code of the binary: that of a macro runs in the compiler.
fn is_linked(package: &Value) -> bool {
    let targets = package["targets"].as_array().into_iter().flatten();
    let mut kinds = targets.flat_map(|target| target["kind"].as_array().into_iter().flatten());
    !kinds.any(|kind| kind == "proc-macro")
}

/// Whether a dependency is one of the binary itself, not of its build script or its tests.
fn is_normal(dependency: &Value) -> bool {
    let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
    kinds.into_iter().any(|kind| kind["kind"].is_null())
}
