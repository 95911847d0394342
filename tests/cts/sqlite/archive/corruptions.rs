//! An archive that is changed afterwards: each change of what a moment needs is found when it is restored, and what compaction
//! needs is found by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::aged::{archiving_before, copy, levels, of_all_ages};
use super::{archive, number, prove, restored, segments, state, time, until_archived};
use crate::support::harness::{Machine, await_that, await_within, for_each};
use crate::support::kills::tried;
use crate::support::random::Random;

const CORRUPTIONS: u32 = 200;
/// Archives that are damaged before they are compacted.
const DAMAGED_BEFORE: u32 = 8;

/// The file of a segment, in the folder of the archive.
fn file(segment: &Value) -> PathBuf {
    let (first, level) = match segment["kind"] == "base" {
        true => (1, 9),
        false => (number(segment, "first"), number(segment, "level")),
    };
    format!("ltx/{level}/{first:016x}-{:016x}.ltx", number(segment, "last")).into()
}

/// What a restore of the last of these segments needs of them: from the last base on.
fn needed(segments: &[Value]) -> &[Value] {
    let base = segments.iter().rposition(|segment| segment["kind"] == "base").unwrap();
    &segments[base..]
}

/// Damages one of these files in one of several ways. Returns what was done.
fn damage_file(folder: &Path, needed: &[Value], all: &[Value], random: &mut Random) -> String {
    let segment = &needed[random.below(needed.len())];
    let path = folder.join(file(segment));
    let mut bytes = fs::read(&path).unwrap();
    let other = all
        .iter()
        .find(|other| *other != segment && fs::read(folder.join(file(other))).unwrap() != bytes);
    let other = folder.join(file(other.unwrap()));
    let what = match random.below(8) {
        0..3 => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            fs::write(&path, &bytes).unwrap();
            format!("a bit of byte {at} of {} flipped", bytes.len())
        }
        3 => {
            bytes.truncate(random.below(bytes.len()));
            fs::write(&path, &bytes).unwrap();
            format!("cut off to {}", bytes.len())
        }
        4 => {
            bytes.extend(vec![random.below(256).to_le_bytes()[0]; 1 + random.below(5000)]);
            fs::write(&path, &bytes).unwrap();
            format!("grown to {}", bytes.len())
        }
        5 => {
            fs::remove_file(&path).unwrap();
            "removed".to_string()
        }
        6 => {
            fs::copy(&other, &path).unwrap();
            format!("replaced by {}", other.display())
        }
        _ => {
            let from = random.below(bytes.len());
            let end = (from + 1 + random.below(4096)).min(bytes.len());
            let before = bytes.clone();
            bytes[from..end].fill(0);
            if bytes == before {
                bytes[from] ^= 0x55;
            }
            fs::write(&path, &bytes).unwrap();
            format!("zeros from {from} to {end}")
        }
    };
    format!("{}: {what}", path.display())
}

/// Damages the list.
fn damage_list(folder: &Path, random: &mut Random) -> String {
    let path = folder.join("chain.jsonl");
    let text = fs::read(&path).unwrap();
    let mut lines: Vec<Vec<u8>> =
        text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (last, place) = (lines.len() - 1, random.below(lines.len()));
    let what = match random.below(6) {
        0 | 1 => {
            // Without the end of the last line, which may be cut off.
            let at = random.below(text.len() - 1);
            let mut text = text.clone();
            text[at] ^= 1 << random.below(8);
            fs::write(&path, &text).unwrap();
            return format!("a bit of byte {at} of the list");
        }
        2 => {
            lines.remove(random.below(last));
            "a line removed"
        }
        3 => {
            lines.swap(place, if place == last { 0 } else { last });
            "two lines in the place of each other"
        }
        4 => {
            // As it was before: a line shorter is what a kill may leave.
            lines.truncate(last - 1 - random.below(last - 1));
            "an older list"
        }
        _ => {
            let line = lines[random.below(last)].clone();
            lines.insert(place, line);
            "a line doubled"
        }
    };
    fs::write(&path, lines.concat()).unwrap();
    what.to_string()
}

/// A copy of a machine's archive on a machine of its own.
fn copied(machine: &Machine) -> Machine {
    let copied = Machine::new();
    fs::copy(machine.db(), copied.db()).unwrap();
    copy(&archive(machine), &archive(&copied));
    copied
}

/// An archive with segments of all levels.
fn compacted(seed: u64) -> (Machine, super::Recorded) {
    let (machine, recorded) = of_all_ages(seed);
    let service = archiving_before(&machine, Duration::ZERO).start();
    await_that("there are all levels", || {
        levels(&machine).ends_with(&[1, 2, 3]) || levels(&machine) == [0, 1, 2, 3]
    });
    until_archived(&machine, &service);
    service.stop();
    (machine, recorded)
}

