//! Files of limited size that somebody else has written: secrets, settings, certificates. Size and time of
//! reading are limited, so that neither an endless file nor a pipe without a writer stops cts.

use crate::system::size::Bytes;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// The largest file of settings, in bytes.
pub const SETTINGS_BYTES_MAX: usize = 1 << 20;
/// The largest file of certificates, of a key or of revoked certificates, in bytes. The bundle of Debian's
/// ca-certificates has 0.2 MiB; lists of revoked certificates of public authorities have some MiB.
#[cfg(feature = "postgres")]
pub const CERTIFICATES_BYTES_MAX: usize = 64 << 20;
/// How long a pipe is read before its writer must have closed it.
pub const PIPE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two attempts to read from a pipe that is empty.
const PIPE_PAUSE: Duration = Duration::from_millis(10);

/// Reads a file of at most `bytes_max`, or a pipe until its writer closes it.
///
/// # Errors
/// If it cannot be opened or read, is larger, or is a pipe that is not closed within 2 s.
pub fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let (deadline, mut bytes, mut part) = (Instant::now() + PIPE_TIMEOUT, Vec::new(), [0; 4096]);
    loop {
        match file.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(PIPE_PAUSE);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::other(
                    "it is not a regular file, and its end was not reached within 2 s",
                ));
            }
            Err(e) => return Err(e),
        }
        if bytes.len() > bytes_max {
            let text = format!("it holds more than {}", Bytes(bytes_max as u64));
            return Err(io::Error::other(text));
        }
    }
}
