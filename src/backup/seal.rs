//! A checksum at the end of a JSON object, of the text before it, so that a changed byte is found. Readers of JSON see one
//! more key.

use crate::system::visible::hexadecimal;
use sha2::{Digest, Sha256};

/// What stands between the text and its checksum.
const KEY: &str = ",\n  \"checksum\": \"";
/// What follows the checksum.
const END: &str = "\"\n}\n";

/// An object that was printed over several lines, with its checksum as the last key.
pub fn sealed(object: &str) -> String {
    let text = object.strip_suffix("\n}").unwrap_or(object);
    let checksum = hexadecimal(&Sha256::digest(text));
    format!("{text}{KEY}{checksum}{END}")
}

/// Whether the text is what [`sealed`] has made, byte by byte.
pub fn is_sealed(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    text.rsplit_once(KEY).is_some_and(|(object, _)| sealed(&format!("{object}\n}}")) == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_bit_of_a_sealed_object_is_found() {
        let object = serde_json::json!({ "file": "cts.db", "tables": { "users": 3 } });
        let text = sealed(&serde_json::to_string_pretty(&object).unwrap());
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["tables"], object["tables"]);
        assert!(is_sealed(text.as_bytes()));
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_sealed(&bytes), "bit {bit}");
        }
    }
}
