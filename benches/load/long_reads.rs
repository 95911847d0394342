//! The length of the WAL, and how long a writer waits, beside two programs whose reads overlap all the
//! time, so that the WAL is never free by itself. `cts serve` keeps the WAL short.

use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::Result;
use crate::appliance::Appliance;
use crate::crowd::{result, spawn, start_ms};
use crate::figures::{Goal, Line, Spread, quantile};
use crate::side::{Schema, Side};
use crate::worker::{Role, Task};

/// Duration of each read, in milliseconds, and the goal for the largest WAL, in MiB.
const READS: [(u64, Option<f64>); 3] = [(5, Some(64.0)), (30, Some(256.0)), (200, None)];
const READERS: u64 = 2;
/// Commits 800 rows a second, each of two pages and more.
const WRITER: Role = Role::Committer { per_second: Some(800), message_bytes: 1500 };
/// Pause between two measurements of the WAL.
const SAMPLE: Duration = Duration::from_millis(20);

/// Each duration of the reads is measured for this many seconds, on a database of its own.
pub fn measure(folder: &Path, seconds: u64) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (read_ms, goal) in READS {
        let folder = folder.join(format!("reads-{read_ms}"));
        std::fs::create_dir_all(&folder)?;
        let side = Side::create(&folder, Schema::Ours, "")?;
        lines.extend(beside(&side, read_ms, goal, seconds)?);
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(lines)
}

fn beside(side: &Side, read_ms: u64, goal: Option<f64>, seconds: u64) -> Result<Vec<Line>> {
    let appliance = Appliance::start(side)?;
    let start_ms = start_ms()?;
    let task = |role, number| Task {
        role,
        number,
        path: side.path.clone(),
        settings: side.settings,
        rows: 0,
        start_ms,
        seconds,
    };
    let writer = spawn(&task(WRITER, 0))?;
    let readers: Result<Vec<_>> =
        (0..READERS).map(|number| spawn(&task(Role::LongReader { read_ms }, number))).collect();
    // Its measurements are more than a pipe holds.
    let writer = thread::spawn(move || result(writer).map_err(|e| e.to_string()));
    let begun = Instant::now();
    let (mut largest, mut said) = (0, 0);
    while !writer.is_finished() {
        largest = largest.max(side.wal_bytes().unwrap_or(0));
        let minutes = begun.elapsed().as_secs() / 60;
        if minutes > said {
            said = minutes;
            eprintln!("reads of {read_ms} ms, {minutes} min: largest WAL {} MiB", largest >> 20);
        }
        sleep(SAMPLE);
    }
    let writer = writer.join().map_err(|_| "the thread of the writer has panicked")??;
    readers?.into_iter().try_for_each(|reader| result(reader).map(|_| ()))?;
    appliance.stop()?;
    let title = |what: &str| {
        format!("800 commits/s beside {READERS} readers of {read_ms} ms for {seconds} s: {what}")
    };
    let wal = Line::new(title("largest WAL"), 0, "MiB", mebibytes(largest).into());
    Ok(vec![
        Line::new(title("commit"), 0, "ms", Spread::of(&writer.ms)),
        Line::new(title("longest wait"), 0, "ms", quantile(&writer.ms, 1.0).into()),
        Line::new(title("waits above 20 ms"), 0, "per min", {
            let long = writer.ms.iter().filter(|ms| **ms > 20.0).count();
            (long as f64 * 60.0 / seconds as f64).into()
        }),
        Line::new(title("SQLITE_BUSY"), 0, "errors", (writer.busy as f64).into()),
        Line::new(title("commits"), 0, "per s", (writer.ms.len() as f64 / seconds as f64).into()),
        match goal {
            Some(most) => wal.goal(Goal::OursAtMost(most)),
            None => wal,
        },
    ])
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
