//! The folder of backups and its disk: who can read it, and whether it is lost with the disk of the database.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backup::{BackupFolder, BackupInventory};
use crate::error::Result;
use crate::store::finding::{Finding, Group};
use crate::store::{Backend, DatabaseIdentity};
use crate::system::shell::word;
use crate::system::users;

/// How many levels of devices are followed from a file system to its disks: a volume on an encrypted device in an array.
const DEVICE_LEVELS_MAX: u32 = 8;

/// What was read of a folder of backups.
pub struct FolderExamination {
    /// What it holds, or why that cannot be read.
    pub inventory: Result<Arc<BackupInventory>>,
    /// Its mode and owner; `None` if it does not exist, or may not be seen.
    pub owner: Option<FolderOwner>,
    /// The backups that other users can read, by name.
    pub readable: Vec<String>,
    /// Where it is.
    pub place: FolderPlace,
}

/// Who owns a folder, and its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderOwner {
    /// The user's id.
    pub uid: u32,
    /// The mode.
    pub mode: u32,
}

/// Where a folder of backups is, as far as their survival depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderPlace {
    /// On the disk of the database: lost with it.
    SameDisk,
    /// In memory: lost at a reboot.
    Memory,
    /// On another disk, or on another machine.
    Elsewhere,
    /// That cannot be told; or the database is on a server.
    Unknown,
}

/// Reads the folder for this database, and compares its disk with that of the database.
pub fn read(folder: &BackupFolder, identity: &DatabaseIdentity) -> FolderExamination {
    let inventory = folder.inventory(identity).map(Arc::new);
    let is_file = identity.backend == Backend::Sqlite;
    let database = is_file.then(|| Path::new(&identity.location));
    let owner = fs::metadata(folder.path()).ok().map(|found| owner(&found));
    let names =
        inventory.iter().flat_map(|inventory| &inventory.backups).map(|backup| &backup.file);
    let is_readable = |name: &&String| {
        fs::metadata(folder.path().join(name)).is_ok_and(|found| found.mode() & 0o077 != 0)
    };
    let readable = names.filter(is_readable).cloned().collect();
    FolderExamination { readable, owner, place: place(folder.path(), database), inventory }
}

/// Owner and mode of a folder.
pub fn owner(found: &Metadata) -> FolderOwner {
    FolderOwner { uid: found.uid(), mode: found.mode() & 0o7777 }
}

/// Who can read a folder, and whether the service can write it. `holder` begins a clause about the keys that it has.
pub fn access(
    group: Group,
    folder: &Path,
    owner: FolderOwner,
    service_user: Option<&str>,
    holder: &str,
) -> Finding {
    let name = "folder";
    let mode = owner.mode & 0o7777;
    let shown = format!("{}, mode {mode:04o}, owner {}", folder.display(), users::name(owner.uid));
    let service = service_user.and_then(|user| Some((user, users::uid(user)?)));
    match service {
        Some((user, uid)) if uid != owner.uid && uid != 0 && mode & 0o022 == 0 => {
            let what = format!("{shown}: cts.service, run by {user}, may not write it");
            Finding::attention(group, name, what)
                .remedy(format!("chown -R {user}: {}", word(folder)))
        }
        _ if mode & 0o027 != 0 => {
            let what = format!("{shown}: other users have access, and {holder} keys of exchanges");
            Finding::attention(group, name, what).remedy(format!("chmod 700 {}", word(folder)))
        }
        _ => Finding::good(group, name, shown),
    }
}

/// Where a folder is, compared with the disk of the database.
pub fn place(folder: &Path, database: Option<&Path>) -> FolderPlace {
    let Some(folder) = existing(folder) else { return FolderPlace::Unknown };
    // tmpfs and ramfs (linux/magic.h).
    let magic = rustix::fs::statfs(&folder).map(|found| found.f_type as u64 & 0xffff_ffff);
    if matches!(magic, Ok(0x0102_1994 | 0x8584_58f6)) {
        return FolderPlace::Memory;
    }
    let Some(database) = database.and_then(existing) else { return FolderPlace::Unknown };
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    if device(&folder).is_some_and(|found| device(&database) == Some(found)) {
        return FolderPlace::SameDisk;
    }
    match disks_of(&folder).is_disjoint(&disks_of(&database)) {
        true => FolderPlace::Elsewhere,
        false => FolderPlace::SameDisk,
    }
}

/// The path with links resolved, or that of the first folder above it which exists.
fn existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|path| fs::canonicalize(path).ok())
}

/// The disks that the file system of a path is on, as paths of sysfs; none if it is on no disk, or that is not known. Its
/// device is that of the mount: subvolumes of Btrfs have numbers of their own.
fn disks_of(path: &Path) -> BTreeSet<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let number = fs::metadata(path).map(|found| found.dev()).unwrap_or_default();
    let own = [number].into_iter().chain(
        mounted_device(&mounts, path)
            .and_then(|source| fs::metadata(source).map(|found| found.rdev()).ok()),
    );
    let mut disks = BTreeSet::new();
    for number in own {
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        add_disks(Path::new(&format!("/sys/dev/block/{major}:{minor}")), &mut disks, 0);
    }
    disks
}

/// The device file of the mount that a path is below (proc_pid_mountinfo(5)).
fn mounted_device<'m>(mounts: &'m str, path: &Path) -> Option<&'m str> {
    let mount = |line: &'m str| {
        let (fields, of_file_system) = line.split_once(" - ")?;
        let point = fields.split(' ').nth(4)?;
        let source = of_file_system.split(' ').nth(1)?;
        path.starts_with(point).then_some((point.len(), source))
    };
    // Of two mounts at one point the later one is seen.
    let (_, source) = mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length)?;
    source.starts_with("/dev/").then_some(source)
}

/// Adds the disk of a block device: the whole one for a partition, and those below a mapped device or an array.
fn add_disks(device: &Path, disks: &mut BTreeSet<PathBuf>, level: u32) {
    let Ok(device) = fs::canonicalize(device) else { return };
    if level > DEVICE_LEVELS_MAX {
        return;
    }
    if device.join("partition").exists() {
        disks.extend(device.parent().map(Path::to_path_buf));
        return;
    }
    let below: Vec<PathBuf> = fs::read_dir(device.join("slaves"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    if below.is_empty() {
        disks.insert(device);
    } else {
        below.iter().for_each(|below| add_disks(below, disks, level + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_of_the_deepest_mount_is_the_one_of_a_path() {
        let mounts = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 0:26 /data /data rw - btrfs /dev/vdb rw,subvol=/data
31 22 0:27 / /mnt/nfs rw - nfs4 server:/export rw
32 22 0:28 / /run rw - tmpfs tmpfs rw";
        for (path, device) in [
            ("/data/cts.db", Some("/dev/vdb")),
            ("/database/cts.db", Some("/dev/vda1")),
            ("/mnt/nfs/backups", None),
            ("/run/x", None),
        ] {
            assert_eq!(mounted_device(mounts, Path::new(path)), device, "{path}");
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_yet_is_on_the_disk_of_the_one_above_it() {
        let folder = tempfile::TempDir::new().unwrap();
        let (database, backups) = (folder.path().join("cts.db"), folder.path().join("a/b"));
        assert!(matches!(
            place(&backups, Some(&database)),
            FolderPlace::SameDisk | FolderPlace::Memory
        ));
        assert_eq!(place(Path::new("/dev/shm/x"), Some(&database)), FolderPlace::Memory);
    }
}
