//! Which logins are accepted from a server: `require_auth`, as libpq 16 has it, and a default that is
//! stricter where nothing proves who the server is.

use super::config_error;
use super::parameters::Parameters;
use crate::error::Result;

/// How a server lets a role log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// It asks for nothing (`trust`, `peer`, a client certificate).
    None,
    /// It asks for the password itself.
    Password,
    /// It asks for the password's MD5 digest with a salt, which can be tried out offline.
    Md5,
    /// SCRAM-SHA-256: neither side learns the password, and the server proves that it knows it.
    ScramSha256,
    /// Another one, such as GSSAPI, which cts does not support.
    Other,
}

/// The names of `require_auth`.
const NAMES: [(&str, AuthMethod); 6] = [
    ("none", AuthMethod::None),
    ("password", AuthMethod::Password),
    ("md5", AuthMethod::Md5),
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("gss", AuthMethod::Other),
    ("sspi", AuthMethod::Other),
];

impl AuthMethod {
    /// What a server does, after "the server".
    pub fn request(self) -> &'static str {
        match self {
            AuthMethod::None => "asks for no login",
            AuthMethod::Password => "asks for the password in clear text",
            AuthMethod::Md5 => "asks for the password as an MD5 digest",
            AuthMethod::ScramSha256 => "asks for SCRAM-SHA-256",
            AuthMethod::Other => "asks for a login that cts does not support",
        }
    }

    /// Its name in `require_auth`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of [`AuthMethod`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMethods(u8);

impl AuthMethods {
    /// Every one.
    pub const ALL: AuthMethods = AuthMethods(u8::MAX);
    /// Those that give the password to nobody: the default where nothing is proved about the server.
    pub const UNPROVED: AuthMethods =
        AuthMethods(!(1 << AuthMethod::Password as u8 | 1 << AuthMethod::Md5 as u8));

    /// Whether it has one.
    pub fn contains(self, method: AuthMethod) -> bool {
        self.0 & method.bit() != 0
    }

    /// The value of `require_auth` that stands for it.
    pub fn to_require_auth(self) -> String {
        let known = NAMES.iter().filter(|(_, method)| *method != AuthMethod::Other);
        let names = known.filter(|(_, method)| self.contains(*method)).map(|(name, _)| *name);
        names.collect::<Vec<_>>().join(",")
    }

    /// The value of `require_auth`: names with commas between them, or the same with an exclamation mark
    /// before each, which excludes them. `None` where it is not set.
    ///
    /// # Errors
    /// `Kind::Config` if it is not such a list.
    pub fn read(parameters: &Parameters) -> Result<Option<AuthMethods>> {
        let names = parameters.list("require_auth")?;
        if names.is_empty() {
            return Ok(None);
        }
        let excludes = names.iter().all(|name| name.starts_with('!'));
        let mut bits = 0;
        for name in names {
            let name = if excludes { &name[1..] } else { name };
            let known = NAMES.iter().find(|(known, _)| *known == name);
            let (_, method) = known.ok_or_else(|| {
                let all: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
                config_error("require_auth is not a list of known names").remedy(format!(
                    "set it to some of {}, with commas between them, or with ! before each to exclude them",
                    all.join(", ")
                ))
            })?;
            bits |= method.bit();
        }
        Ok(Some(AuthMethods(if excludes { !bits } else { bits })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<AuthMethods>> {
        AuthMethods::read(&Parameters::read(&format!("postgres://h/d?require_auth={value}"))?)
    }

    #[test]
    fn methods_are_named_or_excluded() {
        let all =
            [AuthMethod::None, AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256];
        let accepted = |value| {
            let methods = read(value).unwrap().unwrap();
            all.map(|method| methods.contains(method))
        };
        assert_eq!(accepted("scram-sha-256"), [false, false, false, true]);
        assert_eq!(accepted("md5,password"), [false, true, true, false]);
        assert_eq!(accepted("!password,!none"), [false, false, true, true]);
        assert_eq!(read("").unwrap(), None);
        assert_eq!(AuthMethods::UNPROVED.to_require_auth(), "none,scram-sha-256");
        for wrong in ["scram", "!md5,password", "md5,,password", "md5,!password", "%21"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            all.map(|method| AuthMethods::UNPROVED.contains(method)),
            [true, false, false, true]
        );
    }
}
