//! The names of backups: `cts-20261127T203045Z.db`, with `-2` behind the time where a second one was made within the same
//! second, and `.zst` at the end when compressed. Files that belong to one have its name and a further ending.

use std::path::{Path, PathBuf};

/// What the name of each backup begins with.
const PREFIX: &str = "cts-";
/// The length of a time in a name: `20261127T203045Z`.
const TIME_LENGTH: usize = 16;
/// The end of the name of a backup that is compressed.
pub const COMPRESSED: &str = ".zst";
/// The end of the name of a file that is not complete.
pub const PARTIAL: &str = ".partial";
/// The end of the name of a copy that is being compressed.
pub const PLAIN: &str = ".plain";
/// The end of the name of the file that holds the SHA-256 of a backup.
pub const DIGEST: &str = ".sha256";
/// The end of the name of the file that describes a backup.
pub const MANIFEST: &str = ".json";

/// The name of a new backup.
pub fn backup_name(time: &str, number: u32, extension: &str, is_compressed: bool) -> String {
    let number = if number > 1 { format!("-{number}") } else { String::new() };
    let compressed = if is_compressed { COMPRESSED } else { "" };
    format!("{PREFIX}{time}{number}.{extension}{compressed}")
}

/// Whether cts gives backups such names.
pub fn is_backup_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let Some((time, rest)) = rest.split_at_checked(TIME_LENGTH) else { return false };
    let Some((number, ending)) = rest.split_once('.') else { return false };
    let ending = ending.strip_suffix(COMPRESSED).unwrap_or(ending);
    is_time(time) && is_number(number) && matches!(ending, "db" | "dump")
}

fn is_time(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = text.strip_suffix('Z').and_then(|text| text.split_once('T'));
    parts.is_some_and(|(day, time)| day.len() == 8 && digits(day) && digits(time))
}

fn is_number(text: &str) -> bool {
    let number = text.strip_prefix('-').and_then(|number| number.parse::<u32>().ok());
    text.is_empty() || number.is_some_and(|number| number > 1)
}

/// The folder that a file is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The path of a file that belongs to a backup.
pub fn beside(backup: &Path, ending: &str) -> PathBuf {
    let mut path = backup.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_given_is_recognised_and_no_other() {
        for (number, extension, is_compressed) in
            [(1, "db", false), (2, "db", true), (1, "dump", false)]
        {
            let name = backup_name("20261127T203045Z", number, extension, is_compressed);
            assert!(is_backup_name(&name), "{name}");
        }
        for name in [
            "cts.db",
            "cts-20261127T203045Z",
            "cts-20261127T203045Z.db.sha256",
            "cts-20261127T203045Z.db.partial",
            "cts-20261127T203045Z-1.db",
            "cts-20261127T203045Z-x.db",
            "cts-20261127T2030Z.db",
            "cts-2026112aT203045Z.db",
            "my-cts-20261127T203045Z.db",
            "cts-20261127T203045Zé.db",
            "cts-é",
        ] {
            assert!(!is_backup_name(name), "{name}");
        }
    }
}
