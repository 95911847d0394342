//! The users of this machine, from `/etc/passwd` (passwd(5)). A user of another directory (LDAP, for
//! example) or of a container is known by number only, which `chown` and `sudo -u` accept as well.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{self, Path};

use rustix::process::geteuid;

use crate::system::shell::word;

/// The name of a user, or `#` and the number, as `sudo -u` accepts it.
pub fn name(uid: u32) -> String {
    known_name(uid).unwrap_or_else(|| format!("#{uid}"))
}

/// A user as `chown` accepts it: the name or the number, for a shell.
pub fn owner_argument(uid: u32) -> String {
    word(Path::new(&known_name(uid).unwrap_or_else(|| uid.to_string())))
}

/// The name of a user; `None` if `/etc/passwd` does not have it or cannot be read.
pub fn known_name(uid: u32) -> Option<String> {
    name_in(&passwd()?, uid)
}

/// The number of a user; `None` if `/etc/passwd` does not have it or cannot be read.
pub fn uid(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| uid_in(&passwd()?, name))
}

/// The words before a command by which it is run as this user.
pub fn sudo(uid: u32) -> String {
    match uid {
        0 => "sudo".into(),
        uid => format!("sudo -u {}", word(Path::new(&name(uid)))),
    }
}

/// What to do where a path may not be read: to run cts as its owner, or, if the owner may not be seen either, as that of
/// the nearest folder above it. `None` if that is the user of this process.
pub fn as_owner_of(path: &Path) -> Option<String> {
    let path = path::absolute(path).ok()?;
    let seen = |path| Some((path, fs::metadata(path).ok()?.uid()));
    let (path, uid) = path.ancestors().find_map(seen)?;
    let (owner, sudo) = (name(uid), sudo(uid));
    let is_other = uid != geteuid().as_raw();
    is_other.then(|| format!("run as {owner}, who owns {} (`{sudo} cts …`)", path.display()))
}

fn passwd() -> Option<String> {
    fs::read_to_string("/etc/passwd").ok()
}

/// Name and number of each line that has both.
fn users(passwd: &str) -> impl Iterator<Item = (&str, u32)> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?, fields.nth(1)?.parse().ok()?))
    })
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    users(passwd).find(|(_, number)| *number == uid).map(|(name, _)| name.to_string())
}

fn uid_in(passwd: &str, name: &str) -> Option<u32> {
    users(passwd).find(|(known, _)| *known == name).map(|(_, uid)| uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\ncts:x:997:996::/:/bin/false\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        assert_eq!(name_in(PASSWD, 997).as_deref(), Some("cts"));
        assert_eq!(name_in(PASSWD, 5), None);
        assert_eq!((uid_in(PASSWD, "cts"), uid("1001")), (Some(997), Some(1001)));
        assert_eq!(uid_in(PASSWD, "broken"), None);
    }

    #[test]
    fn a_command_is_run_as_a_user_by_name_or_by_number() {
        assert_eq!((sudo(0), sudo(4_000_000)), ("sudo".into(), "sudo -u '#4000000'".into()));
    }

    #[test]
    fn the_owner_is_named_only_if_that_is_another_user() {
        let folder = tempfile::TempDir::new().unwrap();
        assert_eq!(as_owner_of(&folder.path().join("not/there")), None);
    }
}
