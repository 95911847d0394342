//! A running service, and its answers over HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::TIMEOUT;

/// A running cts; killed when dropped.
pub struct Service {
    pub child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
}

impl Service {
    /// Starts the command, and a thread that collects its log.
    pub fn start(mut command: Command) -> Service {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
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

    pub fn log(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits until the log contains this text.
    pub fn until(&self, part: &str) -> &Service {
        let (log, changed) = &*self.log;
        let (log, wait) = changed
            .wait_timeout_while(log.lock().unwrap(), TIMEOUT, |log| !log.contains(part))
            .unwrap();
        assert!(!wait.timed_out(), "{part:?} is not in the log:\n{log}");
        self
    }

    pub fn until_ready(&self) -> &Service {
        self.until("Application Ready for Production")
    }

    pub fn address(&self) -> SocketAddr {
        self.until("Listening on http://");
        let log = self.log();
        let start = log.split("Listening on http://").nth(1).unwrap();
        start.split('/').next().unwrap().parse().unwrap()
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
    pub fn end(self) -> (Option<i32>, String) {
        self.end_within(TIMEOUT)
    }

    /// As [`Service::end`], for work that may take this long.
    pub fn end_within(mut self, limit: Duration) -> (Option<i32>, String) {
        let deadline = Instant::now() + limit;
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
