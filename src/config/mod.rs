//! The configuration: one typed value, made once from flags, environment and defaults, in
//! that order. One function a variable; each message names its variable.

mod flags;

use std::cell::RefCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::store::sqlite::{DatabaseFile, FileAccess};
use crate::store::{Backend, Database};
use crate::system::environment::Environment;
use crate::system::log::Verbosity;
use crate::system::secret::{Secret, read_secret};
pub use flags::*;

/// The longest time that is ever waited: one that can be added to any point in time.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The configuration of one run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database.
    pub database: Arc<dyn Database>,
    /// Where to listen.
    pub listen: Listen,
    /// Names by which clients may speak of us, beside addresses.
    pub allowed_hosts: Vec<String>,
    /// Token for the administrative paths.
    pub admin_token: Option<Secret>,
    /// How long a command waits for the migration lock.
    pub lock_timeout: Duration,
    /// How much is said.
    pub verbosity: Verbosity,
    /// Every setting that was read, and where its value came from.
    pub settings: Vec<Setting>,
}

/// Where to listen, and how many connections to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address.
    pub host: String,
    /// Port; 0 lets the system choose one.
    pub port: u16,
    /// Connections at once.
    pub connections: usize,
}

/// A setting as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The name of its variable.
    pub name: &'static str,
    /// Its value as it may be shown: never a secret.
    pub shown: String,
    /// Where the value came from.
    pub source: SettingSource,
    /// Where its secret is kept, if it is one.
    pub kept: Option<SecretLocation>,
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// This flag.
    Flag(&'static str),
    /// The variable itself.
    Environment,
    /// Nobody set it.
    Default,
}

/// Where a secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretLocation {
    /// In the variable itself.
    Variable,
    /// In a file.
    File(PathBuf),
}

impl Config {
    /// Puts the configuration together, or says which variable is wrong.
    pub fn load(flags: &Flags, environment: Environment<'_>) -> Result<Config> {
        let env = Env { variables: environment, settings: RefCell::default() };
        let database: Arc<dyn Database> = match backend(flags, &env)? {
            Backend::Sqlite => Arc::new(file(flags, &env)?),
            Backend::Postgresql => server(flags, &env)?,
        };
        Ok(Config {
            database,
            listen: Listen {
                host: host(flags, &env)?,
                port: port(flags, &env)?,
                connections: env.number("CTS_HTTP_CONNECTIONS", DEFAULT_CONNECTIONS, 4..=4096)?,
            },
            allowed_hosts: allowed_hosts(&env)?,
            admin_token: admin_token(&env)?,
            lock_timeout: env.duration("CTS_LOCK_TIMEOUT", DEFAULT_LOCK_TIMEOUT)?,
            verbosity: flags.verbosity,
            settings: env.settings.into_inner(),
        })
    }
}

/// An explicit type wins; else a flag tells, else a server's URL.
fn backend(flags: &Flags, env: &Env<'_>) -> Result<Backend> {
    let has_url = flags.database_url_file.is_some()
        || env.path("DATABASE_URL").is_some()
        || env.path("DATABASE_URL_FILE").is_some();
    let named = env.text("DATABASE_TYPE")?;
    let source = if named.is_some() { SettingSource::Environment } else { SettingSource::Default };
    let backend = match named.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("sqlite") => Ok(Backend::Sqlite),
        Some("postgresql" | "postgres") if flags.db.is_some() => Err(Error::new(
            Kind::Config,
            "DATABASE_TYPE is postgresql, but --db names a SQLite file",
        )
        .remedy("leave one of them out")),
        Some("postgresql" | "postgres") => Ok(Backend::Postgresql),
        Some(_) => Err(wrong(
            "DATABASE_TYPE",
            named.as_deref().unwrap_or_default(),
            "sqlite or postgresql",
        )),
        None if flags.db.is_none() && has_url => Ok(Backend::Postgresql),
        None => Ok(Backend::Sqlite),
    }?;
    env.note("DATABASE_TYPE", source, backend.name());
    Ok(backend)
}

fn file(flags: &Flags, env: &Env<'_>) -> Result<DatabaseFile> {
    let variable = env.path("SQLITE_DB_PATH");
    let (path, source) = first(("--db", flags.db.clone()), variable, || DEFAULT_DB.into());
    is_path(if let SettingSource::Flag(flag) = source { flag } else { "SQLITE_DB_PATH" }, &path)?;
    env.note("SQLITE_DB_PATH", source, path.display());
    Ok(DatabaseFile {
        path,
        access: FileAccess {
            group: env.switch("CTS_GROUP_ACCESS")?,
            allow_network: env.switch("CTS_ALLOW_NETWORK_FS")?,
        },
    })
}

