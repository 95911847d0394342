//! The ledger in a copy: each side has the rows of its own migrations. Only those of an older CTS are copied.

use crate::store::sql::LEDGER_TABLE;
use crate::store::{CopiedTable, Field, Value};
use cts_schema::migration::AppliedMigration;

/// Tells which rows of a table are copied.
pub struct RowSelection {
    /// Where the ledger has its name and its checksum; `None` for another table.
    ledger: Option<(usize, usize)>,
}

impl RowSelection {
    /// That of a table.
    pub fn of(table: &CopiedTable) -> RowSelection {
        let position = |name| table.columns.iter().position(|column| column.name == name);
        let ledger = (table.name == LEDGER_TABLE && !table.is_extra)
            .then(|| Some((position("name")?, position("checksum")?)));
        RowSelection { ledger: ledger.flatten() }
    }

    /// Whether the row is copied.
    pub fn includes(&self, row: &[Field<'_>]) -> bool {
        let Some((name, checksum)) = self.ledger else { return true };
        let text = |at| match row.get(at) {
            Some(Ok(Value::Text(text))) => Some(text.to_string()),
            _ => None,
        };
        let migration = AppliedMigration {
            id: None,
            name: text(name).unwrap_or_default(),
            checksum: text(checksum),
            executed_at: None,
            execution_time_ms: None,
            version: None,
        };
        !migration.is_ours()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CopiedColumn, ValueType};

    fn table(name: &str) -> CopiedTable {
        let column = |name: &str| CopiedColumn {
            name: name.into(),
            value_type: ValueType::Text,
            is_extra: false,
        };
        let columns = vec![column("checksum"), column("name")];
        CopiedTable { name: name.into(), columns, key: Vec::new(), is_extra: false }
    }

    #[test]
    fn of_the_ledger_only_rows_of_an_older_cts_are_copied() {
        let ours = [Ok(Value::Text("a".repeat(64).into())), Ok(Value::Text("a.sql".into()))];
        let older = [Ok(Value::Null), Ok(Value::Text("017_add_settings".into()))];
        let ledger = RowSelection::of(&table(LEDGER_TABLE));
        assert!(!ledger.includes(&ours) && ledger.includes(&older));
        assert!(RowSelection::of(&table("users")).includes(&ours));
    }
}
