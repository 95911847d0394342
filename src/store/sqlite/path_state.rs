//! What is at a path, as far as this user may see it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Nothing.
    Missing,
    /// It cannot be seen, because this user may not enter a folder of the path.
    Hidden(ClosedFolder),
    /// A file or a folder.
    Exists(Attributes),
}

/// A folder that this user may not enter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosedFolder {
    /// Its path.
    pub path: PathBuf,
    /// The number of its owner.
    pub uid: u32,
}

/// Attributes of a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Its permissions, with setuid, setgid and the sticky bit.
    pub mode: u32,
    /// The number of its owner.
    pub uid: u32,
    /// Its size in bytes.
    pub size_bytes: u64,
}

impl PathState {
    /// The state now.
    pub fn of(path: &Path) -> PathState {
        match fs::metadata(path) {
            Ok(metadata) => PathState::Exists(Attributes {
                is_folder: metadata.is_dir(),
                mode: metadata.mode() & 0o7777,
                uid: metadata.uid(),
                size_bytes: metadata.len(),
            }),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                closed_folder(path).map_or(PathState::Missing, PathState::Hidden)
            }
            Err(_) => PathState::Missing,
        }
    }
}

/// The innermost folder of the path that can be seen.
fn closed_folder(path: &Path) -> Option<ClosedFolder> {
    path.ancestors().skip(1).find_map(|folder| {
        let uid = fs::metadata(folder).ok()?.uid();
        Some(ClosedFolder { path: folder.into(), uid })
    })
}
