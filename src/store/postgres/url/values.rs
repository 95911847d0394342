//! The words of a URL, decoded, under libpq's names for them. It knows which names there are
//! and what form a value has, not what it means.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::fault;
use crate::error::Result;

/// What cts understands (PostgreSQL documentation, "Parameter Key Words").
const KNOWN: [&str; 23] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "passfile",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
    "ssl",
];

/// Words by name; a word that is empty is not set.
#[derive(Default)]
pub struct Values(BTreeMap<&'static str, Vec<u8>>);

impl Values {
    /// Sets a word, given as it is in the URL.
    pub fn set(&mut self, name: &'static str, encoded: &str) -> Result<()> {
        self.0.insert(name, decoded(encoded)?);
        Ok(())
    }

    /// Sets what stands after the question mark. The last of two wins, as in libpq.
    pub fn set_query(&mut self, query: &str) -> Result<()> {
        let items: Vec<_> = query.split('&').filter(|item| !item.is_empty()).collect();
        let has_secret = items.iter().any(|item| item.starts_with("password="));
        for item in items {
            let (name, value) = item.split_once('=').ok_or_else(not_a_pair)?;
            if value.contains('=') {
                return Err(not_a_pair());
            }
            let name = decoded(name)?;
            let Some(known) = KNOWN.into_iter().find(|known| known.as_bytes() == name) else {
                return Err(unknown(&name, has_secret));
            };
            self.set(known, value)?;
        }
        self.read_ssl()
    }

    /// `ssl=true` is JDBC's word for `sslmode=require` (PostgreSQL documentation, "Connection
    /// URIs").
    fn read_ssl(&mut self) -> Result<()> {
        if self.choice("ssl", &[("true", ())])?.is_some() {
            self.0.insert("sslmode", b"require".to_vec());
        }
        Ok(())
    }

    /// A word as it is.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice).filter(|word| !word.is_empty())
    }

    /// A word that is a text.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.bytes(name).map(std::str::from_utf8).transpose().map_err(|_| {
            fault(format!("{name} is not UTF-8 after percent-decoding"))
                .remedy(format!("encode {name} as UTF-8"))
        })
    }

    /// A word that is a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.bytes(name).map(|word| OsString::from_vec(word.to_vec()).into())
    }

    /// The items of a word with commas; an item may be empty.
    pub fn list(&self, name: &str) -> Result<Vec<&str>> {
        Ok(self.text(name)?.map(|text| text.split(',').collect()).unwrap_or_default())
    }

    /// A word that is a whole number.
    pub fn integer(&self, name: &str) -> Result<Option<i64>> {
        // libpq has an int here (fe-connect.c, `parse_int_param`).
        let number = self.text(name)?.map(|text| text.trim().parse::<i32>());
        number.transpose().map(|number| number.map(i64::from)).map_err(|_| {
            fault(format!("{name} is not a whole number")).remedy(format!("correct {name}"))
        })
    }

    /// A number above zero; another one is as good as none, which is libpq's rule for all
    /// these parameters.
    pub fn positive(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.integer(name)?.filter(|number| *number > 0).and_then(|n| n.try_into().ok()))
    }

    /// One of few words.
    pub fn choice<T: Clone>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let Some(word) = self.bytes(name) else {
            return Ok(None);
        };
        let found = choices.iter().find(|(choice, _)| choice.as_bytes() == word);
        found.map(|(_, meaning)| Some(meaning.clone())).ok_or_else(|| {
            let all: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            fault(format!("{name} has a value that it cannot have"))
                .remedy(format!("one of {}", all.join(", ")))
        })
    }
}

fn not_a_pair() -> crate::error::Error {
    fault("what follows the question mark is not made of name=value, with & between them")
        .remedy("percent-encode what is special in a value or in the password: ? as %3F, & as %26, = as %3D")
}

/// Names a parameter that is not known, unless that may be a piece of a password with an `&`.
fn unknown(name: &[u8], has_secret: bool) -> crate::error::Error {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    match std::str::from_utf8(name) {
        Ok(name) if !has_secret && !name.is_empty() && name.bytes().all(|b| plain(&b)) => {
            fault(format!("{name} is not a parameter that cts knows"))
                .remedy(format!("leave {name} out of the URL"))
        }
        _ => fault("there is a parameter that cts does not know").remedy(
            "check the names after the question mark, and percent-encode what is special in a \
             value: & as %26, = as %3D",
        ),
    }
}

/// Takes the percent-encoding off. A plus sign is a plus sign.
fn decoded(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            // The protocol ends a text with a zero byte.
            (Some(0), Some(0)) => {
                return Err(fault("there is a %00 in the URL, which no name or password can have")
                    .remedy("take it out"));
            }
            (Some(high), Some(low)) => out.extend(u8::try_from(high * 16 + low)),
            _ => {
                return Err(fault("a % is not followed by two hexadecimal digits")
                    .remedy("write a % that stands for itself as %25"));
            }
        }
    }
    Ok(out)
}
