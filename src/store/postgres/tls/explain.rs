//! Explains why a TLS handshake failed, and what to do about it.

use std::error::Error as Cause;
use std::io;

use rustls::pki_types::InvalidDnsNameError;
use rustls::{AlertDescription, CertificateError, OtherError};

use super::login::LoginFault;
use super::verifier::AuthorityFault;
use super::{Proof, Tls};
use crate::error::{Error, Kind};
use crate::store::postgres::url::{AuthMethod, SslMode};

impl Tls {
    /// The error of a connection that could not be opened, if the cause is TLS.
    pub fn explain(&self, error: &tokio_postgres::Error) -> Option<Error> {
        let mut cause: Option<&(dyn Cause + 'static)> = error.source();
        while let Some(found) = cause {
            if let Some(explained) = self.explain_one(found) {
                return Some(explained);
            }
            cause = next(found);
        }
        None
    }

    fn explain_one(&self, cause: &(dyn Cause + 'static)) -> Option<Error> {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return Some(self.explain_tls(error));
        }
        if cause.is::<InvalidDnsNameError>() {
            return Some(
                fault("the host is neither a DNS name nor an IP address, as TLS requires")
                    .remedy("correct the host in the URL"),
            );
        }
        match cause.downcast_ref::<LoginFault>()? {
            LoginFault::NoTls => Some(self.no_tls()),
            LoginFault::Method(method) => Some(self.login_refused(*method)),
        }
    }

    fn no_tls(&self) -> Error {
        fault(format!(
            "the server does not support TLS, and sslmode={} (set, or the default for a host that \
                 is not local) requires it",
            self.mode.name()
        ))
        .remedy(
            "set ssl=on at the server, or sslmode=disable in the URL to send everything, \
                 the login included, unencrypted",
        )
    }

    /// The error of a server that asks for a login that is not accepted. Nothing was sent to it.
    fn login_refused(&self, method: AuthMethod) -> Error {
        let what = LoginFault::Method(method);
        if self.has_accepted_logins {
            return Error::new(Kind::Config, format!("{what}, which require_auth does not accept"))
                .remedy("change pg_hba.conf of the server, or require_auth in the URL");
        }
        let why = "and nothing proves that it is the server: the password was not sent";
        Error::new(Kind::Config, format!("{what}, {why}")).remedy(format!(
            "set scram-sha-256 in pg_hba.conf, and the role's password again where it is stored as MD5 \
             (`\\password`); or verify the server (sslmode=verify-full and sslrootcert); or, to send it to \
             whoever answers, require_auth={} in the URL",
            method.name()
        ))
    }

    pub(super) fn explain_tls(&self, error: &rustls::Error) -> Error {
        match error {
            rustls::Error::InvalidCertificate(why) => self.explain_certificate(why),
            rustls::Error::AlertReceived(
                why @ (AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnsupportedCertificate),
            ) => fault(format!("the server does not accept our certificate ({why:?})"))
                .remedy("set sslcert and sslkey in the URL to a certificate that it accepts"),
            other => Error::new(Kind::Unavailable, format!("TLS with the server failed: {other}"))
                .remedy("check the server's log; it must support TLS 1.2 or 1.3"),
        }
    }

    fn explain_certificate(&self, why: &CertificateError) -> Error {
        use CertificateError as E;
        match why {
            E::UnknownIssuer | E::BadSignature => self.unknown_issuer(),
            E::Expired | E::ExpiredContext { .. } => dates("has expired"),
            E::NotValidYet | E::NotValidYetContext { .. } => dates("is not valid yet"),
            E::NotValidForName => self.wrong_name(&["another".to_string()]),
            E::NotValidForNameContext { presented, .. } => self.wrong_name(presented),
            E::Revoked => fault("the server's certificate, or one of its authority, is revoked")
                .remedy("give the server a new certificate"),
            E::UnknownRevocationStatus => fault(
                "a revocation list is configured, and none of the authority that signed the server's certificate is in it",
            )
            .remedy(
                "put the list of every authority of the chain into sslcrl, or leave sslcrl and sslcrldir out (and ~/.postgresql/root.crl)",
            ),
            E::ExpiredRevocationList | E::ExpiredRevocationListContext { .. } => Error::new(
                Kind::Unavailable,
                "the revocation list of the authority that signed the server's certificate is out of date",
            )
            .remedy("fetch its present one, and check the clock of this machine"),
            E::Other(OtherError(cause)) => self.other(cause.as_ref()),
            other => self.unusable(known_reason(other)),
        }
    }

    /// The error of a certificate that `rustls` gives no value for.
    fn other(&self, cause: &(dyn Cause + Send + Sync + 'static)) -> Error {
        match (cause.downcast_ref::<AuthorityFault>(), cause.downcast_ref::<webpki::Error>()) {
            (Some(fault), _) => Error::new(Kind::Unavailable, fault.to_string()).remedy(
                "renew the authority's certificate there and in sslrootcert, and check the clock of this machine",
            ),
            // A self-signed certificate that is also that of an authority.
            (_, Some(webpki::Error::CaUsedAsEndEntity)) => self.unknown_issuer(),
            (_, Some(why)) => self.unusable(reason(why)),
            _ => self.unusable("it does not pass the check of its chain"),
        }
    }

    fn unusable(&self, why: &str) -> Error {
        fault(format!("the server's certificate cannot be used: {why}")).remedy(format!(
            "give the server a certificate of version 3 with its name as subjectAltName, or {}",
            self.without_proof()
        ))
    }

    fn unknown_issuer(&self) -> Error {
        match &self.demand.roots {
            Some(path) => fault(format!(
                "the server's certificate is not signed by an authority in {}",
                path.display()
            ))
            .remedy(format!(
                "put the certificate of the authority that signed it there, or {}",
                self.without_proof()
            )),
            None => fault("the server's certificate is not signed by a known authority").remedy(
                format!(
                    "set sslrootcert=/path/of/its/CA.pem in the URL (the provider's CA bundle), \
                     or {}",
                    self.without_proof()
                ),
            ),
        }
    }

    fn wrong_name(&self, presented: &[String]) -> Error {
        let less = match self.demand.roots {
            Some(_) => "set sslmode=verify-ca to accept any name that its authority has signed",
            None => self.without_proof(),
        };
        match presented {
            [] => fault("the server's certificate names no host: it has no subjectAltName")
                .remedy(format!("give the server one with its name as subjectAltName, or {less}")),
            names => fault(format!(
                "the server's certificate is for {}, not for this host",
                plain(names).join(", ")
            ))
            .remedy(format!("connect to a host of that name, or {less}")),
        }
    }

    /// How to connect without verifying the certificate. With a root certificate, `require` verifies
    /// it too.
    fn without_proof(&self) -> &'static str {
        match (&self.demand.roots, self.demand.proof, self.mode) {
            // With TLS 1.3 the signature of any certificate can be verified.
            (_, Proof::Nothing, _) => "let the server support TLS 1.3",
            (Some(_), Proof::Chain, SslMode::Require) => {
                "remove the root certificate to connect without verifying the server"
            }
            (Some(_), _, _) => {
                "set sslmode=require and no root certificate to connect without verifying the server"
            }
            (None, _, _) => "set sslmode=require to connect without verifying the server",
        }
    }
}

/// Why a certificate cannot be used, where `rustls` has a value for it.
fn known_reason(why: &CertificateError) -> &'static str {
    use CertificateError as E;
    match why {
        E::BadEncoding => "it is malformed",
        E::UnhandledCriticalExtension => "it has a critical extension that cts does not know",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "it may not be used by a server (extendedKeyUsage without serverAuth)"
        }
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed with an algorithm that is not supported (SHA-1, or a key that does not fit)"
        }
        _ => "it does not pass the check of its chain",
    }
}

