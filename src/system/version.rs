//! The version of this binary.

/// The version of cts, which the ledger records beside each migration.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
