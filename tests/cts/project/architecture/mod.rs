//! The architecture, read from the sources: the order of the folders, the place of each foreign crate, and
//! names that stand for one thing only.

mod code;
mod errors;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::support::project::source;
use code::{SourceFile, source_files};

/// The folders of `src` from top to bottom. Code imports from its own folder and from those in later rows;
/// folders in the same row do not import one another. The crate `cts_schema` lies below all of them.
const FOLDERS: [&[&str]; 16] = [
    &["main"],
    &["cli"],
    &["commands"],
    &["service"],
    &["doctor"],
    &["http"],
    &["page"],
    &["health"],
    &["config"],
    &["archive", "retention"],
    &["backup", "copy", "statistics"],
    &["migrate"],
    &["store/sqlite", "store/postgres"],
    &["store"],
    &["system"],
    &["error"],
];

/// Foreign crates that have one place, and that place.
const PLACES: [(&str, &[&str]); 23] = [
    ("bytes", &["src/store/postgres/client/"]),
    ("clap", &["src/cli/"]),
    ("futures_core", &["src/store/postgres/client.rs", "src/store/postgres/client/"]),
    ("futures_sink", &["src/store/postgres/client/"]),
    ("include_dir", &["src/store/schema.rs"]),
    ("indicatif", &["src/system/progress.rs"]),
    ("listenfd", &["src/http/listener.rs"]),
    ("prometheus_client", &["src/health/render/metrics.rs"]),
    ("r2d2", &["src/store/postgres/"]),
    ("rusqlite", &["src/store/sqlite/"]),
    ("rustls", &["src/store/postgres/tls/"]),
    ("rustls_native_certs", &["src/store/postgres/tls/"]),
    ("scheduled_thread_pool", &["src/store/postgres/"]),
    ("signal_hook", &["src/system/signals.rs"]),
    ("strsim", &["src/config/known.rs"]),
    ("tiny_http", &["src/http/response.rs"]),
    ("tokio", &["src/store/postgres/"]),
    ("tokio_postgres", &["src/store/postgres/"]),
    ("tokio_postgres_rustls", &["src/store/postgres/tls/"]),
    ("webpki", &["src/store/postgres/tls/"]),
    ("zstd", &["src/backup/compress.rs"]),
    ("crc", &["src/archive/ltx.rs"]),
    ("lz4_flex", &["src/archive/ltx.rs"]),
];
/// Crates that may be used anywhere: system calls, and plain values such as JSON, digests and durations.
const ANYWHERE: [&str; 6] = ["cts_schema", "humantime", "rustix", "serde", "serde_json", "sha2"];

/// The folder of a module path below the root; `None` for the root itself.
fn folder<S: AsRef<str>>(path: &[S]) -> Option<String> {
    let mut parts = path.iter().map(AsRef::as_ref);
    let first = parts.next()?;
    Some(match (first, parts.next()) {
        ("store", Some(store @ ("sqlite" | "postgres"))) => format!("store/{store}"),
        _ => first.to_string(),
    })
}

/// The row of a folder in [`FOLDERS`].
fn row(folder: &str) -> usize {
    let row = FOLDERS.iter().position(|row| row.contains(&folder));
    row.unwrap_or_else(|| panic!("the folder src/{folder} has no place in FOLDERS"))
}

/// The folders that a file imports from.
fn imports(file: &SourceFile) -> BTreeSet<String> {
    let own = folder(&file.module()).unwrap_or_else(|| "main".into());
    let paths = file.crate_paths();
    paths.iter().filter_map(|path| folder(path)).filter(|folder| *folder != own).collect()
}

/// The imports of a file that the order of the folders forbids.
fn climbing_imports(file: &SourceFile) -> Vec<String> {
    let own = folder(&file.module()).unwrap_or_else(|| "main".into());
    let climbs = |other: &String| row(other) <= row(&own);
    let imports = imports(file).into_iter().filter(climbs);
    imports.map(|other| format!("{}: imports {other}", file.path)).collect()
}

#[test]
fn no_import_climbs() {
    let climbing: Vec<String> =
        source_files(&["src/"]).into_iter().flat_map(climbing_imports).collect();
    assert!(climbing.is_empty(), "{climbing:#?}");
}

