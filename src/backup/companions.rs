//! The companions of a backup, word by word: whether they are still what cts wrote. A backup can be restored without them;
//! one that contradicts the backup itself is refused where the backup is examined.

use std::io::ErrorKind;
use std::path::Path;

use super::digest::{digest_line, digest_text};
use super::failure::failed;
use super::folder::read_manifest;
use super::name::{DIGEST, MANIFEST, beside};
use super::seal::is_sealed;
use crate::error::{Error, Kind, Result};
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// Refuses a companion that was changed since it was written, or is that of another file.
///
/// # Errors
/// [`Kind::Data`] with which one; or it cannot be read.
pub fn refuse_changed(backup: &Path, sha256: &str) -> Result<()> {
    let digest = beside(backup, DIGEST);
    if let Some(text) = digest_text(&digest)?
        && !is_line_of(&text, backup, sha256)
    {
        return Err(wrong(
            &digest,
            "is not the line that `sha256sum --check` reads for its backup",
        ));
    }
    let manifest = beside(backup, MANIFEST);
    let text = match small_file::read(&manifest, SETTINGS_BYTES_MAX) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|e| failed(&manifest, "cannot be read", &e))?,
    };
    if read_manifest(backup).is_none() {
        Err(wrong(&manifest, "is no manifest of the file that it is beside"))
    } else if !is_sealed(&text) {
        Err(wrong(&manifest, "was changed since it was written"))
    } else {
        Ok(())
    }
}

/// Whether it is the digits alone, or with the name in one of the two forms of sha256sum(1).
fn is_line_of(text: &str, backup: &Path, sha256: &str) -> bool {
    let name = backup.file_name().unwrap_or_default().to_string_lossy();
    if text == digest_line(sha256, &name) {
        return true;
    }
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    [sha256.to_string(), sha256.to_uppercase()].iter().any(|digits| {
        let rest = line.strip_prefix(digits.as_str());
        let named = rest.and_then(|rest| rest.strip_prefix("  ").or(rest.strip_prefix(" *")));
        rest == Some("") || named == Some(&*name)
    })
}

fn wrong(companion: &Path, what: &str) -> Error {
    Error::new(Kind::Data, what)
        .at(companion.display())
        .note("the backup beside it is sound, and was restored for a trial")
        .remedy("move that file away: the backup can be restored without it")
}