/// What the URL names, and where it is from; the flag wins.
#[cfg(feature = "postgres")]
fn server(flags: &Flags, env: &Env<'_>) -> Result<Arc<dyn Database>> {
    use crate::store::postgres::{DatabaseServer, PoolSettings, Target};
    let from_file = |source, name: &str, path: &Path| -> Result<_> {
        is_path(name, path)?;
        let url = read_secret(name, path)?.expose().to_string();
        Ok((
            source,
            format!("{name}: {}", path.display()),
            url,
            SecretLocation::File(path.to_path_buf()),
        ))
    };
    let (source, place, url, kept) = if let Some(path) = &flags.database_url_file {
        from_file(SettingSource::Flag("--database-url-file"), "--database-url-file", path)?
    } else if let Some(url) = env.text("DATABASE_URL")? {
        (SettingSource::Environment, "DATABASE_URL".into(), url, SecretLocation::Variable)
    } else if let Some(path) = env.path("DATABASE_URL_FILE") {
        from_file(SettingSource::Environment, "DATABASE_URL_FILE", &path)?
    } else {
        let what = "DATABASE_TYPE is postgresql, but there is no URL of a database";
        return Err(Error::new(Kind::Config, what)
            .remedy("set DATABASE_URL, or DATABASE_URL_FILE to a file that holds it"));
    };
    let target = Target::read(&place, &url, env.variables)?;
    let name = match kept {
        SecretLocation::Variable => "DATABASE_URL",
        SecretLocation::File(_) => "DATABASE_URL_FILE",
    };
    env.note_secret(name, source, &target.location(), kept);
    Ok(Arc::new(DatabaseServer {
        target: Arc::new(target),
        wait: env.duration("CTS_WAIT", DEFAULT_WAIT)?,
        pool: PoolSettings {
            max: env.number("CTS_POOL_MAX", DEFAULT_POOL_MAX, 1..=1000)?,
            idle: env.some_time("CTS_POOL_IDLE", DEFAULT_POOL_IDLE)?,
            connect: env.some_time("CTS_POOL_CONNECT", DEFAULT_POOL_CONNECT)?,
        },
    }))
}

#[cfg(not(feature = "postgres"))]
fn server(_: &Flags, env: &Env<'_>) -> Result<Arc<dyn Database>> {
    Err(no_postgres(env))
}

#[cfg(not(feature = "postgres"))]
fn no_postgres(env: &Env<'_>) -> Error {
    let because = if env.path("DATABASE_TYPE").is_some() {
        "DATABASE_TYPE says postgresql"
    } else {
        "a PostgreSQL URL is configured (DATABASE_URL, DATABASE_URL_FILE or --database-url-file)"
    };
    let what = format!(
        "{because}, but this cts was built without PostgreSQL; only a build with `--features postgres` has it"
    );
    Error::new(Kind::Config, what)
        .remedy("use such a build, or set DATABASE_TYPE=sqlite to use the embedded database")
}

fn host(flags: &Flags, env: &Env<'_>) -> Result<String> {
    let variable = env.text("HOST")?;
    let (host, source) = first(("--host", flags.host.clone()), variable, || DEFAULT_HOST.into());
    let name = if let SettingSource::Flag(flag) = source { flag } else { "HOST" };
    if holds_login(&host) {
        return Err(wrong(name, &host, "a name or an address"));
    }
    env.note("HOST", source, &host);
    Ok(host)
}

fn port(flags: &Flags, env: &Env<'_>) -> Result<u16> {
    let variable = env.text("PORT")?;
    let default = || DEFAULT_PORT.to_string();
    let (value, source) = first(("--port", flags.port.clone()), variable, default);
    let name = if let SettingSource::Flag(flag) = source { flag } else { "PORT" };
    let port = value.trim().parse().map_err(|_| wrong(name, &value, "a port from 0 to 65535"))?;
    env.note("PORT", source, port);
    Ok(port)
}

fn allowed_hosts(env: &Env<'_>) -> Result<Vec<String>> {
    let given = env.text("CTS_ALLOWED_HOSTS")?;
    if let Some(value) = given.as_deref().filter(|value| holds_login(value)) {
        return Err(wrong("CTS_ALLOWED_HOSTS", value, "a list of names"));
    }
    let source = if given.is_some() { SettingSource::Environment } else { SettingSource::Default };
    let hosts: Vec<String> = given
        .unwrap_or_default()
        .split([',', ' '])
        .filter(|host| !host.is_empty())
        .map(str::to_string)
        .collect();
    let shown = if hosts.is_empty() { "none".into() } else { hosts.join(", ") };
    env.note("CTS_ALLOWED_HOSTS", source, shown);
    Ok(hosts)
}

