//! The text of `cts status`.

use super::status::AppliedRow;
use crate::health::Report;
use crate::health::report::TableCount;
use crate::system::visible::Lines;
use cts_schema::catalog::{CATEGORIES, core_tables};

impl Report {
    /// The text of `cts status`; `location` is the database's path or URL.
    pub fn status_text(&self, location: &str) -> Lines {
        let mut text = Lines::new();
        text.add(format_args!("Database:   {}, {location}", self.backend.name()));
        let (applied, all) = (self.applied.len(), self.expected_migrations);
        text.add(format_args!("Migrations: {applied} of {all} applied"));
        for row in self.applied.iter().map(AppliedRow::from) {
            text.add(format_args!(
                "  {:<45} {}  {:>6}",
                row.name, row.executed_at, row.execution_time
            ));
        }
        let TableCount { expected, existing, .. } = self.count(core_tables());
        text.add(format_args!("Tables:     {existing} of {expected} core tables"));
        for category in CATEGORIES {
            let TableCount { expected, existing, .. } = self.count(category.tables.iter().copied());
            text.add(format_args!("  {:<14} {existing}/{expected}", category.key));
        }
        self.add_backups(&mut text);
        self.add_archive(&mut text);
        text.add(format_args!("Status:     {}", self.migration_status()));
        for alteration in &self.accepted {
            text.add(format_args!("  accepted: {alteration}"));
        }
        for exception in &self.exceptions {
            text.add(format_args!("  exception: {exception}"));
        }
        for reason in self.reasons() {
            text.add(format_args!("  {reason}"));
        }
        text
    }
}
