//! What Linux says of this process: processor time, memory, file descriptors and threads, from `/proc/self` (proc(5)).
//! What cannot be read is `None`.

use std::fs;
use std::time::SystemTime;

use rustix::process::{Resource, getrlimit};

use super::process::started_at;

/// Clock ticks per second in `/proc` (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// Positions in `/proc/self/stat`, counted from the field after the program's name: times in user mode and in the
/// kernel, both in clock ticks.
const USER_TIME: usize = 11;
const KERNEL_TIME: usize = 12;

/// The figures of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Processor time used, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_descriptors: Option<u64>,
    /// How many may be open; `None` where there is no limit.
    pub descriptors_max: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// When it was started.
    pub started_at: Option<SystemTime>,
}

impl ProcessFigures {
    /// Those of this process now.
    pub fn read() -> ProcessFigures {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read("/proc/self/stat").unwrap_or_default();
        ProcessFigures {
            cpu_seconds: cpu_seconds(&String::from_utf8_lossy(&stat)),
            resident_bytes: status_number(&status, "VmRSS:").map(|kib| kib << 10),
            virtual_bytes: status_number(&status, "VmSize:").map(|kib| kib << 10),
            // One of them is the one that is open for this.
            open_descriptors: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|open| (open.count() as u64).saturating_sub(1)),
            descriptors_max: getrlimit(Resource::Nofile).current,
            threads: status_number(&status, "Threads:"),
            started_at: started_at(std::process::id()),
        }
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().take(KERNEL_TIME + 1).collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((ticks(USER_TIME)? + ticks(KERNEL_TIME)?) as f64 / TICKS_PER_SECOND)
}

/// The number on the line of `/proc/self/status` that begins with `name`.
fn status_number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let figures = ProcessFigures::read();
        assert!(figures.resident_bytes.unwrap() > 1 << 20 && figures.threads.unwrap() >= 1);
        assert!(figures.virtual_bytes >= figures.resident_bytes);
        assert!(figures.open_descriptors.unwrap() >= 3 && figures.cpu_seconds.is_some());
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 150 75 0 0 20 0 1 0 777";
        assert_eq!(cpu_seconds(stat), Some(2.25));
        assert_eq!((cpu_seconds(""), status_number("Threads:\tx\n", "Threads:")), (None, None));
    }
}