fn admin_token(env: &Env<'_>) -> Result<Option<Secret>> {
    if let Some(token) = env.text("CTS_ADMIN_TOKEN")? {
        env.note_secret(
            "CTS_ADMIN_TOKEN",
            SettingSource::Environment,
            "is set",
            SecretLocation::Variable,
        );
        return Ok(Some(Secret::new(token)));
    }
    let Some(path) = env.path("CTS_ADMIN_TOKEN_FILE") else {
        env.note("CTS_ADMIN_TOKEN", SettingSource::Default, "is not set");
        return Ok(None);
    };
    is_path("CTS_ADMIN_TOKEN_FILE", &path)?;
    let token = read_secret("CTS_ADMIN_TOKEN_FILE", &path)?;
    let shown = path.display().to_string();
    env.note_secret(
        "CTS_ADMIN_TOKEN_FILE",
        SettingSource::Environment,
        &shown,
        SecretLocation::File(path),
    );
    Ok(Some(token))
}

/// A URL in the place of a path is not repeated: it may hold a password.
fn is_path(name: &str, path: &Path) -> Result<()> {
    match path.to_string_lossy().contains("://") {
        true => Err(Error::new(Kind::Config, format!("{name}: is a URL, not a path"))
            .remedy(format!("set DATABASE_URL if it is a database server's, and correct {name}"))),
        false => Ok(()),
    }
}

/// Whether it may be a URL with a password.
fn holds_login(value: &str) -> bool {
    value.contains("://") || value.contains('@')
}

/// What may be a URL is not repeated.
fn wrong(name: &str, value: &str, expected: &str) -> Error {
    let shown = if holds_login(value) { "a URL".into() } else { format!("{value:?}") };
    Error::new(Kind::Config, format!("{name}: {shown} is not {expected}"))
        .remedy(format!("correct {name}"))
}

/// The flag's value, else the variable's, else the default.
fn first<T>(
    (flag, given): (&'static str, Option<T>),
    variable: Option<T>,
    default: impl FnOnce() -> T,
) -> (T, SettingSource) {
    match (given, variable) {
        (Some(value), _) => (value, SettingSource::Flag(flag)),
        (None, Some(value)) => (value, SettingSource::Environment),
        (None, None) => (default(), SettingSource::Default),
    }
}

/// The environment, and what has been read so far. A variable that is set to nothing counts as
/// not set.
struct Env<'e> {
    variables: Environment<'e>,
    settings: RefCell<Vec<Setting>>,
}

