//! Compressing a copy that is proved: the compressed file is read again, and what comes back is what was proved.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::compress::{Decompressed, compress};
use super::failure::failed;
use super::name::folder_of;
use super::room::has_reserve;
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::system::visible::hexadecimal;

/// Bytes that are read between two looks at the room on the disk.
const BYTES_BETWEEN_LOOKS: u64 = 4 << 20;

/// Compresses a plain file into an empty one, syncs it, and reads it again. Returns the size of the content in bytes.
///
/// # Errors
/// Reading or writing fails, the disk would be filled, `wait` is cancelled, or what comes back is not what was read. What the
/// file holds is of no use then.
pub fn compress_copy(plain: &Path, to: &Path, file: &File, wait: &WaitPolicy<'_>) -> Result<u64> {
    let unreadable = |e: &io::Error| failed(plain, "cannot be read", e);
    let source = File::open(plain).map_err(|e| unreadable(&e))?;
    let content_bytes = source.metadata().map_err(|e| unreadable(&e))?.len();
    let mut source = Watched::new(source, to, wait);
    let mut target = file;
    let written = compress(&mut source, content_bytes, &mut target);
    wait.check_cancelled()?;
    written.and_then(|()| file.sync_all()).map_err(|e| failed(to, "cannot be written", &e))?;
    let expected = hexadecimal(&source.hash.finalize());
    let again = File::open(to).and_then(Decompressed::open);
    let mut again = Watched::new(again.map_err(|e| not_what_was_written(to, &e))?, to, wait);
    let read = io::copy(&mut again, &mut io::sink());
    wait.check_cancelled()?;
    read.map_err(|e| not_what_was_written(to, &e))?;
    match hexadecimal(&again.hash.finalize()) == expected {
        true => Ok(content_bytes),
        false => Err(not_what_was_written(to, &io::Error::other("the content is another one"))),
    }
}

fn not_what_was_written(path: &Path, cause: &io::Error) -> Error {
    Error::new(Kind::Io, "what was compressed does not come back").at(path.display()).caused_by(cause).remedy(
        "check the disk and the memory of this machine (`dmesg`, `smartctl`), and make another backup on another disk",
    )
}

/// Hashes what is read, and ends when the work is cancelled or the disk has no room left.
struct Watched<'w, R> {
    inner: R,
    target: &'w Path,
    wait: &'w WaitPolicy<'w>,
    hash: Sha256,
    since_look: u64,
}

impl<'w, R> Watched<'w, R> {
    fn new(inner: R, target: &'w Path, wait: &'w WaitPolicy<'w>) -> Watched<'w, R> {
        Watched { inner, target, wait, hash: Sha256::new(), since_look: 0 }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.wait.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        if self.since_look >= BYTES_BETWEEN_LOOKS {
            self.since_look = 0;
            if !has_reserve(folder_of(self.target)) {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        let count = self.inner.read(into)?;
        self.since_look += count as u64;
        self.hash.update(into.get(..count).unwrap_or_default());
        Ok(count)
    }
}
