//! Splits a URL into parameters under libpq's names, percent-decoded. It knows the form of a value, not what it
//! means; [`super::names`] says which parameters there are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::config_error;
use super::names::{PARAMETERS, ParameterRule, SECRETS, Unsupported};
use super::target::{ConfigWarning, WarningSubject};
use crate::error::{Error, Result};
use crate::store::url_kind::after_scheme;

/// The parameters of a URL by name. An empty value counts as not set.
#[derive(Default)]
pub struct Parameters {
    values: BTreeMap<&'static str, Vec<u8>>,
    /// What is said of the parameters that have no effect.
    warnings: Vec<ConfigWarning>,
}

impl Parameters {
    /// Splits and decodes a URL.
    ///
    /// # Errors
    /// `Kind::Config` if it is not a PostgreSQL URL, cannot be split unambiguously, or names a
    /// parameter that cts does not know.
    pub fn read(url: &str) -> Result<Parameters> {
        let rest = after_scheme(url)?;
        if rest.chars().any(|c| c.is_ascii_whitespace() || c.is_control()) {
            let what = "the URL contains a space, a line break or a control character";
            return Err(config_error(what).remedy("percent-encode it: a space as %20"));
        }
        let (login, rest) = match rest.find(['@', '/', '?']) {
            Some(end) if rest[end..].starts_with('@') => (&rest[..end], &rest[end + 1..]),
            _ => ("", rest),
        };
        if rest.contains('@') {
            return Err(delimiter());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let mut parameters = Parameters::default();
        parameters.set("user", user)?;
        parameters.set("password", password)?;
        parameters.set_hosts(authority)?;
        parameters.set("dbname", database)?;
        parameters.set_query(query)?;
        Ok(parameters)
    }

    /// Sets a parameter to a value as it stands in the URL, percent-encoded.
    fn set(&mut self, name: &'static str, encoded: &str) -> Result<()> {
        self.values.insert(name, decoded(encoded)?);
        Ok(())
    }

    /// Sets `host` and `port`, each a list with commas.
    fn set_hosts(&mut self, authority: &str) -> Result<()> {
        let (mut hosts, mut ports) = (Vec::new(), Vec::new());
        for item in authority.split(',') {
            let (host, port) = split_host(item)?;
            hosts.push(host);
            ports.push(port);
        }
        self.set("host", &hosts.join(","))?;
        self.set("port", &ports.join(","))
    }

    /// Sets the parameters after the question mark. The last of two equal names wins, as in libpq.
    fn set_query(&mut self, query: &str) -> Result<()> {
        let mut items = Vec::new();
        for item in query.split('&').filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').ok_or_else(not_a_pair)?;
            if value.contains('=') {
                return Err(not_a_pair());
            }
            items.push((decoded(name)?, value));
        }
        let has_secret = items.iter().any(|(name, _)| SECRETS.iter().any(|s| s.as_bytes() == name));
        for (name, value) in items {
            let known = PARAMETERS.iter().find(|(known, _)| known.as_bytes() == name);
            let (known, rule) = known.ok_or_else(|| unknown(&name, has_secret))?;
            self.follow(rule, known, value)?;
        }
        Ok(())
    }

    /// Takes, or refuses, a parameter with a value as it stands in the URL.
    fn follow(&mut self, rule: &ParameterRule, name: &'static str, encoded: &str) -> Result<()> {
        let value = decoded(encoded)?;
        if value.is_empty() && *rule != ParameterRule::Read {
            return Ok(());
        }
        match rule {
            ParameterRule::Read => self.set(name, encoded),
            ParameterRule::Satisfied => Ok(()),
            ParameterRule::Only(values, _)
                if values.iter().any(|v| v.as_bytes().eq_ignore_ascii_case(&value)) =>
            {
                Ok(())
            }
            ParameterRule::Only(_, Unsupported { why, remedy })
            | ParameterRule::Refused(Unsupported { why, remedy }) => {
                Err(config_error(format!("{name} {why}")).remedy(*remedy))
            }
            ParameterRule::WithoutEffect(instead) => {
                self.warnings.push(ConfigWarning {
                    subject: WarningSubject::Url,
                    what: format!("{name} in the URL has no effect: {instead}"),
                    remedy: format!("leave {name} out where only cts uses the URL"),
                });
                Ok(())
            }
        }
    }

