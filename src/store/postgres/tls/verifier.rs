//! Verifies the server's certificate. It knows nothing of settings and files.
//!
//! It accepts two things that OpenSSL, and so libpq, accepts and webpki refuses: a self-signed
//! certificate that is itself in the file of trusted ones, and, where nothing is verified, a
//! certificate of X.509 version 1, which the commands of PostgreSQL's documentation create
//! ("Creating Certificates").

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Proof;

/// Verifies a server's certificate.
#[derive(Debug)]
pub struct Verifier {
    /// What is verified.
    pub proof: Proof,
    /// Trusted authorities.
    pub roots: RootCertStore,
    /// Certificates that are trusted themselves.
    pub pinned: Vec<CertificateDer<'static>>,
    /// How signatures are verified.
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify_chain(
        &self,
        server: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let all = self.algorithms.all;
        let verdict =
            verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, intermediates, now, all);
        match verdict {
            // The error of webpki for a certificate that is also that of an authority. It has
            // checked the dates before.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.contains(server) =>
            {
                Ok(())
            }
            other => other,
        }
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

/// The public key of a certificate of any version (RFC 5280, section 4.1), in DER.
pub fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let certificate = Element::first(certificate)?;
    let to_be_signed = Element::first(certificate.content)?;
    let mut element = Element::first(to_be_signed.content)?;
    // The version has this tag, and is missing in version 1.
    if element.whole.first() == Some(&0xA0) {
        element = Element::first(element.rest)?;
    }
    // Serial number, signature algorithm, issuer, validity, subject, key.
    for _ in 0..5 {
        element = Element::first(element.rest)?;
    }
    Some(element.whole)
}

/// One element of DER (X.690, section 8.1), and the bytes after it.
struct Element<'d> {
    whole: &'d [u8],
    content: &'d [u8],
    rest: &'d [u8],
}

impl<'d> Element<'d> {
    fn first(data: &'d [u8]) -> Option<Element<'d>> {
        let short = *data.get(1)?;
        let (start, length) = match short {
            0..=0x7F => (2, usize::from(short)),
            0x81..=0x83 => {
                let start = 2 + usize::from(short & 0x7F);
                let bytes = data.get(2..start)?;
                (start, bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)))
            }
            _ => return None,
        };
        let (whole, rest) = data.split_at_checked(start + length)?;
        Some(Element { whole, content: &whole[start..], rest })
    }
}
