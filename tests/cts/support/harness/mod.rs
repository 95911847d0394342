//! A folder and an environment to run cts in, with builders for one run of the binary and for the
//! running service.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use tempfile::TempDir;

mod run;
mod service;

pub use run::{Done, Run};
pub use service::{Answer, Service};

/// Longest wait for any condition, on a busy machine too.
pub const TIMEOUT: Duration = Duration::from_secs(60);

pub struct Machine {
    folder: TempDir,
}

impl Machine {
    pub fn new() -> Machine {
        Machine { folder: TempDir::new().unwrap() }
    }

    /// A machine with a migrated database that no process has open.
    pub fn migrated() -> Machine {
        let machine = Machine::new();
        machine.cts("migrate").success();
        machine
    }

    /// A machine whose database lacks an index, and a program that holds the write lock: what would put the index
    /// back waits for it.
    pub fn locked() -> (Machine, Connection) {
        let machine = Machine::migrated();
        machine.sql("DROP INDEX idx_site_logs_time");
        let holder = machine.open();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        (machine, holder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn db(&self) -> PathBuf {
        self.path("cts.db")
    }

    /// The database, opened as a trading program would.
    pub fn open(&self) -> Connection {
        let conn = Connection::open(self.db()).unwrap();
        conn.busy_timeout(TIMEOUT).unwrap();
        conn
    }

    pub fn sql(&self, sql: &str) {
        self.open().execute_batch(sql).unwrap();
    }

    pub fn number(&self, sql: &str) -> i64 {
        self.open().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    pub fn texts(&self, sql: &str) -> Vec<String> {
        let conn = self.open();
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Every file in the folder with a hash of its content, to detect changes. Without `-shm` and
    /// an empty `-wal`, which every reader creates and deletes.
    pub fn files(&self) -> BTreeMap<PathBuf, u64> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let hash = |path: PathBuf| {
            let name = path.to_string_lossy();
            let is_side_file = name.ends_with("-wal") || name.ends_with("-shm");
            // A folder, a pipe and a dangling link have no content to read.
            let has_content = path.is_file() || (is_side_file && !path.exists());
            let bytes = if has_content {
                match fs::read(&path) {
                    Err(e) if is_side_file && e.kind() == ErrorKind::NotFound => return None,
                    bytes => bytes.unwrap_or_else(|e| panic!("{}: {e}", path.display())),
                }
            } else {
                Vec::new()
            };
            let is_fleeting = name.ends_with("-shm") || (is_side_file && bytes.is_empty());
            let mut hash = DefaultHasher::new();
            hash.write(&bytes);
            (!is_fleeting).then(|| (path.clone(), hash.finish()))
        };
        entries.filter_map(hash).collect()
    }

    /// One run of cts with these arguments, on this machine's database.
    pub fn cts(&self, words: &str) -> Run {
        Run::of(Path::new(env!("CARGO_BIN_EXE_cts")), words).env("SQLITE_DB_PATH", self.db())
    }

    /// The service, on a free port.
    pub fn serve(&self) -> Run {
        self.cts("serve --port 0")
    }

    /// A run as the user nobody if the tests run as root, else as the present user.
    pub fn cts_as_nobody(&self, words: &str) -> Run {
        let program = self.path("cts-for-all");
        if !program.exists() {
            // Another process makes the copy: a file descriptor of this process could be inherited
            // by a child that another test forks meanwhile, and a program that is open for writing
            // cannot be executed.
            let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_cts")).arg(&program).status();
            assert!(copied.unwrap().success());
        }
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut run = Run::of(&program, words).env("SQLITE_DB_PATH", self.db());
        if is_root() {
            run.command.uid(65534).gid(65534);
        }
        run
    }
}

/// Waits until the condition holds.
pub fn await_that(what: &str, holds: impl FnMut() -> bool) {
    await_within(TIMEOUT, what, holds);
}

pub fn await_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Calls `work` for each item, on as many threads as there are processors.
pub fn for_each<I: IntoIterator<IntoIter: Send>>(items: I, work: impl Fn(I::Item) + Sync) {
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap().next();
    let turns = || {
        while let Some(item) = next() {
            work(item);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(turns);
        }
    });
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Free bytes of the file system of a folder.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    Ok(disk.f_bavail * disk.f_frsize)
}

/// Leaves this many bytes of a file system free by a file in this folder of it. Another program may
/// allocate meanwhile; the free space is then measured again.
pub fn leave_free(folder: &Path, bytes: u64) {
    let filler = File::create(folder.join("filler")).unwrap();
    loop {
        let free = free_bytes(folder).unwrap();
        if free <= bytes {
            return;
        }
        let length = filler.metadata().unwrap().len();
        match fallocate(&filler, FallocateFlags::empty(), length, free - bytes) {
            Err(Errno::NOSPC) => {}
            done => done.unwrap(),
        }
    }
}
