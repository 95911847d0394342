//! The manifests of backups, as cts writes them: the last key is a checksum of the text before it.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Changes a manifest as cts would, with a checksum that fits. What is no object is written as it is.
pub fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    manifest.as_object_mut().unwrap().remove("checksum");
    change(&mut manifest);
    let text = serde_json::to_string_pretty(&manifest).unwrap();
    let text = match text.strip_suffix("\n}") {
        None => text,
        Some(object) => {
            let sum: String =
                Sha256::digest(object).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{object},\n  \"checksum\": \"{sum}\"\n}}\n")
        }
    };
    fs::write(path, text).unwrap();
}
