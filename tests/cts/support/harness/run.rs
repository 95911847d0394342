//! One run of cts, and its result.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Service;

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
    pub fn start(self) -> Service {
        Service::start(self.command)
    }
}

/// A run that has ended.
pub struct Done(pub Output);

impl Done {
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Standard error, without the warnings about the services of other tests that run meanwhile.
    pub fn err(&self) -> String {
        let is_of_this_test = |line: &&str| !line.contains("and a running cts (pid ");
        self.all_err().split_inclusive('\n').filter(is_of_this_test).collect()
    }

    /// Standard error as it is.
    pub fn all_err(&self) -> String {
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