impl Env<'_> {
    fn note(&self, name: &'static str, source: SettingSource, value: impl fmt::Display) {
        let setting = Setting { name, shown: value.to_string(), source, kept: None };
        self.settings.borrow_mut().push(setting);
    }

    fn note_secret(
        &self,
        name: &'static str,
        source: SettingSource,
        shown: &str,
        kept: SecretLocation,
    ) {
        let setting = Setting { name, shown: shown.into(), source, kept: Some(kept) };
        self.settings.borrow_mut().push(setting);
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        (self.variables)(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    fn text(&self, name: &str) -> Result<Option<String>> {
        let value = (self.variables)(name).filter(|value| !value.is_empty());
        value.map(|value| value.into_string()).transpose().map_err(|_| {
            Error::new(Kind::Config, format!("{name}: is not UTF-8"))
                .remedy(format!("correct {name}"))
        })
    }

    /// The variable's value, or the default.
    fn value(&self, name: &str, default: impl fmt::Display) -> Result<(String, SettingSource)> {
        Ok(match self.text(name)? {
            Some(value) => (value, SettingSource::Environment),
            None => (default.to_string(), SettingSource::Default),
        })
    }

    fn switch(&self, name: &'static str) -> Result<bool> {
        let (value, source) = self.value(name, "off")?;
        let is_on = match value.to_ascii_lowercase().as_str() {
            "0" | "off" | "false" | "no" => false,
            "1" | "on" | "true" | "yes" => true,
            other => return Err(wrong(name, other, "1 (on) or 0 (off)")),
        };
        self.note(name, source, if is_on { "on" } else { "off" });
        Ok(is_on)
    }

    fn duration(&self, name: &'static str, default: &str) -> Result<Duration> {
        let (value, source) = self.value(name, default)?;
        self.note(name, source, &value);
        let seconds = value.parse().map(Duration::from_secs).ok();
        seconds
            .or_else(|| humantime::parse_duration(&value).ok())
            .map(|time| time.min(LONGEST))
            .ok_or_else(|| wrong(name, &value, "a time such as 30s or 2min"))
    }

    fn number<N>(&self, name: &'static str, default: N, range: RangeInclusive<N>) -> Result<N>
    where
        N: FromStr + PartialOrd + fmt::Display,
    {
        let (value, source) = self.value(name, default)?;
        self.note(name, source, value.trim());
        let expected = || format!("a number from {} to {}", range.start(), range.end());
        let number = value.trim().parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| wrong(name, &value, &expected()))
    }

    /// One that is not zero.
    #[cfg(feature = "postgres")]
    fn some_time(&self, name: &'static str, default: &str) -> Result<Duration> {
        match self.duration(name, default)? {
            Duration::ZERO => Err(wrong(name, "0", "a time of which there is some, such as 30s")),
            time => Ok(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn load(flags: &Flags, variables: &[(&str, &str)]) -> Result<Config> {
        Config::load(flags, &|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn complaint(variables: &[(&str, &str)]) -> String {
        let error = load(&Flags::default(), variables).unwrap_err();
        assert_eq!(error.kind, Kind::Config);
        error.to_string()
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        let config = load(&Flags::default(), &[]).unwrap();
        assert_eq!(config.database.backend(), Backend::Sqlite);
        assert_eq!(config.database.location(), "/data/cts.db");
        assert_eq!((config.listen.host.as_str(), config.listen.port), ("127.0.0.1", 3000));
        assert_eq!(config.lock_timeout, Duration::from_secs(30));
        assert_eq!(config.admin_token, None);
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let flags =
            Flags { db: Some("/flag.db".into()), port: Some("1".into()), ..Flags::default() };
        let config =
            load(&flags, &[("SQLITE_DB_PATH", "/env.db"), ("PORT", "2"), ("HOST", "::1")]).unwrap();
        assert_eq!(
            (config.database.location().as_str(), config.listen.port, config.listen.host.as_str()),
            ("/flag.db", 1, "::1")
        );
    }

    #[test]
    fn each_setting_is_kept_with_its_source_and_without_its_secret() {
        let flags = Flags { port: Some("1".into()), ..Flags::default() };
        let token = ("CTS_ADMIN_TOKEN", "tell-nobody");
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
    fn nonsense_is_refused_with_the_name_of_its_variable() {
        for (name, value) in [
            ("DATABASE_TYPE", "mysql"),
            ("PORT", "http"),
            ("PORT", "70000"),
            ("CTS_LOCK_TIMEOUT", "soon"),
            ("CTS_GROUP_ACCESS", "maybe"),
            ("CTS_ALLOW_NETWORK_FS", "2"),
            ("CTS_ADMIN_TOKEN_FILE", "/nonexistent/token"),
        ] {
            let text = complaint(&[(name, value)]);
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
                let text = complaint(&[(name, url)]);
                assert!(text.contains(name) && text.contains("URL"), "{text}");
                assert!(!text.contains("hunter"), "{text}");
            }
        }
        let text = complaint(&[("SQLITE_DB_PATH", "postgres://h/db")]);
        assert!(text.contains("is a URL, not a path. Try: set DATABASE_URL"), "{text}");
    }

    #[test]
    fn an_explicit_type_wins_over_a_url() {
        let url = ("DATABASE_URL", "postgresql://u:secret@h/d");
        let config = load(&Flags::default(), &[("DATABASE_TYPE", "sqlite"), url]).unwrap();
        assert_eq!(config.database.backend(), Backend::Sqlite);
        let text = complaint(&[("DATABASE_TYPE", "postgresql")]);
        assert!(text.contains("DATABASE_TYPE"), "{text}");
    }

    #[test]
    #[cfg(not(feature = "postgres"))]
    fn a_url_needs_a_build_that_has_the_store() {
        let text = complaint(&[("DATABASE_URL", "postgresql://u:secret@h/d")]);
        assert!(text.contains("DATABASE_URL") && text.contains("--features postgres"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    #[cfg(feature = "postgres")]
    fn a_url_is_enough_and_its_password_is_never_shown() {
        let url = ("DATABASE_URL", "postgresql://u:secret@h/d");
        let config = load(&Flags::default(), &[url]).unwrap();
        assert_eq!(config.database.location(), "postgresql://u:***@h:5432/d");
        assert!(!format!("{config:?}").contains("secret"));
        for (name, value) in [("CTS_POOL_MAX", "0"), ("CTS_POOL_IDLE", "x"), ("CTS_WAIT", "ever")] {
            let text = complaint(&[url, (name, value)]);
            assert!(text.contains(name) && text.contains(value), "{text}");
        }
    }

    #[test]
    fn times_are_read_with_and_without_a_unit() {
        for (text, seconds) in [("5", 5), ("5s", 5), ("2min", 120), ("1m 5s", 65)] {
            let config = load(&Flags::default(), &[("CTS_LOCK_TIMEOUT", text)]).unwrap();
            assert_eq!(config.lock_timeout, Duration::from_secs(seconds));
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let config = load(&Flags::default(), &[("CTS_ADMIN_TOKEN", "tell-nobody")]).unwrap();
        assert!(!format!("{config:?}").contains("tell-nobody"));
        assert_eq!(config.admin_token.as_ref().map(Secret::expose), Some("tell-nobody"));
    }
}