#[test]
#[ignore = "sweep"]
fn each_of_200_corruptions_of_the_archive_is_found() {
    let (machine, recorded) = compacted(41);
    prove(&machine, &recorded, 20);
    let all = segments(&machine);
    // A moment of each level, and the newest.
    let ends: Vec<usize> = (0..all.len())
        .filter(|place| {
            let next = all.get(place + 1);
            next.is_none_or(|next| next["at"] != all[*place]["at"])
        })
        .collect();
    let found = AtomicUsize::new(0);
    for_each(tried(CORRUPTIONS), |number_of| {
        let (machine, mut random) = (copied(&machine), Random(1000 + u64::from(number_of)));
        let folder = archive(&machine);
        let of_list = number_of % 4 == 0;
        let end = if of_list { all.len() - 1 } else { ends[random.below(ends.len())] };
        let what = match of_list {
            true => damage_list(&folder, &mut random),
            false => damage_file(&folder, needed(&all[..=end]), &all, &mut random),
        };
        let moment = match of_list {
            true => "latest".to_string(),
            false => time(number(&all[end], "at")),
        };
        let mut run = machine.cts("restore").env("CTS_ARCHIVE_DIR", &folder);
        run.command.args(["--at", &moment, "--to"]).arg(machine.path("refused.db"));
        let done = run.run();
        let code = done.0.status.code();
        assert_eq!(code, Some(65), "{number_of}: {what}: {}", done.all_err());
        assert!(!machine.path("refused.db").exists(), "{what}");
        let said = done.all_err();
        assert!(said.contains(folder.to_str().unwrap()), "{what}: {said}");
        if of_list {
            let listed = machine.cts("backups --json").env("CTS_ARCHIVE_DIR", &folder).success();
            assert!(listed.json()["archive"]["fault"].is_string(), "{what}");
        }
        found.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(found.into_inner(), tried(CORRUPTIONS).count());
}

/// The end of the list may be cut off by a power failure: what is not whole is left out, what is whole and changed is a fault.
#[test]
fn a_last_line_that_is_cut_off_is_left_out_and_one_that_is_changed_is_a_fault() {
    let (machine, recorded) = of_all_ages(43);
    let path = archive(&machine).join("chain.jsonl");
    let (text, all) = (fs::read(&path).unwrap(), segments(&machine));
    let last = text[..text.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let before = &all[all.len() - 2];
    let expected = state(&restored(&machine, &time(number(before, "at")), "before.db"));
    assert_eq!(recorded.lock().unwrap()[&expected.0], expected.1);
    for (place, at) in (last..text.len()).step_by(23).chain([text.len() - 1]).enumerate() {
        let mut zeros = text.clone();
        zeros[at..].fill(0);
        for torn in [&text[..at], &zeros] {
            fs::write(&path, torn).unwrap();
            let db = restored(&machine, "latest", &format!("torn-{place}-{}.db", torn.len()));
            assert_eq!(state(&db), expected, "cut off at {at}");
        }
        if at + 1 < text.len() {
            let mut changed = text.clone();
            changed[at] ^= 2;
            fs::write(&path, changed).unwrap();
            let run = machine.cts("restore --at latest --dry-run");
            run.env("CTS_ARCHIVE_DIR", archive(&machine)).status(65).says(&["chain.jsonl"]);
        }
    }
}

/// Merging reads all of what it merges: what is damaged is put aside with what cannot be restored without it, the archive goes on
/// with a new base where that is the newest, and compacts the rest.
#[test]
#[ignore = "sweep"]
fn compaction_merges_nothing_that_is_damaged_and_the_archive_goes_on_with_a_gap() {
    let tries = |seed: u32| {
        let (machine, recorded) = of_all_ages(60 + u64::from(seed));
        let (all, folder, mut random) =
            (segments(&machine), archive(&machine), Random(u64::from(seed)));
        // A base alone is merged with nothing.
        let changes: Vec<usize> = (0..all.len())
            .filter(|place| all[*place]["kind"] == "changes" && all[place - 1]["kind"] == "changes")
            .collect();
        // In the windows that are merged, and for a part in what the newest moment needs.
        let place = match seed % 2 {
            0 => changes[random.below(changes.len())],
            _ => changes[changes.len() - 1 - random.below(3)],
        };
        let path = folder.join(file(&all[place]));
        let mut bytes = fs::read(&path).unwrap();
        let at = random.below(bytes.len());
        bytes[at] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let service = archiving_before(&machine, Duration::ZERO).start();
        service.until("the archive is not compacted");
        assert!(service.log().contains(path.to_str().unwrap()), "{}", service.log());
        await_within(Duration::from_secs(200), "it is healthy", || {
            service.get("/api/health/database").json()["status"] == "healthy"
        });
        await_that("the rest is compacted", || {
            levels(&machine).iter().filter(|l| **l > 0).count() >= 2
        });
        until_archived(&machine, &service);
        service.stop();
        let listed = machine.cts("backups --json").env("CTS_ARCHIVE_DIR", &folder).success().json();
        assert!(listed["archive"]["fault"].is_null(), "{listed}");
        // Of each time of these a service began with a base: what is lost lies before the next, or before a new one.
        let reaches = listed["archive"]["reaches"].as_array().unwrap();
        assert!(reaches.iter().skip(1).all(|reach| reach["gapBefore"].is_string()), "{listed}");
        assert!(!segments(&machine).contains(&all[place]));
        // All that is listed is restored.
        prove(&machine, &recorded, 100);
    };
    // They wait most of the time.
    thread::scope(|scope| {
        let tries = &tries;
        for seed in tried(DAMAGED_BEFORE) {
            scope.spawn(move || tries(seed));
        }
    });
}
