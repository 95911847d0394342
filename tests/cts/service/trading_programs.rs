//! Trading programs in three languages use one database beside the running service, with the
//! settings of docs/sqlite.md.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::harness::Machine;

const WRITERS: usize = 8;
const READERS: usize = 4;
const SECONDS: &str = "10";

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// The programs that this machine can run.
fn programs() -> Vec<Vec<PathBuf>> {
    // Cargo has built the example already if all targets were tested, and not if only this one was.
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--example", "client"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.unwrap().success());
    let rust = std::env::current_exe().unwrap().parent().unwrap().join("../examples/client");
    let python = vec!["python3".into(), clients().join("client.py")];
    let node = vec!["node".into(), clients().join("client.js")];
    let mut programs = vec![vec![rust], python];
    let has_node = Command::new("node")
        .args(["-e", "require('better-sqlite3')"])
        .env("NODE_PATH", modules())
        .stderr(Stdio::null())
        .status();
    match has_node {
        Ok(status) if status.success() => programs.push(node),
        _ => crate::support::not_tried("Node, or its package better-sqlite3, is not installed"),
    }
    programs
}

/// Where `tests/run.sh` installs the packages of the Node program.
fn modules() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_default().join("cts/clients/node_modules")
}

fn start(program: &[PathBuf], role: &str, machine: &Machine) -> Child {
    Command::new(&program[0])
        .args(&program[1..])
        .arg(role)
        .arg(machine.db())
        .arg(SECONDS)
        .env("NODE_PATH", modules())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program:?}: {error}"))
}

#[test]
#[ignore = "sweep"]
fn eight_writers_and_four_readers_never_see_busy() {
    let machine = Machine::migrated();
    machine.sql("INSERT INTO exchange_connections (id, name) VALUES ('bybit-x03', 'main')");
    let service = machine.serve().start();
    service.until_ready();
    let programs = programs();
    let roles = [vec!["writer"; WRITERS], vec!["reader"; READERS]].concat();
    let running: Vec<_> = roles
        .iter()
        .enumerate()
        .map(|(number, role)| (role, start(&programs[number % programs.len()], role, &machine)))
        .collect();
    let mut written = 0;
    for (role, child) in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "a {role} ended with {}", output.status);
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(seen["busy"], 0, "a {role} saw {seen}");
        let transactions = seen["transactions"].as_i64().unwrap();
        assert!(transactions > 50, "a {role} saw {seen}");
        written += if *role == "writer" { transactions } else { 0 };
    }
    assert_eq!(service.stop().0, Some(0));
    assert_eq!(machine.number("SELECT count(*) FROM pseudo_positions"), written);
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE category = 'orders'"), written);
}

#[test]
fn the_page_shows_the_tested_settings() {
    let page = include_str!("../../../docs/sqlite.md");
    for name in ["client.rs", "client.py", "client.js"] {
        let program = std::fs::read_to_string(clients().join(name)).unwrap();
        let mark = if name.ends_with("py") { "# docs/sqlite.md\n" } else { "// docs/sqlite.md\n" };
        let snippet = program.split(mark).nth(1).unwrap().trim();
        assert!(page.contains(snippet), "{name}: docs/sqlite.md shows something else:\n{snippet}");
    }
}
