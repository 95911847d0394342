//! The parts of a URL: user, password, hosts, ports and database, and the delimiters between them.

use std::time::Duration;

use super::*;

#[test]
fn every_part_of_a_url_is_read() {
    let target = read("postgresql://trader:s%65cret@db.example.com:6543/box?connect_timeout=7");
    assert_eq!((target.user.as_str(), target.database.as_str()), ("trader", "box"));
    assert_eq!(host_list(&target), ["db.example.com:6543"]);
    assert_eq!(password(&target), Some(&b"secret"[..]));
    assert_eq!(target.connect_timeout, Some(Duration::from_secs(7)));
    assert_eq!(target.application_name, "cts");
    assert_eq!(target.location(), "postgresql://trader:***@db.example.com:6543/box");
}

#[test]
fn missing_parts_have_the_defaults_of_libpq() {
    let target = read("postgres://");
    assert_eq!(target.hosts[0].endpoint, Endpoint::Unix("/var/run/postgresql".into()));
    assert_eq!((target.hosts[0].port, password(&target)), (5432, None));
    assert_eq!(target.database, target.user);
    assert_eq!((target.session_attrs, target.connect_timeout), (SessionAttrs::Any, None));
    assert_eq!(read("postgresql://u@h").database, "u");
    assert_eq!(read("postgresql://u@h").location(), "postgresql://u@h:5432/u");
}

#[test]
fn several_hosts_have_ports_of_their_own() {
    let target = read("postgresql://u@one:1,two,[::1]:3,[fe80::1%25eth0]/d");
    assert_eq!(host_list(&target), ["one:1", "two:5432", "[::1]:3", "[fe80::1%25eth0]:5432"]);
    assert_eq!(target.hosts[3].endpoint, Endpoint::Tcp("fe80::1%eth0".into()));
    assert_eq!(target.session_attrs, SessionAttrs::ReadWrite);
    assert_eq!(target.location(), "postgresql://u@one:1,two:5432,[::1]:3,[fe80::1%25eth0]:5432/d");
    let shared = read("postgresql:///d?host=one,two&port=7&user=u&target_session_attrs=any");
    assert_eq!(host_list(&shared), ["one:7", "two:7"]);
    assert_eq!(shared.session_attrs, SessionAttrs::Any);
    assert_eq!(host_list(&read("postgresql://one%2Ctwo/d")), ["one:5432", "two:5432"]);
}

#[test]
fn a_socket_is_a_host_that_is_a_path() {
    for url in ["postgresql://u@%2Frun%2Fpg:1/d", "postgresql://u@/d?host=/run/pg&port=1"] {
        let target = read(url);
        assert_eq!(target.hosts[0].endpoint, Endpoint::Unix("/run/pg".into()));
        assert_eq!(target.location(), "postgresql://u@%2Frun%2Fpg:1/d");
        assert_eq!(target.tls.mode, SslMode::Prefer);
    }
}

#[test]
fn hostaddr_is_the_address_to_connect_to() {
    let target = read("postgresql://u@db.example.com/d?hostaddr=127.0.0.1");
    assert_eq!(target.hosts[0].endpoint, Endpoint::Tcp("db.example.com".into()));
    assert_eq!(target.hosts[0].address, "127.0.0.1".parse().ok());
    assert_eq!(target.tls.mode, SslMode::Prefer);
    let nameless = read("postgresql:///d?hostaddr=192.0.2.1,::1");
    assert_eq!(host_list(&nameless), ["192.0.2.1:5432", "[::1]:5432"]);
    assert!(error_text("postgresql://a,b/d?hostaddr=::1").contains("hostaddr"));
    assert!(!error_text("postgresql://a/d?hostaddr=zebra").contains("zebra"));
}

#[test]
fn a_line_break_at_the_end_is_ignored() {
    assert_eq!(password(&read("postgresql://u:p@h/d\r\n")), Some(&b"p"[..]));
    assert_eq!(read("postgresql://u:p@h/d\n").database, "d");
}

#[test]
fn a_delimiter_in_the_wrong_place_is_refused_with_the_remedy() {
    for (url, remedy) in [
        ("postgresql://u:pa/ss@h/db", "/ as %2F"),
        ("postgresql://u:1234/ss@h/db", "/ as %2F"),
        ("postgresql://u:p@ss@h/db", "@ as %40"),
        ("postgresql://u:p?x@h/db", "? as %3F"),
        ("postgresql://u:p@h/d@b", "@ as %40"),
        ("postgresql://u:p@h?password=a@b", "@ as %40"),
        ("postgresql://u:p%zz@h", "%25"),
        ("postgresql://u:p%@h", "%25"),
        ("postgresql://u:p%00@h", "remove it"),
        ("postgresql://u:p x@h", "%20"),
        ("postgresql://u:p\nx@h", "%20"),
        ("postgresql://u:p\u{7}x@h", "%20"),
        ("postgresql://u:p@[::1/db", "[::1]:5432"),
        ("postgresql://u:p@[]/db", "[::1]:5432"),
        ("postgresql://u:p@[::1]x/db", "[::1]:5432"),
        ("postgresql://u:p@[zebra]/db", "[::1]:5432"),
        ("postgresql://u:p@::1/db", "brackets"),
        ("postgresql://u:p@h:port/db", "host:port"),
        ("postgresql://u:p@h:99999/db", "host:port"),
        ("postgresql://u:p@h:0/db", "host:port"),
        ("postgresql://u:p@h:+5/db", "host:port"),
        ("postgresql://u:p@h#x/db", "host:port"),
        ("postgresql://u:p@h,,i/db", "comma"),
        ("postgresql://u:p@h,/db", "comma"),
        ("postgresql://u:p@h/db?host=a,b&port=1,2,3", "one port for all"),
        ("postgresql://u:p@h/db?sslmode", "%26"),
        ("postgresql://u:p@h/db?password=a=b", "%3D"),
    ] {
        let text = error_text(url);
        assert!(text.contains(remedy), "{url}: {text}");
        assert!(!text.contains("zebra"), "{text}");
    }
}

#[test]
fn delimiters_that_libpq_accepts_in_a_password_are_accepted() {
    for secret in ["a:b", "a#b", "[x]", "a,b", "a&b=c", "a+b", "ü", "a;b$c!"] {
        let target = read(&format!("postgresql://u:{secret}@h/d"));
        assert_eq!(password(&target), Some(secret.as_bytes()), "{secret}");
    }
    assert_eq!(password(&read("postgresql://u:%FF%FE@h")), Some(&[0xFF, 0xFE][..]));
    assert_eq!(password(&read("postgresql://u:@h")), None);
}

#[test]
fn a_location_reads_back_as_the_same_servers() {
    for url in [
        "postgresql://a%40b:p@h%2Dx:1,[::1]/d%20%2F%3F",
        "postgresql://%C3%BC@%2Frun%2Fa%20b/d%25",
        "postgresql://u@h/a/b#c",
    ] {
        let target = read(url);
        let again = read(&target.location());
        assert_eq!((&again.user, &again.database), (&target.user, &target.database));
        assert_eq!(host_list(&again), host_list(&target));
    }
}
