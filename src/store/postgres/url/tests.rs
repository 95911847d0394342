//! How URLs are read, and that no error about one shows a password.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use std::time::Duration;

use super::names::{PARAMETERS, ParameterRule};
use super::target::{Keepalives, encoded};
use super::*;
use crate::error::Result;

fn read_with(url: &str, variables: &[(&str, &str)]) -> Result<Target> {
    Target::read("DATABASE_URL", url, &|name| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
    })
}

fn read(url: &str) -> Target {
    read_with(url, &[]).unwrap_or_else(|e| panic!("{url}: {e}"))
}

fn error_text(url: &str) -> String {
    match read_with(url, &[]) {
        Ok(target) => panic!("{url} was taken for {target:?}"),
        Err(error) => {
            assert_eq!(error.kind, Kind::Config);
            assert!(error.to_string().starts_with("DATABASE_URL: "), "{error}");
            assert!(error.remedy.is_some(), "{error}");
            error.to_string()
        }
    }
}

fn password(target: &Target) -> Option<&[u8]> {
    target.hosts[0].password.as_ref().map(Password::expose)
}

fn host_list(target: &Target) -> Vec<String> {
    target.hosts.iter().map(Host::to_string).collect()
}

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
fn parameters_have_the_meaning_of_libpq() {
    for (seconds, meant) in
        [("0", None), ("-3", None), ("1", Some(2)), ("2", Some(2)), ("9", Some(9))]
    {
        let target = read(&format!("postgresql://h?connect_timeout={seconds}"));
        assert_eq!(target.connect_timeout, meant.map(Duration::from_secs), "{seconds}");
    }
    let target = read(
        "postgresql://h?options=-c%20a%3Db&keepalives=1&keepalives_idle=5&keepalives_interval=6\
         &keepalives_count=7&tcp_user_timeout=8000&channel_binding=require\
         &fallback_application_name=other&target_session_attrs=primary",
    );
    assert_eq!(target.options.as_deref(), Some("-c a=b"));
    assert_eq!(
        target.keepalives,
        Keepalives {
            on: true,
            idle: Some(Duration::from_secs(5)),
            interval: Some(Duration::from_secs(6)),
            count: Some(7),
        }
    );
    assert_eq!(target.tcp_user_timeout, Some(Duration::from_secs(8)));
    assert_eq!(target.channel_binding, ChannelBinding::Require);
    assert_eq!(target.application_name, "other");
    assert_eq!(target.session_attrs, SessionAttrs::ReadWrite);
    let named = read("postgresql://h?application_name=first&fallback_application_name=second");
    assert_eq!(named.application_name, "first");
    assert!(!read("postgresql://h?keepalives=0").keepalives.on);
    let last = read("postgresql://u:p@h/d?user=u2&dbname=d2&password=p2&host=h2&port=2");
    assert_eq!(last.location(), "postgresql://u2:***@h2:2/d2");
    assert_eq!(password(&last), Some(&b"p2"[..]));
}

#[test]
fn a_wrong_parameter_is_named_and_its_value_is_not() {
    for (query, name) in [
        ("sslmode=zebra", "sslmode"),
        ("channel_binding=zebra", "channel_binding"),
        ("target_session_attrs=zebra", "target_session_attrs"),
        ("connect_timeout=zebra", "connect_timeout"),
        ("keepalives_idle=zebra", "keepalives_idle"),
        ("tcp_user_timeout=99999999999", "tcp_user_timeout"),
        ("ssl=zebra", "ssl"),
        ("sslmode=no-verify", "sslmode=require"),
        ("ssl_min_protocol_version=zebra", "ssl_min_protocol_version"),
        ("sslsni=zebra", "sslsni"),
        ("sslnegotiation=zebra", "sslnegotiation"),
        ("sslcertmode=zebra", "sslcertmode"),
        ("unknown_to_cts=zebra", "unknown_to_cts"),
        ("user=%FF", "user"),
    ] {
        let text = error_text(&format!("postgresql://u@h/d?{query}"));
        assert!(text.contains(name) && !text.contains("zebra"), "{text}");
    }
    for attrs in ["read-only", "standby", "prefer-standby"] {
        let text = error_text(&format!("postgresql://h?target_session_attrs={attrs}"));
        assert!(text.contains("cts must write") && text.contains("read-write"), "{text}");
    }
    let text = error_text("postgresql://h?password=beginning&ending=1");
    assert!(!text.contains("ending"), "{text}");
}

