//! The commit that a binary is built from: `CTS_COMMIT` of the environment, for packages that are built outside a
//! repository, else what the repository of the sources has checked out. Git's files are read, so that no program git is
//! needed (gitrepository-layout(5)).

use std::fs;
use std::path::{Path, PathBuf};

/// A commit, and the files that say it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CheckedOut {
    /// The first twelve digits of its hash; `None` where there is no repository, no commit yet, or one that is stored in a
    /// form that is not read here (reftable).
    pub commit: Option<String>,
    /// The files that change with it, all of which exist.
    pub files: Vec<PathBuf>,
}

/// The commit that is checked out in `folder`, the top of a repository or of a work tree. Folders above it are not
/// looked at: sources that were unpacked inside another repository are not of its commit.
pub fn checked_out(folder: &Path) -> CheckedOut {
    let Some(git) = git_folder(&folder.join(".git")) else { return CheckedOut::default() };
    let common = match fs::read_to_string(git.join("commondir")) {
        Ok(path) => git.join(path.trim()),
        Err(_) => git.clone(),
    };
    let head = fs::read_to_string(git.join("HEAD")).unwrap_or_default();
    let mut files = vec![git.join("HEAD"), git.join("logs/HEAD"), common.join("packed-refs")];
    let commit = match head.trim().strip_prefix("ref: ") {
        None => commit_of(&head),
        Some(name) => {
            files.push(common.join(name));
            let loose = fs::read_to_string(common.join(name)).ok();
            loose.as_deref().and_then(commit_of).or_else(|| packed(&common, name))
        }
    };
    // Cargo runs the build script each time where one of them does not exist.
    files.retain(|file| file.exists());
    CheckedOut { commit, files }
}

/// Checks a commit that the environment gives.
///
/// # Errors
/// If it is no single word of at most 64 letters, digits and `._+-`.
pub fn given(text: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    match text.len() <= 64 && text.chars().all(is_part) {
        true => Ok(text.into()),
        false => Err(format!("CTS_COMMIT: {text:?} is not the name of a commit")),
    }
}

/// The folder of git: itself, or the one that the file of a work tree names.
fn git_folder(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.into());
    }
    let text = fs::read_to_string(path).ok()?;
    Some(path.parent()?.join(text.trim().strip_prefix("gitdir: ")?))
}

/// The commit of a reference among those that git has packed into one file.
fn packed(common: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(common.join("packed-refs")).ok()?;
    let mut references = text.lines().filter_map(|line| line.split_once(' '));
    references.find(|(_, known)| *known == name).and_then(|(hash, _)| commit_of(hash))
}

fn commit_of(hash: &str) -> Option<String> {
    let hash = hash.trim();
    let is_hash = hash.len() >= 40 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| hash.chars().take(12).collect())
}
