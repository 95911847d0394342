//! Says what a failed TLS handshake asks of the operator.

use std::error::Error as Cause;
use std::fmt::Display;
use std::io;

use rustls::pki_types::InvalidDnsNameError;
use rustls::{AlertDescription, CertificateError};

use super::{Proof, Tls};
use crate::error::{Error, Kind};
use crate::store::postgres::url::SslMode;

/// What the client library says where the server answers that it has no TLS
/// (tokio-postgres, `connect_tls.rs`).
const NO_TLS: &str = "server does not support TLS";

impl Tls {
    /// What `error` means, if it is one of TLS; `place` is where the server is, as it may be
    /// shown.
    pub fn explain(&self, error: &postgres::Error, place: impl Display) -> Option<Error> {
        let mut cause: Option<&(dyn Cause + 'static)> = error.source();
        while let Some(found) = cause {
            if let Some(explained) = self.explain_one(found) {
                return Some(explained.at(place));
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
                fault("the host is neither a name nor an address that TLS knows")
                    .remedy("correct the host in the URL"),
            );
        }
        (cause.to_string() == NO_TLS).then(|| {
            fault(format!(
                "the server has no TLS, and sslmode={} (given, or the default for a host that is \
                 not local) asks for it",
                self.mode.name()
            ))
            .remedy(
                "set ssl=on at the server, or sslmode=disable in the URL to send everything, \
                 with what the login gives away, unencrypted",
            )
        })
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
                .remedy("look into the server's log; it must offer TLS 1.2 or 1.3"),
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
            other => self.unusable(&other.to_string()),
        }
    }

    /// What webpki has its own words for.
    fn unusable(&self, why: &str) -> Error {
        // A self-signed certificate that is also an authority's.
        if why.contains("CaUsedAsEndEntity") {
            return self.unknown_issuer();
        }
        let why = match why.contains("UnsupportedCertVersion") {
            true => "it is of X.509 version 1, which cannot be verified",
            false => why,
        };
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

    /// How to do without proof. With a root certificate, `require` asks for it still.
    fn without_proof(&self) -> &'static str {
        match (&self.demand.roots, self.demand.proof, self.mode) {
            // Of TLS 1.3 the signature can be verified whatever the certificate is.
            (_, Proof::Nothing, _) => "let the server offer TLS 1.3",
            (Some(_), Proof::Chain, SslMode::Require) => {
                "take the root certificate away to do without proof of whom you talk to"
            }
            (Some(_), _, _) => {
                "set sslmode=require and no root certificate to do without proof of whom you talk to"
            }
            (None, _, _) => "set sslmode=require to do without proof of whom you talk to",
        }
    }
}

/// The cause of a cause. An I/O error hides the error that it was made of.
fn next<'e>(cause: &'e (dyn Cause + 'static)) -> Option<&'e (dyn Cause + 'static)> {
    match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => cause.source(),
    }
}

fn fault(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

/// Passes by itself once the server has a new one, or the clock is set.
fn dates(what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the server's certificate {what}"))
        .remedy("renew it at the server, and look at this machine's clock")
}

/// The names of a certificate as people write them, out of webpki's `DnsName("db.example")`
/// and `IpAddress(192.0.2.1)`.
fn plain(presented: &[String]) -> Vec<&str> {
    presented.iter().map(|name| inner(name).unwrap_or(name)).collect()
}

fn inner(name: &str) -> Option<&str> {
    Some(name.split_once('(')?.1.strip_suffix(')')?.trim_matches('"'))
}
