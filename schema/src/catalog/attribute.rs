//! The attributes of tables and foreign keys that have a meaning for cts, as they are written in the catalogue.

use super::Text;

/// What a table without attributes is called.
pub const ORDINARY_TABLE: &str = "an ordinary table";

/// A PostgreSQL table that is emptied after a crash of its server, and does not exist on a standby.
pub const UNLOGGED: &str = "UNLOGGED";

/// A foreign key that only rows written since it was made are known to follow.
pub const NOT_VALID: &str = "NOT VALID";

/// A foreign key that no row is checked by. (PostgreSQL 18)
pub const NOT_ENFORCED: &str = "NOT ENFORCED";

/// A foreign key that no row is checked by, because somebody disabled the triggers that check it.
pub const TRIGGERS_DISABLED: &str = "WITH ITS TRIGGERS DISABLED";

/// The statement that takes an attribute from a PostgreSQL table, where one does and no row is lost.
pub fn removal(table: &str, attribute: &str) -> Option<String> {
    if attribute == "ROW LEVEL SECURITY" {
        return Some(format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"));
    }
    if let Some(parent) = attribute.strip_prefix("INHERITS ") {
        return Some(format!("ALTER TABLE {table} NO INHERIT {parent}"));
    }
    if let Some(parent) = attribute.strip_prefix("PARTITION OF ") {
        return Some(format!("ALTER TABLE {parent} DETACH PARTITION {table}"));
    }
    let rule = attribute.strip_prefix("RULE ")?.strip_suffix(" DO INSTEAD")?;
    let (rule, _) = rule.rsplit_once(" ON ")?;
    Some(format!("DROP RULE {rule} ON {table}"))
}

/// A PostgreSQL table that foreign keys refer to, in a session for which somebody has turned off all of them.
pub const KEYS_TURNED_OFF: &str = "FOREIGN KEYS TURNED OFF BY session_replication_role";

/// Whether this attribute of a foreign key means that rows may violate it.
pub fn leaves_rows_unchecked(attribute: &str) -> bool {
    matches!(attribute, NOT_VALID | NOT_ENFORCED | TRIGGERS_DISABLED)
}

/// Whether a foreign key with these attributes checks new rows.
pub fn checks_new_rows(attributes: &[Text]) -> bool {
    !attributes.iter().any(|attribute| matches!(&**attribute, NOT_ENFORCED | TRIGGERS_DISABLED))
}

/// Whether this attribute of a table is a constraint, which the owner may make over columns of their own.
pub fn is_constraint(attribute: &str) -> bool {
    ["CHECK", "CONSTRAINT", "EXCLUDE", "NOT NULL", "PRIMARY KEY", "UNIQUE"]
        .iter()
        .any(|word| attribute.starts_with(word))
}
