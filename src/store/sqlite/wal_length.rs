//! Whether the WAL is longer than upkeep lets it become, and which programs keep it from being reset.
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

/// Why the WAL of a database is long: who reads or writes. `None` if it is not long.
pub fn long_wal(path: &Path) -> Option<Error> {
    let size_bytes = fs::metadata(side_file(path, "-wal")).ok()?.len();
    if size_bytes < LONG_WAL_BYTES {
        return None;
    }
    // A copy that goes on ends, or gives up.
    if size_bytes < running_copy::wal_bytes_max(path) && running_copy::is_running(path) {
        return None;
    }
    let first = LockSample::take(path);
    thread::sleep(SAMPLE_DISTANCE);
    let locks = first.lasting(LockSample::take(path));
    let size = format!("the WAL is {} long", Bytes(size_bytes));
    let (what, remedy) = if let Some(readers) = LockingProcess::list(&locks.readers) {
        let what = format!("{size}, because reads keep it from being reset: {readers}");
        (what, end_reads(&locks.readers))
    } else if let Some(writers) = LockingProcess::list(&locks.writers) {
        let what = format!("{size}, because of a long write transaction: {writers}");
        (what, "let it finish, and commit more often".into())
    } else {
        let what = format!("{size}, and no program that reads from it can be seen from here");
        (what, NO_READER_SEEN.into())
    };
    Some(Error::new(Kind::Blocked, what).at(path.display()).remedy(remedy))
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
        LockSample { readers: held(WAL_READ_LOCKS, false), writers: held(WAL_WRITE_LOCK, true) }
    }

    /// The locks that a later sample has too. If no reader is in both, short reads follow one another, and
    /// the readers of either are what keeps the WAL; a write lock that is in one only is that of a short
    /// transaction.
    fn lasting(self, later: LockSample) -> LockSample {
        let both: BTreeSet<HeldLock> = &self.readers & &later.readers;
        let readers = if both.is_empty() { &self.readers | &later.readers } else { both };
        LockSample { readers, writers: &self.writers & &later.writers }
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
    fn a_long_read_is_told_from_short_ones() {
        let held = |locks: &[HeldLock]| LockSample {
            readers: locks.iter().copied().collect(),
            writers: locks.iter().copied().collect(),
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
