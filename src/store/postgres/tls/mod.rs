//! TLS towards the server, as libpq has it (PostgreSQL documentation, "SSL Support" of libpq):
//! from [`TlsSettings`] to what `tokio_postgres::Config` needs to connect. What is verified is decided
//! here; [`mod@verifier`] verifies it, and [`Tls::explain`] says what to do if that fails.
//!
//! Stricter than libpq: `prefer` accepts a server without TLS, but does not retry without TLS after
//! a failed handshake; a root certificate or a client certificate that the URL names must be
//! readable; `verify-ca` requires a configured root certificate, since anybody can obtain a
//! certificate of a public authority. A certificate must have its name as a subjectAltName. A
//! revocation list that the URL names must be readable.

mod explain;
mod login;
mod revocation;
mod system_clock;
#[cfg(test)]
mod tests;
mod verifier;
mod x509;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WantsClientCert;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use tokio_postgres::config::{SslMode as Negotiation, SslNegotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{AuthMethods, Endpoint, Host, Root, SslMode, TlsSettings, TlsVersions};
use crate::error::{Error, Kind, Result};
use crate::system::small_file::{self, CERTIFICATES_BYTES_MAX};
pub use login::LoginWatch;
use revocation::is_list;
use system_clock::SystemClock;
use verifier::Verifier;

/// The name of the protocol, which every client sends and a server requires where TLS begins at once
/// (PostgreSQL documentation, "Protocol Flow", "SSL Session Encryption").
const ALPN: &[u8] = b"postgresql";

/// The TLS configuration of connections, with all files read.
#[derive(Clone)]
pub struct Tls {
    connector: LoginWatch,
    mode: SslMode,
    demand: Demand,
    /// Whether the settings say which logins are accepted.
    has_accepted_logins: bool,
    /// As the verifier has it.
    certificate_ends_at: Arc<AtomicU64>,
}

/// What is verified, and which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Demand {
    proof: Proof,
    /// The file of trusted authorities; `None` are those of the system.
    roots: Option<PathBuf>,
}

/// What is verified of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Nothing.
    Nothing,
    /// That a trusted authority has signed it.
    Chain,
    /// As `Chain`, and that it is issued for the host's name.
    Name,
}

impl Tls {
    /// Reads the files that the settings name, else those of `~/.postgresql` that libpq reads.
    ///
    /// # Errors
    /// `Kind::Config` if a file cannot be used, or no root certificate is configured where one is
    /// required.
    pub fn new(settings: &TlsSettings) -> Result<Tls> {
        let demand = demand(settings)?;
        let provider = Arc::new(ring::default_provider());
        let verifier = verifier(settings, &demand, &provider)?;
        let certificate_ends_at = Arc::clone(&verifier.ends_at);
        let versions: &[_] = match settings.versions {
            TlsVersions::Both => &[&TLS13, &TLS12],
            TlsVersions::Only12 => &[&TLS12],
            TlsVersions::Only13 => &[&TLS13],
        };
        let builder = ClientConfig::builder_with_details(provider, Arc::new(SystemClock))
            .with_protocol_versions(versions)
            .map_err(|e| Error::new(Kind::Config, format!("TLS cannot be set up: {e}")))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = with_client_certificate(builder, settings)?;
        config.enable_sni = settings.sends_host_name;
        config.alpn_protocols = vec![ALPN.to_vec()];
        let proved = match demand.proof {
            Proof::Nothing => AuthMethods::UNPROVED,
            Proof::Chain | Proof::Name => AuthMethods::ALL,
        };
        let connector = LoginWatch {
            tls: MakeRustlsConnect::new(config),
            negotiation: match settings.mode {
                SslMode::Disable => Negotiation::Disable,
                SslMode::Prefer => Negotiation::Prefer,
                _ => Negotiation::Require,
            },
            start: settings.start,
            with_tls: settings.accepted_logins.unwrap_or(proved),
            without_tls: settings.accepted_logins.unwrap_or(AuthMethods::UNPROVED),
            copy: Arc::default(),
        };
        let has_accepted_logins = settings.accepted_logins.is_some();
        Ok(Tls { connector, mode: settings.mode, demand, has_accepted_logins, certificate_ends_at })
    }

    /// Until when the certificate of the server is valid that was connected to last; `None` where there was none, or
    /// a certificate without a readable end.
    pub fn certificate_ends_at(&self) -> Option<SystemTime> {
        let seconds = self.certificate_ends_at.load(Ordering::Relaxed);
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|_| seconds > 0)
    }

    /// What negotiates TLS with a host and watches the login there. A Unix socket never uses TLS, and proves
    /// who the server is.
    pub fn connector(&self, host: &Host) -> LoginWatch {
        match host.endpoint {
            Endpoint::Tcp(_) => self.connector.clone(),
            Endpoint::Unix(_) => LoginWatch {
                negotiation: Negotiation::Disable,
                without_tls: AuthMethods::ALL,
                ..self.connector.clone()
            },
        }
    }

    /// Makes a configuration pass every connection through [`LoginWatch`], which negotiates TLS itself.
    pub fn configure(config: &mut tokio_postgres::Config) {
        config.ssl_mode(Negotiation::Require).ssl_negotiation(SslNegotiation::Direct);
    }
}

