//! What the tests share. There are no tests here.

pub mod browser;
#[cfg(feature = "postgres")]
pub mod certs;
#[cfg(feature = "postgres")]
pub mod cluster;
pub mod container;
pub mod disk;
pub mod harness;
#[cfg(feature = "postgres")]
pub mod hostile;
pub mod image;
pub mod kills;
pub mod manifest;
pub mod older_databases;
#[cfg(feature = "postgres")]
pub mod patroni;
#[cfg(feature = "postgres")]
pub mod pglite;
pub mod project;
pub mod prometheus;
pub mod random;
pub mod scenario;
pub mod statements;
pub mod strace;

use std::io::Write;

/// Prints that this machine cannot run a test, or a part of one, and why. It is written past the
/// capture of output of the test harness, and `tests/run.sh` repeats it at its end.
pub fn not_tried(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let line = format!("NOT TRIED: {test}: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}
