//! Migrations: the SQL files, their statements and checksums, the rows of the ledger, and the decision which
//! migrations are pending. Values only; no database is used here.
//!
//! The build script and the binary both use this module, so that the checksums computed at build time and the
//! statements run later come from the same reader.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::sql::{Statement, fold, statements};

/// The migration that is applied first on a new database.
pub const UNIFIED: &str = "unified_complete_setup.sql";
/// The fallback: applied first, and only where [`UNIFIED`] cannot be applied to an existing database.
pub const FALLBACK: &str = "000_master_initialization.sql";

/// A SQL file that is part of the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// The file name, which is also its name in the ledger.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
    /// [`checksum`] of `text`.
    pub checksum: &'static str,
}

impl Migration {
    /// The statements of the file, in order.
    pub fn statements(&self) -> Vec<Statement<'static>> {
        statements(self.text)
    }
}

/// A row of the ledger (table `migrations`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedMigration {
    /// The id of the row; `None` where a damaged row holds no integer.
    pub id: Option<i64>,
    /// The file name of the migration.
    pub name: String,
    /// The checksum of the file that was applied; `None` in rows of an older CTS.
    pub checksum: Option<String>,
    /// When it was applied: UTC, `YYYY-MM-DD HH:MM:SS.SSS`.
    pub executed_at: Option<String>,
    /// The duration in milliseconds.
    pub execution_time_ms: Option<i64>,
    /// The version of cts that applied it.
    pub version: Option<String>,
}

impl AppliedMigration {
    /// Whether cts wrote this row: only such rows have a SHA-256 checksum. Rows of an older CTS are kept and never count
    /// as applied migrations.
    pub fn is_ours(&self) -> bool {
        let is_sum = |sum: &str| {
            sum.len() == 64 && sum.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        !self.name.is_empty() && self.checksum.as_deref().is_some_and(is_sum)
    }
}

/// Why a ledger is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerRefusal {
    /// A migration in this binary has another checksum than the one that was applied.
    Edited {
        /// The migration.
        name: String,
        /// The checksum in this binary.
        bundled: String,
        /// The checksum in the ledger.
        recorded: String,
        /// The version of cts that applied it.
        applied_by: Option<String>,
    },
    /// The ledger contains a migration that this binary does not know: the database is newer.
    Unknown {
        /// The migration.
        name: String,
        /// The version of cts that applied it.
        applied_by: Option<String>,
    },
}

impl fmt::Display for LedgerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version =
            |applied_by: &Option<String>| applied_by.clone().unwrap_or_else(|| "unknown".into());
        match self {
            LedgerRefusal::Edited { name, bundled, recorded, applied_by } => write!(
                f,
                "migration {name} is not the one that was applied (by cts {}): its checksum is {}… here and {}… in the ledger",
                version(applied_by),
                short(bundled),
                short(recorded),
            ),
            LedgerRefusal::Unknown { name, applied_by } => write!(
                f,
                "the ledger holds migration {name}, applied by cts {}, which this cts does not know: the database is newer than this binary",
                version(applied_by),
            ),
        }
    }
}

fn short(checksum: &str) -> &str {
    checksum.get(..12).unwrap_or(checksum)
}

/// The pending migrations: those of `all` that the ledger does not contain, in order. `fallback` is known and never
/// pending.
///
/// # Errors
/// Where the ledger contains a migration of cts that is not known or has another checksum.
pub fn pending(
    all: &[Migration],
    fallback: &Migration,
    ledger: &[AppliedMigration],
) -> Result<Vec<Migration>, LedgerRefusal> {
    let ours = || ledger.iter().filter(|row| row.is_ours());
    for row in ledger.iter().filter(|row| row.checksum.is_some()) {
        let known = all.iter().chain(std::iter::once(fallback)).find(|m| m.name == row.name);
        if known.is_none() && !row.is_ours() {
            continue;
        }
        let recorded = row.checksum.clone().unwrap_or_default();
        match known {
            None => {
                return Err(LedgerRefusal::Unknown {
                    name: row.name.clone(),
                    applied_by: row.version.clone(),
                });
            }
            Some(m) if m.checksum != recorded => {
                return Err(LedgerRefusal::Edited {
                    name: row.name.clone(),
                    bundled: m.checksum.into(),
                    recorded,
                    applied_by: row.version.clone(),
                });
            }
            Some(_) => {}
        }
    }
    Ok(all.iter().filter(|m| !ours().any(|row| row.name == m.name)).copied().collect())
}

/// The position of a file in the order of application: the unified setup first, then by number.
///
/// # Errors
/// Where the file is not named like a migration. The error is the name.
pub fn order(name: &str) -> Result<u32, String> {
    if name == UNIFIED {
        return Ok(0);
    }
    let number = name.strip_suffix(".sql").and_then(|stem| stem.split_once('_'));
    match number {
        Some((digits, rest))
            if digits.len() == 3
                && !rest.is_empty()
                && digits.bytes().all(|b| b.is_ascii_digit()) =>
        {
            digits.parse::<u32>().map(|number| number + 1).map_err(|_| name.to_string())
        }
        _ => Err(name.to_string()),
    }
}