/// Whether the server's certificate is verified, where TLS is used.
pub fn verifies_server(settings: &TlsSettings) -> bool {
    demand(settings).is_ok_and(|demand| demand.proof != Proof::Nothing)
}

/// The files with which libpq has to connect to verify what cts verifies.
pub struct TlsFiles {
    /// The trusted authorities; `None` where nothing is verified.
    pub authorities: Option<Root>,
    /// The client certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// The files that the settings name, else those of `~/.postgresql`.
    ///
    /// # Errors
    /// `Kind::Config` if no root certificate is configured where one is required.
    pub fn of(settings: &TlsSettings) -> Result<TlsFiles> {
        let demand = demand(settings)?;
        let of_home = |name| at_home(settings, name);
        let is_sent = settings.sends_certificate;
        Ok(TlsFiles {
            authorities: match (demand.proof, demand.roots) {
                (Proof::Nothing, _) => None,
                (_, Some(path)) => Some(Root::File(path)),
                (_, None) => Some(Root::System),
            },
            cert: settings.cert.clone().or_else(|| of_home("postgresql.crt")).filter(|_| is_sent),
            key: settings.key.clone().or_else(|| of_home("postgresql.key")),
        })
    }
}

/// What is verified (PostgreSQL documentation, "SSL Mode Descriptions", with its note that a root
/// certificate makes `require` the same as `verify-ca`).
fn demand(settings: &TlsSettings) -> Result<Demand> {
    let roots = match &settings.root {
        Some(Root::File(path)) => Some(path.clone()),
        Some(Root::System) => None,
        None => at_home(settings, "root.crt"),
    };
    let proof = match settings.mode {
        SslMode::Disable | SslMode::Prefer => Proof::Nothing,
        SslMode::Require if roots.is_none() => Proof::Nothing,
        SslMode::Require => Proof::Chain,
        SslMode::VerifyCa if roots.is_none() => return Err(no_root(settings)),
        SslMode::VerifyCa => Proof::Chain,
        SslMode::VerifyFull => Proof::Name,
    };
    Ok(Demand { proof, roots })
}

fn no_root(settings: &TlsSettings) -> Error {
    let home = match &settings.folder {
        Some(folder) => format!(", and there is no {}", folder.join("root.crt").display()),
        None => String::new(),
    };
    Error::new(Kind::Config, format!("sslmode=verify-ca: no root certificate is configured{home}"))
        .remedy(
            "set sslrootcert=/path/of/its/CA.pem in the URL, or sslmode=verify-full to trust the \
         authorities of the system",
        )
}

/// A file of the folder that libpq reads by default, if it exists.
fn at_home(settings: &TlsSettings, name: &str) -> Option<PathBuf> {
    settings.folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists())
}

fn verifier(
    settings: &TlsSettings,
    demand: &Demand,
    provider: &CryptoProvider,
) -> Result<Verifier> {
    let roots = match (&demand.roots, demand.proof) {
        (_, Proof::Nothing) => Vec::new(),
        (Some(path), _) => pem_items("sslrootcert", path)?,
        (None, _) => rustls_native_certs::load_native_certs().certs,
    };
    let (usable, _) = RootCertStore::empty().add_parsable_certificates(roots.iter().cloned());
    if usable == 0 && demand.proof != Proof::Nothing {
        return Err(no_roots(demand));
    }
    let lists = match demand.proof {
        Proof::Nothing => Vec::new(),
        Proof::Chain | Proof::Name => revocation_lists(settings)?,
    };
    Ok(Verifier {
        proof: demand.proof,
        roots,
        // Only a file that somebody configured trusts a certificate itself.
        is_pinned: demand.roots.is_some(),
        lists,
        algorithms: provider.signature_verification_algorithms,
        ends_at: Arc::default(),
    })
}

