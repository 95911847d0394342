//! Values that are never shown, and where they are read from: small files, or pipes that somebody
//! writes to just now. A file that does not end stops nobody.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::error::{Error, Kind, Result};

/// No secret is longer.
const LONGEST_SECRET: usize = 64 << 10;
/// How long a pipe may take to give a secret.
const PIPE_WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts to read from one.
const PIPE_PAUSE: Duration = Duration::from_millis(10);

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret with this value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Reads one from a file, without the white space round it; `name` is the variable that names it.
pub fn read_secret(name: &str, path: &Path) -> Result<Secret> {
    let text = read_in_time(path).map_err(|e| {
        Error::new(Kind::Config, format!("{name}: {} cannot be read: {e}", path.display()))
            .remedy("correct the path, or the rights of the file")
    })?;
    match text.trim() {
        "" => Err(Error::new(Kind::Config, format!("{name}: {} is empty", path.display()))
            .remedy("write the secret into it, or unset the variable")),
        secret => Ok(Secret::new(secret)),
    }
}

/// Reads a small file, or a pipe that somebody writes to just now.
fn read_in_time(path: &Path) -> io::Result<String> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let (until, mut bytes, mut part) = (Instant::now() + PIPE_WITHIN, Vec::new(), [0; 4096]);
    loop {
        match file.read(&mut part) {
            Ok(0) => return String::from_utf8(bytes).map_err(|_| io::Error::other("not UTF-8")),
            Ok(length) => bytes.extend_from_slice(&part[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(PIPE_PAUSE);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::other("it is no plain file, and does not end"));
            }
            Err(e) => return Err(e),
        }
        if bytes.len() > LONGEST_SECRET {
            return Err(io::Error::other("it holds more than 64 KiB"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_or_a_pipe_that_ends_in_time() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let complaint =
            |path: &str| read_secret("X_FILE", Path::new(path)).unwrap_err().to_string();
        let start = Instant::now();
        let text = complaint(&path);
        assert!(text.contains("X_FILE") && text.contains("is no plain file, and does not end"));
        assert!(start.elapsed() < PIPE_WITHIN * 2);
        io::Write::write_all(&mut writer, b"tell-nobody\n").unwrap();
        drop(writer);
        let secret = read_secret("X_FILE", Path::new(&path)).unwrap();
        assert_eq!(secret.expose(), "tell-nobody");
        assert_eq!(format!("{secret:?}"), "***");
        assert!(complaint("/dev/zero").contains("more than 64 KiB"));
        assert!(complaint("/dev/null").contains("is empty"));
    }
}
