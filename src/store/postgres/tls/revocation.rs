//! Certificate revocation lists (RFC 5280, section 5), checked as OpenSSL does for libpq: where lists
//! are configured, every certificate of the chain but the trusted one needs a list of its authority that
//! is signed and current. Lists of version 1, which `openssl ca -gencrl` makes by default, are read too.

use rustls::CertificateError;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use super::x509::{CertificateFields, Element};

/// The longest chain that is followed.
const CHAIN_MAX: usize = 8;

/// A certificate revocation list.
#[derive(Clone, Copy, Debug)]
struct RevocationList<'d> {
    /// What is signed.
    signed: &'d [u8],
    /// The algorithm of the signature, without tag and length.
    algorithm: &'d [u8],
    signature: &'d [u8],
    /// The name of the authority, in DER.
    issuer: &'d [u8],
    this_update: u64,
    next_update: Option<u64>,
    /// The revoked certificates, one element each.
    revoked: &'d [u8],
    /// Whether it has an extension that must be understood, such as that of a partial list.
    is_partial: bool,
}

impl RevocationList<'_> {
    fn read(der: &[u8]) -> Option<RevocationList<'_>> {
        let mut parts = Element::all(Element::first(der)?.content);
        let (list, algorithm, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let mut fields = Element::all(list.content).peekable();
        fields.next_if(|field| field.tag() == 0x02);
        let _algorithm = fields.next()?;
        let issuer = fields.next()?.whole;
        let this_update = fields.next()?.time()?;
        let next_update = fields.next_if(|field| matches!(field.tag(), 0x17 | 0x18));
        let revoked = fields.next_if(|field| field.tag() == 0x30);
        let extensions = fields.next_if(|field| field.tag() == 0xA0);
        let extensions = extensions.and_then(|all| Element::first(all.content));
        // An extension is a name, TRUE if it is critical, and a value.
        let is_critical = |extension: Element<'_>| {
            Element::all(extension.content).nth(1).is_some_and(|second| second.tag() == 0x01)
        };
        Some(RevocationList {
            signed: list.whole,
            algorithm: algorithm.content,
            // The first byte is the number of unused bits.
            signature: signature.content.get(1..)?,
            issuer,
            this_update,
            next_update: next_update.and_then(|time| time.time()),
            revoked: revoked.map(|all| all.content).unwrap_or_default(),
            is_partial: extensions.is_some_and(|all| Element::all(all.content).any(is_critical)),
        })
    }

    fn has(&self, serial: &[u8]) -> bool {
        let mut entries = Element::all(self.revoked);
        entries.any(|entry| Element::first(entry.content).is_some_and(|n| n.whole == serial))
    }

    /// Whether the owner of a public key, in DER, has signed it.
    fn is_signed_with(&self, key: &[u8], algorithms: WebPkiSupportedAlgorithms) -> bool {
        let mut parts =
            Element::all(Element::first(key).map(|key| key.content).unwrap_or_default());
        let (Some(algorithm), Some(bits)) = (parts.next(), parts.next()) else { return false };
        let Some(key) = bits.content.get(1..) else { return false };
        let mut fitting = algorithms.all.iter().filter(|known| {
            *known.signature_alg_id() == *self.algorithm
                && *known.public_key_alg_id() == *algorithm.content
        });
        fitting.any(|known| known.verify_signature(key, self.signed, self.signature).is_ok())
    }

    fn is_current(&self, now: UnixTime) -> bool {
        self.this_update <= now.as_secs() && self.next_update.is_none_or(|end| now.as_secs() <= end)
    }
}

/// Whether it is a revocation list.
pub fn is_list(der: &CertificateRevocationListDer<'_>) -> bool {
    RevocationList::read(der).is_some()
}

/// The chain of a server, which is verified in all else.
pub struct Chain<'c> {
    /// The server's certificate.
    pub server: &'c CertificateDer<'c>,
    /// The other certificates that it sent.
    pub intermediates: &'c [CertificateDer<'c>],
    /// The trusted authorities.
    pub roots: &'c [CertificateDer<'static>],
}

impl Chain<'_> {
    /// Looks for the server's certificate, and for those between it and the trusted authority, in the
    /// lists.
    ///
    /// # Errors
    /// If one is revoked, or if no current list of its authority says that it is not.
    pub fn check(
        &self,
        lists: &[CertificateRevocationListDer<'_>],
        algorithms: WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<(), CertificateError> {
        let lists: Vec<_> = lists.iter().filter_map(|der| RevocationList::read(der)).collect();
        let read = CertificateFields::read;
        let roots: Vec<_> = self.roots.iter().filter_map(|der| read(der)).collect();
        let others: Vec<_> = self.intermediates.iter().filter_map(|der| read(der)).collect();
        let mut checked = read(self.server).ok_or(CertificateError::BadEncoding)?;
        for _ in 0..CHAIN_MAX {
            let is_issuer = |other: &&CertificateFields<'_>| other.subject == checked.issuer;
            let root = roots.iter().find(is_issuer);
            let issuers = roots.iter().chain(&others).filter(is_issuer);
            let keys: Vec<&[u8]> = issuers.map(|issuer| issuer.key).collect();
            let of_issuer = |list: &&RevocationList<'_>| {
                list.issuer == checked.issuer
                    && !list.is_partial
                    && keys.iter().any(|key| list.is_signed_with(key, algorithms))
            };
            let signed: Vec<_> = lists.iter().filter(of_issuer).collect();
            if signed.iter().any(|list| list.has(checked.serial)) {
                return Err(CertificateError::Revoked);
            }
            match signed.iter().any(|list| list.is_current(now)) {
                true => {}
                false if signed.is_empty() => {
                    return Err(CertificateError::UnknownRevocationStatus);
                }
                false => return Err(CertificateError::ExpiredRevocationList),
            }
            if root.is_some() {
                return Ok(());
            }
            let next = others.iter().find(is_issuer).copied();
            checked = next.ok_or(CertificateError::UnknownRevocationStatus)?;
        }
        Err(CertificateError::UnknownRevocationStatus)
    }
}