    /// What is said of the parameters that have no effect.
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    /// A value as it is.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice).filter(|value| !value.is_empty())
    }

    /// A value as text.
    ///
    /// # Errors
    /// `Kind::Config` if it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.bytes(name).map(std::str::from_utf8).transpose().map_err(|_| {
            config_error(format!("{name} is not UTF-8 after percent-decoding"))
                .remedy(format!("encode {name} as UTF-8"))
        })
    }

    /// A value as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.bytes(name).map(|value| OsString::from_vec(value.to_vec()).into())
    }

    /// The items of a list with commas; an item may be empty.
    ///
    /// # Errors
    /// `Kind::Config` if it is not UTF-8.
    pub fn list(&self, name: &str) -> Result<Vec<&str>> {
        Ok(self.text(name)?.map(|text| text.split(',').collect()).unwrap_or_default())
    }

    /// A value as a whole number.
    ///
    /// # Errors
    /// `Kind::Config` if it is none.
    pub fn integer(&self, name: &str) -> Result<Option<i64>> {
        // libpq has an int here (fe-connect.c, `parse_int_param`).
        let number = self.text(name)?.map(|text| text.trim().parse::<i32>());
        number.transpose().map(|number| number.map(i64::from)).map_err(|_| {
            config_error(format!("{name} is not a whole number")).remedy(format!("correct {name}"))
        })
    }

    /// A value as a number above zero. As in libpq, zero or less counts as not set.
    ///
    /// # Errors
    /// `Kind::Config` if it is not a whole number.
    pub fn positive(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.integer(name)?.filter(|number| *number > 0).and_then(|n| n.try_into().ok()))
    }

    /// The meaning of a value that is one of `choices`.
    ///
    /// # Errors
    /// `Kind::Config` if it is none of them.
    pub fn choice<T: Clone>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let Some(value) = self.bytes(name) else {
            return Ok(None);
        };
        let found = choices.iter().find(|(choice, _)| choice.as_bytes() == value);
        found.map(|(_, meaning)| Some(meaning.clone())).ok_or_else(|| {
            let all: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            config_error(format!("{name} has an unknown value"))
                .remedy(format!("set it to one of {}", all.join(", ")))
        })
    }
}

fn not_a_pair() -> Error {
    config_error("the text after the question mark is not a list of name=value with & between them")
        .remedy("percent-encode the delimiters in a value or in the password: ? as %3F, & as %26, = as %3D")
}

/// The error of an unknown parameter. It names it, unless the name may be part of a password that
/// contains an `&`.
fn unknown(name: &[u8], has_secret: bool) -> Error {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    match std::str::from_utf8(name) {
        Ok(name) if !has_secret && !name.is_empty() && name.bytes().all(|b| plain(&b)) => {
            config_error(format!("{name} is not a parameter that cts knows"))
                .remedy(format!(
                    "leave {name} out of the URL; a setting of the server goes into options=-cNAME%3Dvalue"
                ))
        }
        _ => config_error("the URL has a parameter that cts does not know").remedy(
            "check the names after the question mark, and percent-encode the delimiters in a \
             value: & as %26, = as %3D",
        ),
    }
}

/// Decodes percent-encoding. A plus sign stays a plus sign.
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
                return Err(config_error(
                    "the URL contains %00, which no name or password can contain",
                )
                .remedy("remove it"));
            }
            (Some(high), Some(low)) => out.extend(u8::try_from(high * 16 + low)),
            _ => {
                return Err(config_error(
                    "a % in the URL is not followed by two hexadecimal digits",
                )
                .remedy("write a literal % as %25"));
            }
        }
    }
    Ok(out)
}
/// Host and port of one item, still percent-encoded; an empty port is the default.
fn split_host(item: &str) -> Result<(&str, &str)> {
    let Some(bracketed) = item.strip_prefix('[') else {
        return Ok(item.split_once(':').unwrap_or((item, "")));
    };
    let wrong = || {
        config_error(
            "the brackets around the IPv6 address of a host are not closed, or contain no such address",
        )
        .remedy("write [address]:port, as in [::1]:5432")
    };
    let (address, rest) = bracketed.split_once(']').ok_or_else(wrong)?;
    // A zone such as %25eth0 may follow.
    let plain = address.split('%').next().unwrap_or_default();
    let port = rest.strip_prefix(':').or(rest.is_empty().then_some(""));
    match (plain.parse::<Ipv6Addr>(), port) {
        (Ok(_), Some(port)) => Ok((address, port)),
        _ => Err(wrong()),
    }
}

/// The error of a URL that cannot be split unambiguously.
fn delimiter() -> Error {
    config_error(
        "the URL contains a delimiter in an unexpected position, most often in the password",
    )
    .remedy("percent-encode it: / as %2F, @ as %40, ? as %3F, : as %3A, # as %23, % as %25")
}
