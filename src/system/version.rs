//! The version of this binary, and what it was built from.

/// The version of cts, which the ledger records beside each migration.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this binary was built from, in twelve hexadecimal digits, or as the packager gave it (`CTS_COMMIT`);
/// `unknown` where neither was known, and in a debug build.
pub const COMMIT: &str = env!("BUILD_COMMIT");

/// What `--version` prints behind the name; its first line is [`VERSION`].
pub const LONG_VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncommit: ",
    env!("BUILD_COMMIT"),
    "\nSQLite: ",
    env!("BUNDLED_SQLITE"),
    "\nPostgreSQL: ",
    env!("WITH_POSTGRESQL")
);
