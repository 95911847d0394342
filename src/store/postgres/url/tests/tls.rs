//! Whether a connection uses TLS, which certificates it uses, and which versions it accepts.

use super::*;

#[test]
fn without_sslmode_the_certificate_of_a_remote_server_is_verified() {
    for (url, mode) in [
        ("postgresql://localhost", SslMode::Prefer),
        ("postgresql://127.3.2.1,[::1],LOCALHOST", SslMode::Prefer),
        ("postgresql://localhost,db", SslMode::VerifyFull),
        ("postgresql://127.0.0.1.example.com", SslMode::VerifyFull),
        ("postgresql://localhost@db", SslMode::VerifyFull),
        ("postgresql://localhost?hostaddr=192.0.2.1", SslMode::VerifyFull),
        ("postgresql://localhost?sslrootcert=system", SslMode::VerifyFull),
        ("postgresql://db?sslmode=allow", SslMode::Prefer),
        ("postgresql://db?ssl=true", SslMode::Require),
        ("postgresql://localhost?sslmode=verify-ca", SslMode::VerifyCa),
    ] {
        assert_eq!(read(url).tls.mode, mode, "{url}");
    }
}

#[test]
fn the_url_names_the_files_of_tls() {
    let tls = read("postgresql://h?sslrootcert=/ca%20s.pem&sslcert=/c.pem&sslkey=/k.pem").tls;
    assert_eq!(tls.root, Some(Root::File("/ca s.pem".into())));
    assert_eq!((tls.cert, tls.key), (Some("/c.pem".into()), Some("/k.pem".into())));
    let home = read_with("postgresql://h?sslrootcert=system", &[("HOME", "/home/x")]).unwrap().tls;
    assert_eq!((home.root, home.folder), (Some(Root::System), Some("/home/x/.postgresql".into())));
    assert!(
        error_text("postgresql://h?sslrootcert=system&sslmode=require").contains("verify-full")
    );
}

#[test]
fn ssl_true_never_weakens_an_sslmode() {
    let mode = |query: &str| read(&format!("postgresql://h/d?{query}")).tls.mode;
    assert_eq!(mode("ssl=true"), SslMode::Require);
    assert_eq!(mode("ssl=true&sslmode=verify-full"), SslMode::VerifyFull);
    assert_eq!(mode("sslmode=verify-ca&ssl=true"), SslMode::VerifyCa);
    for weak in ["disable", "allow", "prefer"] {
        let text = error_text(&format!("postgresql://h/d?sslmode={weak}&ssl=true"));
        assert!(text.contains("contradict each other"), "{text}");
    }
}

#[test]
fn the_url_says_how_tls_begins_and_which_versions_are_accepted() {
    let tls = |query: &str| read(&format!("postgresql://h/d?{query}")).tls;
    assert_eq!(tls("sslnegotiation=direct").start, TlsStart::Direct);
    assert_eq!(tls("sslmode=require").start, TlsStart::Asked);
    for weak in ["disable", "prefer"] {
        let text = error_text(&format!("postgresql://h/d?sslnegotiation=direct&sslmode={weak}"));
        assert!(text.contains("sslnegotiation=direct requires TLS"), "{text}");
    }
    assert_eq!(tls("").versions, TlsVersions::Both);
    assert_eq!(tls("ssl_min_protocol_version=TLSv1.3").versions, TlsVersions::Only13);
    assert_eq!(tls("ssl_max_protocol_version=TLSv1.2").versions, TlsVersions::Only12);
    let both = "ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2";
    assert!(error_text(&format!("postgresql://h/d?{both}")).contains("greater than"));
    assert!(tls("").sends_host_name && !tls("sslsni=0").sends_host_name);
    assert!(tls("").sends_certificate && !tls("sslcertmode=disable").sends_certificate);
}
