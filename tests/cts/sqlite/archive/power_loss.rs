//! The states that a power failure may leave of the folder of an archive, built from the calls of a service as `strace` has recorded
//! them: what was written to a file since it was synced last is lost, is zeros, or is there for a part; and of the names of a
//! folder only the first of those since the folder was synced last are there. What was synced when it was listed is restored
//! from each, and nothing that is another state; and a service that starts goes on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{
    CREATE, Recorded, archive, archiving, number, restored, segments, state, time, trader,
    until_archived, until_base, write,
};
use crate::support::harness::{Machine, Run, await_that, for_each};
use crate::support::kills::tried;
use crate::support::random::Random;

const STATES: u32 = 200;
/// The calls that change files and folders.
const CALLS: &str = "openat,write,pwrite64,ftruncate,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat";

/// A call that succeeded.
#[derive(Debug)]
enum Call {
    Create(PathBuf),
    CreateFolder(PathBuf),
    /// At a place, or at the end.
    Write(PathBuf, Option<usize>, Vec<u8>),
    Resize(PathBuf, usize),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// The strings of a line of `strace -y -xx`: those in quotes, and those of descriptors.
fn strings(line: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find(['"', '<']) {
        let end = if rest[at..].starts_with('"') { '"' } else { '>' };
        let Some(length) = rest[at + 1..].find(end) else { break };
        let digits = rest[at + 1..at + 1 + length].split("\\x").skip(1);
        found.push(digits.map(|two| u8::from_str_radix(&two[..2], 16).unwrap()).collect());
        rest = &rest[at + 2 + length..];
    }
    found
}

fn call(line: &str) -> Option<Call> {
    let (name, _) = line.split_once('(')?;
    let result = line.rsplit_once(" = ")?.1;
    if result.starts_with('-') {
        return None;
    }
    let mut strings = strings(line);
    let path = |bytes: &Vec<u8>| PathBuf::from(std::ffi::OsString::from_vec(bytes.clone()));
    // Those that are relative to a descriptor have that first.
    let quoted = if line.contains("AT_FDCWD<") { &strings[1..] } else { &strings[..] };
    let count = || line.rsplit_once(", ")?.1.split_once(')')?.0.parse::<usize>().ok();
    Some(match name {
        "openat" if line.contains("O_CREAT") => Call::Create(path(&quoted[0])),
        "mkdir" | "mkdirat" => Call::CreateFolder(path(&quoted[0])),
        "write" => Call::Write(path(&strings[0]), None, strings.swap_remove(1)),
        "pwrite64" => Call::Write(path(&strings[0]), Some(count()?), strings.swap_remove(1)),
        "ftruncate" => Call::Resize(path(&strings[0]), count()?),
        "fsync" | "fdatasync" => Call::Sync(path(&strings[0])),
        "rename" | "renameat" | "renameat2" => {
            // Both may have a descriptor.
            let names: Vec<PathBuf> = line
                .split('"')
                .skip(1)
                .step_by(2)
                .map(|text| {
                    let digits = text.split("\\x").skip(1);
                    path(&digits.map(|two| u8::from_str_radix(two, 16).unwrap()).collect())
                })
                .collect();
            Call::Rename(names[0].clone(), names[1].clone())
        }
        "unlink" | "unlinkat" => Call::Remove(path(&quoted[0])),
        _ => return None,
    })
}

/// The calls of the thread that writes the archive.
fn recorded_calls(prefix: &Path, folder: &Path) -> Vec<Call> {
    let beginning = prefix.file_name().unwrap().to_str().unwrap().to_string();
    let files = fs::read_dir(prefix.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    let is_trace =
        |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().starts_with(&beginning);
    let of_folder = |call: &Call| match call {
        Call::Create(path)
        | Call::CreateFolder(path)
        | Call::Write(path, ..)
        | Call::Resize(path, _)
        | Call::Sync(path)
        | Call::Rename(path, _)
        | Call::Remove(path) => path.starts_with(folder) || path == folder.parent().unwrap(),
    };
    let calls = files.filter(is_trace).map(|file| {
        let text = fs::read_to_string(file).unwrap();
        text.lines().filter_map(call).filter(of_folder).collect::<Vec<_>>()
    });
    calls.max_by_key(Vec::len).unwrap()
}

/// A file: what was written, and what of it is on the disk.
#[derive(Clone, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
}

/// A change of the names of a folder.
#[derive(Clone)]
enum Naming {
    File(PathBuf, usize),
    Folder(PathBuf),
    Renamed(PathBuf, PathBuf, usize),
    Removed(PathBuf),
}

/// A disk after some calls.
#[derive(Default)]
struct Model {
    contents: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    folders: Vec<PathBuf>,
    /// What is on the disk of the names, and for each folder what is not.
    synced: Names,
    pending: BTreeMap<PathBuf, Vec<Naming>>,
    /// Lines of the list that were synced.
    listed: usize,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, usize>,
    folders: Vec<PathBuf>,
}

impl Names {
    fn apply(&mut self, naming: &Naming) {
        match naming.clone() {
            Naming::File(path, content) => drop(self.files.insert(path, content)),
            Naming::Folder(path) => self.folders.push(path),
            Naming::Renamed(from, to, content) => {
                self.files.remove(&from);
                self.files.insert(to, content);
            }
            Naming::Removed(path) => drop(self.files.remove(&path)),
        }
    }
}

impl Model {
    fn note(&mut self, path: &Path, naming: Naming) {
        self.pending.entry(path.parent().unwrap().to_path_buf()).or_default().push(naming);
    }

