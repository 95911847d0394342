//! The file system of a folder, which may be unmounted: the folder that is seen below it then is another one, on another disk.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::folder::cannot_read;
use crate::error::{Error, Kind, Result};

/// Where a file system is mounted.
pub struct MountPoint(PathBuf);

impl MountPoint {
    /// Of the file system that a folder is on; `None` where that is the one of the root, or is not known.
    pub fn of(folder: &Path) -> Option<MountPoint> {
        let mut point = fs::canonicalize(folder).ok()?;
        while !is_mounted(&point).ok()? {
            point = point.parent()?.to_path_buf();
        }
        Some(MountPoint(point))
    }

    /// Whether a file system is mounted there still.
    ///
    /// # Errors
    /// None is, or it cannot be seen.
    pub fn is_mounted(&self) -> Result<()> {
        match is_mounted(&self.0).map_err(|e| cannot_read(&self.0, &e))? {
            true => Ok(()),
            false => Err(Error::new(Kind::Io, "the file system of the archive is not mounted")
                .at(self.0.display())
                .remedy("mount it again (`findmnt`)")),
        }
    }
}

/// Whether a folder and the one above it are on two file systems.
fn is_mounted(folder: &Path) -> io::Result<bool> {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    match folder.parent() {
        Some(above) => Ok(device(folder)? != device(above)?),
        None => Ok(false),
    }
}
