//! What the parameters of a URL say of TLS and of the login, with the defaults of those that are missing.

use std::path::Path;

use super::auth::AuthMethods;
use super::parameters::Parameters;
use super::target::{Endpoint, Host, Root, SslMode, TlsSettings, TlsStart, TlsVersions};
use super::{config_error, home};
use crate::error::Result;
use crate::system::environment::Environment;

/// The TLS settings of a URL.
///
/// # Errors
/// `Kind::Config` if a value is malformed, asks for something that cts does not support, or contradicts
/// another one.
pub fn tls_settings(
    parameters: &Parameters,
    hosts: &[Host],
    environment: Environment<'_>,
) -> Result<TlsSettings> {
    let root = parameters.path("sslrootcert").map(|path| match path == Path::new("system") {
        true => Root::System,
        false => Root::File(path),
    });
    let mode = mode(parameters)?;
    // Anybody can obtain a certificate of a public authority (PostgreSQL documentation,
    // "sslrootcert").
    if root == Some(Root::System) && mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
        return Err(config_error(
            "sslrootcert=system requires that the certificate's host name is verified",
        )
        .remedy("set sslmode=verify-full, or leave sslmode out"));
    }
    let local = root != Some(Root::System) && hosts.iter().all(Host::is_local);
    let mode = mode.unwrap_or(if local { SslMode::Prefer } else { SslMode::VerifyFull });
    Ok(TlsSettings {
        mode,
        start: start(parameters, mode)?,
        versions: versions(parameters)?,
        sends_host_name: parameters.choice("sslsni", &[("1", true), ("0", false)])?.unwrap_or(true),
        sends_certificate: sends_certificate(parameters)?,
        root,
        accepted_logins: accepted_logins(parameters, hosts)?,
        revoked: parameters.path("sslcrl"),
        revoked_folder: parameters.path("sslcrldir"),
        cert: parameters.path("sslcert"),
        key: parameters.path("sslkey"),
        folder: home(environment).map(|home| home.join(".postgresql")),
    })
}

/// `sslmode`. `ssl=true` is JDBC's form of `sslmode=require` (PostgreSQL documentation, "Connection URIs");
/// it never weakens an `sslmode`.
fn mode(parameters: &Parameters) -> Result<Option<SslMode>> {
    let choices = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Prefer),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    if parameters.bytes("sslmode") == Some(b"no-verify") {
        return Err(config_error(
            "sslmode=no-verify is a value of node-postgres, which libpq does not have",
        )
        .remedy("set sslmode=require, which verifies nothing either, or better verify-full"));
    }
    let mode = parameters.choice("sslmode", &choices)?;
    let ssl = parameters.choice("ssl", &[("true", ())]).map_err(|e| {
        e.remedy("set sslmode=verify-full or sslmode=require instead (sslmode=disable for no TLS)")
    })?;
    match (ssl, mode) {
        (Some(()), Some(mode)) if mode < SslMode::Require => {
            Err(config_error(format!("ssl=true and sslmode={} contradict each other", mode.name()))
                .remedy("leave one of them out"))
        }
        (Some(()), None) => Ok(Some(SslMode::Require)),
        (_, mode) => Ok(mode),
    }
}

/// As in libpq, TLS that begins at once cannot be optional (PostgreSQL documentation, "sslnegotiation").
fn start(parameters: &Parameters, mode: SslMode) -> Result<TlsStart> {
    let choices = [("postgres", TlsStart::Asked), ("direct", TlsStart::Direct)];
    let start = parameters.choice("sslnegotiation", &choices)?.unwrap_or(TlsStart::Asked);
    if start == TlsStart::Direct && mode < SslMode::Require {
        let what = format!("sslnegotiation=direct requires TLS, and sslmode is {}", mode.name());
        return Err(config_error(what).remedy("set sslmode=require or stronger"));
    }
    Ok(start)
}

/// cts has TLS 1.2 and 1.3. An older minimum is met by both; an older maximum by neither.
fn versions(parameters: &Parameters) -> Result<TlsVersions> {
    let (below, above) = (Some(false), Some(true));
    let minimum = [("TLSv1", false), ("TLSv1.1", false), ("TLSv1.2", false), ("TLSv1.3", true)];
    let maximum = [("TLSv1", None), ("TLSv1.1", None), ("TLSv1.2", below), ("TLSv1.3", above)];
    let is_13_least = parameters.choice("ssl_min_protocol_version", &minimum)?.unwrap_or(false);
    let most = parameters.choice("ssl_max_protocol_version", &maximum)?.unwrap_or(above);
    match (is_13_least, most) {
        (_, None) => Err(config_error(
            "ssl_max_protocol_version asks for a version of TLS that is not safe, and cts has 1.2 and 1.3",
        )
        .remedy("leave it out, or set it to TLSv1.2 or TLSv1.3")),
        (true, Some(false)) => Err(config_error(
            "ssl_min_protocol_version is greater than ssl_max_protocol_version",
        )
        .remedy("leave one of them out")),
        (true, Some(true)) => Ok(TlsVersions::Only13),
        (false, Some(false)) => Ok(TlsVersions::Only12),
        (false, Some(true)) => Ok(TlsVersions::Both),
    }
}

fn sends_certificate(parameters: &Parameters) -> Result<bool> {
    let choices = [("disable", Some(false)), ("allow", Some(true)), ("require", None)];
    parameters.choice("sslcertmode", &choices)?.unwrap_or(Some(true)).ok_or_else(|| {
        config_error(
            "sslcertmode=require asks for a server that asks for the client certificate, which cts does not check",
        )
        .remedy("set sslcertmode=allow, and clientcert=verify-full in pg_hba.conf of the server")
    })
}

/// The login over a Unix socket is not watched: who may listen there, the permissions of its folder say.
fn accepted_logins(parameters: &Parameters, hosts: &[Host]) -> Result<Option<AuthMethods>> {
    let accepted = AuthMethods::read(parameters)?;
    if accepted.is_some() && hosts.iter().any(|host| matches!(host.endpoint, Endpoint::Unix(_))) {
        return Err(config_error("require_auth has no effect on a Unix socket")
            .remedy("leave it out, or connect to an address"));
    }
    Ok(accepted)
}
