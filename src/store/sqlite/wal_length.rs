//! Whether the WAL is longer than upkeep lets it become, or readers have kept it for longer than ordinary reads last, and
//! which programs keep it from being reset.
//!
//! The `-shm` file is never opened here to read its marks: when a process closes a file, the POSIX locks
//! that any connection of the process holds on it are gone (sqlite.org/howtocorrupt.html, 2.2). The locks
//! of other processes are read from `/proc/locks`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use super::file::{FileIdentity, side_file};
use super::litestream;
use super::lock::{WAL_WRITE_LOCK, locks_on};
use super::running_copy;
use crate::error::{Error, Kind};
use crate::store::KeptWal;
use crate::system::clock::UtcTime;
use crate::system::process;
use crate::system::size::Bytes;

/// Size of the WAL, in bytes, from which on a person should look who keeps it from being reset. Upkeep
/// blocks writers to reset it from an eighth of that on (`wal_reset`): beside 800 commits a second of 8 KiB
/// and two readers of 30 ms that overlap, it stays below 64 MiB (`benches/load/long_reads.rs`).
pub const LONG_WAL_BYTES: u64 = 256 << 20;

/// The bytes of the `-shm` file that readers lock, each for a state of the database that they read.
/// (sqlite.org/walformat.html, "WAL Locks": `WAL_READ_LOCK(0)` to `WAL_READ_LOCK(4)`)
const WAL_READ_LOCKS: RangeInclusive<u64> = 123..=127;
/// Time between the two samples of the locks, longer than most lookups of trading programs. A lock that
/// is in both is of a long read.
const SAMPLE_DISTANCE: Duration = Duration::from_millis(30);
/// How many programs are named; the others are counted.
const PROGRAMS_NAMED: usize = 6;

/// What to do where the readers cannot be seen.
const NO_READER_SEEN: &str = "have cts serve run, which resets it; if it runs, look on the host, as root, for a program that keeps a read transaction open (`fuser -v` on the file)";

/// What to do where Litestream alone keeps the WAL, which it resets itself.
const LITESTREAM_IS_BEHIND: &str = "let it run: it resets the WAL once it has copied it, at the latest at 500 MB (truncate-page-n); its log tells what it waits for (`journalctl -u litestream`)";

/// Why the WAL of a database is long, or has not become shorter for longer than ordinary reads last: who reads or writes.
/// `held` is for how long no more of it could be copied, if that is longer than [`HOLD_MAX`](super::wal_hold::HOLD_MAX).
/// `None` if neither is so.
pub fn kept_wal(path: &Path, held: Option<Duration>) -> Option<KeptWal> {
    let size_bytes = fs::metadata(side_file(path, "-wal")).ok()?.len();
    if size_bytes < LONG_WAL_BYTES && held.is_none() {
        return None;
    }
    let size = format!("the WAL is {} long", Bytes(size_bytes));
    let time = held.map(|held| format!(", for {} by now", rough(held))).unwrap_or_default();
    // A copy that goes on ends, or gives up.
    if size_bytes < running_copy::wal_bytes_max(path) && running_copy::is_running(path) {
        let what = format!("{size}, because a copy of the database is being made{time}");
        return Some(kept(path, what, "let it end", true));
    }
    let first = LockSample::take(path);
    thread::sleep(SAMPLE_DISTANCE);
    let locks = first.lasting(LockSample::take(path));
    let readers = LockingProcess::list(&locks.readers);
    let is_short = size_bytes < LONG_WAL_BYTES;
    Some(match (readers, LockingProcess::list(&locks.writers)) {
        // It checkpoints by itself, and is named once the WAL is long.
        (Some(_), _) if is_short && are_all(&locks.readers, "litestream") => return None,
        (Some(readers), _) => {
            let is_by_cts = is_short && are_all(&locks.readers, "cts");
            let what = format!("{size}, because reads keep it from being reset{time}: {readers}");
            kept(path, what, &end_reads(&locks.readers), is_by_cts)
        }
        (None, _) if is_short && locks.is_own_reader => {
            let what = format!("{size}, because this cts reads from it{time}");
            kept(path, what, "let it end", true)
        }
        (None, Some(writers)) => {
            let what = format!("{size}, because of a long write transaction: {writers}");
            kept(path, what, "let it finish, and commit more often", false)
        }
        (None, None) => {
            let what =
                format!("{size}{time}, and no program that reads from it can be seen from here");
            kept(path, what, NO_READER_SEEN, false)
        }
    })
}

