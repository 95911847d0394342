//! The programs that have a database open: by the files that processes have open, and, where a process of another user or
//! of another container cannot be seen, by the locks that SQLite holds.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::at_rest::is_locked;
use super::file::{FileIdentity, side_file};
use super::lock::locks_on;
use super::running::has_thread;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::UPKEEP_THREAD;
use crate::system::process;
use crate::system::shell::word;

/// Time within which a program that only looks at the database has closed it again.
const GRACE: Duration = Duration::from_millis(1500);
/// Pause between two looks for it.
const PAUSE: Duration = Duration::from_millis(50);

/// A process that has a database open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opener {
    /// Its id; `None` if it cannot be seen from here, and only its lock tells that it is there.
    pub pid: Option<u32>,
    /// Whether it is a running `cts serve`.
    pub is_service: bool,
}

impl fmt::Display for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else {
            return f.write_str("a program that cannot be seen from here");
        };
        let program = process::program(pid).unwrap_or_else(|| "a program".into());
        let service = if self.is_service { ", the service" } else { "" };
        write!(f, "{program} (pid {pid}{service})")
    }
}

/// The other processes that have the file at the path, or a side file of it, open or locked.
pub fn openers(path: &Path) -> Vec<Opener> {
    let files: Vec<FileIdentity> = ["", "-wal", "-shm", "-journal"]
        .iter()
        .filter_map(|suffix| FileIdentity::of(&side_file(path, suffix)))
        .collect();
    openers_of(&files)
}

/// The other processes that have one of these files open or locked.
pub fn openers_of(files: &[FileIdentity]) -> Vec<Opener> {
    let own = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: BTreeSet<u32> = pids.filter(|pid| has_open(*pid, files)).collect();
    // A process of another user can be seen here by its locks.
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let all = 0..=u64::MAX;
    found.extend(files.iter().flat_map(|file| locks_on(&locks, *file, &all)).filter_map(|l| l.pid));
    found.remove(&own);
    let opener = |pid| Opener { pid: Some(pid), is_service: has_thread(pid, UPKEEP_THREAD) };
    found.into_iter().map(opener).collect()
}

/// Whether a process has one of these files open, as far as this user may see it.
fn has_open(pid: u32, files: &[FileIdentity]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    // stat(2) follows these links to the files themselves, whatever their paths lead to (proc_pid_fd(5)).
    let mut opened = descriptors.filter_map(|descriptor| fs::metadata(descriptor.path()).ok());
    opened.any(|file| files.contains(&FileIdentity { device: file.dev(), inode: file.ino() }))
}

/// Refuses a database that programs have open, and goes on waiting a moment for those that only look at it.
///
/// # Errors
/// [`Kind::TryAgain`], with each program.
pub fn refuse_openers(path: &Path, find: impl Fn() -> Vec<Opener>) -> Result<()> {
    retry_while_open(|| match find() {
        found if found.is_empty() => Ok(()),
        found => Err(is_open(path, &found)),
    })
}

/// Repeats an attempt that programs keep from succeeding, for as long as one that only looks at the database has it open.
///
/// # Errors
/// The error of the last attempt.
pub fn retry_while_open<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.kind == Kind::TryAgain && start.elapsed() < GRACE => {
                thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

/// The programs that have the database open, with one that only its lock shows.
pub fn openers_and_locks(path: &Path) -> Vec<Opener> {
    let mut found = openers(path);
    // No connection of this process has the file open, so that closing it here releases no lock.
    if found.is_empty() && is_locked(path) == Some(true) {
        found.push(Opener { pid: None, is_service: false });
    }
    found
}

/// The error of a database that programs have open.
pub fn is_open(path: &Path, openers: &[Opener]) -> Error {
    let names: Vec<String> = openers.iter().map(Opener::to_string).collect();
    let pids: Vec<String> = openers.iter().filter_map(|o| Some(o.pid?.to_string())).collect();
    let end = match (openers.iter().any(|opener| opener.is_service), pids.is_empty()) {
        (true, _) if openers.len() == 1 => "stop it first (`systemctl stop cts`)".to_string(),
        (true, _) => format!(
            "stop cts (`systemctl stop cts`) and the other programs first (see them with `ps -fp {}`)",
            pids.join(",")
        ),
        (false, true) => format!("find it (`sudo fuser -v {}`) and end it first", word(path)),
        (false, false) => {
            format!(
                "end it first (see it with `ps -fp {}`), and whatever starts it again",
                pids.join(",")
            )
        }
    };
    Error::new(Kind::TryAgain, format!("it is open in {}", names.join(", ")))
        .at(path.display())
        .leaving(StateLeft::Unchanged)
        .remedy(end)
}
