//! Versions that are written down in more than one place.

use std::process::Command;

use serde_json::Value;

use super::{pages, read, root};

type Version = Vec<u32>;

fn version(text: &str) -> Version {
    text.split('.').map(|part| part.parse().unwrap_or_else(|e| panic!("{text}: {e}"))).collect()
}

/// Compares versions of which one may have more numbers than the other.
fn padded(mut version: Version) -> Version {
    version.resize(3, 0);
    version
}

/// The Rust version that each package of a build asks for.
fn asked_for(features: &[&str]) -> Vec<(String, Version)> {
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform"])
        .arg(host)
        .args(features)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let asking = packages.filter_map(|package| {
        let asked = version(package["rust_version"].as_str()?);
        Some((package["id"].as_str().unwrap().to_string(), padded(asked)))
    });
    asking.filter(|(id, _)| !id.starts_with("path+")).collect()
}

/// The highest Rust version that a package of a build asks for, and which do.
fn highest_asked_for(features: &[&str]) -> (Version, Vec<String>) {
    let asking = asked_for(features);
    assert!(asking.len() > 30, "{asking:?}");
    let highest = asking.iter().map(|(_, version)| version).max().unwrap().clone();
    let who = asking.into_iter().filter(|(_, version)| *version == highest);
    let who = who.map(|(id, _)| id).collect();
    (highest, who)
}

#[test]
fn no_locked_dependency_asks_for_a_later_rust_version() {
    let ours = padded(version(env!("CARGO_PKG_RUST_VERSION")));
    let (highest, who) = highest_asked_for(&[]);
    assert!(highest <= ours, "rust-version in Cargo.toml is lower than that of {who:?}");
}

// A machine that never built it has not got its packages.
#[cfg(feature = "postgres")]
#[test]
fn rust_version_is_the_highest_that_the_build_with_postgres_asks_for() {
    let ours = padded(version(env!("CARGO_PKG_RUST_VERSION")));
    let (highest, who) = highest_asked_for(&["--features", "postgres"]);
    assert_eq!(ours, highest, "rust-version in Cargo.toml; asked for by {who:?}");
}

#[test]
fn pages_name_the_rust_version_of_the_manifest() {
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/install.md"] {
        let text = read(name);
        let named: Vec<&str> = text
            .split("Rust ")
            .skip(1)
            .map(|rest| rest.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap())
            .map(|version| version.trim_end_matches('.'))
            .filter(|version| !version.is_empty())
            .collect();
        assert!(!named.is_empty(), "{name} names no version of Rust");
        for version in named {
            assert_eq!(version, env!("CARGO_PKG_RUST_VERSION"), "{name}");
        }
    }
}

#[test]
fn package_names_have_the_version_of_the_manifest() {
    let mut count = 0;
    for page in pages() {
        let starts = page.text.match_indices("cts_").chain(page.text.match_indices("cts-"));
        for (at, mark) in starts {
            let rest = &page.text[at + mark.len()..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            if rest[..end].contains('.') {
                assert_eq!(&rest[..end], env!("CARGO_PKG_VERSION"), "{}", page.name);
                count += 1;
            }
        }
    }
    assert!(count > 3, "only {count} names of packages");
}