fn kept(path: &Path, what: String, remedy: &str, is_by_cts: bool) -> KeptWal {
    let error = Error::new(Kind::Blocked, what).at(path.display()).remedy(remedy);
    KeptWal { error, is_by_cts }
}

/// Whether all these readers are processes of a program.
fn are_all(readers: &BTreeSet<HeldLock>, program: &str) -> bool {
    let is_program = |pid: Option<u32>| pid.and_then(process::program).as_deref() == Some(program);
    !readers.is_empty() && readers.iter().all(|(pid, _)| is_program(*pid))
}

/// A time as a lower limit, in steps so wide that the sentence of a fault that goes on stays the same for long.
fn rough(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match minutes {
        0..2 => "more than a minute".into(),
        2..60 => {
            let steps = [2, 5, 10, 20, 30, 45].into_iter();
            format!(
                "more than {} minutes",
                steps.filter(|step| *step <= minutes).max().unwrap_or(2)
            )
        }
        60..120 => "more than an hour".into(),
        _ => format!("more than {} hours", minutes / 60),
    }
}

/// What to do about readers: their commands tell a forgotten shell from a trading program.
fn end_reads(readers: &BTreeSet<HeldLock>) -> String {
    let pids: BTreeSet<u32> = readers.iter().filter_map(|(pid, _)| *pid).collect();
    if pids.is_empty() {
        return NO_READER_SEEN.into();
    }
    if pids.iter().all(|pid| litestream::is_program(*pid) == Some(true)) {
        return LITESTREAM_IS_BEHIND.into();
    }
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    format!(
        "end their read transactions, or make them shorter (`ps -fp {}` shows the programs)",
        pids.join(",")
    )
}

/// A lock of another process: its number, where it can be seen, and the byte.
type HeldLock = (Option<u32>, u64);

/// The locks that other processes hold at one moment.
#[derive(Default)]
struct LockSample {
    readers: BTreeSet<HeldLock>,
    writers: BTreeSet<HeldLock>,
    /// Whether this process holds a reader's lock.
    is_own_reader: bool,
}

impl LockSample {
    /// Reads them; it has none where `/proc/locks` cannot be read.
    fn take(path: &Path) -> LockSample {
        let file = FileIdentity::of(&side_file(path, "-shm"));
        let locks = fs::read_to_string("/proc/locks");
        match (file, locks) {
            (Some(file), Ok(locks)) => LockSample::parse(&locks, file, std::process::id()),
            _ => LockSample::default(),
        }
    }

    fn parse(locks: &str, file: FileIdentity, own_pid: u32) -> LockSample {
        let held = |bytes: RangeInclusive<u64>, is_write: bool| {
            let lines = locks_on(locks, file, &bytes);
            let lines = lines
                .into_iter()
                .filter(move |line| line.is_write == is_write && line.pid != Some(own_pid));
            lines
                .flat_map(|line| {
                    let held = bytes.clone().filter(|byte| line.bytes.contains(byte));
                    held.map(|byte| (line.pid, byte)).collect::<Vec<_>>()
                })
                .collect()
        };
        let readers = locks_on(locks, file, &WAL_READ_LOCKS);
        let is_own_reader = readers.iter().any(|line| !line.is_write && line.pid == Some(own_pid));
        let (readers, writers) = (held(WAL_READ_LOCKS, false), held(WAL_WRITE_LOCK, true));
        LockSample { readers, writers, is_own_reader }
    }

    /// The locks that a later sample has too. If no reader is in both, short reads follow one another, and
    /// the readers of either are what keeps the WAL; a write lock that is in one only is that of a short
    /// transaction.
    fn lasting(self, later: LockSample) -> LockSample {
        let both: BTreeSet<HeldLock> = &self.readers & &later.readers;
        let readers = if both.is_empty() { &self.readers | &later.readers } else { both };
        let is_own_reader = self.is_own_reader && later.is_own_reader;
        LockSample { readers, writers: &self.writers & &later.writers, is_own_reader }
    }
}

/// A program that holds a lock.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct LockingProcess {
    since: Option<SystemTime>,
    pid: Option<u32>,
}

