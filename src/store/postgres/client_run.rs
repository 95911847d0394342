//! Runs one of PostgreSQL's client programs to its end: in an environment of its own, ended together with cts, when the work
//! is cancelled, and when the server no longer answers. What it writes to standard error becomes one sentence.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::error::printable;
use super::url::Password;
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::system::child_program;

/// How often a cancellation is noticed while the program is silent.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Time that a program has to end after it was asked to, which it uses to cancel its query on the server.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two looks whether a program has ended.
const END_PAUSE: Duration = Duration::from_millis(5);
/// Bytes of standard error that are kept.
const STDERR_BYTES_MAX: usize = 64 << 10;
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 << 10;
/// SIGXFSZ: a write beyond the limit on file sizes.
const FILE_SIZE_SIGNAL: i32 = 25;

/// Takes output of a program; its error ends the program.
pub type OutputReader<'o> = dyn FnMut(&[u8]) -> Result<()> + 'o;

/// What is done with the output of a program.
pub enum ClientOutput<'o> {
    /// It is written to this file.
    File(File),
    /// It is handed to this.
    Read(&'o mut OutputReader<'o>),
    /// It is dropped.
    Dropped,
}

/// What a program reads from standard input.
pub enum ClientInput {
    /// Nothing.
    Nothing,
    /// This file.
    File(File),
}

/// How a program has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEnd {
    /// With exit code 0.
    Succeeded,
    /// With an error.
    Failed(ClientFailure),
}

/// Why a program has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFailure {
    /// What it said, as one sentence without a password.
    pub sentence: String,
    /// Whether it was ended for a write beyond the limit on file sizes.
    pub exceeds_file_size: bool,
}

/// A program that is about to be run.
pub struct ClientRun<'r> {
    /// The command, to which arguments and variables can be added.
    pub command: Command,
    /// What it reads.
    pub input: ClientInput,
    /// The time that it may take; `None` is no limit.
    pub limit: Option<Duration>,
    /// Called again and again while the program runs; its error ends the program.
    pub watch: Option<&'r mut dyn FnMut() -> Result<()>>,
    /// The password that no message may contain.
    pub password: Option<&'r Password>,
    program: PathBuf,
    wait: &'r WaitPolicy<'r>,
}

impl<'r> ClientRun<'r> {
    /// A program without arguments.
    pub fn of(program: &Path, wait: &'r WaitPolicy<'r>) -> ClientRun<'r> {
        let mut command = child_program::command(program);
        command.env_clear().env("LC_ALL", "C");
        // What a program that is installed in a folder of its own needs, and where libpq looks for its files.
        for name in ["PATH", "HOME", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let program = program.to_path_buf();
        let input = ClientInput::Nothing;
        ClientRun { command, input, limit: None, watch: None, password: None, program, wait }
    }

    /// Runs it until it ends.
    ///
    /// # Errors
    /// If it cannot be started, takes longer than its limit, the work is cancelled, or with the error of the output or of
    /// the watch. The program has ended then.
    pub fn finish(mut self, output: ClientOutput<'_>) -> Result<ClientEnd> {
        let mut nothing_to_read = |_: &[u8]| Ok(());
        let (stdout, keep): (Stdio, &mut OutputReader<'_>) = match output {
            ClientOutput::File(file) => (Stdio::from(file), &mut nothing_to_read),
            ClientOutput::Read(keep) => (Stdio::piped(), keep),
            ClientOutput::Dropped => (Stdio::null(), &mut nothing_to_read),
        };
        let stdin = match std::mem::replace(&mut self.input, ClientInput::Nothing) {
            ClientInput::Nothing => Stdio::null(),
            ClientInput::File(file) => Stdio::from(file),
        };
        let started = self.command.stdin(stdin).stdout(stdout).stderr(Stdio::piped()).spawn();
        let mut running = Running(started.map_err(|e| self.failed("cannot be started", &e))?);
        let mut pipes = Pipes::of(&mut running.0);
        let (start, mut stderr) = (Instant::now(), Vec::new());
        let status = loop {
            let is_open = pipes
                .read(&mut stderr, keep)
                .map_err(|e| e.into_error(|e| self.failed("its output cannot be read", &e)))?;
            let ended = if is_open { None } else { self.ended(&mut running)? };
            if let Some(status) = ended {
                break status;
            }
            self.wait.check_cancelled()?;
            if let Some(watch) = &mut self.watch {
                watch()?;
            }
            if self.limit.is_some_and(|limit| start.elapsed() > limit) {
                return Err(Error::new(Kind::Io, "does not end").at(self.program.display()));
            }
        };
        if status.success() {
            return Ok(ClientEnd::Succeeded);
        }
        let said = sentence(&String::from_utf8_lossy(&stderr));
        let said = if said.is_empty() { status.to_string() } else { said };
        Ok(ClientEnd::Failed(ClientFailure {
            sentence: printable(&said, self.password),
            exceeds_file_size: status.signal() == Some(FILE_SIZE_SIGNAL),
        }))
    }

