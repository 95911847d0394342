//! A PostgreSQL database as a URL names it: servers, login, TLS and connection settings. Values
//! only; [`super::reader`] makes them. A password is never shown.

use std::fmt::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::auth::AuthMethods;
use super::parameters::Parameters;
use super::reader;
use crate::error::Result;
use crate::system::environment::Environment;

/// How long a server that many rows are sent to may take none of them.
const WRITING_TCP_USER_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// A database on one or several servers, and how to connect to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The servers, tried in this order; at least one.
    pub hosts: Vec<Host>,
    /// The role that logs in.
    pub user: String,
    /// The database; by default the one named like the user.
    pub database: String,
    /// `application_name`, as `pg_stat_activity` shows it.
    pub application_name: String,
    /// Connection timeout of each host; `None` is no timeout of its own.
    pub connect_timeout: Option<Duration>,
    /// Command-line options of the server process, such as `-c search_path=x`.
    pub options: Option<String>,
    /// Which of several servers is accepted.
    pub session_attrs: SessionAttrs,
    /// TCP keepalives.
    pub keepalives: Keepalives,
    /// How long sent data may stay unacknowledged; `None` is the default of [`super::super::connect`].
    pub tcp_user_timeout: Option<Duration>,
    /// Whether authentication is bound to the TLS session.
    pub channel_binding: ChannelBinding,
    /// How the connection is encrypted, and how the server's certificate is verified.
    pub tls: TlsSettings,
    /// Faults of the configuration that do not keep cts from working.
    pub warnings: Vec<ConfigWarning>,
}

/// A fault of the configuration that does not keep cts from working.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigWarning {
    /// Where the fault is.
    pub subject: WarningSubject,
    /// The object and what is wrong with it.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Where a fault of the configuration is that does not keep cts from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningSubject {
    /// A parameter of the URL that has no effect.
    Url,
    /// A variable of libpq that is not read.
    Environment,
    /// The password file.
    PasswordFile,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name, which its certificate is compared with, or its socket.
    pub endpoint: Endpoint,
    /// The address to connect to; the name is not resolved then (`hostaddr`).
    pub address: Option<IpAddr>,
    /// Its port; of a socket, the number in its file name.
    pub port: u16,
    /// The password of the URL, else of the password file.
    pub password: Option<Password>,
}

/// What a server listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host name or an address, without brackets.
    Tcp(String),
    /// The folder of a Unix socket.
    Unix(PathBuf),
}

/// A password: any bytes. `Debug` masks it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// A password of these bytes.
    pub fn new(bytes: Vec<u8>) -> Password {
        Password(bytes)
    }

    /// The password itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
impl From<&str> for Password {
    fn from(text: &str) -> Password {
        Password(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which of several servers is accepted (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttrs {
    /// The first that answers; the default of a single host.
    Any,
    /// The first that accepts writes; the default of several hosts.
    ReadWrite,
}

/// TCP keepalives; `None` is the default of [`super::super::connect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether they are sent.
    pub on: bool,
    /// Idle time before the first one.
    pub idle: Option<Duration>,
    /// Time between two.
    pub interval: Option<Duration>,
    /// Number of lost ones after which the connection counts as lost.
    pub count: Option<u32>,
}

/// Whether authentication is bound to the TLS session (`channel_binding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server supports it.
    Prefer,
    /// Always.
    Require,
}

/// `sslmode` (PostgreSQL documentation, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server offers it; its certificate is not verified.
    Prefer,
    /// Always TLS; the certificate is verified only if a root certificate is given.
    Require,
    /// TLS, and the certificate is signed by a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate is issued for the host's name.
    VerifyFull,
}

impl SslMode {
    /// Its name in a URL.
    pub fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// The trusted certificate authorities (`sslrootcert`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The authorities in this file.
    File(PathBuf),
    /// The authorities that the operating system trusts.
    System,
}

/// How TLS begins (`sslnegotiation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsStart {
    /// The server is asked first whether it supports TLS.
    Asked,
    /// At once, without a question (PostgreSQL 17 and later).
    Direct,
}

