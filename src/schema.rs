//! What this binary bundles: the SQL files, their checksums, and the catalogue that
//! `build.rs` computed by applying them to the bundled SQLite.

use std::borrow::Cow::Borrowed;
use std::sync::LazyLock;

use include_dir::{Dir, include_dir};

use crate::catalog::{Catalog, Column, ForeignKey, Index, Table};
use crate::migration::Migration;

/// The version of cts, which the ledger records beside each migration.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/schema/sqlite");

/// A bundled file as `build.rs` saw it.
struct Bundled {
    name: &'static str,
    checksum: &'static str,
    statements: usize,
}

include!(concat!(env!("OUT_DIR"), "/sqlite_schema.rs"));

/// Everything the binary knows of the schema of one backend.
pub struct Schema {
    /// The migrations in the order in which they are applied, without the fallback.
    pub migrations: Vec<Migration>,
    /// Applied first where the unified setup does not fit what is already there.
    pub fallback: Migration,
    /// The number of statements in `migrations`.
    pub statements: usize,
    /// The catalogue that results from them.
    pub expected: &'static Catalog,
}

/// The schema of the SQLite backend.
pub static SQLITE: LazyLock<Schema> = LazyLock::new(|| Schema {
    migrations: MIGRATIONS.iter().map(migration).collect(),
    fallback: migration(&FALLBACK),
    statements: MIGRATIONS.iter().map(|file| file.statements).sum(),
    expected: &EXPECTED,
});

#[expect(clippy::expect_used, reason = "both lists come from one folder at build time")]
fn migration(file: &Bundled) -> Migration {
    let text = FILES.get_file(file.name).and_then(include_dir::File::contents_utf8);
    Migration {
        name: file.name,
        text: text.expect("build.rs lists exactly the files that include_dir bundles"),
        checksum: file.checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{CATEGORIES, CRITICAL, core_tables};
    use crate::migration::checksum;

    #[test]
    fn the_categories_cover_the_expected_catalogue_exactly() {
        let mut named: Vec<&str> = CATEGORIES.iter().flat_map(|c| c.tables).copied().collect();
        named.sort_unstable();
        let expected: Vec<&str> = SQLITE.expected.tables.iter().map(|t| &*t.name).collect();
        assert_eq!(named, expected);
        assert_eq!((core_tables().count(), expected.len()), (22, 24));
        assert!(CRITICAL.iter().all(|critical| core_tables().any(|core| core == *critical)));
    }

    #[test]
    fn bundled_checksums_are_those_of_the_bundled_texts() {
        for migration in SQLITE.migrations.iter().chain([&SQLITE.fallback]) {
            assert_eq!(checksum(migration.text), migration.checksum, "{}", migration.name);
        }
        assert_eq!(
            SQLITE.migrations.iter().map(|m| m.statements().len()).sum::<usize>(),
            SQLITE.statements
        );
    }
}