/// Every parameter of libpq 18, in the order of `PQconninfoOptions` in fe-connect.c, with a value and what becomes
/// of it: a part of the message where it is refused.
const LIBPQ: &[(&str, &str, Option<&str>)] = &[
    ("service", "trading", Some("write the parameters of that service")),
    ("servicefile", "/etc/pg_service.conf", Some("write the parameters of that service")),
    ("user", "u", None),
    ("password", "p", None),
    ("passfile", "/nonexistent", None),
    ("channel_binding", "require", None),
    ("connect_timeout", "10", None),
    ("dbname", "d", None),
    ("host", "h", None),
    ("hostaddr", "192.0.2.1", None),
    ("port", "5433", None),
    ("client_encoding", "UTF8", None),
    ("client_encoding", "LATIN1", Some("UTF-8, the only one of cts")),
    ("options", "-csearch_path%3Dx", None),
    ("application_name", "x", None),
    ("fallback_application_name", "x", None),
    ("keepalives", "1", None),
    ("keepalives_idle", "10", None),
    ("keepalives_interval", "10", None),
    ("keepalives_count", "10", None),
    ("tcp_user_timeout", "1000", None),
    ("sslmode", "disable", None),
    ("sslmode", "allow", None),
    ("sslmode", "prefer", None),
    ("sslmode", "require", None),
    ("sslmode", "verify-ca", None),
    ("sslmode", "verify-full", None),
    ("sslnegotiation", "postgres", None),
    ("sslnegotiation", "direct", None),
    ("sslcompression", "0", None),
    ("sslcompression", "1", Some("compression by TLS")),
    ("sslcert", "/c.pem", None),
    ("sslkey", "/k.pem", None),
    ("sslcertmode", "disable", None),
    ("sslcertmode", "allow", None),
    ("sslcertmode", "require", Some("clientcert=verify-full")),
    ("sslpassword", "zebra", Some("openssl pkey")),
    ("sslrootcert", "/ca.pem", None),
    ("sslrootcert", "system", None),
    ("sslcrl", "/crl.pem", None),
    ("sslcrldir", "/crls", None),
    ("sslsni", "0", None),
    ("requirepeer", "postgres", Some("folder of the socket")),
    ("require_auth", "scram-sha-256", None),
    ("min_protocol_version", "3.0", None),
    ("min_protocol_version", "latest", Some("every version of PostgreSQL accepts 3.0")),
    ("max_protocol_version", "latest", None),
    ("max_protocol_version", "3.2", None),
    ("ssl_min_protocol_version", "TLSv1", None),
    ("ssl_min_protocol_version", "TLSv1.3", None),
    ("ssl_max_protocol_version", "TLSv1.2", None),
    ("ssl_max_protocol_version", "TLSv1.1", Some("TLSv1.2 or TLSv1.3")),
    ("gssencmode", "disable", None),
    ("gssencmode", "prefer", None),
    ("gssencmode", "require", Some("encryption by GSSAPI")),
    ("krbsrvname", "postgres", Some("GSSAPI (Kerberos)")),
    ("gsslib", "gssapi", Some("GSSAPI (Kerberos)")),
    ("gssdelegation", "0", None),
    ("gssdelegation", "1", Some("GSSAPI")),
    ("replication", "false", None),
    ("replication", "database", Some("a replication connection")),
    ("target_session_attrs", "any", None),
    ("target_session_attrs", "read-write", None),
    ("target_session_attrs", "primary", None),
    ("target_session_attrs", "read-only", Some("cts must write")),
    ("target_session_attrs", "standby", Some("cts must write")),
    ("target_session_attrs", "prefer-standby", Some("cts must write")),
    ("load_balance_hosts", "disable", None),
    ("load_balance_hosts", "random", Some("the one that it can write")),
    ("scram_client_key", "zebra", Some("the password itself")),
    ("scram_server_key", "zebra", Some("the password itself")),
    ("oauth_issuer", "https:", Some("OAuth")),
    ("oauth_client_id", "x", Some("OAuth")),
    ("oauth_client_secret", "zebra", Some("OAuth")),
    ("oauth_scope", "x", Some("OAuth")),
    ("sslkeylogfile", "/k", Some("keys of the connection")),
    ("requiressl", "1", Some("sslmode=require")),
];

