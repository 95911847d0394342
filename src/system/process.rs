//! Other processes of this machine, from `/proc` (proc(5)).

use std::fs;
use std::time::{Duration, SystemTime};

/// Clock ticks per second in `/proc` (`USER_HZ` of Linux, the same on every architecture that cts is
/// built for).
const TICKS_PER_SECOND: u64 = 100;
/// Position of the start time in `/proc/PID/stat`, counted from the field after the program's name.
const START_TIME: usize = 19;

/// The name of the program that a process runs, as it has set it; `None` if it cannot be seen.
pub fn program(pid: u32) -> Option<String> {
    // It may be any bytes.
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&name).trim_end_matches('\n').to_string();
    (!name.is_empty()).then_some(name)
}

/// When a process was started; `None` if it cannot be seen.
pub fn started_at(pid: u32) -> Option<SystemTime> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot = Duration::from_secs(boot.trim().parse().ok()?);
    let ticks = start_ticks(&String::from_utf8_lossy(&stat))?;
    SystemTime::UNIX_EPOCH.checked_add(boot)?.checked_add(since_boot(ticks))
}

fn since_boot(ticks: u64) -> Duration {
    Duration::from_millis(ticks.saturating_mul(1000 / TICKS_PER_SECOND))
}

/// The start time in the text of `/proc/PID/stat`, in clock ticks since boot. The program's name, in
/// parentheses, may contain spaces and parentheses.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(START_TIME)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_program_name() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 777 1000 2";
        assert_eq!(start_ticks(stat), Some(777));
        assert_eq!(since_boot(777), Duration::from_millis(7770));
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn this_process_was_started_a_moment_ago() {
        let age = started_at(std::process::id()).unwrap().elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(3600), "{age:?}");
        assert!(program(std::process::id()).is_some() && program(u32::MAX).is_none());
    }
}
