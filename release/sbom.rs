//! Prints the list of what a binary of cts is made of (SBOM), in the format CycloneDX 1.5:
//! `cargo run --package cts-release --bin sbom -- SECONDS TARGET [FEATURES]`.
//!
//! The crates and their relations are those that `cargo tree` names for the target and the features; the checksums are
//! those of `Cargo.lock`. The libraries in C that are compiled in are named too, with the names that the lists of
//! vulnerabilities use. The time is that of the sources, in seconds since 1970, so that these give the same bytes.

#[allow(dead_code, reason = "only their names and folders are used")]
mod crates;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};
use std::{env, fs};

use serde_json::{Value, json};

/// The package whose binary the list is of.
const PACKAGE: &str = "cts";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A crate as a line of `cargo tree` shows it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    license: String,
    /// Whether it is of this project: crates.io may have another crate of its name.
    is_own: bool,
}

impl Crate {
    /// Its package URL, which identifies it. (github.com/package-url/purl-spec)
    fn url(&self) -> String {
        let kind = if self.is_own { "generic" } else { "cargo" };
        format!("pkg:{kind}/{}@{}", self.name, self.version.replace('+', "%2B"))
    }

    fn component(&self, checksum: Option<&String>) -> Value {
        let mut component = json!({
            "type": "library", "bom-ref": self.url(), "name": self.name, "version": self.version,
            "purl": self.url(),
            // Some crates still separate alternatives as cargo once did.
            "licenses": [{"expression": self.license.replace('/', " OR ")}],
        });
        if let Some(checksum) = checksum {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        component
    }
}

/// Crates, and of each those that it uses itself.
type Tree = BTreeMap<Crate, BTreeSet<Crate>>;

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let usage = "usage: sbom SECONDS TARGET [FEATURES]";
    let seconds = arguments.next().ok_or(usage)?.parse()?;
    let target = arguments.next().ok_or(usage)?;
    let tree = read_tree(&target, &arguments.next().unwrap_or_default())?;
    let checksums = checksums(&fs::read_to_string("Cargo.lock")?);
    let (cts, others): (Vec<&Crate>, Vec<&Crate>) =
        tree.keys().partition(|found| found.name == PACKAGE);
    let cts = cts.first().ok_or("cargo tree does not name cts")?;
    let key = |found: &Crate| (found.name.clone(), found.version.clone());
    let component = |found: &&Crate| found.component(checksums.get(&key(found)));
    let libraries = libraries_in_c(&tree, &bundled_sqlite()?);
    let mut components: Vec<Value> = others.iter().map(component).collect();
    components.extend(libraries.iter().map(|(_, library)| library.clone()));
    let dependencies = tree.iter().map(|(found, used)| {
        let in_c = libraries.iter().filter(|(by, _)| *by == found.name);
        let in_c = in_c.filter_map(|(_, library)| library["bom-ref"].as_str().map(String::from));
        let used: Vec<String> = used.iter().map(Crate::url).chain(in_c).collect();
        json!({"ref": found.url(), "dependsOn": used})
    });
    let mut itself = cts.component(None);
    itself["type"] = "application".into();
    let list = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"timestamp": timestamp(seconds), "component": itself,
            "properties": [{"name": "cts:target", "value": target}]},
        "components": components, "dependencies": dependencies.collect::<Vec<Value>>(),
    });
    println!("{list:#}");
    Ok(())
}

/// What becomes part of the binary: no build scripts, procedural macros and tests.
fn read_tree(target: &str, features: &str) -> Result<Tree> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(["tree", "--locked", "--package", PACKAGE]);
    command.args(["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "|{p}|{l}|"]);
    let output = command.args(["--target", target, "--features", features]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let mut tree = Tree::new();
    let mut above: Vec<Crate> = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let (depth, found) = read_line(line).ok_or_else(|| format!("cargo tree says {line:?}"))?;
        above.truncate(depth);
        if let Some(user) = above.last() {
            tree.entry(user.clone()).or_default().insert(found.clone());
        }
        tree.entry(found.clone()).or_default();
        above.push(found);
    }
    Ok(tree)
}

fn read_line(line: &str) -> Option<(usize, Crate)> {
    let [depth, package, license, _] = line.split('|').collect::<Vec<_>>().try_into().ok()?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?.to_string(), words.next()?.strip_prefix('v')?.to_string());
    let is_own = words.next().is_some_and(|folder| folder.starts_with("(/"));
    Some((depth.parse().ok()?, Crate { name, version, license: license.to_string(), is_own }))
}

/// The checksums of crates by name and version. The crates of this project have none.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let packages = lock.split("[[package]]").filter_map(|package| {
        let value = |key: &str| {
            let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
            line.map(|value| value.trim_matches('"').to_string())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    });
    packages.collect()
}

/// The version of the SQLite that is compiled in, as its header has it.
fn bundled_sqlite() -> Result<String> {
    let linked = crates::linked()?;
    let found = linked.iter().find(|found| found.name == crates::SQLITE_CRATE);
    let header = found.ok_or("cargo metadata names no crate of SQLite")?;
    let header = header.folder.join("sqlite3/sqlite3.h");
    let text = fs::read_to_string(&header)?;
    let version = text.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION "));
    let version = version.map(|version| version.trim().trim_matches('"').to_string());
    version.ok_or_else(|| format!("{}: there is no SQLITE_VERSION", header.display()).into())
}

/// The libraries in C that a crate of the tree compiles in, each with the name of that crate.
fn libraries_in_c(tree: &Tree, sqlite: &str) -> Vec<(&'static str, Value)> {
    let library = |name: &str, maker: &str, product: &str, version: &str, license: &str| {
        let url = format!("pkg:generic/{name}@{version}");
        json!({
            "type": "library", "bom-ref": url, "name": name, "version": version, "purl": url,
            "cpe": format!("cpe:2.3:a:{maker}:{product}:{version}:*:*:*:*:*:*:*"),
            "licenses": [{"license": {"id": license}}],
        })
    };
    let sqlite = library("sqlite", "sqlite", "sqlite", sqlite, "blessing");
    let mut libraries = vec![(crates::SQLITE_CRATE, sqlite)];
    // Its version names that of the library: 2.0.16+zstd.1.5.7.
    let zstd = tree.keys().find(|found| found.name == "zstd-sys");
    if let Some((_, version)) = zstd.and_then(|found| found.version.split_once("+zstd.")) {
        let zstd = library("zstd", "facebook", "zstandard", version, "BSD-3-Clause");
        libraries.push(("zstd-sys", zstd));
    }
    libraries
}

fn timestamp(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}
