//! How PostgreSQL's client programs connect as cts does: libpq's environment variables, given to that one process.
//! (PostgreSQL documentation, "Environment Variables" of libpq.) The password is one of them: every user of the machine can
//! read the arguments of a process, and only its own user its environment (proc(5)).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::connect::{KEEPALIVES_COUNT, KEEPALIVES_IDLE, KEEPALIVES_INTERVAL, TCP_USER_TIMEOUT};
use super::tls::TlsFiles;
use super::url::{
    AuthMethods, ChannelBinding, Endpoint, Host, Root, Target, TlsStart, TlsVersions,
};
use crate::error::Result;

/// The files with the authorities of the system, as distributions name them.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// How a client program connects.
pub struct ClientConnection<'t> {
    /// The database, and how cts connects to it.
    pub target: &'t Target,
    /// The one of its servers that is connected to: a standby is not asked after a failover.
    pub host: &'t Host,
    /// The `application_name`.
    pub application_name: &'t str,
    /// How long connecting may take.
    pub connect_timeout: Duration,
}

impl ClientConnection<'_> {
    /// Gives a command the variables and the name of the database, which holds no secret.
    ///
    /// # Errors
    /// `Kind::Config` if the TLS settings cannot be used.
    pub fn add_to(&self, command: &mut Command) -> Result<()> {
        command.env("PGAPPNAME", self.application_name).env("PGUSER", &self.target.user);
        // cts does not know GSSAPI.
        command.env("PGGSSENCMODE", "disable");
        command.env("PGCONNECT_TIMEOUT", self.connect_timeout.as_secs().max(2).to_string());
        self.add_host(command);
        self.add_tls(command)?;
        if let Some(options) = &self.target.options {
            command.env("PGOPTIONS", options);
        }
        if let Some(password) = &self.host.password {
            command.env("PGPASSWORD", OsString::from_vec(password.expose().to_vec()));
        }
        command.arg("--dbname").arg(self.database()).arg("--no-password");
        Ok(())
    }

    fn add_host(&self, command: &mut Command) {
        match &self.host.endpoint {
            Endpoint::Tcp(name) => command.env("PGHOST", name),
            Endpoint::Unix(folder) => command.env("PGHOST", folder),
        };
        if let Some(address) = self.host.address {
            command.env("PGHOSTADDR", address.to_string());
        }
        command.env("PGPORT", self.host.port.to_string());
    }

    fn add_tls(&self, command: &mut Command) -> Result<()> {
        let tls = &self.target.tls;
        let files = TlsFiles::of(tls)?;
        command.env("PGSSLMODE", tls.mode.name());
        command.env(
            "PGCHANNELBINDING",
            match self.target.channel_binding {
                ChannelBinding::Disable => "disable",
                ChannelBinding::Prefer => "prefer",
                ChannelBinding::Require => "require",
            },
        );
        if tls.start == TlsStart::Direct {
            // libpq knows it since PostgreSQL 17, and asks first before.
            command.env("PGSSLNEGOTIATION", "direct");
        }
        match tls.versions {
            TlsVersions::Both => {}
            TlsVersions::Only12 => {
                command.env("PGSSLMAXPROTOCOLVERSION", "TLSv1.2");
            }
            TlsVersions::Only13 => {
                command.env("PGSSLMINPROTOCOLVERSION", "TLSv1.3");
            }
        }
        if !tls.sends_host_name {
            command.env("PGSSLSNI", "0");
        }
        let is_proved =
            files.authorities.is_some() || matches!(self.host.endpoint, Endpoint::Unix(_));
        let proved = if is_proved { AuthMethods::ALL } else { AuthMethods::UNPROVED };
        let accepted = tls.accepted_logins.unwrap_or(proved);
        if accepted != AuthMethods::ALL {
            // libpq knows it since PostgreSQL 16.
            command.env("PGREQUIREAUTH", accepted.to_require_auth());
        }
        let mut set = |name: &str, path: Option<&Path>| {
            if let Some(path) = path {
                command.env(name, path);
            }
        };
        match &files.authorities {
            Some(Root::File(path)) => set("PGSSLROOTCERT", Some(path)),
            Some(Root::System) => set("PGSSLROOTCERT", Some(&system_authorities())),
            None => {}
        }
        match tls.sends_certificate {
            true => set("PGSSLCERT", files.cert.as_deref()),
            // Before PostgreSQL 16 libpq knows no other way to send none of the home directory.
            false => set("PGSSLCERT", Some(Path::new("/dev/null/none"))),
        }
        set("PGSSLKEY", files.key.as_deref());
        set("PGSSLCRL", tls.revoked.as_deref());
        set("PGSSLCRLDIR", tls.revoked_folder.as_deref());
        Ok(())
    }

    /// The name of the database, in a connection string: as it is, a name with an equals sign would be taken for one. What
    /// has no variable follows it.
    fn database(&self) -> OsString {
        let (mut text, keepalives) = (b"dbname=".to_vec(), &self.target.keepalives);
        text.extend(quoted_value(self.target.database.as_bytes()));
        let seconds = |set: Option<Duration>, default: Duration| set.unwrap_or(default).as_secs();
        let timeout = self.target.tcp_user_timeout.unwrap_or(TCP_USER_TIMEOUT).as_millis();
        let more = format!(
            " keepalives={} keepalives_idle={} keepalives_interval={} keepalives_count={} tcp_user_timeout={timeout}",
            u8::from(keepalives.on),
            seconds(keepalives.idle, KEEPALIVES_IDLE),
            seconds(keepalives.interval, KEEPALIVES_INTERVAL),
            keepalives.count.unwrap_or(KEEPALIVES_COUNT),
        );
        text.extend(more.as_bytes());
        OsString::from_vec(text)
    }
}

/// A value of a connection string. (PostgreSQL documentation, "Keyword/Value Connection Strings")
fn quoted_value(value: &[u8]) -> Vec<u8> {
    let escaped = value.iter().flat_map(|byte| match byte {
        b'\'' | b'\\' => vec![b'\\', *byte],
        _ => vec![*byte],
    });
    [b"'".to_vec(), escaped.collect(), b"'".to_vec()].concat()
}

/// The authorities that the system trusts, as a file: libpq knows the word `system` for them only since PostgreSQL 16.
fn system_authorities() -> std::path::PathBuf {
    let set = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let known = SYSTEM_AUTHORITIES.iter().map(OsStr::new).find(|path| Path::new(path).exists());
    set.or_else(|| known.map(OsStr::to_owned)).unwrap_or_else(|| "system".into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn a_name_is_quoted_for_a_connection_string() {
        assert_eq!(quoted_value(br"box"), b"'box'");
        assert_eq!(quoted_value(br"a'b\c d=e"), br"'a\'b\\c d=e'");
        assert_eq!(OsStr::from_bytes(&quoted_value(b"")), OsStr::new("''"));
    }
}
