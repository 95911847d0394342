//! Verifies the server's certificate. It knows nothing of settings and files.
//!
//! It accepts two things that OpenSSL, and so libpq, accepts and webpki refuses: a self-signed
//! certificate that is itself in the file of trusted ones, and, where nothing is verified, a
//! certificate of X.509 version 1, which the commands of PostgreSQL's documentation create
//! ("Creating Certificates").

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::Proof;
use super::revocation::Chain;
use super::x509::{CertificateFields, DateFault};

/// Why a certificate is refused that `rustls` has no value for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityFault(pub DateFault);

impl fmt::Display for AuthorityFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            DateFault::Expired => "the certificate of the authority has expired",
            DateFault::NotYetValid => "the certificate of the authority is not valid yet",
        })
    }
}

impl std::error::Error for AuthorityFault {}

/// Verifies a server's certificate.
#[derive(Debug)]
pub struct Verifier {
    /// What is verified.
    pub proof: Proof,
    /// The certificates of the trusted authorities.
    pub roots: Vec<CertificateDer<'static>>,
    /// Whether a certificate among them is trusted itself.
    pub is_pinned: bool,
    /// The revocation lists; none are checked if there is none.
    pub lists: Vec<CertificateRevocationListDer<'static>>,
    /// How signatures are verified.
    pub algorithms: WebPkiSupportedAlgorithms,
    /// Until when the certificate is valid that was verified last, in seconds since 1970; 0 before.
    pub ends_at: Arc<AtomicU64>,
}

impl Verifier {
    /// The trusted authorities whose certificates a rule accepts. `rustls` does not look at their dates.
    fn authorities(&self, accepts: impl Fn(&CertificateFields<'_>) -> bool) -> RootCertStore {
        let accepted = |der: &&CertificateDer<'_>| {
            CertificateFields::read(der).is_some_and(|fields| accepts(&fields))
        };
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(self.roots.iter().filter(accepted).cloned());
        store
    }

    fn verify_chain(
        &self,
        server: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let all = self.algorithms.all;
        let signed_by = |roots: RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(parsed, &roots, intermediates, now, all)
        };
        match signed_by(self.authorities(|root| root.fault_at(now).is_none())) {
            // The error of webpki for a certificate that is also that of an authority. It has
            // checked the dates before.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.is_pinned && self.roots.contains(server) => {}
            Err(error @ Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                for fault in [DateFault::Expired, DateFault::NotYetValid] {
                    if signed_by(self.authorities(|root| root.fault_at(now) == Some(fault))).is_ok()
                    {
                        let fault = OtherError(Arc::new(AuthorityFault(fault)));
                        return Err(CertificateError::Other(fault).into());
                    }
                }
                return Err(error);
            }
            other => other?,
        }
        if self.lists.is_empty() {
            return Ok(());
        }
        let chain = Chain { server, intermediates, roots: &self.roots };
        chain.check(&self.lists, self.algorithms, now).map_err(Error::from)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.proof != Proof::Nothing {
            let parsed = ParsedCertificate::try_from(server)?;
            self.verify_chain(server, &parsed, intermediates, now)?;
            if self.proof == Proof::Name {
                verify_server_name(&parsed, name)?;
            }
        }
        let ends_at = CertificateFields::read(server).map(|fields| fields.not_after);
        self.ends_at.store(ends_at.unwrap_or_default(), Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, server, signed, &self.algorithms)
    }

    /// Also where nothing is verified: authentication may be bound to the certificate.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        server: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = verify_tls13_signature(message, server, signed, &self.algorithms);
        match (verdict, public_key(server)) {
            (Err(_), Some(key)) if self.proof == Proof::Nothing => {
                let key = SubjectPublicKeyInfoDer::from(key);
                verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
            }
            (verdict, _) => verdict,
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The public key of a certificate of any version, in DER.
pub fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    CertificateFields::read(certificate).map(|fields| fields.key)
}