#[test]
fn the_page_on_architecture_has_the_same_order() {
    let page = fs::read_to_string(source("docs/architecture.md")).unwrap();
    let (_, layers) = page.split_once("\n## Layers\n").unwrap();
    let layers = layers.split("\n## ").next().unwrap();
    let rows = layers.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    let folders = |row: &str| -> Vec<String> {
        let names = row.split('`').skip(1).step_by(2).filter_map(|name| name.strip_prefix("src/"));
        names.map(|name| name.trim_end_matches(".rs").trim_end_matches('/').to_string()).collect()
    };
    let listed: Vec<Vec<String>> = rows.map(folders).filter(|row| !row.is_empty()).collect();
    assert_eq!(listed, FOLDERS);
}

#[test]
fn an_import_that_climbs_is_found() {
    for (path, text, is_allowed) in [
        ("src/http/gate.rs", "use crate::health::Report;", true),
        ("src/http/gate.rs", "use crate::commands::{check, plan};", false),
        ("src/error.rs", "fn f() { crate::system::log::Log::new(); }", false),
        ("src/store/sqlite/file.rs", "use super::super::Row;", true),
        ("src/store/sqlite/file.rs", "use super::super::postgres::Session;", false),
        ("src/store/row.rs", "use crate::store::sqlite::Sqlite;", false),
        ("src/store/row.rs", "use crate::{error::Error, migrate::Plan};", false),
        ("src/main.rs", "use crate::error::Error;", true),
    ] {
        assert_eq!(
            climbing_imports(&SourceFile::new(path, text)).is_empty(),
            is_allowed,
            "{path}: {text}"
        );
    }
}

#[test]
fn no_folders_import_one_another_in_a_circle() {
    let mut imported: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in source_files(&["src/"]) {
        let own = folder(&file.module()).unwrap_or_else(|| "main".into());
        imported.entry(own).or_default().extend(imports(file));
    }
    // A folder without imports, but for those that have been taken away, is in no circle.
    while let Some(free) = imported.iter().find(|(_, others)| others.is_empty()) {
        let free = free.0.clone();
        imported.remove(&free);
        imported.values_mut().for_each(|others| others.retain(|other| *other != free));
    }
    assert!(imported.is_empty(), "{imported:#?}");
}

#[test]
fn only_the_configuration_chooses_a_store() {
    for file in source_files(&["src/"]) {
        let file = file.without_tests();
        let stores = ["config", "store/sqlite", "store/postgres"];
        if !folder(&file.module()).is_some_and(|own| stores.contains(&&*own)) {
            let mut imports = imports(&file).into_iter();
            let store = imports.find(|folder| folder.starts_with("store/"));
            assert_eq!(store, None, "{}", file.path);
        }
    }
}

#[test]
fn foreign_crates_are_used_in_their_places_only() {
    let mut misplaced = Vec::new();
    for file in source_files(&["src/", "schema/src/"]) {
        let file = file.without_tests();
        for (name, places) in PLACES {
            let is_place = places.iter().any(|place| file.path.starts_with(place));
            if !is_place && file.uses_crate(name) {
                misplaced.push(format!("{}: uses {name}", file.path));
            }
        }
    }
    assert!(misplaced.is_empty(), "{misplaced:#?}");
}

#[test]
fn every_place_of_a_foreign_crate_uses_it() {
    for (name, places) in PLACES {
        for place in places {
            let is_used = source_files(&[place]).iter().any(|file| file.uses_crate(name));
            assert!(is_used, "{place} does not use {name}");
        }
    }
}

#[test]
fn every_dependency_has_a_place() {
    let manifest = fs::read_to_string(source("Cargo.toml")).unwrap();
    let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = dependencies.split("\n[").next().unwrap();
    let names = dependencies.lines().filter_map(|line| line.split_once(" = "));
    for name in names.map(|(name, _)| name.replace('-', "_")) {
        let is_known = PLACES.iter().any(|(known, _)| *known == name);
        assert!(is_known || ANYWHERE.contains(&&*name), "{name} is in neither list");
    }
}

#[test]
fn no_two_types_share_a_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in source_files(&["src/", "schema/src/"]) {
        for name in file.types() {
            places.entry(name.to_string()).or_default().push(file.path.clone());
        }
    }
    assert!(places.len() > 100, "{}", places.len());
    // A module's alias of `Result` for its own error is common in Rust.
    places.retain(|name, files| files.len() > 1 && name != "Result");
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn no_module_is_taken_from_another_place_by_its_path() {
    for file in source_files(&["src/", "schema/src/", "build"]) {
        assert!(!file.code.contains("#[path"), "{}", file.path);
    }
}
