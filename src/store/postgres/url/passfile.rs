//! The password file, as libpq has it (PostgreSQL documentation, "The Password File"): lines of
//! `host:port:database:user:password`, the first that matches wins.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{DEFAULT_SOCKET, Endpoint, Host, home};
use crate::system::environment::Environment;

/// Where the file is: where the URL says, else where the environment says, else at home.
pub fn path(named: Option<PathBuf>, environment: Environment<'_>) -> Option<PathBuf> {
    let variable = || environment("PGPASSFILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(variable).or_else(|| home(environment).map(|home| home.join(".pgpass")))
}

/// The file's content. A missing file is an empty one; so is one that others may read, which
/// is said.
pub fn read(path: &Path, warnings: &mut Vec<String>) -> Vec<u8> {
    let Ok(found) = fs::metadata(path) else {
        return Vec::new();
    };
    let shown = path.display();
    let why = if !found.is_file() {
        "is not a plain file".to_string()
    } else if found.mode() & 0o077 != 0 {
        format!("can be read or written by others; chmod 600 {shown}")
    } else {
        match fs::read(path) {
            Ok(content) => return content,
            Err(e) => format!("cannot be read: {e}"),
        }
    };
    warnings.push(format!("the password file {shown} is ignored: it {why}"));
    Vec::new()
}

/// The password of a user at a host, if the file has one.
pub fn find(content: &[u8], host: &Host, database: &str, user: &str) -> Option<Vec<u8>> {
    let place = match &host.place {
        Endpoint::Unix(folder) if folder == Path::new(DEFAULT_SOCKET) => "localhost".into(),
        Endpoint::Unix(folder) => folder.to_string_lossy(),
        Endpoint::Tcp(name) => name.into(),
    };
    let port = host.port.to_string();
    let wanted = [&*place, &port, database, user];
    content.split(|b| *b == b'\n').find_map(|line| password_of(line, &wanted))
}

/// The password of a line, if its first four fields are those wanted.
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

/// A field without its backslashes, and what follows its colon, if it has one.
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
