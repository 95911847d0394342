//! Room on the disk of backups: what would fill it is refused before it is begun, and stopped where others fill it
//! meanwhile.

use std::path::Path;

use super::failure::failed;
use crate::error::{Cause, Error, Kind, Result};

/// Bytes that stay free, whatever is written: those below which the health of the database is `unhealthy`.
pub const RESERVE_BYTES: u64 = 16 << 20;

/// Refuses to write so many bytes into a folder where less than the reserve would stay free: `what` is what needs them.
///
/// # Errors
/// [`Kind::Io`] with the figures; or what is free cannot be read.
pub fn refuse_full_disk(folder: &Path, what: &str, needed_bytes: u64) -> Result<()> {
    let disk =
        rustix::fs::statvfs(folder).map_err(|e| failed(folder, "cannot be used", &e.into()))?;
    let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
    // A file system without figures has 0 blocks.
    if disk.f_blocks == 0 || free_bytes >= needed_bytes.saturating_add(RESERVE_BYTES) {
        return Ok(());
    }
    let (free, needed, reserve) = (free_bytes >> 10, needed_bytes >> 10, RESERVE_BYTES >> 10);
    let text = format!(
        "{what} needs about {needed} KiB, and {free} KiB are free there, of which {reserve} KiB are to stay free"
    );
    Err(Error::new(Kind::Io, text)
        .at(folder.display())
        .caused_by(Cause::DiskFull)
        .remedy("free some space on that disk, or set CTS_BACKUP_DIR to a folder on another"))
}
