//! A path as the value of a setting. A path that is not what was meant does not fail by itself: a database is
//! created there, empty, beside the one that is meant.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Reading, Refusal, may_contain_password, plain};
use crate::error::{Error, Kind, Result};
use crate::system::shell::word;
use crate::system::visible::{is_unsafe, quoted_value};

/// Schemes of URLs that name a file.
const FILE_SCHEMES: [&str; 5] = ["sqlite:", "sqlite3:", "jdbc:sqlite:", "file:", "sqlite+file:"];

/// Reads a path; it becomes absolute, from the folder that this process was started in.
///
/// A file that has exactly the name that was written is used under that name, whatever characters it has:
/// it may be the database of an earlier version, which took every name. A new file may have control characters
/// and bytes that are not UTF-8 in its name if its folder exists and no file has the name without them.
///
/// # Errors
///
/// [`Kind::Config`], with the name of the setting and the value: it is not a path as [`meant`] reads it, or
/// two files could be meant.
pub fn path(name: &str, raw: &OsStr) -> Result<Reading<PathBuf>> {
    let literal = Path::new(raw);
    let read = meant(name, raw);
    if read.as_ref().is_ok_and(|path| path.as_os_str() == raw) {
        return absolute(name, literal, None);
    }
    let exists = |path: &Path| fs::symlink_metadata(path).is_ok();
    if !raw.is_empty() && !raw.as_encoded_bytes().ends_with(b"/") && exists(literal) {
        return match read {
            Ok(other) if exists(&other) && !is_same(&other, literal) => {
                Err(ambiguous(name, literal, &other))
            }
            _ => absolute(name, literal, Some(used_as_written(name, literal))),
        };
    }
    let path = match read {
        Err(refusal) if refusal.is_odd && is_plausible(raw) => {
            let notice =
                format!("{name}: {} {}; it is used as it is written", shown(raw), refusal.why);
            return absolute(name, literal, Some(notice));
        }
        read => read.map_err(|refusal| refusal.error(name, shown(raw)))?,
    };
    let notice = format!("{name}: {} is read as {}", shown(raw), path.display());
    absolute(name, &path, Some(notice))
}

fn absolute(name: &str, path: &Path, notice: Option<String>) -> Result<Reading<PathBuf>> {
    let value = std::path::absolute(path).map_err(|e| {
        let what =
            format!("{name}: {} is relative to a folder that cannot be found", path.display());
        Error::new(Kind::Config, what).caused_by(e).remedy("write the path from / on")
    })?;
    Ok(Reading { value, notice })
}

/// A file URL contains no password, unless it has a user.
fn shown(raw: &OsStr) -> String {
    let text = raw.to_string_lossy();
    let is_file = FILE_SCHEMES.iter().any(|scheme| text.starts_with(scheme)) && !text.contains('@');
    if text.contains("://") && may_contain_password(raw) && !is_file {
        return "the value".into();
    }
    quoted_value(raw)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// Whether a path with odd characters may be meant.
fn is_plausible(raw: &OsStr) -> bool {
    let folder = Path::new(raw).parent();
    let has_folder = folder.is_some_and(|folder| folder.is_dir() || folder == Path::new(""));
    let is_odd = |c: char| is_unsafe(c) || c == char::REPLACEMENT_CHARACTER;
    let without: String = raw.to_string_lossy().chars().filter(|c| !is_odd(*c)).collect();
    let latin_1: String = raw.as_encoded_bytes().iter().map(|byte| char::from(*byte)).collect();
    let blank = without.replace(char::is_whitespace, " ");
    has_folder && ![without, latin_1, blank].iter().any(|name| Path::new(name).exists())
}

fn ambiguous(name: &str, literal: &Path, other: &Path) -> Error {
    let what = format!(
        "{name}: {} may mean two files: the one of exactly this name, and {}",
        quoted_value(literal.as_os_str()),
        other.display()
    );
    Error::new(Kind::Config, what).remedy(format!(
        "look at both (cts status --db {}), move the file that is not meant out of the way (ls -l --quoting-style=escape), and correct {name}",
        word(other)
    ))
}

fn used_as_written(name: &str, literal: &Path) -> String {
    format!(
        "{name}: {} is used as it is written, because a file of exactly this name exists; stop cts, rename the file with its -wal and -shm, and correct {name}",
        quoted_value(literal.as_os_str())
    )
}

/// The path that is meant: without what is around it, and refused where a shell, a URL library, systemd or
/// another operating system would read it, and cts does not.
fn meant(name: &str, raw: &OsStr) -> Result<PathBuf, Refusal> {
    let text = plain(name, raw)?;
    refuse_url(text)?;
    refuse_shell(text)?;
    refuse_folder(text)?;
    if let Some(c) = text.chars().find(|c| *c != ' ' && c.is_whitespace()) {
        return Err(Refusal::odd(format!(
            "has \\u{{{:x}}} in it, which looks like a blank",
            u32::from(c)
        )));
    }
    Ok(PathBuf::from(text))
}

fn refuse_url(text: &str) -> Result<(), Refusal> {
    let lower = text.to_ascii_lowercase();
    if let Some(scheme) = FILE_SCHEMES.iter().find(|scheme| lower.starts_with(**scheme)) {
        let rest = text.get(scheme.len()..).unwrap_or_default();
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let path = rest.split('?').next().unwrap_or_default();
        let refusal = Refusal::new("is a URL, not a path");
        return Err(match path {
            "" | ":memory:" => in_memory(),
            path => refusal.remedy(format!("write the path alone: {path}")),
        });
    }
    if text.contains("://") {
        return Err(Refusal::new("is a URL, not a path")
            .remedy("set DATABASE_URL if the URL names a database server, and write a path here"));
    }
    if lower == ":memory:" {
        return Err(in_memory());
    }
    Ok(())
}

fn in_memory() -> Refusal {
    Refusal::new("is a database in memory, which would be lost with the process")
        .remedy("write the path of a file")
}

fn refuse_shell(text: &str) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let expands = |pair: &[u8]| matches!(pair, [b'$', next] if next.is_ascii_alphanumeric() || b"_{(".contains(next));
    let why = if text.starts_with('~') {
        "begins with ~, which only a shell replaces by a home folder"
    } else if bytes.windows(2).any(expands) || text.contains('`') {
        "has a variable or a command in it, which only a shell replaces"
    } else if matches!(bytes, [b'%', letter, b'/', ..] if letter.is_ascii_alphabetic()) {
        "begins with a specifier, which systemd replaces in unit files only"
    } else if matches!(bytes, [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic()) {
        "is a path of Windows"
    } else if text.split_once('=').is_some_and(|(name, _)| is_variable_name(name)) {
        "is an assignment"
    } else if text.contains(" #") {
        "has a comment behind it, which is read as a part of it"
    } else if text.ends_with([';', ',']) {
        "ends with a separator"
    } else if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        "has a quote at one end only"
    } else {
        return Ok(());
    };
    Err(Refusal::new(why).remedy("write the whole path as it is, from / on"))
}

fn is_variable_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    name.len() > 2 && name.bytes().all(is_part)
}

fn refuse_folder(text: &str) -> Result<(), Refusal> {
    let last = text.rsplit('/').next().unwrap_or_default();
    if !matches!(last, "" | "." | "..") {
        return Ok(());
    }
    Err(Refusal::new("names a folder, not a file").remedy("write the path of the file in it"))
}
