//! Programs that cts runs and that must not outlive it. The kernel can end a child with its parent (prctl(2),
//! `PR_SET_PDEATHSIG`), but only the child itself can ask for that, before it executes the program: so cts starts its own
//! binary, which asks and then becomes the program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The name under which cts is started to become another program. A person cannot mistake it for a command.
const NAME: &str = "cts: becomes a program that ends with it";
/// The exit code where the program cannot be executed, as that of a shell.
const CANNOT_EXECUTE: u8 = 126;

/// A command that runs a program until it ends, or until the thread that starts it ends: then it gets SIGTERM. It is in a
/// process group of its own, so that a key press at the terminal does not reach it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(std::process::id().to_string()).arg(program).process_group(0);
    command
}

/// Becomes the program that [`command`] names, if this process was started for that: does not return then, unless the
/// program cannot be executed.
pub fn become_program(arguments: &[OsString]) -> Option<ExitCode> {
    let [name, parent, program, words @ ..] = arguments else { return None };
    if name != NAME {
        return None;
    }
    let is_set = set_parent_process_death_signal(Some(Signal::TERM));
    let is_of_parent =
        |pid: Pid| parent.to_str() == Some(pid.as_raw_nonzero().to_string().as_str());
    // The parent may have ended before.
    if is_set.is_err() || !getppid().is_some_and(is_of_parent) {
        return Some(ExitCode::from(CANNOT_EXECUTE));
    }
    let error = Command::new(program).args(words).exec();
    eprintln!("{}: cannot be executed: {error}", program.display());
    Some(ExitCode::from(CANNOT_EXECUTE))
}
