//! An archive whose segments are of all levels, made by services whose clock shows the past.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{CREATE, Recorded, archive, segments, trader, until_base, write};
use crate::support::harness::{Machine, Run, await_that};
use crate::support::random::Random;

/// Of the Debian package faketime; the dynamic linker replaces `$LIB`.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// A service that archives and whose clock is so far behind.
pub fn archiving_before(machine: &Machine, behind: Duration) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cts"));
    command.args(["serve", "--port", "0"]).env_clear().env("SQLITE_DB_PATH", machine.db());
    command.env("CTS_ARCHIVE_DIR", archive(machine)).env("CTS_BACKUP_EVERY", "0");
    command.env("LD_PRELOAD", FAKETIME).env("FAKETIME", format!("-{}s", behind.as_secs()));
    command.env("DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    Run { command }
}

/// A machine whose archive has segments of each age, which nothing has merged yet, and what its states were.
pub fn of_all_ages(seed: u64) -> (Machine, Recorded) {
    let machine = Machine::migrated();
    let conn = trader(&machine.db());
    conn.execute_batch(CREATE).unwrap();
    let (recorded, mut random) = (Recorded::default(), Random(seed));
    for hours in [30, 5, 0] {
        let listed = segments(&machine).len();
        let behind = Duration::from_secs(hours * 3600 + 1200);
        let service = archiving_before(&machine, behind).start();
        until_base(&machine);
        await_that("there are segments", || {
            write(&conn, &mut random, &recorded);
            segments(&machine).len() > listed + 12
        });
        service.stop();
    }
    (machine, recorded)
}

/// The levels of the segments that are no bases.
pub fn levels(machine: &Machine) -> Vec<u64> {
    let all = segments(machine);
    let changes = all.iter().filter(|segment| segment["kind"] == "changes");
    let mut levels: Vec<u64> = changes.map(|s| s["level"].as_u64().unwrap()).collect();
    levels.sort_unstable();
    levels.dedup();
    levels
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(done.success() && fs::metadata(to).is_ok());
}