/// Why a certificate of the chain cannot be used, where `webpki` alone has a value for it.
fn reason(why: &webpki::Error) -> &'static str {
    use webpki::Error as E;
    match why {
        E::NameConstraintViolation => {
            "its authority may not issue certificates for this name (nameConstraints)"
        }
        E::MalformedNameConstraint | E::InvalidNetworkMaskConstraint => {
            "the nameConstraints of its authority are malformed"
        }
        E::PathLenConstraintViolated => {
            "an authority of its chain may not have further authorities below it (pathlen)"
        }
        E::EndEntityUsedAsCa => "it is signed with a certificate that is not that of an authority",
        E::UnsupportedCertVersion => "it is of X.509 version 1, which cannot be verified",
        E::UnsupportedCriticalExtension => "it has a critical extension that cts does not know",
        E::EmptyEkuExtension => "its extendedKeyUsage is empty",
        E::InvalidSerialNumber => "its serial number is malformed",
        E::MalformedExtensions | E::ExtensionValueInvalid => "one of its extensions is malformed",
        E::MalformedDnsIdentifier | E::UnsupportedNameType => {
            "it has a name that is malformed, or of a kind that cts does not know"
        }
        E::SignatureAlgorithmMismatch => "it names two different algorithms of its signature",
        E::CertDistrusted => "its authority is no longer trusted",
        E::MaximumNameConstraintComparisonsExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumPathDepthExceeded
        | E::MaximumSignatureChecksExceeded => "its chain is too long to be checked",
        _ => "it does not pass the check of its chain",
    }
}

/// The source of an error. That of an I/O error that wraps another is the wrapped one.
fn next<'e>(cause: &'e (dyn Cause + 'static)) -> Option<&'e (dyn Cause + 'static)> {
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => cause.source(),
    }
}

fn fault(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

/// Temporary: until the server has a new certificate, or the clock is set.
fn dates(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the server's certificate {what}"))
        .remedy("renew it at the server, and check the clock of this machine")
}

/// The names of a certificate without what webpki writes around them: `DnsName("db.example")`
/// and `IpAddress(192.0.2.1)`.
fn plain(presented: &[String]) -> Vec<&str> {
    presented.iter().map(|name| inner(name).unwrap_or(name)).collect()
}

fn inner(name: &str) -> Option<&str> {
    Some(name.split_once('(')?.1.strip_suffix(')')?.trim_matches('"'))
}
