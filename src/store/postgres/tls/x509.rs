//! Reads fields of certificates and revocation lists (RFC 5280) that `rustls` does not pass on. It
//! verifies nothing.

use crate::system::clock::days_from_civil;
use rustls::pki_types::UnixTime;

/// What is read of a certificate of any version (RFC 5280, section 4.1). Each field is in DER, with its
/// tag and its length, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateFields<'d> {
    /// Its serial number.
    pub serial: &'d [u8],
    /// The name of the authority that signed it.
    pub issuer: &'d [u8],
    /// The name that it is issued for.
    pub subject: &'d [u8],
    /// The public key with its algorithm.
    pub key: &'d [u8],
    /// Since when it is valid, in seconds since 1970.
    pub not_before: u64,
    /// Until when it is valid, in seconds since 1970.
    pub not_after: u64,
}

impl CertificateFields<'_> {
    /// The fields of a certificate; `None` if it is none.
    pub fn read(certificate: &[u8]) -> Option<CertificateFields<'_>> {
        let to_be_signed = Element::first(Element::first(certificate)?.content)?;
        let mut fields = Element::all(to_be_signed.content).peekable();
        // The version has this tag, and is missing in version 1.
        fields.next_if(|field| field.tag() == 0xA0);
        let serial = fields.next()?.whole;
        let _algorithm = fields.next()?;
        let issuer = fields.next()?.whole;
        let mut validity = Element::all(fields.next()?.content);
        let (not_before, not_after) = (validity.next()?.time()?, validity.next()?.time()?);
        let (subject, key) = (fields.next()?.whole, fields.next()?.whole);
        Some(CertificateFields { serial, issuer, subject, key, not_before, not_after })
    }

    /// Whether it is not valid any more, or not yet; `None` if it is valid.
    pub fn fault_at(&self, now: UnixTime) -> Option<DateFault> {
        match now.as_secs() {
            seconds if seconds > self.not_after => Some(DateFault::Expired),
            seconds if seconds < self.not_before => Some(DateFault::NotYetValid),
            _ => None,
        }
    }
}

/// Why a certificate is not valid at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateFault {
    /// Its last day is over.
    Expired,
    /// Its first day has not come.
    NotYetValid,
}

/// One element of DER (X.690, section 8.1), and the bytes after it.
#[derive(Clone, Copy, Debug)]
pub struct Element<'d> {
    /// With its tag and its length.
    pub whole: &'d [u8],
    /// Without them.
    pub content: &'d [u8],
    rest: &'d [u8],
}

impl<'d> Element<'d> {
    /// The first element of some data.
    pub fn first(data: &'d [u8]) -> Option<Element<'d>> {
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

    /// The elements of some data, up to the first that cannot be read.
    pub fn all(data: &'d [u8]) -> impl Iterator<Item = Element<'d>> {
        let mut rest = data;
        std::iter::from_fn(move || {
            let element = Element::first(rest)?;
            rest = element.rest;
            Some(element)
        })
    }

    /// Its tag.
    pub fn tag(&self) -> u8 {
        self.whole.first().copied().unwrap_or_default()
    }

    /// A UTCTime or GeneralizedTime in the one form that RFC 5280 (section 4.1.2.5) allows, in seconds
    /// since 1970. An earlier time is 0.
    pub fn time(&self) -> Option<u64> {
        let text = std::str::from_utf8(self.content).ok()?.strip_suffix('Z')?;
        let (century, rest) = match (self.tag(), text.len()) {
            (0x17, 12) => (if text < "50" { 2000 } else { 1900 }, text),
            (0x18, 14) => (text.get(..2)?.parse::<i64>().ok()? * 100, text.get(2..)?),
            _ => return None,
        };
        let number = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
        let days = days_from_civil(century + number(0)?, number(2)?, number(4)?);
        let seconds = number(6)? * 3600 + number(8)? * 60 + number(10)?;
        Some(u64::try_from(days * 86_400 + seconds).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let time = |tag: u8, text: &str| {
            let mut der = vec![tag, text.len() as u8];
            der.extend(text.as_bytes());
            Element::first(&der).and_then(|element| element.time())
        };
        assert_eq!(time(0x17, "700101000000Z"), Some(0));
        assert_eq!(time(0x17, "240229235959Z"), Some(1_709_251_199));
        assert_eq!(time(0x18, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(time(0x17, "500101000000Z"), Some(0));
        for text in ["", "Z", "2402292359Z", "24022923595xZ", "240229235959"] {
            assert_eq!(time(0x17, text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_fields() {
        for data in [&b""[..], b"\x30", b"\x30\x02\x30\x00", b"\x30\x80\x00\x00", &[0xFF; 64]] {
            assert_eq!(CertificateFields::read(data), None);
        }
    }
}