#[test]
fn every_parameter_of_libpq_is_accepted_or_refused_by_name() {
    for (name, value, refusal) in LIBPQ {
        let url = format!("postgresql://u@h/d?{name}={value}");
        match refusal {
            None => assert!(read(&url).warnings.is_empty(), "{url}"),
            Some(said) => {
                let text = error_text(&url);
                assert!(text.contains(name) && text.contains(said), "{text}");
                assert!(!text.contains("zebra"), "{text}");
            }
        }
        // As in libpq, an empty value counts as not set.
        assert!(read(&format!("postgresql://u@h/d?{name}=")).warnings.is_empty(), "{name}");
    }
    let is_tested = |name: &str| LIBPQ.iter().any(|(tested, _, _)| *tested == name);
    for (name, rule) in PARAMETERS {
        let is_read = *rule == ParameterRule::Read && !["ssl", "schema"].contains(name);
        assert!(!is_read || is_tested(name), "{name}");
        assert_eq!(PARAMETERS.iter().filter(|(other, _)| other == name).count(), 1, "{name}");
    }
}

#[test]
fn parameters_of_other_programs_are_accepted_said_or_refused() {
    for query in [
        "pgbouncer=true",
        "supa=base-pooler.x",
        "workaround=supabase-pooler.vercel",
        "statement_cache_size=0",
        "prepared_statement_cache_size=0",
        "prepareThreshold=0",
        "binary_parameters=yes",
        "uselibpqcompat=true",
        "default_query_exec_mode=simple_protocol",
        "sslmode=require&channel_binding=require",
        "options=endpoint%3Dep-cool-name-123",
    ] {
        assert_eq!(read(&format!("postgresql://u@h/d?{query}")).warnings, [], "{query}");
    }
    for (query, instead) in [
        ("connection_limit=1", "CTS_POOL_MAX"),
        ("pool_timeout=0", "CTS_POOL_CONNECT"),
        ("pool_max_conns=4", "CTS_POOL_MAX"),
        ("statement_timeout=1", "itself"),
    ] {
        let target = read(&format!("postgresql://u@h/d?{query}"));
        let [warning] = &target.warnings[..] else { panic!("{query}: {:?}", target.warnings) };
        assert!(warning.what.contains("has no effect") && warning.what.contains(instead));
    }
    for (query, said) in [
        ("sslmode=no-verify", "node-postgres"),
        ("uselibpqcompat=false", "libpq's"),
        ("endpoint=ep-cool-name-123", "options=endpoint%3DNAME"),
        ("search_path=x", "options=-csearch_path%3DNAME"),
        ("currentSchema=x", "options=-csearch_path%3DNAME"),
        ("sslaccept=accept_invalid_certs", "sslmode=require"),
        ("ssl=no-verify", "sslmode=require"),
        ("ssl=false", "sslmode=disable"),
        ("work_mem=1", "options=-cNAME%3Dvalue"),
    ] {
        let text = error_text(&format!("postgresql://u@h/d?{query}"));
        assert!(text.contains(query.split('=').next().unwrap()) && text.contains(said), "{text}");
    }
}

