//! A writer beside `cts serve`, beside Litestream, and beside both: who checkpoints, how long the WAL
//! becomes, how long the writer waits, and how often Litestream begins anew with a snapshot.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;

use crate::Result;
use crate::appliance::Appliance;
use crate::crowd::{result, spawn, start_ms};
use crate::figures::{Line, Spread, quantile};
use crate::side::{Schema, Side};
use crate::worker::{Role, Seen, Task};

/// Rows a second, each in a transaction; as many as it can, and as few as on a quiet machine.
const RATES: [Option<u32>; 2] = [None, Some(50)];
const MESSAGE_BYTES: u32 = 200;
const PAGE_BYTES: u64 = 4096;
/// Pause between two measurements of the WAL, and between two checks of the health.
const SAMPLE: Duration = Duration::from_millis(20);
const CHECK: Duration = Duration::from_secs(1);

/// Which programs run beside the writer.
#[derive(Clone, Copy)]
struct Beside {
    name: &'static str,
    cts: bool,
    litestream: bool,
}

const BESIDE: [Beside; 4] = [
    Beside { name: "beside nothing", cts: false, litestream: false },
    Beside { name: "beside cts serve", cts: true, litestream: false },
    Beside { name: "beside Litestream", cts: false, litestream: true },
    Beside { name: "beside both", cts: true, litestream: true },
];

/// What is seen while the writer runs.
#[derive(Default)]
struct Watched {
    largest_wal: u64,
    /// How often the random numbers of the WAL have changed, so that it was written from its start again.
    resets: u64,
    complaints: Vec<String>,
}