/// The versions of TLS that are accepted (`ssl_min_protocol_version`, `ssl_max_protocol_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    Both,
    /// 1.2 alone.
    Only12,
    /// 1.3 alone.
    Only13,
}

/// The TLS settings of a connection. A Unix socket uses no TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `sslmode`.
    pub mode: SslMode,
    /// How TLS begins.
    pub start: TlsStart,
    /// The accepted versions.
    pub versions: TlsVersions,
    /// Whether the name of the host is sent to the server (`sslsni`).
    pub sends_host_name: bool,
    /// Whether a client certificate is sent where there is one and the server asks for it (`sslcertmode`).
    pub sends_certificate: bool,
    /// The trusted authorities, where they are configured.
    pub root: Option<Root>,
    /// The certificate revocation lists (`sslcrl`).
    pub revoked: Option<PathBuf>,
    /// A folder of them (`sslcrldir`).
    pub revoked_folder: Option<PathBuf>,
    /// The accepted logins (`require_auth`), where they are set.
    pub accepted_logins: Option<AuthMethods>,
    /// The client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The folder of the files that are used when none is configured: `~/.postgresql`.
    pub folder: Option<PathBuf>,
}

impl Target {
    /// Reads `url`, which came from `source` (the name of a variable or a flag, perhaps with a
    /// path). Where the URL has no password, the password file is read too.
    ///
    /// # Errors
    /// `Kind::Config` with `source` as its location if the URL is malformed, has an unknown
    /// parameter, or asks for something that cts does not support.
    pub fn read(source: &str, url: &str, environment: Environment<'_>) -> Result<Target> {
        Parameters::read(url)
            .and_then(|parameters| reader::target(&parameters, environment))
            .map_err(|e| e.at(source))
    }

    /// The same for a connection that many rows are sent on. A server that has no room for the next ones, while it waits
    /// for its disk, counts as one that acknowledges nothing; whether it is gone is asked on connections of their own.
    pub fn for_writing_rows(&self) -> Target {
        let limit = self.tcp_user_timeout.unwrap_or(WRITING_TCP_USER_TIMEOUT);
        Target { tcp_user_timeout: Some(limit), ..self.clone() }
    }

    /// The URL as it may be shown: the password masked, without parameters.
    pub fn location(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = match self.hosts.iter().any(|host| host.password.is_some()) {
            true => ":***",
            false => "",
        };
        write!(f, "postgresql://{}{secret}@", encoded(&self.user))?;
        for (i, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", encoded(&self.database))
    }
}

impl Host {
    /// Host and port, or the path of the socket, as an error shows it.
    pub fn name(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp(name) if name.contains(':') => format!("[{name}]:{}", self.port),
            Endpoint::Tcp(name) => format!("{name}:{}", self.port),
            Endpoint::Unix(folder) => format!("{}/.s.PGSQL.{}", folder.display(), self.port),
        }
    }

    /// Whether it is on this machine: a socket or a loopback address.
    pub fn is_local(&self) -> bool {
        match (&self.endpoint, self.address) {
            (Endpoint::Unix(_), _) => true,
            (Endpoint::Tcp(_), Some(address)) => address.is_loopback(),
            (Endpoint::Tcp(name), None) => {
                name.eq_ignore_ascii_case("localhost")
                    || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp(name) if name.contains(':') => {
                write!(f, "[{}]", name.replace('%', "%25"))?
            }
            Endpoint::Tcp(name) => f.write_str(&encoded(name))?,
            Endpoint::Unix(folder) => f.write_str(&encoded(&folder.to_string_lossy()))?,
        }
        write!(f, ":{}", self.port)
    }
}

/// Percent-encodes every byte but RFC 3986's unreserved characters.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
