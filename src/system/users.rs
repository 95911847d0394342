//! The users of this machine, from `/etc/passwd` (passwd(5)). A user of another directory (LDAP, for
//! example) is known by number only, which `chown` and `sudo -u` accept as well.

use std::fs;

/// The name of a user, or `#` and the number, as `sudo -u` accepts it.
pub fn name(uid: u32) -> String {
    known_name(uid).unwrap_or_else(|| format!("#{uid}"))
}

/// The name of a user; `None` if `/etc/passwd` does not have it or cannot be read.
pub fn known_name(uid: u32) -> Option<String> {
    name_in(&passwd()?, uid)
}

/// The number of a user; `None` if `/etc/passwd` does not have it or cannot be read.
pub fn uid(name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| uid_in(&passwd()?, name))
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
}
