//! The category of each table, and the tables that are counted or critical.

/// A category of tables, as shown by the migration status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Category {
    /// Its key in the JSON of the status.
    pub key: &'static str,
    /// Its tables.
    pub tables: &'static [&'static str],
    /// Whether its tables count among the core tables.
    pub core: bool,
}

/// The seven categories in the order in which they are shown.
pub const CATEGORIES: [Category; 7] = [
    Category {
        key: "system",
        tables: &["users", "system_settings", "site_logs", "migrations"],
        core: true,
    },
    Category { key: "connections", tables: &["exchange_connections"], core: true },
    Category {
        key: "indications",
        tables: &[
            "indications_direction",
            "indications_move",
            "indications_active",
            "indications_optimal",
            "indications_auto",
        ],
        core: true,
    },
    Category {
        key: "strategies",
        tables: &[
            "strategies_base",
            "strategies_main",
            "strategies_real",
            "strategies_block",
            "strategies_dca",
            "strategies_trailing",
        ],
        core: true,
    },
    Category {
        key: "positions",
        tables: &["pseudo_positions", "real_pseudo_positions", "exchange_positions"],
        core: true,
    },
    Category {
        key: "statistics",
        tables: &["statistics_indication", "statistics_strategy", "statistics_daily"],
        core: true,
    },
    Category {
        key: "coordination",
        tables: &["connection_coordination", "indication_states"],
        core: false,
    },
];

/// The critical tables: without one of them the database is unhealthy.
pub const CRITICAL: [&str; 5] =
    ["users", "system_settings", "site_logs", "exchange_connections", "migrations"];

/// The names of the core tables. `tableCount` and `total` in the JSON count these.
pub fn core_tables() -> impl Iterator<Item = &'static str> {
    CATEGORIES.iter().filter(|c| c.core).flat_map(|c| c.tables).copied()
}

/// Whether a database with these tables is one of CTS: it has a table whose name no other program is likely to use, or
/// it has only tables of the category `system` and a ledger (`has_ledger`: table `migrations` has the columns `name`
/// and `executed_at`).
pub fn is_cts_database(tables: &[&str], has_ledger: bool) -> bool {
    let is_one_of =
        |names: &[&str], table: &str| names.iter().any(|name| name.eq_ignore_ascii_case(table));
    let [system, specific @ ..] = &CATEGORIES;
    let is_specific = |table: &&str| specific.iter().any(|c| is_one_of(c.tables, table));
    tables.iter().any(is_specific)
        || (has_ledger && tables.iter().all(|table| is_one_of(system.tables, table)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_cts_is_recognised() {
        assert!(is_cts_database(&["exchange_connections"], false));
        assert!(is_cts_database(&["users", "my_own", "pseudo_positions"], false));
        assert!(is_cts_database(&["migrations"], true));
        assert!(is_cts_database(&["migrations", "users", "site_logs"], true));
        assert!(!is_cts_database(&["migrations"], false));
        assert!(!is_cts_database(&["users", "migrations", "sessions"], true));
        assert!(!is_cts_database(&["users", "site_logs"], false));
    }
}
