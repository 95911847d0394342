//! The settings of the HTTP server: HOST, PORT, CTS_HTTP_CONNECTIONS, CTS_ALLOWED_HOSTS and
//! CTS_ADMIN_TOKEN.

use crate::config::environment::{EnvironmentReader, invalid};
use crate::config::setting::{SecretLocation, SettingSource, Sourced};
use crate::config::{DEFAULT_CONNECTIONS, DEFAULT_HOST, DEFAULT_PORT, Flags};
use crate::error::Result;
use crate::system::environment::Environment;
use crate::system::secret::{Secret, read_secret};
use crate::system::value::may_contain_password;

/// Where to listen, and how many connections to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// A host name or an address.
    pub host: String,
    /// The port; 0 lets the system choose a free one.
    pub port: u16,
    /// Maximum number of connections at once.
    pub connections_max: usize,
}

impl Listen {
    /// Reads these settings alone.
    ///
    /// # Errors
    ///
    /// [`Kind::Config`](crate::error::Kind::Config), with the name of the variable or the flag.
    pub fn load(flags: &Flags, environment: Environment<'_>) -> Result<Listen> {
        listen(flags, &EnvironmentReader::new(environment))
    }
}

/// HOST, PORT and CTS_HTTP_CONNECTIONS.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind::Config), with the name of the variable or the flag.
pub fn listen(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<Listen> {
    Ok(Listen {
        host: host(flags, env)?,
        port: port(flags, env)?,
        connections_max: env.number("CTS_HTTP_CONNECTIONS", DEFAULT_CONNECTIONS, 4..=4096)?,
    })
}

fn host(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<String> {
    let host = text(env, "--host", flags.host.as_deref(), "HOST", DEFAULT_HOST)?;
    let name = host.value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let name = name.unwrap_or(&host.value);
    // An address may have a zone: fe80::1%eth0.
    let is_part = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
    let has_port = name.split_once(':').is_some_and(|(_, rest)| !rest.contains(':'));
    if has_port || !name.chars().all(is_part) {
        let expected = "a host name or an address, without a port";
        return Err(invalid(host.name("HOST"), &host.value, expected));
    }
    env.record("HOST", host.source, name);
    Ok(name.to_string())
}

fn port(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<u16> {
    let text = text(env, "--port", flags.port.as_deref(), "PORT", &DEFAULT_PORT.to_string())?;
    let port = text.value.parse();
    let port =
        port.map_err(|_| invalid(text.name("PORT"), &text.value, "a port from 0 to 65535"))?;
    env.record("PORT", text.source, port);
    Ok(port)
}

/// The flag's value, else the variable's, else the default.
fn text(
    env: &EnvironmentReader<'_>,
    flag: &'static str,
    given: Option<&str>,
    variable: &str,
    default: &str,
) -> Result<Sourced<String>> {
    match given {
        Some(raw) => {
            let (value, source) = (env.text_of(flag, raw.as_ref())?, SettingSource::Flag(flag));
            Ok(Sourced { value, source })
        }
        None => Ok(Sourced::variable(env.text(variable)?, || default.to_string())),
    }
}

/// CTS_ALLOWED_HOSTS: the host names that requests may address, besides IP addresses and `localhost`.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind::Config) if the value looks like a URL.
pub fn allowed_hosts(env: &EnvironmentReader<'_>) -> Result<Vec<String>> {
    let given = env.text("CTS_ALLOWED_HOSTS")?;
    if let Some(value) = given.as_deref().filter(|value| may_contain_password(value.as_ref())) {
        return Err(invalid("CTS_ALLOWED_HOSTS", value, "a list of host names"));
    }
    let source = if given.is_some() { SettingSource::Environment } else { SettingSource::Default };
    let hosts: Vec<String> = given
        .unwrap_or_default()
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|host| !host.is_empty())
        .map(str::to_string)
        .collect();
    let shown = if hosts.is_empty() { "none".into() } else { hosts.join(", ") };
    env.record("CTS_ALLOWED_HOSTS", source, shown);
    Ok(hosts)
}

/// CTS_ADMIN_TOKEN, or else the contents of CTS_ADMIN_TOKEN_FILE: the token for the administrative paths.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind::Config) if the file cannot be read or is empty.
pub fn admin_token(env: &EnvironmentReader<'_>) -> Result<Option<Secret>> {
    let source = SettingSource::Environment;
    if let Some(token) = env.secret("CTS_ADMIN_TOKEN")? {
        env.record_secret("CTS_ADMIN_TOKEN", source, "is set", SecretLocation::Variable);
        return Ok(Some(token));
    }
    let Some(path) = env.path("CTS_ADMIN_TOKEN_FILE")? else {
        env.record("CTS_ADMIN_TOKEN", SettingSource::Default, "is not set");
        return Ok(None);
    };
    let token = env.accept(read_secret("CTS_ADMIN_TOKEN_FILE", &path)?);
    let shown = path.display().to_string();
    env.record_secret("CTS_ADMIN_TOKEN_FILE", source, &shown, SecretLocation::File(path));
    Ok(Some(token))
}
