//! The `cts` binary, run on a database of the benchmark.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::Result;
use crate::side::Side;

pub const CTS: &str = env!("CARGO_BIN_EXE_cts");

/// Creates a database with the schema.
pub fn migrate(path: &Path) -> Result<()> {
    let status = Command::new(CTS).args(["migrate", "--quiet", "--db"]).arg(path).status()?;
    if status.success() { Ok(()) } else { Err(format!("cts migrate: {status}").into()) }
}

/// A running `cts serve`.
pub struct Appliance {
    child: Child,
    url: String,
}

impl Appliance {
    /// Returns when it listens.
    pub fn start(side: &Side) -> Result<Self> {
        let mut child = Command::new(CTS)
            .args(["serve", "--port", "0", "--db"])
            .arg(&side.path)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or("cts serve: no standard error")?);
        let mut line = String::new();
        while !line.contains("http://") {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                return Err(format!("cts serve: {}", child.wait()?).into());
            }
        }
        // Its log is read to the end, so that it never blocks on a full pipe.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.ok_or("cts serve: no address")?.to_owned();
        Ok(Self { child, url })
    }

    /// Bytes that it has written to files so far (proc_pid_io(5)). Beside a few lines of its log, those are the
    /// pages that its checkpoints have copied.
    pub fn written_bytes(&self) -> Result<u64> {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id()))?;
        let bytes = io.lines().find_map(|line| line.strip_prefix("wchar: "));
        Ok(bytes.ok_or("/proc has no wchar")?.parse()?)
    }

    /// What `cts --check` says of it; `None` if it is healthy.
    pub fn complaint(&self) -> Result<Option<String>> {
        let check = Command::new(CTS).args(["--check", "--url", &self.url]).output()?;
        let line = String::from_utf8_lossy(&check.stdout).trim().to_owned();
        Ok((!check.status.success()).then_some(line))
    }

    pub fn stop(mut self) -> Result<()> {
        let term = Command::new("kill").arg(self.child.id().to_string()).status()?;
        let end = self.child.wait()?;
        if term.success() && end.success() {
            Ok(())
        } else {
            Err(format!("cts serve: {end}").into())
        }
    }
}
