//! The Content-Security-Policy of the page: nothing from outside, and of the inline style and script only those of the
//! file, by their digests. (Content Security Policy Level 3)

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

use super::TEMPLATE;

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (style, script) = (digest_of("style"), digest_of("script"));
    // The icon of the tab shows the status; it is a `data:` address.
    format!(
        "default-src 'none'; style-src '{style}'; script-src '{script}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The value of the header `Content-Security-Policy`.
pub fn security_policy() -> &'static str {
    &POLICY
}

/// The digest of the one element of this name, as a source of the policy. Empty, which permits nothing, if there is
/// no such element.
fn digest_of(element: &str) -> String {
    let content = TEMPLATE.split_once(&format!("<{element}>"));
    let content = content.and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    content.map_or_else(String::new, |(content, _)| {
        format!("sha256-{}", base64(&Sha256::digest(content.as_bytes())))
    })
}

/// Base64 of RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| -> String {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        let digit = |at: usize| char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]);
        (0..4).map(|at| if at <= three.len() { digit(at) } else { '=' }).collect()
    };
    bytes.chunks(3).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_the_test_vectors_of_rfc_4648() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

    #[test]
    fn the_policy_permits_the_one_style_and_the_one_script_only() {
        for element in ["style", "script"] {
            assert_eq!(TEMPLATE.matches(&format!("<{element}")).count(), 1, "{element}");
            assert_eq!(security_policy().matches(&digest_of(element)).count(), 1, "{element}");
        }
        assert_eq!(security_policy().matches("sha256-").count(), 2);
        assert!(!security_policy().contains("unsafe"));
    }
}
