//! Whether the sandbox of the unit lets the service write its database (systemd.exec(5), "Sandboxing"): the
//! file may belong to the right user and still be out of reach.

use std::path::Path;

use crate::store::finding::{Finding, Group};

/// The properties of the unit that decide what the service can write, as `systemctl show` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    /// `ProtectSystem=`.
    pub protect_system: String,
    /// `ProtectHome=`.
    pub protect_home: String,
    /// `PrivateTmp=`.
    pub private_tmp: String,
    /// `ReadWritePaths=`.
    pub read_write_paths: String,
    /// `InaccessiblePaths=`.
    pub inaccessible_paths: String,
}

/// What keeps the service from writing below a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Barrier {
    /// It sees another `/tmp`.
    PrivateTmp,
    /// It may not enter homes.
    ProtectHome,
    /// The folder is hidden from it.
    InaccessiblePaths,
    /// The folder is read-only for it.
    ProtectSystem,
}

impl Sandbox {
    /// Judges the path of the service's database.
    pub fn examine(&self, path: &Path) -> Finding {
        let name = "sandbox";
        let (shown, folder) = (path.display(), path.parent().unwrap_or(path).display());
        let bad =
            |why: String, remedy: String| Finding::bad(Group::Service, name, why).remedy(remedy);
        match self.barrier(path) {
            Some(Barrier::PrivateTmp) => bad(
                format!(
                    "cts.service has a /tmp of its own (PrivateTmp=): it does not see {shown}, and would create another database"
                ),
                "move the database to another folder, such as /data".into(),
            ),
            Some(Barrier::ProtectHome) => bad(
                format!("cts.service may not enter {folder} (ProtectHome=)"),
                "move the database, or set ProtectHome=no: systemctl edit cts".into(),
            ),
            Some(Barrier::InaccessiblePaths) => bad(
                format!("cts.service may not enter {folder} (InaccessiblePaths=)"),
                "move the database, or systemctl edit cts: [Service] InaccessiblePaths=".into(),
            ),
            Some(Barrier::ProtectSystem) => bad(
                format!("cts.service may not write {folder} ({})", self.protection()),
                format!("systemctl edit cts: [Service] ReadWritePaths=-{folder}"),
            ),
            None => Finding::good(Group::Service, name, format!("cts.service may write {folder}")),
        }
    }

    /// The finding of a folder that the service cannot write: of what it keeps there, and the variable that names it.
    pub fn examine_folder(&self, group: Group, variable: &str, folder: &Path) -> Option<Finding> {
        let (barrier, folder) = (self.barrier(folder)?, folder.display());
        let elsewhere = format!("set {variable} to a folder that the service may write");
        let (what, remedy) = match barrier {
            Barrier::PrivateTmp => (
                format!(
                    "cts.service has a /tmp of its own (PrivateTmp=), and does not see {folder}"
                ),
                elsewhere,
            ),
            Barrier::ProtectHome => {
                (format!("cts.service may not enter {folder} (ProtectHome=)"), elsewhere)
            }
            Barrier::InaccessiblePaths => {
                (format!("cts.service may not enter {folder} (InaccessiblePaths=)"), elsewhere)
            }
            Barrier::ProtectSystem => (
                format!("cts.service may not write {folder} ({})", self.protection()),
                format!("systemctl edit cts: [Service] ReadWritePaths=-{folder}"),
            ),
        };
        Some(Finding::attention(group, "sandbox", what).remedy(remedy))
    }

    fn protection(&self) -> String {
        let Sandbox { protect_system, read_write_paths, .. } = self;
        format!("ProtectSystem={protect_system}, ReadWritePaths={read_write_paths}")
    }

    fn barrier(&self, path: &Path) -> Option<Barrier> {
        let below = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
        let is_in = |paths: &str| {
            let mut paths = paths.split_whitespace();
            paths.any(|given| path.starts_with(given.trim_start_matches(['-', '+'])))
        };
        let is_named = is_in(&self.read_write_paths);
        if !matches!(self.private_tmp.as_str(), "" | "no") && below(&["/tmp", "/var/tmp"]) {
            return Some(Barrier::PrivateTmp);
        }
        let is_home = below(&["/home", "/root", "/run/user"]);
        let is_home_readable = matches!(self.protect_home.as_str(), "" | "no");
        if is_home && !is_home_readable && !(self.protect_home == "read-only" && is_named) {
            return Some(Barrier::ProtectHome);
        }
        if is_in(&self.inaccessible_paths) {
            return Some(Barrier::InaccessiblePaths);
        }
        let is_protected = match self.protect_system.as_str() {
            "strict" => !below(&["/dev", "/proc", "/sys"]),
            "full" => below(&["/usr", "/boot", "/efi", "/etc"]),
            "" | "no" => false,
            _ => below(&["/usr", "/boot", "/efi"]),
        };
        (is_protected && !is_named).then_some(Barrier::ProtectSystem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;

    #[test]
    fn a_database_out_of_reach_of_the_unit_is_bad() {
        let shipped = Sandbox {
            protect_system: "strict".into(),
            protect_home: "yes".into(),
            private_tmp: "yes".into(),
            read_write_paths: "-/data".into(),
            inaccessible_paths: "-/dev/shm -/run/dbus".into(),
        };
        let remedy = |sandbox: &Sandbox, path: &str| sandbox.examine(Path::new(path)).remedy;
        assert_eq!(remedy(&shipped, "/data/cts.db"), None);
        for (path, part) in [
            ("/srv/cts/cts.db", "ReadWritePaths=-/srv/cts"),
            ("/data2/cts.db", "ReadWritePaths=-/data2"),
            ("/home/u/cts.db", "ProtectHome=no"),
            ("/tmp/cts.db", "another folder"),
            ("/dev/shm/cts.db", "InaccessiblePaths="),
        ] {
            assert!(remedy(&shipped, path).is_some_and(|remedy| remedy.contains(part)), "{path}");
        }
        let examined = |folder: &str| {
            shipped.examine_folder(Group::Backups, "CTS_BACKUP_DIR", Path::new(folder))
        };
        assert_eq!(examined("/data/backups"), None);
        for (folder, part) in [
            ("/mnt/usb", "ReadWritePaths=-/mnt/usb"),
            ("/home/u/backups", "CTS_BACKUP_DIR"),
            ("/tmp/backups", "CTS_BACKUP_DIR"),
            ("/dev/shm/backups", "CTS_BACKUP_DIR"),
        ] {
            let found = examined(folder).unwrap();
            assert_eq!(found.grade, Grade::Attention);
            assert!(found.remedy.unwrap().contains(part), "{folder}");
        }
        let open = Sandbox::default();
        assert_eq!(open.examine(Path::new("/home/u/cts.db")).grade, Grade::Good);
        let full = Sandbox { protect_system: "full".into(), ..Sandbox::default() };
        assert_eq!(full.examine(Path::new("/etc/cts.db")).grade, Grade::Bad);
        assert_eq!(full.examine(Path::new("/srv/cts.db")).grade, Grade::Good);
    }
}
