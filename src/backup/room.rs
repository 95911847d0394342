//! Room on the disk of backups: what would fill it is refused before it is begun, and stopped where others fill it
//! meanwhile.

use std::path::Path;

use rustix::process::{Resource, getrlimit};

use super::failure::{NO_ROOM, failed};
use crate::error::{Cause, Error, Kind, Result};
use crate::system::size::Bytes;

/// Bytes that stay free, whatever is written: those below which the health of the database is `unhealthy`.
pub const RESERVE_BYTES: u64 = 16 << 20;

/// Refuses an automatic backup of so many bytes where less than twice its size would stay free after it.
///
/// # Errors
/// As [`refuse_full_disk`].
pub fn refuse_low_disk(folder: &Path, backup_bytes: u64) -> Result<()> {
    let what = "an automatic backup, after which twice its size is to stay free,";
    refuse_little_room(folder, what, backup_bytes.saturating_mul(3))
}

/// Refuses to write so many bytes into a folder where less than the reserve would stay free, or where this process may not
/// make so large a file: `what` is what needs them.
///
/// # Errors
/// [`Kind::Io`] with the figures; or what is free cannot be read.
pub fn refuse_full_disk(folder: &Path, what: &str, needed_bytes: u64) -> Result<()> {
    if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| *limit < needed_bytes) {
        let (limit, needed) = (Bytes(limit), Bytes(needed_bytes));
        let text =
            format!("{what} needs about {needed}, and files may not grow beyond {limit} here");
        return Err(Error::new(Kind::Io, text).at(folder.display()).remedy(
            "raise the limit on the size of files (`ulimit -f`, LimitFSIZE=) and run it again",
        ));
    }
    refuse_little_room(folder, what, needed_bytes)
}

fn refuse_little_room(folder: &Path, what: &str, needed_bytes: u64) -> Result<()> {
    let disk =
        rustix::fs::statvfs(folder).map_err(|e| failed(folder, "cannot be used", &e.into()))?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    // A file system without figures has 0 blocks.
    if disk.f_blocks == 0 || free_bytes >= needed_bytes.saturating_add(RESERVE_BYTES) {
        return Ok(());
    }
    let (free, needed, reserve) = (Bytes(free_bytes), Bytes(needed_bytes), Bytes(RESERVE_BYTES));
    let text = format!(
        "{what} needs about {needed}, and {free} are free there, of which {reserve} are to stay free"
    );
    Err(Error::new(Kind::Io, text).at(folder.display()).caused_by(Cause::DiskFull).remedy(NO_ROOM))
}

/// Whether more than the reserve is free in a folder, as far as that can be read.
pub fn has_reserve(folder: &Path) -> bool {
    rustix::fs::statvfs(folder).map_or(true, |disk| {
        disk.f_blocks == 0 || disk.f_bavail.saturating_mul(disk.f_frsize) > RESERVE_BYTES
    })
}