    fn apply(&mut self, call: &Call) {
        match call {
            Call::Create(path) => {
                if !self.names.contains_key(path) {
                    self.contents.push(Content::default());
                    let content = self.contents.len() - 1;
                    self.names.insert(path.clone(), content);
                    self.note(path, Naming::File(path.clone(), content));
                }
            }
            Call::CreateFolder(path) => {
                self.folders.push(path.clone());
                self.note(path, Naming::Folder(path.clone()));
            }
            Call::Write(path, place, bytes) => {
                let Some(content) = self.names.get(path) else { return };
                let written = &mut self.contents[*content].written;
                let at = place.unwrap_or(written.len());
                written.resize(written.len().max(at + bytes.len()), 0);
                written[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Call::Resize(path, size) => {
                if let Some(content) = self.names.get(path) {
                    self.contents[*content].written.resize(*size, 0);
                }
            }
            Call::Sync(path) => {
                for naming in self.pending.remove(path).unwrap_or_default() {
                    self.synced.apply(&naming);
                }
                if let Some(content) = self.names.get(path) {
                    let content = &mut self.contents[*content];
                    content.synced = content.written.clone();
                    if path.ends_with("chain.jsonl") {
                        self.listed = content.synced.iter().filter(|byte| **byte == b'\n').count();
                    }
                }
            }
            Call::Rename(from, to) => {
                let Some(content) = self.names.remove(from) else { return };
                self.names.insert(to.clone(), content);
                self.note(to, Naming::Renamed(from.clone(), to.clone(), content));
            }
            Call::Remove(path) => {
                if self.names.remove(path).is_some() {
                    self.note(path, Naming::Removed(path.clone()));
                }
            }
        }
    }

    /// Writes what a power failure may leave now of the folder `from` to the folder `to`.
    fn leave(&self, random: &mut Random, from: &Path, to: &Path) {
        let mut names = self.synced.clone();
        for pending in self.pending.values() {
            let kept = random.below(pending.len() + 1);
            pending[..kept].iter().for_each(|naming| names.apply(naming));
        }
        let moved = |path: &Path| path.strip_prefix(from).ok().map(|rest| to.join(rest));
        for folder in names.folders.iter().filter_map(|folder| moved(folder)) {
            // A folder whose own one is lost is lost.
            let _ = fs::create_dir(folder);
        }
        for (path, content) in &names.files {
            let content = &self.contents[*content];
            let (synced, mut bytes) = (content.synced.len(), content.written.clone());
            match random.below(4) {
                0 => bytes = content.synced.clone(),
                1 => bytes[synced.min(content.written.len())..].fill(0),
                2 => bytes.truncate(synced + random.below(bytes.len().saturating_sub(synced) + 1)),
                _ => {}
            }
            if content.written == content.synced {
                bytes = content.synced.clone();
            }
            if let Some(path) = moved(path).filter(|path| path.parent().unwrap().is_dir()) {
                fs::write(path, bytes).unwrap();
            }
        }
    }
}

/// A machine whose service has archived, the calls of that, and what the states were.
fn traced() -> (Machine, Vec<Call>, Recorded) {
    let machine = Machine::migrated();
    let conn = trader(&machine.db());
    conn.execute_batch(CREATE).unwrap();
    let (recorded, mut random) = (Recorded::default(), Random(51));
    let prefix = machine.path("trace");
    let mut command = Command::new("strace");
    // Detached, so that the child is the service.
    command.args([
        "-D",
        "-ff",
        "-y",
        "-xx",
        "-s",
        "100000000",
        "-e",
        &format!("trace={CALLS}"),
        "-o",
    ]);
    command.arg(&prefix).arg(env!("CARGO_BIN_EXE_cts")).args(["serve", "--port", "0"]).env_clear();
    command.env("SQLITE_DB_PATH", machine.db()).env("CTS_ARCHIVE_DIR", archive(&machine));
    let service = Run { command }.env("CTS_BACKUP_EVERY", "0").start();
    until_base(&machine);
    await_that("there are segments", || {
        write(&conn, &mut random, &recorded);
        segments(&machine).len() > 9
    });
    until_archived(&machine, &service);
    assert_eq!(service.stop().0, Some(0));
    await_that("the trace is written", || {
        let traces = fs::read_dir(machine.path(".")).unwrap().map(|entry| entry.unwrap().path());
        traces
            .filter(|path| path.to_string_lossy().contains("trace."))
            .all(|path| fs::read_to_string(path).unwrap().contains("+++"))
    });
    let calls = recorded_calls(&prefix, &archive(&machine));
    (machine, calls, recorded)
}

#[test]
#[ignore = "sweep"]
fn whatever_a_power_failure_leaves_of_the_archive_what_was_listed_is_restored() {
    let (source, calls, recorded) = traced();
    let all = segments(&source);
    let mut whole = Model::default();
    calls.iter().for_each(|call| whole.apply(call));
    let list = whole.names[&archive(&source).join("chain.jsonl")];
    assert_eq!(
        whole.contents[list].synced,
        fs::read(archive(&source).join("chain.jsonl")).unwrap()
    );
    for_each(tried(STATES), |number_of| {
        let mut random = Random(5000 + u64::from(number_of));
        let (mut model, end) = (Model::default(), 1 + random.below(calls.len()));
        calls[..end].iter().for_each(|call| model.apply(call));
        let machine = Machine::new();
        fs::copy(source.db(), machine.db()).unwrap();
        model.leave(&mut random, source.path("archive").parent().unwrap(), &machine.path("."));
        let what = format!("state {number_of}, after {end} of {} calls", calls.len());
        let proves = |segment: &Value, name: &str| {
            let db = restored(&machine, &time(number(segment, "at")), name);
            let (n, content) = state(&db);
            assert_eq!(recorded.lock().unwrap().get(&n).unwrap_or(&content), &content, "{what}");
            n
        };
        // All that was listed is there.
        let listed = whole_lines(&machine);
        assert!(listed.len() >= model.listed, "{what}: {} of {}", listed.len(), model.listed);
        assert_eq!(listed[..model.listed], all[..model.listed], "{what}");
        if model.listed > 0 {
            proves(&all[model.listed - 1], "listed.db");
            proves(&all[random.below(model.listed)], "any.db");
        }
        // And no other state.
        let mut run = machine.cts("restore").env("CTS_ARCHIVE_DIR", archive(&machine));
        run.command.args(["--at", "latest", "--to"]).arg(machine.path("latest.db"));
        let done = run.run();
        match done.0.status.code() {
            Some(0) => {
                let (n, content) = state(&machine.path("latest.db"));
                assert_eq!(
                    recorded.lock().unwrap().get(&n).unwrap_or(&content),
                    &content,
                    "{what}"
                );
            }
            code => assert_eq!(code, Some(65), "{what}: {}", done.all_err()),
        }
        if number_of % 4 != 0 {
            return;
        }
        let service = archiving(&machine).start();
        until_base(&machine);
        until_archived(&machine, &service);
        service.stop();
        let now = segments(&machine);
        // What was there is listed on, unless the list itself was damaged.
        let aside =
            fs::read_dir(archive(&machine)).unwrap().map(|entry| entry.unwrap().file_name());
        let is_aside = aside.into_iter().any(|n| n.to_string_lossy().starts_with("damaged-"));
        assert!(!is_aside, "{what}: taken for damaged");
        assert_eq!(now[..model.listed], all[..model.listed], "{what}");
        if model.listed > 0 {
            proves(&now[model.listed - 1], "later.db");
        }
        let (n, content) = state(&restored(&machine, "latest", "newest.db"));
        assert_eq!(recorded.lock().unwrap()[&n], content, "{what}");
    });
}

/// The whole lines at the beginning of the list.
fn whole_lines(machine: &Machine) -> Vec<Value> {
    let text = fs::read(archive(machine).join("chain.jsonl")).unwrap_or_default();
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let whole = lines.filter_map(|line| line.strip_suffix(b"\n"));
    whole.map_while(|line| serde_json::from_slice(line).ok()).collect()
}