/// The revocation lists of `sslcrl` and `sslcrldir`; where neither is set, those of
/// `~/.postgresql/root.crl`, if it exists. The files of a folder are named as `openssl rehash` does.
fn revocation_lists(settings: &TlsSettings) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let mut files: Vec<(&str, PathBuf)> = Vec::new();
    files.extend(settings.revoked.iter().map(|path| ("sslcrl", path.clone())));
    if let Some(folder) = &settings.revoked_folder {
        let failed = |e: io::Error| unreadable("sslcrldir", folder, &pem::Error::Io(e));
        let found = fs::read_dir(folder).map_err(failed)?;
        let before = files.len();
        for entry in found {
            let path = entry.map_err(failed)?.path();
            let ending = path.extension().and_then(|ending| ending.to_str());
            let number = ending.and_then(|ending| ending.strip_prefix('r'));
            if number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) {
                files.push(("sslcrldir", path));
            }
        }
        if files.len() == before {
            let what = format!("sslcrldir: {} has no revocation list", folder.display());
            return Err(Error::new(Kind::Config, what).remedy(format!(
                "name the files in it as OpenSSL expects: `openssl rehash {}`",
                folder.display()
            )));
        }
    }
    if settings.revoked.is_none() && settings.revoked_folder.is_none() {
        files.extend(at_home(settings, "root.crl").map(|path| ("sslcrl", path)));
    }
    let mut lists = Vec::new();
    for (name, path) in files {
        let found = pem_items::<CertificateRevocationListDer<'static>>(name, &path)?;
        if !found.iter().all(is_list) {
            return Err(unreadable(name, &path, &pem::Error::NoItemsFound));
        }
        lists.extend(found);
    }
    Ok(lists)
}

fn no_roots(demand: &Demand) -> Error {
    let what = match &demand.roots {
        Some(path) => format!("sslrootcert: {} contains no usable certificate", path.display()),
        None => "the system has no trusted root certificates".to_string(),
    };
    Error::new(Kind::Config, what).remedy(
        "set sslrootcert=/path/of/its/CA.pem in the URL, or install the system's (on Debian \
         the package ca-certificates)",
    )
}

/// The items of one kind in a PEM file, of which there is at least one.
fn pem_items<T: PemObject>(name: &str, path: &Path) -> Result<Vec<T>> {
    let failed = |e: pem::Error| unreadable(name, path, &e);
    let text = pem_text(path).map_err(failed)?;
    let found = T::pem_slice_iter(&text).collect::<Result<Vec<T>, _>>().map_err(failed)?;
    if found.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(found) }
}

fn pem_text(path: &Path) -> Result<Vec<u8>, pem::Error> {
    small_file::read(path, CERTIFICATES_BYTES_MAX).map_err(pem::Error::Io)
}

fn unreadable(name: &str, path: &Path, error: &pem::Error) -> Error {
    let shown = path.display();
    let (what, remedy) = match error {
        pem::Error::Io(e) => (
            format!("cannot be read: {e}"),
            format!("correct {name} in the URL, or the permissions of the file"),
        ),
        pem::Error::NoItemsFound if name == "sslkey" => (
            "contains no usable private key".to_string(),
            "use a PEM file with a key that is not encrypted".to_string(),
        ),
        pem::Error::NoItemsFound if name.starts_with("sslcrl") => (
            "contains no certificate revocation list".to_string(),
            "use a PEM file with -----BEGIN X509 CRL-----".to_string(),
        ),
        pem::Error::NoItemsFound => (
            "contains no certificate".to_string(),
            "use a PEM file with -----BEGIN CERTIFICATE-----".to_string(),
        ),
        _ => ("is not a PEM file".to_string(), format!("correct {name} in the URL")),
    };
    Error::new(Kind::Config, format!("{name}: {shown} {what}")).remedy(remedy)
}

/// Adds the client certificate, if there is one and TLS is not disabled.
fn with_client_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    settings: &TlsSettings,
) -> Result<ClientConfig> {
    let cert = settings.cert.clone().or_else(|| at_home(settings, "postgresql.crt"));
    let is_sent = settings.mode != SslMode::Disable && settings.sends_certificate;
    let Some(cert) = cert.filter(|_| is_sent) else {
        return Ok(builder.with_no_client_auth());
    };
    let default = || settings.folder.as_ref().map(|folder| folder.join("postgresql.key"));
    let Some(key) = settings.key.clone().or_else(default) else {
        return Err(Error::new(
            Kind::Config,
            "sslcert: a certificate is configured without its key",
        )
        .remedy("set sslkey in the URL too"));
    };
    let chain = pem_items("sslcert", &cert)?;
    builder.with_client_auth_cert(chain, private_key(&key)?).map_err(|e| {
        let (cert, key) = (cert.display(), key.display());
        Error::new(Kind::Config, format!("sslcert: {cert} cannot be used with the key {key}: {e}"))
            .remedy("name a certificate and the key that belongs to it")
    })
}

/// Reads a private key, which other users may not be able to read (PostgreSQL documentation, "Client
/// Certificates").
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let failed = |e: io::Error| unreadable("sslkey", path, &pem::Error::Io(e));
    let found = fs::metadata(path).map_err(failed)?;
    let others = if found.uid() == 0 { 0o027 } else { 0o077 };
    if found.mode() & others != 0 {
        let shown = path.display();
        return Err(Error::new(
            Kind::Config,
            format!("sslkey: {shown} can be read by other users"),
        )
        .remedy(format!("chmod 600 {shown}")));
    }
    let read = pem_text(path).and_then(|text| PrivateKeyDer::from_pem_slice(&text));
    read.map_err(|e| unreadable("sslkey", path, &e))
}
