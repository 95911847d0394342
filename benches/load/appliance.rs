//! The `cts` binary, run on a database of the benchmark.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::Result;
use crate::side::Side;

const CTS: &str = env!("CARGO_BIN_EXE_cts");

/// Creates a database with the schema.
pub fn migrate(path: &Path) -> Result<()> {
    let status = Command::new(CTS).args(["migrate", "--quiet", "--db"]).arg(path).status()?;
    if status.success() { Ok(()) } else { Err(format!("cts migrate: {status}").into()) }
}

/// A running `cts serve`.
pub struct Appliance(Child);

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
        Ok(Self(child))
    }

    pub fn stop(mut self) -> Result<()> {
        let term = Command::new("kill").arg(self.0.id().to_string()).status()?;
        let end = self.0.wait()?;
        if term.success() && end.success() {
            Ok(())
        } else {
            Err(format!("cts serve: {end}").into())
        }
    }
}
