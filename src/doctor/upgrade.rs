//! What an upgrade has left in `/usr/lib/cts`: a version that was refused, or the notes of one that did not end.

use std::path::Path;

use crate::store::finding::{Finding, Group};

/// The folder of `/usr/lib/cts/upgrade`.
const FOLDER: &str = "/usr/lib/cts";
const AGAIN: &str =
    "install it again for the reason (the package: dpkg --configure -a; the archive: install.sh)";

/// Reports an upgrade that is not complete; `None` where there is none.
pub fn examine() -> Option<Finding> {
    judge(Path::new(FOLDER))
}

fn judge(folder: &Path) -> Option<Finding> {
    let attention = |what: String| Some(Finding::attention(Group::Service, "upgrade", what));
    if folder.join("unfinished").exists() {
        let what =
            format!("under way, or interrupted: {} exists", folder.join("unfinished").display());
        return attention(what).map(|finding| finding.remedy(AGAIN));
    }
    let candidate = folder.join("candidate");
    if candidate.exists() {
        let what = format!("a new version was refused and is kept as {}", candidate.display());
        let remedy = format!("{AGAIN}, or remove it: rm {}", candidate.display());
        return attention(what).map(|finding| finding.remedy(remedy));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_that_is_not_complete_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(judge(folder.path()), None);
        for (file, part) in [("candidate", "was refused"), ("unfinished", "interrupted")] {
            std::fs::write(folder.path().join(file), "").unwrap();
            let finding = judge(folder.path()).unwrap();
            assert!(finding.what.contains(part), "{finding:?}");
        }
    }
}
