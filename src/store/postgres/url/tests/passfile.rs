//! The password file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::store::postgres::url::target::encoded;

fn password_file(content: &str, mode: u32) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".pgpass");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let shown = path.to_str().unwrap().to_string();
    (folder, shown)
}

#[test]
fn each_host_has_its_own_password_in_the_file() {
    let content = "# one:*:*:*:comment\n\none:1:d:u:first\r\none:*:*:*:other\n\
                   two:*:*:u:a\\:b\\\\c:rest\nlocalhost:*:*:*:socket\n/run/pg:*:*:*:there\n\
                   ::1:*:*:*:colons\n\\:\\:1:*:*:*:six\nlast:5432:d:u:no line feed";
    let (_folder, path) = password_file(content, 0o600);
    let passwords = |url: &str| {
        let target = read_with(url, &[("PGPASSFILE", &path)]).unwrap();
        assert_eq!(target.warnings, []);
        let each = target.hosts.iter().map(|host| host.password.clone());
        each.map(|p| p.map(|p| String::from_utf8(p.expose().to_vec()).unwrap())).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_string());
    assert_eq!(
        passwords("postgresql://u@one:1,one:2,two,three,last/d"),
        [some("first"), some("other"), some("a:b\\c"), None, some("no line feed")]
    );
    assert_eq!(passwords("postgresql:///d"), [some("socket")]);
    assert_eq!(passwords("postgresql://localhost/d"), [some("socket")]);
    assert_eq!(passwords("postgresql://[::1]/d"), [some("six")]);
    assert_eq!(passwords("postgresql:///d?host=/run/pg"), [some("there")]);
    assert_eq!(passwords("postgresql://u:mine@one:1/d"), [some("mine")]);
}

#[test]
fn the_url_names_the_password_file_before_pgpassfile_and_the_home_directory() {
    let (_one, first) = password_file("*:*:*:*:first", 0o600);
    let (_two, second) = password_file("*:*:*:*:second", 0o600);
    let (home, _) = password_file("*:*:*:*:third", 0o400);
    let home = ("HOME", home.path().to_str().unwrap());
    let url = format!("postgresql://h?passfile={}", encoded(&first));
    let of =
        |url, variables: &[_]| password(&read_with(url, variables).unwrap()).map(<[u8]>::to_vec);
    assert_eq!(of(&url, &[("PGPASSFILE", &second), home]), Some(b"first".to_vec()));
    assert_eq!(of("postgresql://h", &[("PGPASSFILE", &second), home]), Some(b"second".to_vec()));
    assert_eq!(of("postgresql://h", &[home]), Some(b"third".to_vec()));
    assert_eq!(of("postgresql://h", &[("PGPASSFILE", "/nonexistent"), home]), None);
    let shown = read_with("postgresql://u@h/d", &[home]).unwrap();
    assert_eq!(shown.location(), "postgresql://u:***@h:5432/d");
    assert!(!format!("{shown:?}").contains("third"));
}

#[test]
fn a_password_file_that_others_can_read_is_ignored_with_a_warning() {
    let (_folder, path) = password_file("*:*:*:*:zebra", 0o640);
    let target = read_with("postgresql://h", &[("PGPASSFILE", &path)]).unwrap();
    assert_eq!(password(&target), None);
    let [warning] = &target.warnings[..] else { panic!("{:?}", target.warnings) };
    assert!(warning.what.contains(&path) && warning.remedy.contains("chmod 600"), "{warning}");
    assert!(!warning.to_string().contains("zebra"));
}
