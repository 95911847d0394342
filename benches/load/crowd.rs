//! Concurrent processes on one database: eight writers and four readers, with the appliance, which
//! checkpoints, and without it.

use std::env;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::appliance::Appliance;
use crate::figures::{Goal, Line, Spread, quantile};
use crate::settings::{DEFAULTS, Settings};
use crate::side::Side;
use crate::worker::{Role, Seen, Task};

pub const WRITERS: u64 = 8;
pub const READERS: u64 = 4;
/// Time from spawning the processes to their first statement.
const HEAD_START: Duration = Duration::from_millis(500);

/// The measurements of all processes of one run.
struct Crowd {
    writers: Seen,
    readers: Seen,
    largest_wal: u64,
    seconds: u64,
}

/// Each run takes this many seconds.
pub fn measure(ours: &Side, baseline: &Side, rows: u64, seconds: u64) -> Result<Vec<Line>> {
    let by_clients = Settings { wal_autocheckpoint: DEFAULTS.wal_autocheckpoint, ..ours.settings };
    let theirs = Crowd::work(baseline, baseline.settings, rows, seconds)?;
    let alone = Crowd::work(ours, by_clients, rows, seconds)?;
    let appliance = Appliance::start(ours)?;
    let served = Crowd::work(ours, ours.settings, rows, seconds)?;
    appliance.stop()?;
    let alone = alone.lines("clients checkpoint", &theirs, rows);
    let served = served.lines("appliance checkpoints", &theirs, rows);
    Ok(alone.into_iter().chain(served).collect())
}

impl Crowd {
    fn work(side: &Side, settings: Settings, rows: u64, seconds: u64) -> Result<Self> {
        let start_ms = start_ms()?;
        let task = |role, number| Task {
            role,
            number,
            path: side.path.clone(),
            settings,
            rows,
            start_ms,
            seconds,
        };
        let writers = (0..WRITERS).map(|number| task(Role::Writer, number));
        let readers = (0..READERS).map(|number| task(Role::Reader, number));
        let spawned: Result<Vec<_>> =
            writers.chain(readers).map(|task| Ok((spawn(&task)?, task.role))).collect();
        let mut crowd =
            Self { seconds, writers: Seen::default(), readers: Seen::default(), largest_wal: 0 };
        for (child, role) in spawned? {
            let seen = result(child)?;
            crowd.largest_wal = crowd.largest_wal.max(seen.largest_wal);
            match role {
                Role::Writer => crowd.writers.add(seen),
                _ => crowd.readers.add(seen),
            }
        }
        Ok(crowd)
    }

    fn lines(&self, how: &str, baseline: &Self, rows: u64) -> Vec<Line> {
        let title = |what: &str| format!("{WRITERS} writers, {READERS} readers, {how}: {what}");
        let line = |what: &str, unit, figure: fn(&Self) -> Spread| {
            Line::new(title(what), rows, unit, figure(self)).beside(figure(baseline))
        };
        vec![
            line("insert transaction", "ms", |crowd| Spread::of(&crowd.writers.ms))
                .goal(Goal::OursP99AtMost(5.0)),
            line("longest wait", "ms", |crowd| quantile(&crowd.writers.ms, 1.0).into()),
            line("SQLITE_BUSY", "errors", |crowd| {
                ((crowd.writers.busy + crowd.readers.busy) as f64).into()
            })
            .goal(Goal::OursAtMost(0.0)),
            line("read", "ms", |crowd| Spread::of(&crowd.readers.ms)),
            line("transactions", "per s", |crowd| {
                (crowd.writers.ms.len() as f64 / crowd.seconds as f64).into()
            }),
            line("largest WAL", "MiB", |crowd| {
                (crowd.largest_wal as f64 / f64::from(1 << 20)).into()
            }),
        ]
    }
}

/// When processes that are spawned now start their work, in milliseconds since 1970.
pub fn start_ms() -> Result<u64> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok((since_epoch + HEAD_START).as_millis() as u64)
}

pub fn spawn(task: &Task) -> Result<Child> {
    let words = ["--worker", &serde_json::to_string(task)?];
    Ok(Command::new(env::current_exe()?).args(words).stdout(Stdio::piped()).spawn()?)
}

pub fn result(child: Child) -> Result<Seen> {
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("a worker process: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
