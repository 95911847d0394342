//! What a person should know of a SQLite database before trading hangs on it: the file, its
//! folder, its disk, and whether its pages are whole. Nothing is changed, and no file is made
//! beside a database at rest.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustix::fs::Access as Right;
use rustix::process::geteuid;

use super::{DatabaseFile, FileAccess, Sqlite, connect, file};
use crate::error::{Error, Kind, Result};
use crate::store::finding::{Finding, Group};
use crate::store::{Damage, Examination, FileOwner, Snapshot, Store, WaitPolicy};
use crate::system::shell::word;
use crate::system::users;

/// How long its pages are looked at; a large file is not read to its end.
const PAGES_WITHIN: Duration = Duration::from_secs(3);
/// A running cts keeps the WAL shorter than this, in bytes.
const WAL_LONG: u64 = 256 << 20;

/// Looks at the file and into it.
pub fn examine(database: &DatabaseFile, wait: &WaitPolicy<'_>) -> Examination {
    let group = Group::Files;
    let path = match file::resolve(&database.path) {
        Ok(path) => path,
        Err(e) => {
            return Examination { findings: vec![bad(group, "file", e)], ..Default::default() };
        }
    };
    let seen = Seen::at(&path);
    let mut findings = seen.judged(database.access);
    let place = file::storage_status(&path, None);
    let mut snapshot = None;
    match look_into(database, &path, wait) {
        Ok(Some(found)) => {
            findings.push(journal(file::is_wal(&path)));
            findings.push(pages(found.damage));
            snapshot = Some(found.snapshot);
        }
        Ok(None) => {
            let what = format!("{}: there is none yet", path.display());
            let seen = Finding::attention(Group::Database, "database", what);
            findings.push(seen.remedy("cts migrate, or systemctl start cts"));
        }
        Err(error) => findings.extend(seen.refused(error)),
    }
    let owner = seen.owner(database.access);
    Examination { findings, snapshot, place, owner }
}

/// What is in the file.
struct Inside {
    snapshot: Snapshot,
    damage: Result<Damage>,
}

fn look_into(
    database: &DatabaseFile,
    path: &Path,
    wait: &WaitPolicy<'_>,
) -> Result<Option<Inside>> {
    let access = database.access;
    if let Some(before) = connect::rest(path) {
        let found = Sqlite::open_at_rest(path, access, wait)
            .and_then(|store| store.map(|store| inside(store, wait)).transpose());
        if connect::rest(path) == Some(before) {
            return found;
        }
        // Somebody has begun to write; what was read may be of two moments.
    }
    let store = Sqlite::open_read_only(path, access, wait)?;
    store.map(|store| inside(store, wait)).transpose()
}

fn inside(mut store: Sqlite, wait: &WaitPolicy<'_>) -> Result<Inside> {
    let snapshot = store.inspect()?;
    let stop = Arc::clone(wait.cancelled);
    thread::spawn(move || {
        thread::sleep(PAGES_WITHIN);
        stop.store(true, Ordering::Relaxed);
    });
    let damage = store.find_damage(false);
    Ok(Inside { snapshot, damage })
}

fn journal(is_wal: bool) -> Finding {
    let name = "journal mode";
    if is_wal {
        return Finding::good(Group::Database, name, "wal");
    }
    let what = "not wal: programs that read and programs that write wait for one another";
    Finding::attention(Group::Database, name, what)
        .remedy("cts migrate, or a start of cts, sets it to wal")
}

fn pages(damage: Result<Damage>) -> Finding {
    let (group, name) = (Group::Database, "pages");
    match damage {
        Ok(Damage { pages, .. }) if pages.is_empty() => {
            Finding::good(group, name, "no damage; cts --check --deep reads the indexes too")
        }
        Ok(Damage { pages, .. }) => {
            let what = format!("damaged: {}", pages.first().map_or("", String::as_str));
            Finding::bad(group, name, what).remedy(
                "cts --check --deep tells all of it; stop the trading programs, copy the file and its -wal, restore a backup",
            )
        }
        Err(error) if error.kind == Kind::TryAgain => {
            let what = format!(
                "not looked at to the end: it takes more than {} s",
                PAGES_WITHIN.as_secs()
            );
            Finding::skipped(group, name, what).remedy("cts --check --deep")
        }
        Err(error) => bad(group, name, error),
    }
}

