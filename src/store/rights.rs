//! What a role of a server may not do with the tables of CTS.

use std::fmt;

use super::sql::quoted;

/// How many tables a sentence names.
const TABLES_SHOWN: usize = 3;

/// The rights that a role lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingRights {
    /// The role.
    pub role: String,
    /// The schema of the tables, as SQL.
    pub schema: String,
    /// Whether it may write the ledger, or owns one of the tables at least. One that does neither is not the role of
    /// `cts`, but that of a trading or monitoring program, which has the rights that it was given on purpose.
    pub is_writer: bool,
    /// What it lacks.
    pub tables: Vec<MissingTableRights>,
}

/// The rights that a role lacks on a table, or on the sequence of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingTableRights {
    /// The table.
    pub table: String,
    /// The rights, separated by commas, such as `INSERT, UPDATE`.
    pub rights: String,
}

impl MissingRights {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        let (schema, role) = (&self.schema, quoted(&self.role));
        format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"
        )
    }
}

impl fmt::Display for MissingRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MissingRights { role, is_writer, .. } = self;
        if !is_writer {
            return write!(
                f,
                "role {role} neither writes the ledger nor owns a table: whether cts and the trading programs have the rights that they need is unknown to it"
            );
        }
        write!(f, "role {role} lacks rights: ")?;
        for (i, MissingTableRights { table, rights }) in
            self.tables.iter().take(TABLES_SHOWN).enumerate()
        {
            write!(f, "{}{rights} on {table}", if i == 0 { "" } else { "; " })?;
        }
        match self.tables.len().saturating_sub(TABLES_SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and on {more} more tables"),
        }
    }
}
