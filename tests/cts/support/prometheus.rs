//! Prometheus as Debian has it, on a free port; ended when dropped.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{fs, thread};

use serde_json::Value;
use tempfile::TempDir;

use super::harness::{TIMEOUT, await_that};

/// A running Prometheus with its configuration and data in a folder of its own.
pub struct Prometheus {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Prometheus {
    /// Starts it with this configuration and waits until it answers. `None` where it is not installed.
    pub fn start(configuration: &str) -> Option<Prometheus> {
        is_installed()?;
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("prometheus.yml"), configuration).unwrap();
        let port = free_port();
        let child = run(folder.path(), port);
        let mut prometheus = Prometheus { child, port, folder };
        await_that("Prometheus answers", || {
            let ended = prometheus.child.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}: {}", prometheus.log());
            prometheus.try_get("/-/ready").is_some_and(|(code, _)| code == 200)
        });
        Some(prometheus)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Code and body, if it answers.
    fn try_get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        // HTTP/1.0 has no chunks.
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
    }

    /// The `data` of an answer of its API, version 1.
    pub fn api(&self, path: &str) -> Value {
        let (code, body) = self.try_get(&format!("/api/v1/{path}")).expect("Prometheus answers");
        assert_eq!(code, 200, "{path}: {body}");
        serde_json::from_str::<Value>(&body).unwrap()["data"].take()
    }

    /// The series of an expression, which is valid.
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let encode = |byte: u8| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        let encoded: String = expression.bytes().map(encode).collect();
        let mut found = self.api(&format!("query?query={encoded}"));
        found["result"].as_array_mut().map(std::mem::take).unwrap()
    }

    /// The value of an expression with one series; `None` where there is none.
    pub fn value(&self, expression: &str) -> Option<f64> {
        let series = self.query(expression);
        assert!(series.len() < 2, "{expression}: {series:?}");
        series.first().map(|series| series["value"][1].as_str().unwrap().parse().unwrap())
    }

    /// Waits until an expression has this value.
    pub fn until_value(&self, expression: &str, expected: f64) {
        await_that(&format!("{expression} is {expected}"), || {
            self.value(expression).is_some_and(|value| (value - expected).abs() < 1e-9)
        });
    }

    /// The state of each alert of this name: `pending` or `firing`.
    pub fn alert_states(&self, name: &str) -> Vec<String> {
        let alerts = self.api("alerts")["alerts"].take();
        let of_name =
            alerts.as_array().unwrap().iter().filter(|a| a["labels"]["alertname"] == name);
        of_name.map(|alert| alert["state"].as_str().unwrap().to_string()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the log of Prometheus:\n{}", self.log());
        }
    }
}

/// Whether Prometheus and its promtool are installed; says so where they are not.
pub fn is_installed() -> Option<()> {
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if !is_there("prometheus") || !is_there("promtool") {
        super::not_tried("Prometheus is not installed (tests/run.sh installs it)");
        return None;
    }
    Some(())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts it so that it ends with the thread of the test, even if that one is killed.
fn run(folder: &Path, port: u16) -> Child {
    let log = fs::File::create(folder.join("log")).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "prometheus", "--log.level=warn"])
        .arg(format!("--config.file={}", path("prometheus.yml")))
        .arg(format!("--storage.tsdb.path={}", path("data")))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Runs promtool in the folder of the rules and expects it to succeed; returns what it prints.
pub fn promtool(folder: &Path, words: &[&str], input: &str) -> String {
    let mut command = Command::new("promtool");
    command.args(words).current_dir(folder).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(output.status.success(), "promtool {words:?}: {text}");
    text
}

/// The folder with the rules and the dashboard.
pub fn monitoring_files() -> PathBuf {
    super::project::source("release/monitoring")
}
