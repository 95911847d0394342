//! The parameters of a URL: what they mean, which are refused, and those of other programs.

use std::time::Duration;

use super::*;
use crate::store::postgres::url::names::{PARAMETERS, ParameterRule};
use crate::store::postgres::url::target::Keepalives;

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
    for options in ["-csearch_path%3Db", "--search-path%3Db", "-c%20Search_Path%3Db"] {
        let text = error_text(&format!("postgresql://u@h/d?schema=a&options={options}"));
        assert!(text.contains("both set the search path"), "{text}");
    }
}