/// Each combination is measured for this many seconds, on a database of its own.
pub fn measure(folder: &Path, seconds: u64) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for rate in RATES {
        for beside in BESIDE {
            let folder = folder.join("litestream");
            fs::create_dir_all(&folder)?;
            lines.extend(beside.measure(&folder, rate, seconds)?);
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(lines)
}

impl Beside {
    fn measure(self, folder: &Path, rate: Option<u32>, seconds: u64) -> Result<Vec<Line>> {
        let side = Side::create(folder, Schema::Ours, "")?;
        let appliance = self.cts.then(|| Appliance::start(&side)).transpose()?;
        let litestream = self.litestream.then(|| Litestream::start(folder, &side)).transpose()?;
        let before = appliance.as_ref().map(Appliance::written_bytes).transpose()?;
        let writer = spawn(&Task {
            role: Role::Committer { per_second: rate, message_bytes: MESSAGE_BYTES },
            number: 0,
            path: side.path.clone(),
            settings: side.settings,
            rows: 0,
            start_ms: start_ms()?,
            seconds,
        })?;
        // Its measurements are more than a pipe holds.
        let writer = thread::spawn(move || result(writer).map_err(|e| e.to_string()));
        let mut watched = Watched::default();
        watched.until(|| writer.is_finished(), &side, appliance.as_ref())?;
        let writer = writer.join().map_err(|_| "the thread of the writer has panicked")??;
        let title = |what: &str| format!("{}, {}: {what}", rate_name(rate), self.name);
        let mut lines = writer_lines(&title, &writer, seconds);
        lines.extend(watched.lines(&title));
        if let (Some(appliance), Some(before)) = (&appliance, before) {
            let pages = appliance.written_bytes()?.saturating_sub(before) / PAGE_BYTES;
            lines.push(Line::new(title("copied by cts serve"), 0, "pages", (pages as f64).into()));
        }
        if let Some(litestream) = litestream {
            lines.extend(litestream.lines(&title, &side, writer.ms.len() as u64)?);
        }
        appliance.map(Appliance::stop).transpose()?;
        Ok(lines)
    }
}

fn rate_name(rate: Option<u32>) -> String {
    rate.map_or("full speed".into(), |rate| format!("{rate} rows/s"))
}

fn writer_lines(title: &dyn Fn(&str) -> String, writer: &Seen, seconds: u64) -> Vec<Line> {
    let long = writer.ms.iter().filter(|ms| **ms > 20.0).count() as f64;
    let per_second = writer.ms.len() as f64 / seconds as f64;
    vec![
        Line::new(title("rows"), 0, "per s", per_second.into()),
        Line::new(title("commit"), 0, "ms", Spread::of(&writer.ms)),
        Line::new(title("longest wait"), 0, "ms", quantile(&writer.ms, 1.0).into()),
        Line::new(title("waits above 20 ms"), 0, "per min", (long * 60.0 / seconds as f64).into()),
        Line::new(title("SQLITE_BUSY"), 0, "errors", (writer.busy as f64).into()),
    ]
}

impl Watched {
    fn until(
        &mut self,
        is_over: impl Fn() -> bool,
        side: &Side,
        appliance: Option<&Appliance>,
    ) -> Result<()> {
        let mut checked_at = Instant::now();
        let mut salts = None;
        while !is_over() {
            self.largest_wal = self.largest_wal.max(side.wal_bytes().unwrap_or(0));
            let now = side.wal_salts()?;
            self.resets += u64::from(salts.is_some() && now.is_some() && salts != now);
            salts = now.or(salts);
            if let Some(appliance) = appliance.filter(|_| checked_at.elapsed() >= CHECK) {
                self.complaints.extend(appliance.complaint()?);
                checked_at = Instant::now();
            }
            sleep(SAMPLE);
        }
        Ok(())
    }

    fn lines(&self, title: &dyn Fn(&str) -> String) -> Vec<Line> {
        for complaint in &self.complaints {
            eprintln!("{}: {complaint}", title("not healthy"));
        }
        let wal = self.largest_wal as f64 / f64::from(1 << 20);
        vec![
            Line::new(title("largest WAL"), 0, "MiB", wal.into()),
            Line::new(title("resets of the WAL"), 0, "", (self.resets as f64).into()),
            Line::new(title("not healthy"), 0, "checks", (self.complaints.len() as f64).into()),
        ]
    }
}

/// A running Litestream that replicates into a folder.
struct Litestream {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
}

impl Litestream {
    /// Returns when the first snapshot is in the replica.
    fn start(folder: &Path, side: &Side) -> Result<Self> {
        let program = program()?;
        let folder = folder.canonicalize()?;
        let config = format!(
            "dbs:\n  - path: {}\n    replica:\n      type: file\n      path: {}\n\
             logging:\n  level: debug\n",
            side.path.canonicalize()?.display(),
            folder.join("replica").display(),
        );
        fs::write(folder.join("litestream.yml"), config)?;
        let log = fs::File::create(folder.join("litestream.log"))?;
        let child = Command::new(&program)
            .args(["replicate", "-config"])
            .arg(folder.join("litestream.yml"))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let litestream = Self { child, program, folder };
        while litestream.replicated_until_ms()?.is_empty() {
            sleep(SAMPLE);
        }
        Ok(litestream)
    }

    /// The time at which Litestream had read the WAL for each file in the replica, in order, in milliseconds
    /// since 1970.
    fn replicated_until_ms(&self) -> Result<Vec<u64>> {
        let files = match fs::read_dir(self.folder.join("replica/ltx/0")) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            files => files?,
        };
        let mut times = Vec::new();
        for file in files {
            let file = file?;
            if file.path().extension().is_some_and(|name| name == "ltx") {
                let mut header = [0; 40];
                fs::File::open(file.path())?.read_exact(&mut header)?;
                let time = header.last_chunk::<8>().ok_or("no time in the header")?;
                times.push(u64::from_be_bytes(*time));
            }
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Waits until what was committed before is in the replica: it was if a file in the replica was begun
    /// after another one that is newer. Commits go on meanwhile, since there is no file without one.
    fn await_replicated(&self, side: &Side) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as u64;
        let conn = side.open(side.settings)?;
        let insert = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'end', '')";
        while self.replicated_until_ms()?.iter().filter(|time| **time > now).count() < 2 {
            conn.execute(insert, [])?;
            sleep(SAMPLE);
        }
        Ok(())
    }

    /// Stops it once all rows are in the replica, restores them, and counts them.
    fn lines(
        mut self,
        title: &dyn Fn(&str) -> String,
        side: &Side,
        rows: u64,
    ) -> Result<Vec<Line>> {
        let begun = Instant::now();
        self.await_replicated(side)?;
        let lag = begun.elapsed().as_secs_f64();
        let term = Command::new("kill").arg(self.child.id().to_string()).status()?;
        if !term.success() || !self.child.wait()?.success() {
            return Err("litestream did not end well".into());
        }
        let log = fs::read_to_string(self.folder.join("litestream.log"))?;
        let lines_with = |parts: [&str; 2]| {
            log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count() as f64
        };
        for line in log.lines().filter(|line| line.contains("snap=true reason=")) {
            eprintln!("{}: {line}", title("snapshot"));
        }
        let restored = self.restored_rows(side)?;
        let missing = rows as f64 - restored as f64;
        Ok(vec![
            Line::new(title("PASSIVE checkpoints of Litestream"), 0, "", {
                lines_with(["msg=checkpoint", "mode=PASSIVE"]).into()
            }),
            Line::new(title("TRUNCATE checkpoints of Litestream"), 0, "", {
                lines_with(["msg=checkpoint", "mode=TRUNCATE"]).into()
            }),
            Line::new(title("snapshots after the first"), 0, "", {
                lines_with(["msg=sync", "snap=true reason="]).into()
            }),
            Line::new(title("replicated after the last row"), 0, "s", lag.into()),
            Line::new(title("rows missing in the restored database"), 0, "", missing.into()),
        ])
    }

    /// None where what is restored is damaged.
    fn restored_rows(&self, side: &Side) -> Result<u64> {
        let restored = self.folder.join("restored.db");
        let status = Command::new(&self.program)
            .args(["restore", "-integrity-check", "full", "-config"])
            .arg(self.folder.join("litestream.yml"))
            .arg("-o")
            .arg(&restored)
            .arg(side.path.canonicalize()?)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() {
            eprintln!("litestream restore: {status}");
            return Ok(0);
        }
        let sql = "SELECT count(*) FROM site_logs WHERE category = 'app'";
        Ok(Connection::open(restored)?.query_row(sql, [], |row| row.get(0))?)
    }
}

/// Where `tests/run.sh` installs it.
fn program() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let program = cache.unwrap_or_default().join("cts/litestream/bin/litestream");
    match program.exists() {
        true => Ok(program),
        false => Err(format!("{} is missing: tests/run.sh installs it", program.display()).into()),
    }
}
