//! The archive of every change: segments of pages, and how the database of a moment is built from them.

use std::path::PathBuf;
use std::time::Duration;

mod base;
mod chain;
mod compaction;
mod drill;
mod folder;
mod ltx;
mod mount_point;
mod restore;
mod status;
mod writer;

pub use drill::ArchiveDrill;
pub use folder::ArchiveFolder;
pub use restore::{ArchiveMoment, ArchivedDatabase, Reach, reaches, shown};
pub use status::ArchiveStatus;
pub use writer::ArchiveWriter;

/// The settings of an archive.
#[derive(Clone, Debug)]
pub struct ArchiveSettings {
    /// The folder that it is in.
    pub folder: PathBuf,
    /// How far back the database can be restored, at least.
    pub keep: Duration,
}
