//! The schema that is part of the binary: the SQL files, without their comments, their checksums, and the expected
//! catalogues. `build.rs` computes these by applying the files for SQLite and reading those for PostgreSQL.

use std::sync::LazyLock;

use include_dir::{Dir, include_dir};

use cts_schema::catalog::Catalog;
use cts_schema::migration::Migration;

/// What `build.rs` found out about a SQL file.
struct Bundled {
    name: &'static str,
    checksum: &'static str,
    statements: usize,
}

/// The constants that `build.rs` generated from `schema/sqlite`.
mod sqlite {
    use std::borrow::Cow::Borrowed;

    use super::Bundled;
    use cts_schema::catalog::{Catalog, Column, ForeignKey, Index, Table};

    include!(concat!(env!("OUT_DIR"), "/sqlite_schema.rs"));
}

/// The constants that `build.rs` generated from `schema/postgres`.
#[cfg(feature = "postgres")]
mod postgres {
    use std::borrow::Cow::Borrowed;

    use super::Bundled;
    use cts_schema::catalog::{Catalog, Column, ForeignKey, Index, Table};

    include!(concat!(env!("OUT_DIR"), "/postgres_schema.rs"));
}

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
pub static SQLITE: LazyLock<Schema> = LazyLock::new(|| {
    static FILES: Dir<'static> = include_dir!("$OUT_DIR/sqlite");
    schema(&FILES, sqlite::MIGRATIONS, &sqlite::FALLBACK, &sqlite::EXPECTED)
});

/// The schema of the PostgreSQL backend.
#[cfg(feature = "postgres")]
pub static POSTGRES: LazyLock<Schema> = LazyLock::new(|| {
    static FILES: Dir<'static> = include_dir!("$OUT_DIR/postgres");
    schema(&FILES, postgres::MIGRATIONS, &postgres::FALLBACK, &postgres::EXPECTED)
});

fn schema(
    files: &'static Dir<'static>,
    migrations: &[Bundled],
    fallback: &Bundled,
    expected: &'static Catalog,
) -> Schema {
    Schema {
        migrations: migrations.iter().map(|file| migration(files, file)).collect(),
        fallback: migration(files, fallback),
        statements: migrations.iter().map(|file| file.statements).sum(),
        expected,
    }
}

#[expect(clippy::expect_used, reason = "both lists come from one folder at build time")]
fn migration(files: &'static Dir<'static>, file: &Bundled) -> Migration {
    let text = files.get_file(file.name).and_then(include_dir::File::contents_utf8);
    Migration {
        name: file.name,
        text: text.expect("build.rs lists exactly the files that include_dir bundles"),
        checksum: file.checksum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cts_schema::catalog::{CATEGORIES, CRITICAL, core_tables};
    use cts_schema::constraint_exception::{ConstraintException, Rule, with_exceptions};
    use cts_schema::migration::checksum;

    fn schemas() -> Vec<&'static Schema> {
        vec![
            &SQLITE,
            #[cfg(feature = "postgres")]
            &POSTGRES,
        ]
    }

    #[test]
    fn the_categories_cover_the_expected_catalogue_exactly() {
        let mut named: Vec<&str> = CATEGORIES.iter().flat_map(|c| c.tables).copied().collect();
        named.sort_unstable();
        for schema in schemas() {
            let expected: Vec<&str> = schema.expected.tables.iter().map(|t| &*t.name).collect();
            assert_eq!(named, expected);
            assert_eq!((core_tables().count(), expected.len()), (22, 24));
        }
        assert!(CRITICAL.iter().all(|critical| core_tables().any(|core| core == *critical)));
    }

    #[test]
    fn bundled_checksums_are_those_of_the_bundled_texts() {
        for schema in schemas() {
            for migration in schema.migrations.iter().chain([&schema.fallback]) {
                assert_eq!(checksum(migration.text), migration.checksum, "{}", migration.name);
            }
            let statements = schema.migrations.iter().map(|m| m.statements().len());
            assert_eq!(statements.sum::<usize>(), schema.statements);
        }
    }

    fn exception(table: &str, rule: Rule) -> ConstraintException {
        ConstraintException { table: table.into(), rule, rows: 2 }
    }

    #[test]
    fn a_rule_with_an_exception_is_not_expected() {
        let rules = [
            exception("site_logs", Rule::NotNull("level".into())),
            exception("indications_move", Rule::IntegerKey("id".into())),
            exception("indication_states", Rule::Unique("idx_indication_states_key".into())),
        ];
        let drift = SQLITE.expected.difference(&with_exceptions(SQLITE.expected, &rules));
        assert_eq!(drift.altered.len(), 3, "{drift:?}");
        assert!(drift.missing.is_empty());
        assert!(
            with_exceptions(SQLITE.expected, &rules)
                .difference(&with_exceptions(SQLITE.expected, &rules))
                .is_none()
        );
    }
}