impl LockingProcess {
    /// The programs that hold these locks, the oldest first. `None` if there is none.
    fn list(locks: &BTreeSet<HeldLock>) -> Option<String> {
        let pids: BTreeSet<Option<u32>> = locks.iter().map(|(pid, _)| *pid).collect();
        let since = |pid: Option<u32>| pid.and_then(process::started_at);
        let programs: BTreeSet<LockingProcess> =
            pids.into_iter().map(|pid| LockingProcess { since: since(pid), pid }).collect();
        let mut named: Vec<String> =
            programs.iter().take(PROGRAMS_NAMED).map(ToString::to_string).collect();
        if programs.len() > named.len() {
            named.push(format!("{} more", programs.len() - named.len()));
        }
        (!named.is_empty()).then(|| named.join(", "))
    }
}

impl fmt::Display for LockingProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else {
            return f.write_str("a program that cannot be seen from here");
        };
        let program = process::program(pid).unwrap_or_else(|| "a program".into());
        write!(f, "{program} (pid {pid}")?;
        if let Some(since) = self.since {
            // To the second: `2026-11-28T14:03:12.345Z`.
            let time = UtcTime::of(since).rfc3339().replace('T', " ");
            let seconds = time.split('.').next().unwrap_or_default();
            write!(f, ", running since {seconds} UTC")?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCKS: &str = "\
1: POSIX  ADVISORY  READ 41 fe:00:131 123 124
2: POSIX  ADVISORY  READ 42 fe:00:131 125 125
3: POSIX  ADVISORY  WRITE 42 fe:00:131 120 120
4: POSIX  ADVISORY  READ 43 fe:00:131 128 128
5: POSIX  ADVISORY  READ 0 fe:00:131 127 127
6: POSIX  ADVISORY  READ 44 fe:00:132 127 127
";

    fn sample(own_pid: u32) -> LockSample {
        let device = rustix::fs::makedev(0xfe, 0);
        LockSample::parse(LOCKS, FileIdentity { device, inode: 131 }, own_pid)
    }

    #[test]
    fn readers_are_the_other_processes_with_a_read_lock_on_a_mark() {
        let readers = |own| sample(own).readers.into_iter().collect::<Vec<_>>();
        assert_eq!(readers(42), [(None, 127), (Some(41), 123), (Some(41), 124)]);
        assert_eq!(readers(41), [(None, 127), (Some(42), 125)]);
        assert_eq!(sample(1).writers.into_iter().collect::<Vec<_>>(), [(Some(42), 120)]);
        assert!(sample(42).writers.is_empty());
    }

    #[test]
    fn a_reader_of_this_process_is_known() {
        assert!(sample(41).is_own_reader && !sample(43).is_own_reader);
    }

    #[test]
    fn the_time_of_a_fault_that_goes_on_changes_rarely() {
        let shown = [60, 119, 120, 301, 3599, 3600, 7200, 90_000]
            .map(|seconds| rough(Duration::from_secs(seconds)));
        assert_eq!(
            shown,
            [
                "more than a minute",
                "more than a minute",
                "more than 2 minutes",
                "more than 5 minutes",
                "more than 45 minutes",
                "more than an hour",
                "more than 2 hours",
                "more than 25 hours"
            ]
        );
    }

    #[test]
    fn a_long_read_is_told_from_short_ones() {
        let held = |locks: &[HeldLock]| LockSample {
            readers: locks.iter().copied().collect(),
            writers: locks.iter().copied().collect(),
            is_own_reader: false,
        };
        let (short, long) = ((Some(7), 124), (Some(8), 125));
        let lasting = held(&[short, long]).lasting(held(&[long]));
        assert_eq!(lasting.readers.into_iter().collect::<Vec<_>>(), [long]);
        let lasting = held(&[short]).lasting(held(&[long]));
        assert_eq!(lasting.readers.len(), 2);
        assert!(lasting.writers.is_empty());
    }

    #[test]
    fn programs_are_named_with_their_start_as_far_as_they_can_be_seen() {
        let own = std::process::id();
        let text = LockingProcess::list(&BTreeSet::from([(Some(own), 124), (Some(own), 125)]));
        let text = text.unwrap();
        assert!(text.contains(&format!(" (pid {own}, running since 20")), "{text}");
        assert!(text.ends_with(" UTC)") && text.matches("pid").count() == 1, "{text}");
        let unseen = LockingProcess::list(&BTreeSet::from([(None, 124)]));
        assert_eq!(unseen.as_deref(), Some("a program that cannot be seen from here"));
        let many = (0..9).map(|pid| (Some(u32::MAX - pid), 124)).collect();
        assert!(LockingProcess::list(&many).unwrap().ends_with(", 3 more"));
        assert_eq!(LockingProcess::list(&BTreeSet::new()), None);
    }
}
