//! `strace`, attached to a service that runs already. It is the Debian package `strace`.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::harness::{Service, await_that};

/// `strace`, attached to one thread of a service until it is dropped.
pub struct AttachedStrace(Child);

impl AttachedStrace {
    /// Injects a fault into these system calls of the thread: `error=EIO`, `delay_enter=1000` and others, as strace(1)
    /// has them.
    pub fn inject(service: &Service, thread: &str, calls: &str, fault: &str) -> AttachedStrace {
        let id = thread_id(service, thread);
        let strace = Command::new("strace")
            .args(["-o", "/dev/null", "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{fault}")])
            .args(["-p", &id])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let strace = AttachedStrace(strace.expect("strace (Debian package strace)"));
        let status = format!("/proc/{}/task/{id}/status", service.child.id());
        await_that("strace is attached", || {
            let status = fs::read_to_string(&status).unwrap_or_default();
            !status.contains("TracerPid:\t0\n")
        });
        strace
    }
}

impl Drop for AttachedStrace {
    fn drop(&mut self) {
        // Terminated, it detaches from the thread, which goes on.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// The id of a thread of the service, by its name. Waits until the thread has been started.
fn thread_id(service: &Service, name: &str) -> String {
    let mut id = None;
    await_that("the thread is started", || {
        let tasks = fs::read_dir(format!("/proc/{}/task", service.child.id())).unwrap();
        let is_it = |path: &std::path::PathBuf| {
            fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
        };
        id = tasks.map(|task| task.unwrap().path()).find(is_it);
        id.is_some()
    });
    id.unwrap().file_name().unwrap().to_str().unwrap().to_string()
}
