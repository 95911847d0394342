//! A small file system, which only root can mount.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Machine, await_that, leave_free};

/// Unmounts a file system. A child that another test is just starting has this process's descriptors until it runs its
/// program, so that the file system may be busy for a moment.
pub fn unmount(folder: &Path) {
    await_that(&format!("{} is unmounted", folder.display()), || {
        Command::new("umount").arg(folder).status().unwrap().success()
    });
}

/// A small file system, with a file that occupies what must not be free.
pub struct Disk {
    pub folder: PathBuf,
    pub size: u64,
}

impl Disk {
    pub fn mount(machine: &Machine) -> Disk {
        Disk::mount_with(machine, "size=32m", 32 << 20)
    }

    pub fn mount_with(machine: &Machine, options: &str, size: u64) -> Disk {
        let folder = machine.path("disk");
        fs::create_dir(&folder).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(&folder)
            .status();
        assert!(mount.unwrap().success());
        Disk { folder, size }
    }

    /// Leaves this many bytes free, or everything if there is less.
    pub fn leave(&self, bytes: u64) {
        leave_free(&self.folder, bytes);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.folder).status();
    }
}
