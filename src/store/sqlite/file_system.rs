//! The kind of file system that the database is on, by its magic number. On a network file system
//! SQLite's locks and shared memory are not safe.

use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::store::finding::{Finding, Group};
use crate::system::shell::word;

/// Refuses a network file system, unless it is `allowed`.
///
/// # Errors
/// The path is on a network file system.
pub fn refuse_network(path: &Path, allowed: bool) -> Result<()> {
    match magic_number(path).and_then(network_name) {
        Some(name) if !allowed => {
            let what = format!(
                "is on a network file system ({name}), where SQLite's locks and shared memory are not safe"
            );
            Err(Error::new(Kind::Config, what).at(path.display()).remedy(
                "set SQLITE_DB_PATH (or --db) to a local disk, or set CTS_ALLOW_NETWORK_FS=1 if this file system is known to be safe",
            ))
        }
        _ => Ok(()),
    }
}

/// The magic number of the file system that a path, which need not exist, is on. `None` if it cannot
/// be read.
pub fn magic_number(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(path);
    rustix::fs::statfs(existing).ok().map(|fs| fs.f_type as u64 & 0xffff_ffff)
}

/// The name of a network file system, by its magic number from statfs(2) and linux/magic.h. `None` if
/// it is not known to be one.
pub fn network_name(magic: u64) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b => "SMB",
        0xff53_4d42 => "CIFS",
        0xfe53_4d42 => "SMB2",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x564c => "NCP",
        0x00c3_6400 => "Ceph",
        0x0102_1997 => "9P",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        _ => return None,
    })
}

/// The finding of `cts doctor` for a file system with this magic number.
pub fn file_system(path: &Path, magic: u64, network_allowed: bool) -> Finding {
    let name = "file system";
    let attention = |what: &str| Finding::attention(Group::Files, name, what);
    match magic {
        0x0102_1994 | 0x8584_58f6 => attention("tmpfs: in memory, and lost at a reboot")
            .remedy("set SQLITE_DB_PATH (or --db) to a file on a disk"),
        0x794c_7630 => attention("overlay: of a container, and lost with it")
            .remedy("mount a volume, and set SQLITE_DB_PATH (or --db) to a file on it"),
        0x6573_5546 => attention("FUSE: may be on a network, where SQLite's locks are not safe")
            .remedy(format!("findmnt -T {}", word(path))),
        _ => match network_name(magic) {
            Some(network) => network_file_system(network, network_allowed),
            None => Finding::good(Group::Files, name, local_name(magic)),
        },
    }
}

fn network_file_system(network: &str, allowed: bool) -> Finding {
    let (group, name) = (Group::Files, "file system");
    let what = format!("{network}: a network file system, where SQLite's locks are not safe");
    let finding = if allowed {
        Finding::attention(group, name, format!("{what}; CTS_ALLOW_NETWORK_FS allows it"))
    } else {
        Finding::bad(group, name, what)
    };
    finding.remedy("set SQLITE_DB_PATH (or --db) to a file on a local disk")
}

fn local_name(magic: u64) -> String {
    match magic {
        0xef53 => "ext4, local".into(),
        0x5846_5342 => "XFS, local".into(),
        0x9123_683e => "Btrfs, local".into(),
        0x2fc1_2fc1 => "ZFS, local".into(),
        0xf2f5_2010 => "F2FS, local".into(),
        other => format!("magic number 0x{other:x}, not known to be a network file system"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade::{Attention, Bad, Good};

    #[test]
    fn network_file_systems_are_known_and_local_ones_are_not() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xff53_4d42), Some("CIFS"));
        for local in [0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630] {
            assert_eq!(network_name(local), None, "{local:x}");
        }
    }

    #[test]
    fn a_network_file_system_is_bad_unless_it_is_allowed() {
        let grade = |allowed| file_system(Path::new("/n/cts.db"), 0xff53_4d42, allowed).grade;
        assert_eq!((grade(false), grade(true)), (Bad, Attention));
        let grade = |magic| file_system(Path::new("/n/cts.db"), magic, false).grade;
        assert_eq!(
            (grade(0x794c_7630), grade(0x6573_5546), grade(1)),
            (Attention, Attention, Good)
        );
    }
}