/// The SHA-256, in lower-case hexadecimal, of the statements of a file, without comments and with white space folded
/// outside literals and quoted names. A changed comment or line ending does not change it, a changed statement does.
/// The ledgers of existing databases depend on this form.
pub fn checksum(text: &str) -> String {
    let mut hash = Sha256::new();
    for statement in statements(text) {
        hash.update(fold(statement.sql).as_bytes());
        hash.update(b";\n");
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_line_endings_and_white_space_do_not_change_a_checksum() {
        let plain = checksum("CREATE TABLE t (a TEXT, b TEXT);\nSELECT 1;\n");
        let with_comments =
            "\u{feff}-- licence\r\nCREATE  TABLE t\r\n\t(a TEXT,/**/ b TEXT) ;\r\nSELECT 1";
        assert_eq!(checksum(with_comments), plain);
    }

    #[test]
    fn a_changed_statement_changes_the_checksum() {
        let plain = checksum("INSERT INTO t VALUES ('a b');");
        for other in ["INSERT INTO t VALUES ('a  b');", "INSERT INTO t VALUES ('A b');", ""] {
            assert_ne!(checksum(other), plain, "{other}");
        }
    }

    #[test]
    fn the_form_of_a_checksum_never_changes() {
        // `printf 'SELECT 1;\n' | sha256sum`. With another form, every existing database would be refused.
        assert_eq!(
            checksum("SELECT 1; -- note\n"),
            "b4e0497804e46e0a0b0b8c31975b062152d551bac49c3c2e80932567b4085dcd"
        );
    }

    const A: Migration = Migration { name: "a.sql", text: "", checksum: SUM_A };
    const B: Migration = Migration { name: "b.sql", text: "", checksum: SUM_B };
    const F: Migration = Migration { name: FALLBACK, text: "", checksum: SUM_A };
    static SUM_A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static SUM_B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn row(name: &str, checksum: Option<&str>) -> AppliedMigration {
        AppliedMigration {
            id: Some(1),
            name: name.into(),
            checksum: checksum.map(Into::into),
            executed_at: None,
            execution_time_ms: None,
            version: Some("3.1.0".into()),
        }
    }

    fn names(ledger: &[AppliedMigration]) -> Result<Vec<&'static str>, LedgerRefusal> {
        pending(&[A, B], &F, ledger).map(|all| all.iter().map(|m| m.name).collect())
    }

    #[test]
    fn everything_is_pending_on_an_empty_ledger() {
        assert_eq!(names(&[]), Ok(vec!["a.sql", "b.sql"]));
    }

    #[test]
    fn a_migration_in_the_ledger_is_not_pending() {
        assert_eq!(names(&[row("a.sql", Some(SUM_A))]), Ok(vec!["b.sql"]));
    }

    #[test]
    fn rows_of_an_older_cts_do_not_count_as_applied() {
        let ledger = [row("a.sql", None), row("old_003", Some("md5")), row("", Some(SUM_A))];
        assert_eq!(names(&ledger), Ok(vec!["a.sql", "b.sql"]));
    }

    #[test]
    fn a_damaged_checksum_of_a_known_migration_is_refused() {
        let refusal = names(&[row("a.sql", Some("AAAA"))]).unwrap_err().to_string();
        assert!(refusal.contains("AAAA… in the ledger"), "{refusal}");
    }

    #[test]
    fn the_fallback_in_a_ledger_is_known() {
        assert_eq!(names(&[row(FALLBACK, Some(SUM_A))]), Ok(vec!["a.sql", "b.sql"]));
    }

    #[test]
    fn an_edited_migration_is_refused_with_both_checksums() {
        let refusal = names(&[row("a.sql", Some(SUM_B))]).unwrap_err().to_string();
        for part in ["a.sql", "3.1.0", "aaaaaaaaaaaa…", "bbbbbbbbbbbb…"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }

    #[test]
    fn an_unknown_migration_is_refused_by_name() {
        let refusal = names(&[row("072_new.sql", Some(SUM_B))]).unwrap_err().to_string();
        assert!(refusal.contains("072_new.sql") && refusal.contains("3.1.0"), "{refusal}");
    }

    #[test]
    fn files_are_ordered_unified_first_then_by_number() {
        let mut files = ["071_b.sql", UNIFIED, "051_a.sql"];
        files.sort_by_key(|name| order(name));
        assert_eq!(files, [UNIFIED, "051_a.sql", "071_b.sql"]);
        for odd in ["notes.sql", "71_b.sql", "071_.sql", "071_b.txt", "0x1_b.sql"] {
            assert_eq!(order(odd), Err(odd.to_string()));
        }
    }
}
