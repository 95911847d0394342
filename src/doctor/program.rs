//! Runs other programs (`systemctl`, `timedatectl`) and reads what they print.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::system::deadline::BackgroundTask;

/// How long a program may run.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(3);

/// The standard output of a program; `None` if it is not installed, fails, or runs longer than 3 s.
pub fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_PAGER", "")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let output = read_output(&mut child);
    let deadline = Instant::now() + PROGRAM_TIMEOUT;
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(Some(status)) => break Some(status),
            _ => break None,
        }
    };
    if status.is_none() {
        // If it cannot be killed, it ends by itself later; its output is not used.
        let _ = child.kill();
    }
    let text = output?.until(deadline).ok()??;
    status.filter(|status| status.success()).map(|_| text)
}

/// Reads the whole output on a thread of its own, so that a full pipe does not block the program.
fn read_output(child: &mut Child) -> Option<BackgroundTask<Option<String>>> {
    let mut output = child.stdout.take()?;
    let read = move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    BackgroundTask::start("output", read).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_and_one_that_is_missing_fails_or_hangs_is_not() {
        assert_eq!(output("sh", &["-c", "echo yes"]).as_deref(), Some("yes\n"));
        assert_eq!(output("sh", &["-c", "echo yes; exit 1"]), None);
        assert_eq!(output("cts-no-such-program", &[]), None);
        let start = Instant::now();
        assert_eq!(output("sleep", &["60"]), None);
        assert!(start.elapsed() < PROGRAM_TIMEOUT * 5, "{:?}", start.elapsed());
    }
}
