//! The configuration from flags and variables, without the environment of the process.

use std::ffi::OsString;

use super::*;
use crate::error::Kind;
use crate::store::Backend;

fn load(flags: &Flags, variables: &[(&str, &str)]) -> Result<Config> {
    Config::load(flags, &|name| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
    })
}

fn refusal_text(variables: &[(&str, &str)]) -> String {
    let error = load(&Flags::default(), variables).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    error.to_string()
}

#[test]
fn without_flags_and_variables_the_defaults_hold() {
    let config = load(&Flags::default(), &[]).unwrap();
    assert_eq!(config.database.identity().backend, Backend::Sqlite);
    assert_eq!(config.database.identity().location, "/data/cts.db");
    assert_eq!((config.listen.host.as_str(), config.listen.port), ("127.0.0.1", 3000));
    assert_eq!(config.lock_timeout, Duration::from_secs(30));
    assert_eq!(config.admin_token, None);
}

#[test]
fn a_flag_takes_precedence_over_the_environment() {
    let flags = Flags { db: Some("/flag.db".into()), port: Some("1".into()), ..Flags::default() };
    let config =
        load(&flags, &[("SQLITE_DB_PATH", "/env.db"), ("PORT", "2"), ("HOST", "::1")]).unwrap();
    assert_eq!(
        (
            config.database.identity().location.as_str(),
            config.listen.port,
            config.listen.host.as_str()
        ),
        ("/flag.db", 1, "::1")
    );
}

#[test]
fn each_setting_is_kept_with_its_source_and_without_its_secret() {
    let flags = Flags { port: Some("1".into()), ..Flags::default() };
    let token = ("CTS_ADMIN_TOKEN", "a-secret-token");
    let config = load(&flags, &[("PORT", "2"), ("HOST", "::1"), token]).unwrap();
    let read = |name: &str| {
        let setting = config.settings.iter().find(|setting| setting.name == name).unwrap();
        (setting.shown.as_str(), setting.source)
    };
    assert_eq!(read("PORT"), ("1", SettingSource::Flag("--port")));
    assert_eq!(read("HOST"), ("::1", SettingSource::Environment));
    assert_eq!(read("SQLITE_DB_PATH"), ("/data/cts.db", SettingSource::Default));
    assert_eq!(read("CTS_LOCK_TIMEOUT"), ("30s", SettingSource::Default));
    assert_eq!(read("CTS_GROUP_ACCESS"), ("off", SettingSource::Default));
    assert_eq!(read("CTS_ADMIN_TOKEN"), ("is set", SettingSource::Environment));
}

#[test]
fn an_empty_variable_is_not_set() {
    let config =
        load(&Flags::default(), &[("PORT", ""), ("DATABASE_URL", ""), ("DATABASE_TYPE", "")]);
    assert_eq!(config.unwrap().listen.port, 3000);
}

#[test]
fn an_invalid_value_is_refused_with_the_name_of_its_variable() {
    for (name, value) in [
        ("DATABASE_TYPE", "mysql"),
        ("PORT", "http"),
        ("PORT", "70000"),
        ("CTS_LOCK_TIMEOUT", "soon"),
        ("CTS_GROUP_ACCESS", "maybe"),
        ("CTS_ALLOW_NETWORK_FS", "2"),
        ("CTS_ADMIN_TOKEN_FILE", "/nonexistent/token"),
    ] {
        let text = refusal_text(&[(name, value)]);
        assert!(text.contains(name) && text.contains(value), "{text}");
    }
}

#[test]
fn a_url_in_the_wrong_variable_is_not_repeated() {
    let names = [
        "SQLITE_DB_PATH",
        "DATABASE_TYPE",
        "HOST",
        "PORT",
        "CTS_ALLOWED_HOSTS",
        "CTS_ADMIN_TOKEN_FILE",
        "CTS_LOCK_TIMEOUT",
        "CTS_HTTP_CONNECTIONS",
        "CTS_GROUP_ACCESS",
        "CTS_ALLOW_NETWORK_FS",
    ];
    for name in names {
        for url in ["postgresql://u:hunter@h/db", "http://u:hunter@h:1"] {
            let text = refusal_text(&[(name, url)]);
            assert!(text.contains(name) && text.contains("URL"), "{text}");
            assert!(!text.contains("hunter"), "{text}");
        }
    }
    let text = refusal_text(&[("SQLITE_DB_PATH", "postgres://h/db")]);
    assert!(text.contains("is a URL, not a path. Try: set DATABASE_URL"), "{text}");
}

