//! The password file, as libpq has it (PostgreSQL documentation, "The Password File"): lines of
//! `host:port:database:user:password`, the first line that matches is used.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::target::{ConfigWarning, Endpoint, Host, WarningSubject};
use super::{DEFAULT_SOCKET, home};
use crate::system::environment::Environment;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// The path of the file: from the URL, else from `PGPASSFILE`, else `~/.pgpass`.
pub fn path(configured: Option<PathBuf>, environment: Environment<'_>) -> Option<PathBuf> {
    let variable = || environment("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    configured.or_else(variable).or_else(|| home(environment).map(|home| home.join(".pgpass")))
}

/// The content of the file. A missing file is an empty one.
///
/// # Errors
/// A warning if the file is there and is not used, as libpq does not use it either: it is not a
/// plain file, other users can read it, or it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, ConfigWarning> {
    let Ok(found) = fs::metadata(path) else {
        return Ok(Vec::new());
    };
    let shown = path.display();
    let ignored = |why: String, remedy: String| ConfigWarning {
        subject: WarningSubject::PasswordFile,
        what: format!("the password file {shown} is ignored: it {why}"),
        remedy,
    };
    if !found.is_file() {
        let remedy = "name a plain file in passfile or PGPASSFILE";
        return Err(ignored("is not a plain file".into(), remedy.into()));
    }
    if found.mode() & 0o077 != 0 {
        let why = "can be read or written by other users";
        return Err(ignored(why.into(), format!("chmod 600 {shown}")));
    }
    small_file::read(path, SETTINGS_BYTES_MAX).map_err(|e| {
        let remedy = format!("let the user that runs cts own and read {shown}");
        ignored(format!("cannot be read: {e}"), remedy)
    })
}

/// The password of a user of a database on a host, if the file has one.
pub fn find(content: &[u8], host: &Host, database: &str, user: &str) -> Option<Vec<u8>> {
    let name = match &host.endpoint {
        Endpoint::Unix(folder) if folder == Path::new(DEFAULT_SOCKET) => "localhost".into(),
        Endpoint::Unix(folder) => folder.to_string_lossy(),
        Endpoint::Tcp(name) => name.into(),
    };
    let port = host.port.to_string();
    let wanted = [&*name, &port, database, user];
    content.split(|b| *b == b'\n').find_map(|line| password_of(line, &wanted))
}

/// The password of a line, if its first four fields match.
fn password_of(line: &[u8], wanted: &[&str; 4]) -> Option<Vec<u8>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"#") {
        return None;
    }
    let mut rest = line;
    for wanted in wanted {
        let (field, after) = field(rest);
        let any = rest.starts_with(b"*:");
        rest = after?;
        if !any && field != wanted.as_bytes() {
            return None;
        }
    }
    Some(field(rest).0).filter(|password| !password.is_empty())
}

/// A field without its escaping backslashes, and the text after its colon, if it has one.
fn field(text: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b':', _) => return (out, text.get(at + 1..)),
            (b'\\', Some(escaped)) => {
                out.push(*escaped);
                at += 2;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    (out, None)
}
