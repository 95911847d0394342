//! Values as files, shells and editors leave them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::*;

fn read(value: &str) -> Result<Reading<String>> {
    text("PORT", OsStr::new(value))
}

#[test]
fn what_is_around_a_value_is_removed_and_said() {
    for value in [
        "3000\r",
        " 3000\t",
        "\"3000\"",
        "'3000'\r\n",
        "\u{feff}3000",
        "3000\u{a0}",
        "“3000”",
        "\" 3000 \"",
        "\u{200b}3000",
    ] {
        let Reading { value: read, notice } = read(value).unwrap();
        assert_eq!(read, "3000", "{value:?}");
        let notice = notice.unwrap();
        assert!(
            notice.starts_with("PORT: \"") && notice.ends_with("is read as \"3000\""),
            "{notice}"
        );
        assert!(!notice.contains(is_unsafe), "{notice:?}");
    }
    assert_eq!(read("3000").unwrap(), Reading { value: "3000".into(), notice: None });
}

#[test]
fn what_cannot_be_meant_is_refused_and_shown() {
    for (value, says) in [
        (&b"30\xff"[..], r#""30\xff" is not UTF-8"#),
        (b"30\x1b0", r#""30\x1b0" has \x1b in it, as character 3"#),
        (b" \r", r#"" \r" holds nothing but white space or quotes"#),
        (b"''", r#""''" holds nothing but white space or quotes"#),
        (b"", r#""" is empty"#),
        (b"PORT=3000", "begins with PORT= itself"),
        (b"export PORT = 3000", "begins with PORT= itself"),
    ] {
        let error = text("PORT", OsStr::from_bytes(value)).unwrap_err();
        assert_eq!(error.kind, Kind::Config);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_secret_is_read_alike_and_never_shown() {
    for (value, notices) in [
        ("hunter2", false),
        ("hunter2\n", false),
        ("\u{feff}hunter2\r\n", true),
        (" hunter2", true),
    ] {
        let read = secret("CTS_ADMIN_TOKEN", OsStr::new(value)).unwrap();
        assert_eq!((read.value.as_str(), read.notice.is_some()), ("hunter2", notices), "{value:?}");
        assert!(!format!("{:?}", read.notice).contains("hunter"));
    }
    for value in ["'hunter2'", "hunter2\nhunter3", "hunter2\u{1b}", "''", "CTS_ADMIN_TOKEN=hunter2"]
    {
        for name in ["CTS_ADMIN_TOKEN", "CTS_ADMIN_TOKEN_FILE"] {
            let text = secret(name, OsStr::new(value)).unwrap_err().to_string();
            assert!(text.contains(name) && !text.contains("hun"), "{text}");
        }
    }
    let text = secret("X", OsStr::from_bytes(b"hunter\xff")).unwrap_err().to_string();
    assert!(text.contains("is not UTF-8") && !text.contains("hunter"), "{text}");
}

fn read_path(value: &str) -> Result<Reading<std::path::PathBuf>> {
    path("SQLITE_DB_PATH", OsStr::new(value))
}

#[test]
fn a_path_without_anything_around_it_is_read_as_it_is() {
    for value in [
        "/data/cts.db",
        "/data/my folder/cts.db",
        "/data/@x/a$.db",
        "/a#b/50% (é).db",
        "/d:/x",
        "/d/file:x?mode=memory",
    ] {
        let Reading { value: read, notice } = read_path(value).unwrap();
        assert_eq!((read.as_path(), notice), (Path::new(value), None));
    }
    let here = std::env::current_dir().unwrap();
    assert_eq!(read_path("./x.db").unwrap().value, here.join("x.db"));
}

#[test]
fn what_is_around_a_path_is_removed() {
    for value in
        ["/no/cts.db\r", "/no/cts.db ", "\"/no/cts.db\"", "'/no/cts.db'", "\u{feff}/no/cts.db"]
    {
        let Reading { value: read, notice } = read_path(value).unwrap();
        assert_eq!(read, Path::new("/no/cts.db"));
        assert!(notice.unwrap().ends_with("is read as /no/cts.db"));
    }
}

#[test]
fn a_path_that_only_another_program_would_understand_is_refused() {
    for (value, says) in [
        ("~/cts.db", "only a shell"),
        ("~cts/cts.db", "only a shell"),
        ("$HOME/cts.db", "only a shell"),
        ("/data/${NAME}.db", "only a shell"),
        ("`pwd`/cts.db", "only a shell"),
        ("$(pwd)/cts.db", "only a shell"),
        ("%S/cts.db", "systemd"),
        ("C:\\data\\cts.db", "Windows"),
        ("sqlite:/data/cts.db", "write the path alone: /data/cts.db"),
        ("sqlite:///data/cts.db", "write the path alone: /data/cts.db"),
        ("SQLite:data/cts.db", "write the path alone: data/cts.db"),
        ("file:/data/cts.db?mode=rwc", "write the path alone: /data/cts.db"),
        ("DATABASE_PATH=/data/cts.db", "is an assignment"),
        (":memory:", "in memory"),
        ("file::memory:?cache=shared", "in memory"),
        ("sqlite://", "in memory"),
        ("/data/cts.db # the database", "a comment"),
        ("/data/cts.db;", "a separator"),
        ("\"/data/cts.db", "a quote at one end"),
        ("/no/such/folder/", "names a folder"),
        ("/no/such/..", "names a folder"),
        ("/no/cts\u{a0}box/cts.db", "looks like a blank"),
        ("/no/c\nts.db", r"has \n in it"),
        ("SQLITE_DB_PATH=/data/cts.db", "begins with SQLITE_DB_PATH= itself"),
    ] {
        let error = read_path(value).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("SQLITE_DB_PATH: \"") && text.contains(says), "{value:?}: {text}");
        assert!(!text.contains(is_unsafe), "{text:?}");
    }
}

#[test]
fn a_new_file_may_have_odd_characters_in_its_name_unless_another_file_looks_alike() {
    let folder = tempfile::TempDir::new().unwrap();
    let written = |name: &[u8]| folder.path().join(OsStr::from_bytes(name));
    for name in [&b"caf\xe9.db"[..], b"a\nb.db", "a\u{a0}b.db".as_bytes()] {
        let read = path("--db", written(name).as_os_str()).unwrap();
        assert_eq!(read.value, written(name));
        assert!(read.notice.unwrap().contains("is used as it is written"));
        let elsewhere = folder.path().join("no folder").join(OsStr::from_bytes(name));
        assert_eq!(path("--db", elsewhere.as_os_str()).unwrap_err().kind, Kind::Config);
    }
    for name in ["café.db", "ab.db", "a b.db"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    for name in [&b"caf\xe9.db"[..], b"a\nb.db", "a\u{a0}b.db".as_bytes(), b"ab.db\xff"] {
        assert_eq!(path("--db", written(name).as_os_str()).unwrap_err().kind, Kind::Config);
    }
}

#[test]
fn a_file_of_exactly_the_written_name_is_used_unless_the_meant_one_exists_too() {
    let folder = tempfile::TempDir::new().unwrap();
    let (written, meant) = (folder.path().join("cts.db\r"), folder.path().join("cts.db"));
    std::fs::write(&written, "").unwrap();
    let read = path("--db", written.as_os_str()).unwrap();
    assert_eq!(read.value, written);
    assert!(read.notice.unwrap().contains("is used as it is written"));
    std::fs::write(&meant, "").unwrap();
    let text = path("--db", written.as_os_str()).unwrap_err().to_string();
    assert!(text.contains("may mean two files") && text.contains(r#"cts.db\r""#), "{text}");
    std::fs::remove_file(&written).unwrap();
    assert_eq!(path("--db", written.as_os_str()).unwrap().value, meant);
}
