//! Each fault of the files of a database has its finding.

use super::*;
use crate::store::finding::Grade::{self, Attention, Bad, Good, Unknown};

fn exists(mode: u32) -> PathState {
    file_of(997, mode, 4096)
}

fn file_of(uid: u32, mode: u32, size_bytes: u64) -> PathState {
    PathState::Exists(Attributes { is_folder: false, mode, uid, size_bytes })
}

fn folder(mode: u32) -> PathState {
    PathState::Exists(Attributes { is_folder: true, mode, uid: 997, size_bytes: 4096 })
}

fn as_cts_makes_it() -> FileState {
    FileState {
        path: "/data/cts.db".into(),
        uid: 997,
        folder: folder(0o700),
        can_create_folder: false,
        file: exists(0o600),
        wal: exists(0o600),
        shm: exists(0o600),
        magic: Some(0xef53),
    }
}

/// The findings that are not good.
fn faults(group: bool, change: impl FnOnce(&mut FileState)) -> Vec<(String, Grade)> {
    let mut state = as_cts_makes_it();
    change(&mut state);
    let findings = state.findings(FileAccess { group, allow_network: false });
    findings.into_iter().filter(|f| f.grade != Good).map(|f| (f.name, f.grade)).collect()
}

fn one(name: &str, grade: Grade) -> Vec<(String, Grade)> {
    vec![(name.to_string(), grade)]
}

#[test]
fn what_cts_makes_is_good() {
    assert_eq!(faults(false, |_| {}), []);
    let shared = |state: &mut FileState| {
        state.folder = folder(0o2770);
        for file in [&mut state.file, &mut state.wal, &mut state.shm] {
            *file = exists(0o660);
        }
    };
    assert_eq!(faults(true, shared), []);
    assert_eq!(faults(false, |state| state.folder = folder(0o755)), []);
}

#[test]
fn each_fault_of_the_files_has_its_finding() {
    let attention = |name| one(name, Attention);
    assert_eq!(faults(false, |state| state.folder = folder(0o777)), attention("folder"));
    assert_eq!(faults(false, |state| state.folder = folder(0o770)), attention("folder"));
    assert_eq!(faults(false, |state| state.file = exists(0o644)), attention("file"));
    assert_eq!(faults(false, |state| state.shm = exists(0o606)), attention("-shm"));
    let of_root = file_of(0, 0o600, 0);
    assert_eq!(faults(false, |state| state.wal = of_root), attention("-wal"));
    let tmpfs = faults(false, |state| state.magic = Some(0x0102_1994));
    assert_eq!(tmpfs, attention("file system"));
    assert_eq!(faults(false, |state| state.magic = Some(0x6969)), one("file system", Bad));
    let without_group: Vec<_> =
        ["folder", "file", "-wal", "-shm"].map(|name| (name.into(), Attention)).into();
    assert_eq!(faults(true, |_| {}), without_group);
    assert_eq!(faults(false, |state| state.folder = exists(0o700)), one("folder", Bad));
}

#[test]
fn a_missing_folder_is_bad_only_if_it_cannot_be_created() {
    let missing = |can_create_folder| {
        move |state: &mut FileState| {
            *state = FileState { can_create_folder, ..as_cts_makes_it() };
            for path in [&mut state.folder, &mut state.file, &mut state.wal, &mut state.shm] {
                *path = PathState::Missing;
            }
        }
    };
    assert_eq!(faults(false, missing(true)), one("folder", Attention));
    assert_eq!(faults(false, missing(false)), one("folder", Bad));
}

#[test]
fn what_this_user_may_not_see_is_unknown_and_the_remedy_names_the_owner() {
    let hidden = || PathState::Hidden(ClosedFolder { path: "/data".into(), uid: 4_000_000 });
    let mut state = as_cts_makes_it();
    (state.folder, state.file) = (folder(0o700), hidden());
    (state.wal, state.shm) = (hidden(), hidden());
    let findings = state.findings(FileAccess::default());
    let unknown: Vec<_> = findings.iter().filter(|f| f.grade == Unknown).collect();
    assert_eq!(unknown.len(), 1, "{findings:?}");
    let command = "sudo -u '#4000000' cts doctor --db /data/cts.db";
    assert_eq!(unknown[0].remedy.as_deref(), Some(command));
    let error = || Error::new(Kind::Permission, "cannot be read");
    assert_eq!(state.unreadable_contents(error()), None);
    let grade = |state: FileState| state.unreadable_contents(error()).map(|f| f.grade);
    assert_eq!(grade(as_cts_makes_it()), Some(Bad));
    assert_eq!(grade(FileState { uid: 5, ..as_cts_makes_it() }), Some(Unknown));
}