fn bad(group: Group, name: &str, error: Error) -> Finding {
    Finding { remedy: error.remedy.clone(), ..Finding::bad(group, name, error.message()) }
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PathEntry {
    Missing,
    /// A folder on the way to it, of this user, lets nobody else in.
    Hidden(PathBuf, u32),
    There(Stat),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    mode: u32,
    uid: u32,
    bytes: u64,
}

impl PathEntry {
    fn at(path: &Path) -> PathEntry {
        match fs::metadata(path) {
            Ok(meta) => PathEntry::There(Stat {
                mode: meta.mode() & 0o7777,
                uid: meta.uid(),
                bytes: meta.len(),
            }),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => path
                .ancestors()
                .skip(1)
                .find_map(|folder| Some((folder, fs::metadata(folder).ok()?)))
                .map_or(PathEntry::Missing, |(folder, meta)| {
                    PathEntry::Hidden(folder.into(), meta.uid())
                }),
            Err(_) => PathEntry::Missing,
        }
    }
}

/// What the file system shows, with no word of SQLite.
struct Seen {
    path: PathBuf,
    /// This user.
    uid: u32,
    folder: PathEntry,
    /// Whether this user may make the folder, where it is missing.
    can_make: bool,
    file: PathEntry,
    wal: PathEntry,
    shm: PathEntry,
    /// The file system's magic number.
    magic: Option<u64>,
}

impl Seen {
    fn at(path: &Path) -> Seen {
        let folder = path.parent().unwrap_or(path);
        let existing = path.ancestors().skip(1).find(|p| p.exists()).unwrap_or(path);
        Seen {
            path: path.to_path_buf(),
            uid: geteuid().as_raw(),
            folder: PathEntry::at(folder),
            can_make: rustix::fs::access(existing, Right::WRITE_OK | Right::EXEC_OK).is_ok(),
            file: PathEntry::at(path),
            wal: PathEntry::at(&file::beside(path, "-wal")),
            shm: PathEntry::at(&file::beside(path, "-shm")),
            magic: rustix::fs::statfs(existing).ok().map(|fs| fs.f_type as u64),
        }
    }

    fn judged(&self, access: FileAccess) -> Vec<Finding> {
        let mut all = vec![self.folder(access.group)];
        all.extend(self.file(access.group));
        all.extend(self.beside(access.group));
        all.extend(self.wal());
        all.extend(self.magic.map(|magic| file_system(&self.path, magic, access.allow_network)));
        all
    }

    fn folder(&self, group: bool) -> Finding {
        let folder = self.path.parent().unwrap_or(&self.path);
        let (shown, name) = (folder.display(), "folder");
        let stat = match &self.folder {
            PathEntry::There(stat) => stat,
            PathEntry::Hidden(..) => return self.hidden(name),
            PathEntry::Missing => return self.no_folder(folder, group),
        };
        let what = format!("{shown}, mode {:04o}, of {}", stat.mode, users::name(stat.uid));
        let wanted = if group { "2770" } else { "700" };
        let remedy = format!("chmod {wanted} {}", word(folder));
        let attention = |why: &str| {
            Finding::attention(Group::Files, name, format!("{what}: {why}")).remedy(&*remedy)
        };
        if stat.mode & 0o002 != 0 {
            attention("everybody may put another file in the place of the database")
        } else if !group && stat.mode & 0o020 != 0 {
            attention("its group may put another file in the place of the database")
        } else if group && stat.mode & 0o2070 != 0o2070 {
            attention("CTS_GROUP_ACCESS is on, and its group cannot work in it")
        } else {
            Finding::good(Group::Files, name, what)
        }
    }

    fn no_folder(&self, folder: &Path, group: bool) -> Finding {
        let mode = if group { "2770" } else { "700" };
        let make = format!("sudo install -d -o cts -g cts -m {mode} {}", word(folder));
        let shown = folder.display();
        if self.can_make {
            let what = format!("{shown}: there is none; a start of cts makes it, if its user may");
            Finding::attention(Group::Files, "folder", what).remedy(make)
        } else {
            let what = format!("{shown}: there is none, and this user may not make it");
            Finding::bad(Group::Files, "folder", what).remedy(make)
        }
    }

    /// What this user may not see, and who may.
    fn hidden(&self, name: &str) -> Finding {
        let (closed, uid) = match (&self.folder, &self.file) {
            (PathEntry::Hidden(folder, uid), _) | (_, PathEntry::Hidden(folder, uid)) => {
                (folder, *uid)
            }
            (_, PathEntry::There(stat)) => (&self.path, stat.uid),
            _ => (&self.path, 0),
        };
        let (owner, me) = (users::name(uid), users::name(self.uid));
        let what = format!("{}: of {owner}, and closed to this user ({me})", closed.display());
        Finding::unknown(Group::Files, name, what).remedy(self.as_user(uid))
    }

    fn as_user(&self, uid: u32) -> String {
        let user = match users::name(uid) {
            _ if uid == 0 => String::new(),
            user if user.starts_with('#') => format!("-u '{user}' "),
            user => format!("-u {user} "),
        };
        format!("sudo {user}cts doctor --db {}", word(&self.path))
    }

    fn file(&self, group: bool) -> Option<Finding> {
        let name = "file";
        match &self.file {
            PathEntry::Missing => None,
            // Of the folder it is said already.
            PathEntry::Hidden(..) if matches!(self.folder, PathEntry::Hidden(..)) => None,
            PathEntry::Hidden(..) => Some(self.hidden(name)),
            PathEntry::There(stat) => Some(mode(name, &self.path, *stat, group)),
        }
    }

    /// The side files must be as the database is.
    fn beside(&self, group: bool) -> Vec<Finding> {
        let PathEntry::There(file) = self.file else { return Vec::new() };
        let judged = |(suffix, entry): (&str, &PathEntry)| {
            let PathEntry::There(stat) = entry else { return None };
            let path = file::beside(&self.path, suffix);
            if stat.uid != file.uid {
                let (is, wanted) = (users::name(stat.uid), users::name(file.uid));
                let what = format!("{} belongs to {is}, the database to {wanted}", path.display());
                let seen = Finding::attention(Group::Files, suffix, what);
                return Some(seen.remedy(format!("chown {wanted}: {}", word(&path))));
            }
            let seen = mode(suffix, &path, *stat, group);
            seen.remedy.is_some().then_some(seen)
        };
        [("-wal", &self.wal), ("-shm", &self.shm)].into_iter().filter_map(judged).collect()
    }

    fn wal(&self) -> Option<Finding> {
        let PathEntry::There(stat) = self.wal else { return None };
        let what = format!("{} KiB", stat.bytes >> 10);
        Some(if stat.bytes < WAL_LONG {
            Finding::good(Group::Files, "WAL", what)
        } else {
            let what = format!("{what}: nobody copies it into the database");
            Finding::attention(Group::Files, "WAL", what).remedy(
                "let cts serve run; if it does, a program keeps a read transaction open: fuser -v on the file",
            )
        })
    }

    /// Why it could not be looked into. What another user may do is no fault of the database.
    fn refused(&self, error: Error) -> Option<Finding> {
        let (group, name) = (Group::Database, "database");
        let (kind, what, remedy) = (error.kind, error.message(), error.remedy);
        Some(match &self.file {
            // It is said already.
            PathEntry::Hidden(..) => return None,
            PathEntry::There(stat) if kind == Kind::Permission && stat.uid != self.uid => {
                Finding::unknown(group, name, what).remedy(self.as_user(stat.uid))
            }
            PathEntry::There(_) if kind == Kind::TryAgain => {
                Finding { remedy, ..Finding::unknown(group, name, what) }
            }
            _ => Finding { remedy, ..Finding::bad(group, name, what) },
        })
    }

    fn owner(&self, access: FileAccess) -> Option<FileOwner> {
        let PathEntry::There(stat) = self.file else { return None };
        Some(FileOwner { path: word(&self.path), uid: stat.uid, shared: access.group })
    }
}

/// A file of the database, which nobody else is to read.
fn mode(name: &str, path: &Path, stat: Stat, group: bool) -> Finding {
    let (allowed, mode) = (file::mode(group), stat.mode & 0o777);
    let what = format!(
        "{}, mode {mode:04o}, of {}, {} KiB",
        path.display(),
        users::name(stat.uid),
        stat.bytes >> 10
    );
    let why = if mode & !allowed != 0 {
        "lets others in"
    } else if group && mode != allowed {
        "keeps its group out, though CTS_GROUP_ACCESS is on"
    } else {
        return Finding::good(Group::Files, name, what);
    };
    let remedy = format!("chmod {allowed:o} {}, which a start of cts does too", word(path));
    Finding::attention(Group::Files, name, format!("{what}: {why}")).remedy(remedy)
}

/// The file system, by its magic number (statfs(2), linux/magic.h).
fn file_system(path: &Path, magic: u64, network_allowed: bool) -> Finding {
    let name = "file system";
    let local = match magic & 0xffff_ffff {
        0x0102_1994 | 0x8584_58f6 => {
            let what = "tmpfs: in memory, and gone after a reboot";
            return Finding::attention(Group::Files, name, what)
                .remedy("set SQLITE_DB_PATH (or --db) to a disk");
        }
        0x794c_7630 => {
            let what = "overlay: of a container, and gone with it";
            return Finding::attention(Group::Files, name, what)
                .remedy("mount a volume, and set SQLITE_DB_PATH (or --db) to a file on it");
        }
        0x6573_5546 => {
            let what = "FUSE: may lead over a network, where SQLite's locks are not safe";
            return Finding::attention(Group::Files, name, what)
                .remedy(format!("findmnt -T {}", word(path)));
        }
        0xef53 => "ext4, local".to_string(),
        0x5846_5342 => "XFS, local".to_string(),
        0x9123_683e => "Btrfs, local".to_string(),
        0x2fc1_2fc1 => "ZFS, local".to_string(),
        0xf2f5_2010 => "F2FS, local".to_string(),
        other => format!("0x{other:x}, none that is known to be a network's"),
    };
    let Some(network) = file::network_name(magic) else {
        return Finding::good(Group::Files, name, local);
    };
    let what = format!("{network}: of a network, where SQLite's locks are not safe");
    if network_allowed {
        let what = format!("{what}; CTS_ALLOW_NETWORK_FS allows it");
        return Finding::attention(Group::Files, name, what)
            .remedy("set SQLITE_DB_PATH (or --db) to a local disk");
    }
    Finding::bad(Group::Files, name, what).remedy("set SQLITE_DB_PATH (or --db) to a local disk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade::{self, Attention, Bad, Good, Unknown};

    fn there(mode: u32) -> PathEntry {
        PathEntry::There(Stat { mode, uid: 997, bytes: 4096 })
    }

    fn whole() -> Seen {
        Seen {
            path: "/data/cts.db".into(),
            uid: 997,
            folder: there(0o700),
            can_make: false,
            file: there(0o600),
            wal: there(0o600),
            shm: there(0o600),
            magic: Some(0xef53),
        }
    }

    /// What is not good.
    fn judged(group: bool, change: impl FnOnce(&mut Seen)) -> Vec<(String, Grade)> {
        let mut seen = whole();
        change(&mut seen);
        let all = seen.judged(FileAccess { group, allow_network: false });
        all.into_iter().filter(|o| o.grade != Good).map(|o| (o.name, o.grade)).collect()
    }

    fn one(name: &str, grade: Grade) -> Vec<(String, Grade)> {
        vec![(name.to_string(), grade)]
    }

    #[test]
    fn what_cts_makes_is_good() {
        assert_eq!(judged(false, |_| {}), []);
        let shared = |seen: &mut Seen| {
            seen.folder = there(0o2770);
            for entry in [&mut seen.file, &mut seen.wal, &mut seen.shm] {
                *entry = there(0o660);
            }
        };
        assert_eq!(judged(true, shared), []);
        assert_eq!(judged(false, |seen| seen.folder = there(0o755)), []);
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_the_place_is_said() {
        let attention = |name| one(name, Attention);
        assert_eq!(judged(false, |seen| seen.folder = there(0o777)), attention("folder"));
        assert_eq!(judged(false, |seen| seen.folder = there(0o770)), attention("folder"));
        assert_eq!(judged(false, |seen| seen.file = there(0o644)), attention("file"));
        assert_eq!(judged(false, |seen| seen.shm = there(0o606)), attention("-shm"));
        let roots = PathEntry::There(Stat { mode: 0o600, uid: 0, bytes: 0 });
        assert_eq!(judged(false, |seen| seen.wal = roots), attention("-wal"));
        let long = PathEntry::There(Stat { mode: 0o600, uid: 997, bytes: 1 << 30 });
        assert_eq!(judged(false, |seen| seen.wal = long), attention("WAL"));
        assert_eq!(judged(false, |seen| seen.magic = Some(0x0102_1994)), attention("file system"));
        assert_eq!(judged(false, |seen| seen.magic = Some(0x6969)), one("file system", Bad));
        let narrow: Vec<_> =
            ["folder", "file", "-wal", "-shm"].map(|name| (name.into(), Attention)).into();
        assert_eq!(judged(true, |_| {}), narrow);
    }

    #[test]
    fn a_missing_folder_is_made_by_who_may() {
        let missing = |can_make| {
            move |seen: &mut Seen| {
                *seen = Seen { can_make, ..whole() };
                seen.folder = PathEntry::Missing;
                (seen.file, seen.wal, seen.shm) =
                    (PathEntry::Missing, PathEntry::Missing, PathEntry::Missing);
            }
        };
        assert_eq!(judged(false, missing(true)), one("folder", Attention));
        assert_eq!(judged(false, missing(false)), one("folder", Bad));
    }

    #[test]
    fn what_another_user_keeps_closed_is_unknown_and_says_who_can_look() {
        let hidden = || PathEntry::Hidden("/data".into(), 4_000_000);
        let mut seen = whole();
        (seen.folder, seen.file, seen.wal, seen.shm) = (there(0o700), hidden(), hidden(), hidden());
        let all = seen.judged(FileAccess::default());
        let closed: Vec<_> = all.iter().filter(|o| o.grade == Unknown).collect();
        assert_eq!(closed.len(), 1, "{all:?}");
        let command = "sudo -u '#4000000' cts doctor --db /data/cts.db";
        assert_eq!(closed[0].remedy.as_deref(), Some(command));
        let error = || Error::new(Kind::Permission, "cannot be read");
        assert_eq!(seen.refused(error()), None);
        let grade = |seen: Seen| seen.refused(error()).map(|seen| seen.grade);
        assert_eq!(grade(whole()), Some(Bad));
        assert_eq!(grade(Seen { uid: 5, ..whole() }), Some(Unknown));
    }

    #[test]
    fn a_network_is_bad_unless_it_is_allowed() {
        let grade = |allowed| file_system(Path::new("/n/cts.db"), 0xff53_4d42, allowed).grade;
        assert_eq!((grade(false), grade(true)), (Bad, Attention));
        let grade = |magic| file_system(Path::new("/n/cts.db"), magic, false).grade;
        assert_eq!(
            (grade(0x794c_7630), grade(0x6573_5546), grade(1)),
            (Attention, Attention, Good)
        );
    }

    #[test]
    fn pages_and_journal_have_their_grades() {
        let damage = Damage { pages: vec!["Page 3".into()], ..Damage::default() };
        assert_eq!(pages(Ok(damage)).grade, Bad);
        assert_eq!(pages(Ok(Damage::default())).grade, Good);
        let late = pages(Err(crate::store::interrupted()));
        assert_eq!(late.grade, Grade::Skipped);
        assert_eq!((journal(true).grade, journal(false).grade), (Good, Attention));
    }
}
