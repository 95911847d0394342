//! The text of `cts status`.

use super::status::AppliedRow;
use crate::health::Report;
use crate::health::report::TableCount;
use cts_schema::catalog::{CATEGORIES, core_tables};

impl Report {
    /// The text of `cts status`; `location` is the database's path or URL.
    pub fn status_text(&self, location: &str) -> String {
        let mut text = format!("Database:   {}, {location}\n", self.backend.name());
        text += &format!(
            "Migrations: {} of {} applied\n",
            self.applied.len(),
            self.expected_migrations
        );
        for row in self.applied.iter().map(AppliedRow::from) {
            text += &format!("  {:<45} {}  {:>6}\n", row.name, row.executed_at, row.execution_time);
        }
        let TableCount { expected, existing, .. } = self.count(core_tables());
        text += &format!("Tables:     {existing} of {expected} core tables\n");
        for category in CATEGORIES {
            let TableCount { expected, existing, .. } = self.count(category.tables.iter().copied());
            text += &format!("  {:<14} {existing}/{expected}\n", category.key);
        }
        text += &format!("Status:     {}\n", self.migration_status());
        for exception in &self.exceptions {
            text += &format!("  exception: {exception}\n");
        }
        for reason in self.reasons() {
            text += &format!("  {reason}\n");
        }
        text
    }
}