#[test]
fn an_explicit_type_takes_precedence_over_a_url() {
    let url = ("DATABASE_URL", "postgresql://u:secret@h/d");
    let config = load(&Flags::default(), &[("DATABASE_TYPE", "sqlite"), url]).unwrap();
    assert_eq!(config.database.identity().backend, Backend::Sqlite);
    let text = refusal_text(&[("DATABASE_TYPE", "postgresql")]);
    assert!(text.contains("DATABASE_TYPE"), "{text}");
}

#[test]
fn a_url_of_another_kind_is_told_apart_in_every_build() {
    for (url, what) in [
        ("sqlite:///srv/zebra.db", "names a SQLite file"),
        ("file:zebra.db", "names a SQLite file"),
        ("mysql://u:zebra@h/d", "names a MySQL or MariaDB database"),
        ("jdbc:postgresql://h/d?password=zebra", "is a JDBC URL"),
        ("postgresql+psycopg2://u:zebra@h/d", "names a driver of another program"),
        ("zebra", "does not begin with postgresql://"),
        ("'postgresql://u:zebra@h/d'", "stands in quotes"),
        ("“postgresql://u:zebra@h/d”", "stands in quotes"),
        ("\"postgresql://u:zebra@h/d", "begins or ends with a quotation mark"),
    ] {
        let text = refusal_text(&[("DATABASE_URL", url)]);
        assert!(text.starts_with("DATABASE_URL: ") && text.contains(what), "{text}");
        assert!(!text.contains("zebra") && !text.contains("--features"), "{text}");
    }
}

/// The default path would be another database.
#[test]
fn a_sqlite_url_is_not_ignored_where_the_type_is_sqlite() {
    let kind = ("DATABASE_TYPE", "sqlite");
    let url = ("DATABASE_URL", "sqlite:///srv/cts.db");
    let text = refusal_text(&[kind, url]);
    assert!(text.contains("names a SQLite file") && text.contains("SQLITE_DB_PATH"), "{text}");
    load(&Flags::default(), &[kind, url, ("SQLITE_DB_PATH", "/srv/cts.db")]).unwrap();
}

#[test]
#[cfg(not(feature = "postgres"))]
fn a_url_needs_a_build_with_postgresql() {
    let text = refusal_text(&[("DATABASE_URL", "postgresql://u:secret@h/d")]);
    assert!(text.contains("DATABASE_URL") && text.contains("--features postgres"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
#[cfg(feature = "postgres")]
fn a_url_is_enough_and_its_password_is_never_shown() {
    let url = ("DATABASE_URL", "postgresql://u:zebra@h/d");
    let config = load(&Flags::default(), &[url]).unwrap();
    assert_eq!(config.database.identity().location, "postgresql://u:***@h:5432/d");
    assert!(!format!("{config:?}").contains("zebra"));
    for (name, value) in [("CTS_POOL_MAX", "0"), ("CTS_POOL_IDLE", "x"), ("CTS_WAIT", "ever")] {
        let text = refusal_text(&[url, (name, value)]);
        assert!(text.contains(name) && text.contains(value), "{text}");
    }
}

#[test]
fn durations_are_read_with_and_without_a_unit() {
    for (text, seconds) in [("5", 5), ("5s", 5), ("2min", 120), ("1m 5s", 65)] {
        let config = load(&Flags::default(), &[("CTS_LOCK_TIMEOUT", text)]).unwrap();
        assert_eq!(config.lock_timeout, Duration::from_secs(seconds));
    }
}

#[test]
fn a_token_is_never_shown() {
    let config = load(&Flags::default(), &[("CTS_ADMIN_TOKEN", "a-secret-token")]).unwrap();
    assert!(!format!("{config:?}").contains("a-secret-token"));
    assert_eq!(config.admin_token.as_ref().map(Secret::expose), Some("a-secret-token"));
}
