//! Values that are never shown, and the small files or pipes they are read from.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::system::small_file;
use crate::system::value::{self, Reading};

/// The largest file that is taken for a secret.
const SECRET_BYTES_MAX: usize = 64 << 10;

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

/// Reads a secret from a file; `name` is the variable that names the file.
///
/// # Errors
///
/// [`Kind::Config`], with the name of the variable and the path, if the file cannot be read, is empty, is
/// larger than 64 KiB or is a pipe that is not closed within 2 s, or holds more than a secret
/// ([`value::secret`]).
pub fn read_secret(name: &str, path: &Path) -> Result<Reading<Secret>> {
    let bytes = small_file::read(path, SECRET_BYTES_MAX).map_err(|e| {
        Error::new(Kind::Config, format!("{} cannot be read", path.display()))
            .at(name)
            .caused_by(e)
            .remedy("correct the path, or the permissions of the file")
    })?;
    if bytes.trim_ascii().is_empty() {
        return Err(Error::new(Kind::Config, format!("{} is empty", path.display()))
            .at(name)
            .remedy("write the secret into it, or unset the variable"));
    }
    let read = value::secret(name, OsStr::from_bytes(&bytes)).map_err(|e| e.at(path.display()))?;
    Ok(Reading { value: Secret::new(read.value), notice: read.notice })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Instant;

    use super::*;
    use crate::system::small_file::PIPE_TIMEOUT;

    #[test]
    fn a_secret_comes_from_a_file_or_a_pipe_that_ends_in_time() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let complaint =
            |path: &str| read_secret("X_FILE", Path::new(path)).unwrap_err().to_string();
        let start = Instant::now();
        let text = complaint(&path);
        assert!(
            text.contains("X_FILE")
                && text.contains("is not a regular file, and its end was not reached")
        );
        assert!(start.elapsed() < PIPE_TIMEOUT * 2);
        io::Write::write_all(&mut writer, b"not-to-be-shown\n").unwrap();
        drop(writer);
        let secret = read_secret("X_FILE", Path::new(&path)).unwrap().value;
        assert_eq!(secret.expose(), "not-to-be-shown");
        assert_eq!(format!("{secret:?}"), "***");
        assert!(complaint("/dev/zero").contains("more than 64 KiB"));
        assert!(complaint("/dev/null").contains("is empty"));
    }
}
