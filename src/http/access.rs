//! Who may ask for what: the host that a request addresses, and the bearer token of the administrative
//! paths.

use sha2::{Digest, Sha256};

use crate::http::host;
use crate::http::reply::{HeaderField, Reply};
use crate::system::secret::Secret;

/// The rules of access of one listener.
#[derive(Clone, Debug)]
pub struct HttpAccess {
    /// The bearer token for the administrative paths, if one is configured.
    pub admin_token: Option<Secret>,
    /// Host names that requests may address, besides IP addresses and `localhost`.
    pub allowed_hosts: Vec<String>,
    /// Whether the listener is bound to a loopback address.
    pub is_loopback: bool,
}

impl HttpAccess {
    /// Whether a request may address this host. A web page whose DNS name was made to resolve to this
    /// machine (DNS rebinding) addresses that name, which is refused.
    pub fn allows_host(&self, host: Option<&str>) -> bool {
        let Some(host) = host else { return true };
        let is_allowed =
            |name: &str| self.allowed_hosts.iter().any(|host| host.eq_ignore_ascii_case(name));
        host::is_address_or_localhost(host) || host::name(host).is_some_and(is_allowed)
    }

    /// Whether administrative paths answer nobody before a token is set: other machines can reach the listener.
    pub fn lacks_token(&self) -> bool {
        self.admin_token.is_none() && !self.is_loopback
    }

    /// Why a request for an administrative path is refused; `None` if it is allowed. `authorization` is
    /// the header of that name.
    pub fn refuse_admin(&self, authorization: Option<&str>) -> Option<Reply> {
        match &self.admin_token {
            None if self.is_loopback => None,
            None => Some(Reply::error(
                403,
                "administrative paths are available on a loopback address only, unless CTS_ADMIN_TOKEN is set",
            )),
            Some(token) => {
                let given = authorization.and_then(bearer_token).unwrap_or_default();
                if is_equal(given, token.expose()) {
                    return None;
                }
                let reply = Reply::error(
                    401,
                    "a bearer token is needed: Authorization: Bearer CTS_ADMIN_TOKEN",
                );
                Some(reply.with_header(HeaderField::new("WWW-Authenticate", "Bearer")))
            }
        }
    }
}

fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Compares digests, so that the time taken does not depend on how much of the token is right.
fn is_equal(given: &str, token: &str) -> bool {
    Sha256::digest(given.as_bytes()) == Sha256::digest(token.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status_code(access: &HttpAccess, authorization: Option<&str>) -> Option<u16> {
        access.refuse_admin(authorization).map(|reply| reply.status_code)
    }

    #[test]
    fn administrative_paths_need_loopback_or_the_token() {
        let access = HttpAccess { admin_token: None, allowed_hosts: Vec::new(), is_loopback: true };
        assert_eq!(status_code(&access, None), None);
        let access = HttpAccess { is_loopback: false, ..access };
        assert_eq!(status_code(&access, Some("Bearer x")), Some(403));
        for is_loopback in [false, true] {
            let admin_token = Some(Secret::new("right"));
            let access = HttpAccess { admin_token, is_loopback, ..access.clone() };
            for wrong in
                [None, Some("right"), Some("Bearer"), Some("Bearer wrong"), Some("Basic right")]
            {
                assert_eq!(status_code(&access, wrong), Some(401), "{wrong:?}");
            }
            for right in ["Bearer right", "bearer right"] {
                assert_eq!(status_code(&access, Some(right)), None, "{right}");
            }
        }
    }
}