    fn ended(&self, running: &mut Running) -> Result<Option<std::process::ExitStatus>> {
        let status = running.0.try_wait().map_err(|e| self.failed("cannot be waited for", &e))?;
        if status.is_none() {
            thread::sleep(END_PAUSE);
        }
        Ok(status)
    }

    fn failed(&self, what: &str, cause: &io::Error) -> Error {
        Error::new(Kind::Io, what).at(self.program.display()).caused_by(cause)
    }
}

/// What a program has said, as one sentence: its first error, without what follows in further lines, which may hold rows.
fn sentence(stderr: &str) -> String {
    let line = |line: &str| line.split_once(" error: ").map(|(_, text)| text.trim().to_string());
    let error = stderr.lines().find_map(line);
    error
        .or_else(|| stderr.lines().rfind(|line| !line.trim().is_empty()).map(str::to_string))
        .unwrap_or_default()
}

/// A program that runs; ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // Once it was waited for, its id may be that of another process.
        let Ok(None) = self.0.try_wait() else { return };
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.0.kill();
                let _ = self.0.wait();
                return;
            }
            thread::sleep(END_PAUSE);
        }
    }
}

/// The output of a program, as long as it is open.
struct Pipes {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
    chunk: Vec<u8>,
}

/// Why output could not be read to its end.
enum PipeFault {
    /// A pipe cannot be read.
    Failed(io::Error),
    /// What reads the output has refused it.
    Refused(Error),
}

impl PipeFault {
    fn into_error(self, failed: impl FnOnce(io::Error) -> Error) -> Error {
        match self {
            PipeFault::Failed(e) => failed(e),
            PipeFault::Refused(error) => error,
        }
    }
}

impl Pipes {
    fn of(child: &mut Child) -> Pipes {
        Pipes { out: child.stdout.take(), err: child.stderr.take(), chunk: vec![0; CHUNK_BYTES] }
    }

    /// Waits for some output, for a moment, and reads it. Returns whether there may be more.
    fn read(
        &mut self,
        stderr: &mut Vec<u8>,
        keep: &mut OutputReader<'_>,
    ) -> Result<bool, PipeFault> {
        let [has_out, has_err] = self.ready()?;
        if has_out && let Some(out) = &mut self.out {
            match next(out, &mut self.chunk)? {
                Some([]) => self.out = None,
                Some(bytes) => keep(bytes).map_err(PipeFault::Refused)?,
                None => {}
            }
        }
        if has_err && let Some(err) = &mut self.err {
            match next(err, &mut self.chunk)? {
                Some([]) => self.err = None,
                Some(bytes) => {
                    let room = STDERR_BYTES_MAX.saturating_sub(stderr.len());
                    stderr.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
                }
                None => {}
            }
        }
        Ok(self.out.is_some() || self.err.is_some())
    }

    /// Waits for a moment. Returns which of both can be read, or is at its end.
    fn ready(&self) -> Result<[bool; 2], PipeFault> {
        let out = self.out.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let err = self.err.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN));
        let is_open = [out.is_some(), err.is_some()];
        let mut polled: Vec<PollFd<'_>> = [out, err].into_iter().flatten().collect();
        match poll(&mut polled, Some(&POLL_INTERVAL)) {
            Err(e) if e != rustix::io::Errno::INTR => return Err(PipeFault::Failed(e.into())),
            _ => {}
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        Ok(is_open.map(|is_open| is_open && ready.next().unwrap_or_default()))
    }
}

/// The bytes that a pipe has, none at its end; `None` if the read was interrupted.
fn next<'c>(pipe: &mut impl Read, chunk: &'c mut [u8]) -> Result<Option<&'c [u8]>, PipeFault> {
    match pipe.read(chunk) {
        Ok(count) => Ok(Some(chunk.get(..count).unwrap_or_default())),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(e) => Err(PipeFault::Failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_a_program_is_its_sentence() {
        let said = "pg_dump: warning: x\npg_dump: error: query failed: ERROR:  permission denied for table users\n\
                    pg_dump: detail: Query was: LOCK TABLE\n";
        assert_eq!(sentence(said), "query failed: ERROR:  permission denied for table users");
        assert_eq!(sentence("cannot load libpq.so\n\n"), "cannot load libpq.so");
        assert_eq!(sentence(""), "");
    }
}
