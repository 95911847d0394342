//! The SHA-256 of a backup, and the file beside it that `sha256sum --check` reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::failure::failed;
use super::name::{DIGEST, beside};
use crate::error::{Error, Kind, Result};
use crate::system::file_handle::open_regular;
use crate::system::visible::hexadecimal;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// The longest line for `sha256sum --check`, in bytes: the digits, and a path.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// The SHA-256 of what a file holds, from its beginning, in hexadecimal digits.
///
/// # Errors
/// If it cannot be read.
pub fn sha256(path: &Path) -> Result<String> {
    let read = || -> io::Result<String> {
        let (mut file, mut hash, mut chunk) =
            (File::open(path)?, Sha256::new(), vec![0; CHUNK_BYTES]);
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                count => hash.update(chunk.get(..count).unwrap_or_default()),
            }
        }
        Ok(hexadecimal(&hash.finalize()))
    };
    read().map_err(|e| failed(path, "cannot be read", &e))
}

/// The line of a file for `sha256sum --check`. A line with a name that has a backslash or a line break begins with a
/// backslash, and they are escaped (`sha256sum` of GNU coreutils).
pub fn digest_line(digest: &str, name: &str) -> String {
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    format!("{mark}{digest}  {escaped}\n")
}

/// The text of a file that holds a SHA-256, with its beginning only where it is no such file; `None` if there is none.
///
/// # Errors
/// If it cannot be read.
pub fn digest_text(path: &Path) -> Result<Option<String>> {
    let mut text = Vec::new();
    // A pipe would not be opened before it has a writer.
    let opened = open_regular(path, OpenOptions::new().read(true));
    match opened.and_then(|file| file.take(LINE_BYTES_MAX).read_to_end(&mut text)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read
            .map(|_| Some(String::from_utf8_lossy(&text).into_owned()))
            .map_err(|e| failed(path, "cannot be read", &e)),
    }
}

/// Compares a backup with the SHA-256 in the file beside it. Returns whether there is one.
///
/// # Errors
/// [`Kind::Data`] if they differ, or if the file holds no SHA-256; or if one of them cannot be read.
pub fn compare_with_digest_file(backup: &Path, digest: &str) -> Result<bool> {
    let path = beside(backup, DIGEST);
    let Some(text) = digest_text(&path)? else { return Ok(false) };
    let expected = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\');
    if expected.eq_ignore_ascii_case(digest) {
        return Ok(true);
    }
    let what = format!("its SHA-256 is {digest}, and not the one that is in {}", path.display());
    Err(Error::new(Kind::Data, what)
        .at(backup.display())
        .remedy("use another backup (`cts backups`); this file is not what was made then"))
}
