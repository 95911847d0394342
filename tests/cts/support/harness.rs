//! A folder and an environment to run cts in, with builders for one run of the binary and for the
//! running service.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

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
            let bytes = if path.is_file() || is_side_file {
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
pub fn await_that(what: &str, is_so: impl FnMut() -> bool) {
    await_within(TIMEOUT, what, is_so);
}

pub fn await_within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
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

/// Leaves this many bytes of a file system free by a file in this folder of it. Another program may
/// allocate meanwhile; the free space is then measured again.
pub fn leave_free(folder: &Path, bytes: u64) {
    let filler = File::create(folder.join("filler")).unwrap();
    loop {
        let disk = statvfs(folder).unwrap();
        let free = disk.f_bavail * disk.f_frsize;
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

/// One run of cts.
pub struct Run {
    pub command: Command,
}

impl Run {
    pub fn of(program: &Path, words: &str) -> Run {
        let mut command = Command::new(program);
        command.args(words.split_whitespace()).env_clear().stdin(Stdio::null());
        Run { command }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    pub fn db(self, path: &Path) -> Run {
        self.env("SQLITE_DB_PATH", path)
    }

    pub fn run(mut self) -> Done {
        Done(self.command.output().unwrap())
    }

    /// Runs it and expects it to end within this time.
    pub fn within(mut self, limit: Duration) -> Done {
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + limit;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() >= deadline {
                child.kill().unwrap();
                let done = Done(child.wait_with_output().unwrap());
                panic!("still running after {limit:?}:\n{}{}", done.out(), done.err());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Done(child.wait_with_output().unwrap())
    }

    /// Runs it and expects exit code 0.
    pub fn success(self) -> Done {
        self.status(0)
    }

    /// Runs it and expects this exit code.
    pub fn status(self, code: i32) -> Done {
        let done = self.run();
        assert_eq!(done.0.status.code(), Some(code), "{}{}", done.out(), done.err());
        done
    }

    /// Starts it without waiting for its end.
    pub fn start(mut self) -> Service {
        let mut child = self.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let (lines, shared) = (child.stderr.take().unwrap(), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().push_str(&(line + "\n"));
                shared.1.notify_all();
            }
        });
        Service { child, log }
    }
}

/// A run that has ended.
pub struct Done(pub Output);

impl Done {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Expects each of these texts on stdout or stderr.
    pub fn says(self, parts: &[&str]) -> Done {
        let all = self.out() + &self.err();
        for part in parts {
            assert!(all.contains(part), "{part:?} is missing in:\n{all}");
        }
        self
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|e| panic!("{e}: {}", self.out()))
    }
}

/// A running cts; killed when dropped.
pub struct Service {
    pub child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
}

impl Service {
    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits until the log contains this text.
    pub fn until(&self, part: &str) -> &Service {
        let (log, changed) = &*self.log;
        let (log, wait) = changed
            .wait_timeout_while(log.lock().unwrap(), TIMEOUT, |log| !log.contains(part))
            .unwrap();
        assert!(!wait.timed_out(), "{part:?} was not said:\n{log}");
        self
    }

    pub fn until_ready(&self) -> &Service {
        self.until("Application Ready for Production")
    }

    pub fn address(&self) -> SocketAddr {
        self.until("Listening on http://");
        let log = self.log();
        let start = log.split("Listening on http://").nth(1).unwrap();
        start.lines().next().unwrap().trim().parse().unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// Sends these bytes and reads the answer to its end.
    pub fn ask(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { code, head: head.to_string(), body: body.to_string() }
    }

    /// Waits until the health answer has this status.
    pub fn until_status(&self, status: &str) -> Answer {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let answer = self.get("/api/health/database");
            if answer.json()["status"] == status {
                return answer;
            }
            assert!(Instant::now() < deadline, "not {status}: {}", answer.body);
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn signal(&self, signal: Signal) -> &Service {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        self
    }

    /// Waits for the end: exit code (`None` after a signal) and the whole log.
    pub fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                // The reader of the log ends shortly after the process.
                let deadline = Instant::now() + Duration::from_secs(5);
                while Arc::strong_count(&self.log) > 1 && Instant::now() < deadline {
                    thread::yield_now();
                }
                return (status.code(), self.log());
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGTERM, and the end.
    pub fn stop(self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        self.end()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP answer.
pub struct Answer {
    pub code: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