#[test]
fn the_schema_of_prisma_is_the_search_path() {
    let options = |query: &str| read(&format!("postgresql://u@h/d?{query}")).options;
    assert_eq!(options("schema=trading").as_deref(), Some("-csearch_path=\"trading\""));
    assert_eq!(
        options("schema=a%20b%5C%22&options=-cx.y%3Dz").as_deref(),
        Some(r#"-cx.y=z -csearch_path="a\ b\\""""#)
    );
    let text = error_text("postgresql://u@h/d?schema=a&options=-csearch_path%3Db");
    assert!(text.contains("both set the search path"), "{text}");
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

#[test]
fn a_variable_of_libpq_that_is_not_read_is_named_where_the_url_leaves_it_open() {
    let warned = |url: &str, variables: &[(&str, &str)]| {
        let target = read_with(url, variables).unwrap();
        let text = target.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(!text.contains("zebra"), "{text}");
        text
    };
    for (name, parameter) in super::environment::NOT_READ {
        let value = if *name == "PGGSSENCMODE" { "require" } else { "zebra" };
        let text = warned("postgresql://", &[(name, value)]);
        let open = text.contains(name)
            && (text.contains(parameter) || text.contains("of the service into the URL"));
        assert!(open && text.contains("does not read it"), "{name}: {text}");
        assert_eq!(warned("postgresql://", &[(name, "")]), "");
    }
    let full = "postgresql://u:p@h:1/d?sslmode=require&options=-cx.y%3Dz&sslrootcert=/ca";
    for name in ["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"]
        .into_iter()
        .chain(["PGSSLMODE", "PGREQUIRESSL", "PGOPTIONS", "PGSSLROOTCERT"])
    {
        assert_eq!(warned(full, &[(name, "zebra")]), "", "{name}");
    }
    let two = warned("postgresql://u:p@h/d", &[("PGSSLMODE", "x"), ("PGSSLCRL", "y")]);
    assert!(two.contains("PGSSLCRL, PGSSLMODE are set, and cts does not read them"), "{two}");
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

/// Passwords with all pairs and some runs of the delimiters of a URL, between characters that no
/// message contains.
fn passwords_with_delimiters() -> Vec<String> {
    let special: Vec<char> = "/@:?#%[],&=+ \\'\"$!\n\t\u{1}ü;<>*".chars().collect();
    let mut all = Vec::new();
    for a in &special {
        for b in &special {
            all.push(format!("Xq7w{a}Jk9z{b}Vb3m"));
            all.push(format!("{a}Xq7w{b}{a}"));
        }
        all.push(format!("12987{a}60718{a}1698"));
        all.push(format!("%4{a}Xq7w%2B{a}Jk9z"));
    }
    all
}

/// Whether `text` shows the password or four characters of it in a row.
fn shows(text: &str, password: &str) -> bool {
    let characters: Vec<char> = password.chars().collect();
    text.contains(password)
        || characters.windows(4).any(|piece| text.contains(&piece.iter().collect::<String>()))
}

#[test]
fn no_password_is_ever_shown() {
    for secret in passwords_with_delimiters() {
        for written in [secret.clone(), encoded(&secret)] {
            for url in [
                format!("postgresql://user:{written}@host/db"),
                format!("postgresql://user:{written}@host:99/db?sslmode=require"),
                format!("postgresql://user:{written}@host:port/db"),
                format!("postgresql://user:{written}@[::1/db"),
                format!("postgresql://user:{written}@one,,two/db"),
                format!("postgresql://user:{written}@host/db?zebra=1"),
                format!("postgresql://user:{written}@host/db?sslmode=zebra"),
                format!("postgresql://host/db?password={written}"),
                format!("postgresql://host/db?password={written}&user=user"),
                format!("postgresql://host/db?user=user&password={written}&zebra=1"),
                format!("postgresql://host/db?sslpassword={written}"),
                format!("postgresql://host/db?zebra=1&sslpassword={written}"),
                format!("postgresql://host/db?oauth_client_secret={written}&sslmode=require"),
                format!("postgresql://host/db?scram_client_key={written}"),
                format!("postgresql://host/db?%70assword={written}&zebra=1"),
                format!("postgresql+psycopg2://user:{written}@host/db"),
                format!("mysql://user:{written}@host/db"),
                format!("sqlite://:{written}@/file.db"),
                format!("\"postgresql://user:{written}@host/db\""),
                format!("psql 'postgresql://user:{written}@host/db'"),
                format!("user:{written}@host/db"),
                format!("jdbc:postgresql://host/db?password={written}"),
                format!("host=host password={written}"),
            ] {
                let text = match read_with(&url, &[]) {
                    Ok(target) => format!("{target} {target:?}"),
                    Err(error) => format!("{error} {error:?}"),
                };
                assert!(!shows(&text, &secret), "{url:?}: {text}");
            }
        }
    }
}

#[test]
fn an_encoded_password_is_read_back() {
    for secret in passwords_with_delimiters() {
        let written = encoded(&secret);
        for url in [
            format!("postgresql://user:{written}@host/db"),
            format!("postgresql://user@host/db?password={written}&sslmode=require"),
        ] {
            assert_eq!(password(&read(&url)), Some(secret.as_bytes()), "{url}");
        }
    }
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
