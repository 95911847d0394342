//! Restoring for a trial: killed at any moment, on a disk that fills, of databases that are not as expected.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{backup, beside, fill, names, verify};
use crate::support::disk::Disk;
use crate::support::harness::{Machine, for_each, is_root};
use crate::support::kills::{kill_after, tried};

const MOMENTS: u32 = 100;

/// The names of trial folders in a folder.
fn trials(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name.starts_with("cts-drill-")).collect()
}

#[test]
#[ignore = "sweep"]
fn a_drill_killed_at_any_moment_leaves_the_backup_and_is_cleared_by_the_next() {
    for flags in ["", "--compress"] {
        let machine = Machine::migrated();
        fill(&machine, 7);
        let file = backup(&machine, "b", "x.db", flags);
        let folder = machine.path("b");
        let start = Instant::now();
        verify(&machine, &file).success();
        let (took, data) = (start.elapsed(), fs::read(&file).unwrap());
        let mut left = 0;
        for moment in tried(MOMENTS) {
            kill_after(took * moment / MOMENTS, verify(&machine, &file));
            left += usize::from(!trials(&folder).is_empty());
            assert!(fs::read(&file).unwrap() == data, "moment {moment}");
            assert!(trials(&folder).len() <= 1, "moment {moment}: {:?}", trials(&folder));
        }
        let kills = tried(MOMENTS).count();
        eprintln!("{kills} kills in {took:?} left {left} folders");
        assert!(left > 0);
        verify(&machine, &file).success();
        assert_eq!(trials(&folder), Vec::<String>::new());
    }
}

#[test]
fn a_drill_interrupted_by_a_signal_leaves_nothing() {
    let machine = Machine::migrated();
    fill(&machine, 7);
    let file = backup(&machine, "b", "x.db", "");
    for_each(0..6_u64, |moment| {
        let mut run = verify(&machine, &file);
        let mut child = run
            .command
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(moment * 20));
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        child.wait().unwrap();
    });
    assert_eq!(trials(&machine.path("b")), Vec::<String>::new());
    verify(&machine, &file).success();
}

/// The levels go from nothing to more than is needed.
#[test]
fn a_disk_that_fills_during_a_drill_is_refused_beforehand_or_leaves_nothing() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let machine = Machine::migrated();
    fill(&machine, 7);
    for flags in ["", "--compress"] {
        let file = backup(&machine, "made", &format!("x{flags}.db"), flags);
        let disk = Disk::mount_with(&machine, "size=64m", 64 << 20);
        let copy = disk.folder.join(file.file_name().unwrap());
        for ending in ["", ".sha256", ".json"] {
            fs::copy(beside(&file, ending), beside(&copy, ending)).unwrap();
        }
        let mut outcomes = [0; 2];
        for level in 0..20_u64 {
            disk.leave(disk.size);
            disk.leave((level * 1301 % 1024 + level * 1536) << 10);
            let before = names(&disk.folder);
            let done = verify(&machine, &copy).run();
            assert_eq!(names(&disk.folder), before);
            match done.0.status.code() {
                Some(0) => outcomes[0] += 1,
                Some(74) => {
                    outcomes[1] += 1;
                    done.says(&["the content of the backup needs about ", " are free there"]);
                }
                code => panic!("{level}: {code:?}: {}", done.err()),
            }
        }
        assert!(outcomes.iter().all(|count| *count > 2), "{outcomes:?}");
        drop(disk);
        fs::remove_dir(machine.path("disk")).unwrap();
    }
}

#[test]
fn drift_and_accepted_differences_of_the_source_are_no_failure_of_its_backup() {
    let machine = Machine::migrated();
    machine.sql(
        "ALTER TABLE users ADD COLUMN nickname TEXT; CREATE TABLE mine (x);
         DROP INDEX idx_site_logs_time; CREATE INDEX idx_site_logs_time ON site_logs (message);
         DROP INDEX idx_site_logs_category;
         PRAGMA foreign_keys = OFF;
         INSERT INTO indications_active (connection_id, symbol) VALUES (77, 'BTCUSDT');",
    );
    machine.cts("verify").status(1);
    let file = backup(&machine, "b", "x.db", "");
    verify(&machine, &file).success().says(&["is sound", "as in the database that was copied"]);
}
