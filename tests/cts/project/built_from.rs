//! Which commit a build takes itself to be of.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

#[path = "../../../build/commit.rs"]
mod commit;

use commit::{CheckedOut, checked_out, given};

/// Runs git in a folder and returns what it prints.
fn git(folder: &Path, words: &str) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-C"];
    let done = Command::new("git")
        .args(identity)
        .arg(folder)
        .args(words.split_whitespace())
        .env_remove("GIT_DIR")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(done.status.success(), "git {words}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().into()
}

#[test]
fn the_commit_is_that_of_the_repository_in_each_form_that_git_gives_it() {
    if Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: no git here");
        return;
    }
    let folder = TempDir::new().unwrap();
    let top = folder.path().join("top");
    git(folder.path(), "init -q -b main top");
    assert_eq!(checked_out(&top).commit, None, "a repository without a commit");
    let is_right = |place: &Path, form: &str| {
        let CheckedOut { commit, files } = checked_out(place);
        let expected = git(place, "rev-parse --short=12 HEAD");
        assert_eq!(commit, Some(expected), "{form}");
        assert!(!files.is_empty() && files.iter().all(|file| file.exists()), "{form}: {files:?}");
    };
    git(&top, "commit -q --allow-empty -m one");
    is_right(&top, "a branch");
    git(&top, "pack-refs --all");
    is_right(&top, "a packed branch");
    git(&top, "commit -q --allow-empty -m two");
    is_right(&top, "a branch that is newer than what is packed");
    git(&top, "worktree add -q ../tree -b other");
    git(&folder.path().join("tree"), "commit -q --allow-empty -m three");
    is_right(&folder.path().join("tree"), "a work tree");
    git(&top, "checkout -q --detach HEAD~1");
    is_right(&top, "a commit without a branch");

    // Sources that were unpacked inside the repository of something else.
    let inside = top.join("unpacked");
    fs::create_dir(&inside).unwrap();
    assert_eq!(checked_out(&inside), CheckedOut::default());
    for head in ["", "ref: refs/heads/.invalid", "ref: ", "\0"] {
        fs::write(top.join(".git/HEAD"), head).unwrap();
        assert_eq!(checked_out(&top).commit, None, "{head:?}");
    }
}

#[test]
fn a_commit_that_a_packager_gives_is_one_word() {
    assert_eq!(given("3.1.0-2+deb12").as_deref(), Ok("3.1.0-2+deb12"));
    for text in ["two words", "a\nb", "\u{1b}[31m", &"a".repeat(65)] {
        assert!(given(text).unwrap_err().contains("CTS_COMMIT"), "{text:?}");
    }
}
